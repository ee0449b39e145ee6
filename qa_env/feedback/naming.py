"""Things that settings name: those built in by a short name, a user's own by "module:attribute"."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from qa_env.errors import QAError
from qa_env.feedback.loading import load_object

Named = TypeVar("Named", bound=Callable[..., Any])


def load_named(name: str, built_in: Mapping[str, Named], kind: str) -> Named | Callable[..., Any]:
    """Return the function of that name in `built_in`, or the one that ``"module:attribute"`` names.

    Args:
        name: Of the function.
        built_in: Functions by name.
        kind: What the function is, for the error's text, e.g. "schedule".

    Raises:
        QAError: If there is none; it suggests the nearest name.
    """
    if ":" in name:
        return load_object(name)
    if name not in built_in:
        near = difflib.get_close_matches(name.casefold(), built_in, n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise QAError(
            f"unknown {kind} '{name}': {hint}Names are {', '.join(built_in)}, or 'module:attribute'"
        )
    return built_in[name]
