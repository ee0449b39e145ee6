"""Checks of single values, each with its line of what was expected."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Sequence
from typing import Any

from qa_env.errors import QAError

GREATEST = 2**31 - 1


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
    if not number or not -sys.float_info.max <= value <= sys.float_info.max:
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


def check_whole(name: str, value: Any, least: int) -> None:
    """Raise a QAError unless `value` is a whole number from `least` that every database can keep."""
    if not _is_whole(value) or not least <= value <= GREATEST:
        raise QAError(f"{name} must be a whole number from {least} to {GREATEST}, got {value!r:.40}")


def check_order(name: str, places: Any) -> tuple[int, ...]:
    """The places 0, 1, ... in some order, as a tuple; none are an order too.

    Raises:
        QAError: If it is no such order.
    """
    whole = isinstance(places, list | tuple) and all(_is_whole(place) for place in places)
    if not whole or sorted(places) != list(range(len(places))):
        raise QAError(f"{name} must be the places 0, 1, ... in some order, got {places!r:.60}")
    return tuple(places)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
