"""Checks of single values, each with its line of what was expected."""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence
from typing import Any

from qa_env.errors import QAError


def check_text(name: str, text: object) -> None:
    """Raise a QAError unless `text` is one that every database can keep: without NUL or lone surrogates."""
    if not isinstance(text, str):
        raise QAError(f"{name} must be a text, got {text!r:.40}")
    if "\0" in text:
        raise QAError(f"{name} must not hold the character NUL, got {text!r:.60}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise QAError(f"{name} must be valid Unicode, got {text!r:.60}") from None


def check_number(name: str, value: Any) -> None:
    """Raise a QAError unless `value` is a finite number."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value):
        raise QAError(f"{name} must be a finite number, got {value!r:.40}")


def check_uuid(text: str) -> str:
    """A UUID in its usual form.

    Raises:
        QAError: If it is none.
    """
    try:
        return str(uuid.UUID(text))
    except (ValueError, AttributeError, TypeError):
        raise QAError(f"an event needs a UUID, e.g. {uuid.UUID(int=1)}; got {text!r:.60}") from None


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Raise a QAError unless `value` is one of the choices."""
    if value not in choices:
        raise QAError(f"{name} must be one of {', '.join(choices)}; got {value!r:.40}")


def is_whole(value: object) -> bool:
    """Whether it is a whole number; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool)
