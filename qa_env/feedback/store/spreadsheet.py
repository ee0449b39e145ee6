"""The labels that stand as a table for spreadsheets, and such a table filled in by people."""

from __future__ import annotations

import csv
import json
import re
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, TextIO

from sqlalchemy.engine import Connection

from qa_env.errors import QAError
from qa_env.feedback.labels import (
    LABELS,
    Correction,
    Label,
    Pair,
    Percent,
    Ranking,
    Rating,
    Skip,
    Thumb,
    form,
)
from qa_env.feedback.store import reading
from qa_env.feedback.store.lines import Asked, Line, at_line
from qa_env.feedback.store.records import AnswerRecord, FeedbackEvent, Query, StoredEvent

COLUMNS = (
    *("uuid", "created", "rater", "purpose", "kind", "form", "value", "strength", "unsure"),
    *("question", "context", "example_id", "answer"),
)
"""The columns of a table; ``answer_2``, ``answer_3`` and so on follow as far as they are needed."""
NEEDED = ("rater", "form", "value", "question", "answer")
_NAMESPACE = uuid.UUID("0d0c3f57-2f0f-4c2c-8d7e-5d1f7c1f0a52")
_FORMULA = re.compile(r"'*[=+\-@\t\r]")


def guarded(cell: str) -> str:
    """The cell with an apostrophe before it if a spreadsheet might run it as a formula."""
    return f"'{cell}" if _FORMULA.match(cell) else cell


def unguarded(cell: str) -> str:
    """The cell as it was before `guarded`."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def write(connection: Connection, file: TextIO) -> int:
    """Write a row for each label that stands, skips too; return their number."""
    events = [reading.stored_event(row) for row in connection.execute(reading.events(reading.standing()))]
    answers = reading.answers(connection, (key for stored in events for key in stored.answers))
    most = max((len(stored.answers) for stored in events), default=1)
    columns = [*COLUMNS, *(f"answer_{place}" for place in range(2, most + 1))]
    writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for stored in events:
        row = _row(stored, [answers[key] for key in stored.answers])
        writer.writerow({name: guarded(cell) for name, cell in row.items()})
    return len(events)


def _row(stored: StoredEvent, answers: Sequence[AnswerRecord]) -> dict[str, str]:
    event, first = stored.event, answers[0]
    value, strength = _value(event.label)
    more = {f"answer_{place}": answer.text for place, answer in enumerate(answers[1:], 2)}
    return {
        "uuid": event.uuid,
        "created": repr(event.created),
        "rater": event.rater,
        "purpose": stored.purpose,
        "kind": stored.kind,
        "form": form(event.label),
        "value": value,
        "strength": strength,
        "unsure": "true" if event.unsure else "false",
        "question": first.question,
        "context": first.context or "",
        "example_id": first.example_id,
        "answer": first.text,
        **more,
    }


def _value(label: Label) -> tuple[str, str]:
    """The cells of value and strength."""
    match label:
        case Rating(low, high) | Percent(low, high):
            return (f"{low!r}" if low == high else f"{low!r} to {high!r}"), ""
        case Thumb(up):
            return ("up" if up else "down"), ""
        case Pair(choice, strength):
            return choice, str(strength)
        case Ranking(ranks):
            return " ".join(map(str, ranks)), ""
        case Correction(text) | Skip(text):
            return text, ""


def read(file: TextIO) -> Iterator[Line]:
    """The labels of a table, with the queries they answer.

    ``kind`` is the form where it is left out, ``purpose`` train, ``strength`` 1, ``unsure`` false, and
    ``created`` now; without a ``uuid`` the row's contents make one, so that a row is one label however often
    it is read.

    Raises:
        QAError: If a column or a row is not as expected; with the line's number.
    """
    rows = csv.reader(file, strict=True)
    with at_line(1):
        columns = _next(rows)
        if columns is None:
            raise QAError("expected a header with the names of the columns, got an empty file")
        _check_columns(columns)
    while True:
        number = rows.line_num + 1  # a row may go on over several lines
        with at_line(number):
            cells = _next(rows)
            if cells is None:
                return
            if len(cells) > len(columns):
                raise QAError(f"expected {len(columns)} cells as in the header, got {len(cells)}")
            if not any(cells):
                continue
            row = {name: unguarded(cell) for name, cell in zip(columns, cells, strict=False)}
            query = _query(row)
            event = _event(row, query)
        yield Line(number, (Asked(query), event))


def _next(rows: Iterator[list[str]]) -> list[str] | None:
    try:
        return next(rows, None)
    except csv.Error as error:
        raise QAError(f"malformed CSV: {error}") from None


def _check_columns(columns: Sequence[str]) -> None:
    for name in columns:
        if name not in COLUMNS and not re.fullmatch(r"answer_([2-9]|[1-9]\d+)", name):
            raise QAError(f"unknown column {name!r:.40}; known: {', '.join(COLUMNS)}, answer_2, ...")
    missing = [name for name in NEEDED if name not in columns]
    if missing or len(set(columns)) < len(columns):
        problem = f"there is no column '{missing[0]}'" if missing else "a column's name occurs twice"
        raise QAError(f"{problem}; needed: {', '.join(NEEDED)}")


def _query(row: dict[str, str]) -> Query:
    places = sorted(int(name[7:]) for name, cell in row.items() if name.startswith("answer_") and cell)
    texts = [row.get("answer", ""), *(row[f"answer_{place}"] for place in places)]
    common = (row.get("context") or None, row.get("example_id", ""))
    answers = tuple(AnswerRecord(row.get("question", ""), text, *common) for text in texts)
    kind: Any = row.get("kind") or row.get("form")
    purpose: Any = row.get("purpose") or "train"
    return Query(kind, answers, purpose)


def _event(row: dict[str, str], query: Query) -> FeedbackEvent:
    rater, label = row.get("rater", ""), _label(row)
    unsure = row.get("unsure", "").lower() or "false"
    if unsure not in ("true", "false"):
        raise QAError(f"unsure must be true or false, got {unsure!r:.40}")
    contents = json.dumps([query.id, rater, *(row.get(name, "") for name in ("form", "value", "strength"))])
    created = row.get("created")
    return FeedbackEvent.new(
        query.id,
        rater,
        label,
        unsure=unsure == "true",
        created=_number(created) if created else None,
        uuid=row.get("uuid") or str(uuid.uuid5(_NAMESPACE, contents)),
    )


def _label(row: dict[str, str]) -> Label:
    name, value = row.get("form", ""), row.get("value", "")
    if name not in LABELS:
        raise QAError(f"a form must be one of {', '.join(LABELS)}; got {name!r:.40}")
    match name:
        case "rating" | "percent":
            low, _, high = value.partition(" to ")
            made: Label = LABELS[name](_number(low), _number(high or low))
            return made
        case "thumb":
            return Thumb(_choice(value, {"up": True, "down": False}))
        case "pair":
            choice: Any = value
            return Pair(choice, _number(row.get("strength") or "1"))
        case "ranking":
            return Ranking(tuple(_number(rank) for rank in value.split()))
        case "correction":
            return Correction(value)
    return Skip(value)


def _choice(value: str, choices: dict[str, bool]) -> bool:
    if value not in choices:
        raise QAError(f"a thumb must be {' or '.join(choices)}, got {value!r:.40}")
    return choices[value]


def _number(text: str) -> Any:
    """An int where the number is whole."""
    try:
        number = float(text)
    except ValueError:
        raise QAError(f"expected a number, got {text!r:.40}") from None
    return int(number) if number.is_integer() else number
