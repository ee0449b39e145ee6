"""What the readers of files share: a line's records, and errors that say which line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from qa_env.errors import QAError
from qa_env.feedback.store.records import FeedbackEvent, Query, Rater


@dataclass(frozen=True)
class Asked:
    """A query, and when it was first asked, in unix seconds; None if the file does not say."""

    query: Query
    created: float | None = None


@dataclass(frozen=True)
class Line:
    """What one line of a file says.

    Attributes:
        number: The line's number, from 1.
        records: What is to be stored, in this order.
    """

    number: int
    records: tuple[Rater | Asked | FeedbackEvent, ...]


@contextmanager
def at_line(number: int) -> Iterator[None]:
    """Put the line's number before the message of a QAError."""
    try:
        yield
    except QAError as error:
        raise QAError(f"line {number}: {error}") from error


def json_object(text: str) -> dict[str, Any]:
    """The JSON object that a line holds.

    Raises:
        QAError: If it is none.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        raise QAError(f"expected a JSON object, got {text.strip()!r:.60}") from None
    if not isinstance(values, Mapping):
        raise QAError(f"expected a JSON object, got {text.strip()!r:.60}")
    return dict(values)
