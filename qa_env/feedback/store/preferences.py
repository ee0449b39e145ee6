"""Preferences as TRL's trainers read them: JSON Lines with a prompt, and a chosen and a rejected answer.

The format is the "preference" type of TRL's dataset formats, with an explicit prompt, in its standard (not
conversational) form. It says neither how much better the chosen answer is nor who chose it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator
from itertools import permutations
from typing import TextIO

from sqlalchemy.engine import Connection

from qa_env.errors import QAError
from qa_env.feedback.labels import Correction, Label, Pair, Ranking
from qa_env.feedback.store import reading
from qa_env.feedback.store.lines import Asked, Line, at_line, json_object
from qa_env.feedback.store.records import AnswerRecord, FeedbackEvent, Query

_NAMESPACE = uuid.UUID("6f1a3a0e-7d4e-4e0c-9a53-1c1d0f5d2b11")


def prompt(question: str, context: str | None) -> str:
    """The context, if there is one, then the question."""
    return f"{context}\n\n{question}" if context else question


def write(connection: Connection, file: TextIO) -> int:
    """Write the preferences that stand; return their number.

    They come from pairs, rankings (each two answers of different rank) and corrections (better than what was
    shown). Ties, and pairs of which both are wrong, are left out.
    """
    events = [reading.stored_event(row) for row in connection.execute(reading.events(reading.standing()))]
    answers = reading.answers(connection, (key for stored in events for key in stored.answers))
    written = 0
    for stored in events:
        shown = [answers[key] for key in stored.answers]
        for chosen, rejected in _preferred(stored.event.label, [answer.text for answer in shown]):
            question, context = shown[0].question, shown[0].context
            row = {"prompt": prompt(question, context), "chosen": chosen, "rejected": rejected}
            row_with_parts = {**row, "question": question, "context": context}
            file.write(json.dumps(row_with_parts, ensure_ascii=False) + "\n")
            written += 1
    return written


def _preferred(label: Label, texts: list[str]) -> Iterator[tuple[str, str]]:
    """Each better answer with each worse one."""
    if isinstance(label, Correction) and label.text != texts[0]:
        yield label.text, texts[0]
    elif isinstance(label, Pair) and label.choice == "first":
        yield texts[0], texts[1]
    elif isinstance(label, Pair) and label.choice == "second":
        yield texts[1], texts[0]
    elif isinstance(label, Ranking):
        for (rank, text), (other_rank, other) in permutations(zip(label.ranks, texts, strict=True), 2):
            if rank < other_rank:
                yield text, other


def read(file: Iterable[str], rater: str) -> Iterator[Line]:
    """The preferences as pairs whose first answer is the better one, all from one rater.

    ``question`` and ``context`` are read where a line has them; else the prompt is the question.

    Raises:
        QAError: If a line has no three texts, or two equal answers; with its number.
    """
    for number, text in enumerate(file, 1):
        with at_line(number):
            row = json_object(text)
            for name in ("prompt", "chosen", "rejected"):
                if not isinstance(row.get(name), str):
                    raise QAError(f"'{name}' must be a text (TRL's standard form), got {row.get(name)!r:.40}")
            question, context = row.get("question", row["prompt"]), row.get("context")
            answers = tuple(AnswerRecord(question, row[name], context) for name in ("chosen", "rejected"))
            query = Query("pair", answers)
            key = str(uuid.uuid5(_NAMESPACE, json.dumps([query.id, rater])))
            event = FeedbackEvent.new(query.id, rater, Pair("first"), uuid=key)
        yield Line(number, (Asked(query), event))
