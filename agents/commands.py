"""What the command lines share: typed options from dataclasses, and errors in one line."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Sequence
from typing import Any, TypeVar

import tyro

from agents.config import suggest
from qa_env.commands import run_command, unboxed
from qa_env.errors import QAError

__all__ = ["parse", "run_command"]

Config = TypeVar("Config")


def parse(
    kind: type[Config], arguments: Sequence[str], default: Config | None = None, **options: Any
) -> Config:
    """Parse arguments into a dataclass.

    Raises:
        QAError: If an argument is unknown (the nearest is suggested) or its value does not fit.
    """
    if default is not None:
        options["default"] = default
    stderr = io.StringIO()
    try:
        with contextlib.redirect_stderr(stderr):
            parsed: Config = tyro.cli(kind, args=list(arguments), **options)
            return parsed
    except SystemExit as stop:
        if stop.code in (0, None):
            raise  # --help
    raise QAError(_one_line(stderr.getvalue(), arguments, kind, options))


def _one_line(printed: str, arguments: Sequence[str], kind: type[Any], options: dict[str, Any]) -> str:
    """Tyro's boxed message as one line."""
    known = re.findall(r"--[a-z0-9.-]+", _help(kind, options))
    for argument in arguments:
        flag = argument.split("=")[0].replace("_", "-")
        if flag.startswith("--") and flag not in known:
            return f"unknown option {argument.split('=')[0]}{suggest(flag, known)}"
    text = re.sub(r"^Error parsing [\w.]+: ", "", unboxed(printed))
    return re.sub(r"^Missing from .*?: ", "missing: ", text.replace(" (required)", "")).strip()


def _help(kind: type[Any], options: dict[str, Any]) -> str:
    stdout = io.StringIO()
    with contextlib.redirect_stdout(stdout), contextlib.suppress(SystemExit):
        tyro.cli(kind, args=["--help"], **options)
    return stdout.getvalue()
