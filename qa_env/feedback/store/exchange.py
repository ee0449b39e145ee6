"""Files of feedback, out of a store and into one: whole, or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TextIO, get_args

from sqlalchemy.engine import Connection

from qa_env.errors import QAError
from qa_env.feedback.store import preferences, raw, spreadsheet, writing
from qa_env.feedback.store.lines import Asked, Line, at_line
from qa_env.feedback.store.records import FeedbackEvent, Query
from qa_env.feedback.store.store import Store

Format = Literal["jsonl", "csv", "trl"]
"""Everything, for another store; labels as a table; preferences for TRL."""
FORMATS: tuple[Format, ...] = get_args(Format)
_WRITERS: Mapping[Format, Callable[[Connection, TextIO], int]] = {
    "jsonl": raw.write,
    "csv": spreadsheet.write,
    "trl": preferences.write,
}


@dataclass(frozen=True)
class Imported:
    """What an import brought.

    Attributes:
        labels: How many labels the file holds.
        new: How many of them the store did not have.
    """

    labels: int
    new: int


def export_file(store: Store, path: str | Path, format: Format | None = None) -> int:
    """Write a store's feedback to a file, which is there complete or not at all.

    Args:
        store: The store.
        path: The file; one that is there is replaced.
        format: ``jsonl``: everything; ``csv``: the labels that stand; ``trl``: the preferences among them.
            None: by the file's ending, ``.jsonl`` or ``.csv``.

    Returns:
        How many labels were written, or preferences.

    Raises:
        QAError: If the ending says no format, or the file or the store cannot be used.
    """
    write = _WRITERS[format or _format(path)]
    with _replacing(Path(path)) as file, store.database.read() as connection:
        return write(connection, file)


def import_file(
    store: Store,
    path: str | Path,
    format: Format | None = None,
    *,
    rater: str | None = None,
    add_raters: bool = False,
) -> Imported:
    """Read feedback from a file into a store: all of it, or nothing. Once more brings nothing new.

    Nobody else can write while it runs.

    Args:
        store: The store.
        path: The file.
        format: See `export_file`.
        rater: Whose the preferences of a ``trl`` file are: it does not say.
        add_raters: Whether raters that the store does not know are added, as users. They are errors
            otherwise, since a slip in a name would be one more rater; a ``jsonl`` file brings its own along.

    Raises:
        QAError: If the file cannot be read, or a line is not as expected; it says which.
    """
    format = format or _format(path)
    if (format == "trl") != (rater is not None):
        raise QAError("the format trl needs a rater, whose preferences they are; the others name theirs")
    with _reading(Path(path)) as file, store.database.write() as connection:
        if rater is not None:
            lines = preferences.read(file, rater)
        else:
            lines = raw.read(file) if format == "jsonl" else spreadsheet.read(file)
        try:
            return _insert(connection, lines, add_raters, store.clock())
        except QAError as error:
            raise QAError(f"{path}, {error}; nothing was imported") from error


def _insert(connection: Connection, lines: Iterable[Line], add_raters: bool, now: float) -> Imported:
    count = new = 0
    asked: list[tuple[Query, float]] = []  # put together: one by one they take several times as long
    for line in lines:
        with at_line(line.number):
            for record in line.records:
                if isinstance(record, Asked):
                    asked.append((record.query, now if record.created is None else record.created))
                elif isinstance(record, FeedbackEvent):
                    writing.put_queries(connection, asked, renew=False)
                    asked.clear()
                    if add_raters:
                        writing.put_user(connection, record.rater, now)
                    count += 1
                    new += writing.put_event(connection, record, imported=True)
                else:
                    writing.put_rater(connection, record, now)
    writing.put_queries(connection, asked, renew=False)
    return Imported(count, new)


def _format(path: str | Path) -> Format:
    for format in FORMATS:
        if Path(path).suffix == f".{format}":
            return format
    raise QAError(f"the ending of {path} names no format: give one of {', '.join(FORMATS)}")


@contextmanager
def _replacing(path: Path) -> Iterator[TextIO]:
    """A file that takes its place when it is complete."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        try:
            with open(unfinished, "w", encoding="utf-8", newline="") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise QAError(f"cannot write {path}: {error.strerror}") from error


@contextmanager
def _reading(path: Path) -> Iterator[TextIO]:
    try:
        # What is not UTF-8 becomes lone surrogates, which are refused with the number of their line.
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            yield file
    except OSError as error:
        raise QAError(f"cannot read {path}: {error.strerror}") from error
