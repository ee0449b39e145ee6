"""What the command lines share: typed options from dataclasses, and errors in one line."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import tyro

from agents.config import suggest
from qa_env.errors import QAError

Config = TypeVar("Config")


def run_command(main: Callable[[Sequence[str]], None]) -> None:
    """Call `main` with the arguments; a `QAError` becomes one line on stderr and exit status 2."""
    try:
        main(sys.argv[1:])
    except QAError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


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
    _, _, body = printed.partition("\n")  # the title of the box, which says less than the line below it
    body = re.sub(r"\x1b\[[0-9;]*m|[─│╭╮╰╯]+|-{3,}", " ", body)  # colours, and lines in UTF-8 or ASCII
    text = re.split(r" For full helptext| Full helptext| Argument helptext", " ".join(body.split()))[0]
    text = re.sub(r"^Error parsing [\w.]+: ", "", text)
    return re.sub(r"^Missing from .*?: ", "missing: ", text.replace(" (required)", "")).strip()


def _help(kind: type[Any], options: dict[str, Any]) -> str:
    stdout = io.StringIO()
    with contextlib.redirect_stdout(stdout), contextlib.suppress(SystemExit):
        tyro.cli(kind, args=["--help"], **options)
    return stdout.getvalue()
