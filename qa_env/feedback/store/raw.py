"""The whole store as JSON Lines: a header, then every rater, question, answer, query and event."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TextIO

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from qa_env.errors import QAError
from qa_env.feedback import labels
from qa_env.feedback.store import reading, tables
from qa_env.feedback.store.checks import check_number, check_text
from qa_env.feedback.store.lines import Asked, Line, at_line, json_object
from qa_env.feedback.store.records import AnswerRecord, FeedbackEvent, Query, Rater

FORMAT = "qa-env-feedback"
VERSION = 1
"""The version of this format: of the lines' fields and of the labels."""


def write(connection: Connection, file: TextIO) -> int:
    """Write everything but the leases; return the number of events."""
    vocabulary = sa.select(tables.meta.c.value).where(tables.meta.c.key == "vocabulary")
    known = connection.execute(vocabulary).scalar()
    _put(file, "header", {"format": FORMAT, "version": VERSION, "vocabulary": known})
    for rater in reading.raters(connection):
        _put(file, "rater", dataclasses.asdict(rater))
    query = tables.query.c
    for name, table, order in (
        ("question", tables.question, [tables.question.c.id]),
        ("answer", tables.answer, [tables.answer.c.id]),
        ("query", tables.query, [query.created, query.id]),
    ):
        for row in connection.execute(sa.select(table).order_by(*order)).mappings():
            _put(file, name, dict(row))
    events = 0
    for stored in connection.execute(sa.select(tables.event).order_by(tables.event.c.seq)):
        event = reading.feedback_event(stored)
        values = {field.name: getattr(event, field.name) for field in dataclasses.fields(event)}
        _put(file, "event", {**values, "label": json.loads(labels.to_json(event.label))})
        events += 1
    return events


def _put(file: TextIO, kind: str, fields: dict[str, Any]) -> None:
    file.write(json.dumps({"type": kind, **fields}, ensure_ascii=False) + "\n")


def read(file: Iterable[str]) -> Iterator[Line]:
    """The records of an export.

    Raises:
        QAError: If a line is not as `write` writes it; with its number.
    """
    reader = _Reader()
    number = 0
    for number, text in enumerate(file, 1):
        with at_line(number):
            fields = json_object(text)
            kind = fields.pop("type", None)
            if number == 1:
                _check_header(kind, fields)
                continue
            if not isinstance(kind, str) or kind not in reader.kinds:
                raise QAError(f"a line's type must be one of {', '.join(reader.kinds)}; got {kind!r:.40}")
            line = Line(number, reader.kinds[kind](fields))
        yield line
    if number == 0:
        raise QAError("line 1: expected the header of an export, got an empty file")


def _check_header(kind: object, fields: dict[str, Any]) -> None:
    if kind != "header" or fields.get("format") != FORMAT:
        raise QAError(f'expected the header of an export, {{"type": "header", "format": "{FORMAT}", ...}}')
    version = fields.get("version")
    if version != VERSION:
        raise QAError(f"this export has version {version!r:.40}, here version {VERSION} is read")


class _Reader:
    """Puts questions, answers and queries together again."""

    def __init__(self) -> None:
        self.kinds: dict[str, Callable[[dict[str, Any]], tuple[Rater | Asked | FeedbackEvent, ...]]] = {
            "rater": self._rater,
            "question": self._question,
            "answer": self._answer,
            "query": self._query,
            "event": self._event,
        }
        self._questions: dict[str, dict[str, Any]] = {}
        self._answers: dict[str, AnswerRecord] = {}

    def _rater(self, fields: dict[str, Any]) -> tuple[Rater]:
        rater: Rater = _make(Rater, fields)
        return (rater,)

    def _question(self, fields: dict[str, Any]) -> tuple[()]:
        key = _taken(fields, "id")
        question: AnswerRecord = _make(AnswerRecord, {**fields, "text": ""})
        _check_id(key, question.question_id)
        self._questions[key] = fields
        return ()

    def _answer(self, fields: dict[str, Any]) -> tuple[()]:
        key, question = _taken(fields, "id"), _taken(fields, "question")
        if question not in self._questions:
            raise QAError(f"no line above has the question {question!r:.40}")
        answer: AnswerRecord = _make(AnswerRecord, {**self._questions[question], **fields})
        _check_id(key, answer.id)
        self._answers[key] = answer
        return ()

    def _query(self, fields: dict[str, Any]) -> tuple[Asked]:
        key, created, ids = _taken(fields, "id"), fields.pop("created", None), fields.pop("answers", None)
        check_number("created", created)
        if not isinstance(ids, list):
            raise QAError(f"a query's answers must be a list of ids, got {ids!r:.40}")
        for answer in ids:
            if not isinstance(answer, str) or answer not in self._answers:
                raise QAError(f"no line above has the answer {answer!r:.40}")
        query: Query = _make(Query, {**fields, "answers": tuple(self._answers[answer] for answer in ids)})
        _check_id(key, query.id)
        return (Asked(query, created),)

    def _event(self, fields: dict[str, Any]) -> tuple[FeedbackEvent]:
        given = json.dumps(fields.pop("label", None))
        try:
            label = labels.from_json(given)
        except (TypeError, OverflowError):  # a form that is a list, a number of a thousand digits
            raise QAError(f"malformed label {given:.60}") from None
        event: FeedbackEvent = _make(FeedbackEvent, {**fields, "label": label})
        return (event,)


def _taken(fields: dict[str, Any], name: str) -> str:
    text = fields.pop(name, None)
    check_text(name, text)
    return str(text)


def _check_id(given: str, right: str) -> None:
    if given != right:
        raise QAError(f"the id {given!r:.40} is not that of its contents, {right}: was the line changed?")


def _make(kind: type[Any], fields: dict[str, Any]) -> Any:
    wanted = {field.name: field for field in dataclasses.fields(kind)}
    unknown = [name for name in fields if name not in wanted]
    missing = [
        name for name, field in wanted.items() if field.default is dataclasses.MISSING and name not in fields
    ]
    if unknown or missing:
        problem = f"unknown field {unknown[0]!r:.40}" if unknown else f"missing field '{missing[0]}'"
        raise QAError(f"{problem}; expected {', '.join(wanted)}")
    return kind(**fields)
