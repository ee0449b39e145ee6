"""What is read from the feedback store: all of it derived from the events, nothing counted on the side."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from qa_env.errors import QAError
from qa_env.feedback import labels
from qa_env.feedback.store import tables
from qa_env.feedback.store.records import AnswerRecord, FeedbackEvent, Rater, Stats, StoredEvent

_IN = 500  # ids in one statement; databases limit them
_later = tables.event.alias("later")
_lease = tables.lease
_event, _query = tables.event, tables.query


def standing(up_to: int | None = None) -> sa.ColumnElement[bool]:
    """Whether an event is not superseded, by one up to the number `up_to`."""
    replaced = sa.exists().where(_later.c.supersedes == _event.c.uuid)
    if up_to is None:
        return ~replaced
    return ~replaced.where(_later.c.seq <= up_to) & (_event.c.seq <= up_to)


def given() -> sa.ScalarSelect[int]:
    """How many raters have labelled a query; a skip is no label."""
    raters = sa.func.count(_event.c.rater.distinct())
    mine = (_event.c.query == _query.c.id) & (_event.c.form != "skip") & standing()
    return sa.select(raters).where(mine).correlate(_query).scalar_subquery()


def unexpired(now: float) -> sa.ColumnElement[bool]:
    """Whether a query may still be asked."""
    return _query.c.expires.is_(None) | (_query.c.expires > now)


def held_query(rater: str, kinds: Collection[str] | None, now: float) -> sa.Select[Any]:
    """The query that a rater holds already."""
    mine = (_lease.c.rater == rater) & (_lease.c.until > now)
    found = sa.select(_query).join(_lease, _lease.c.query == _query.c.id).where(mine).limit(1)
    return found if kinds is None else found.where(_query.c.kind.in_(kinds))


def next_query(rater: str, kinds: Collection[str] | None, now: float) -> sa.Select[Any]:
    """The foremost query that still needs a rater, and that this one has said nothing of."""
    held = sa.select(sa.func.count()).where((_lease.c.query == _query.c.id) & (_lease.c.until > now))
    asked = sa.exists().where((_event.c.query == _query.c.id) & (_event.c.rater == rater))
    open_for = unexpired(now) & ~asked & (given() + held.scalar_subquery() < _query.c.needed)
    order = (_query.c.priority.desc(), _query.c.created, _query.c.id)
    found = sa.select(_query).where(open_for).order_by(*order).limit(1)
    return found if kinds is None else found.where(_query.c.kind.in_(kinds))


def count_open(connection: Connection, now: float) -> int:
    """How many queries still need labels."""
    waiting = unexpired(now) & (given() < _query.c.needed)
    return _count(connection, _query, waiting)


def count_labels(connection: Connection) -> int:
    """How many events stand that are no skips."""
    return _count(connection, _event, standing() & (_event.c.form != "skip"))


def events(condition: sa.ColumnElement[bool], limit: int | None = None) -> sa.Select[Any]:
    """Events with the kind, the answers and the purpose of their queries, in their order."""
    of_query = (_query.c.kind, _query.c.answers.label("answers"), _query.c.purpose)
    joined = sa.select(_event, *of_query).join(_query, _query.c.id == _event.c.query)
    return joined.where(condition).order_by(_event.c.seq).limit(limit)


def stored_event(row: Row[Any]) -> StoredEvent:
    """A row of `events`."""
    return StoredEvent(row.seq, feedback_event(row), row.kind, tuple(row.answers), row.purpose)


def feedback_event(row: Row[Any]) -> FeedbackEvent:
    """A row of the table of events."""
    return FeedbackEvent(
        uuid=row.uuid,
        query=row.query,
        rater=row.rater,
        label=labels.from_json(row.label),
        unsure=row.unsure,
        shown_order=tuple(row.shown_order),
        latency=row.latency,
        created=row.created,
        supersedes=row.supersedes,
    )


def raters(connection: Connection) -> list[Rater]:
    """All raters in the order they came."""
    order = (tables.rater.c.created, tables.rater.c.name)
    return [Rater(*row) for row in connection.execute(sa.select(tables.rater).order_by(*order))]


def answers(connection: Connection, ids: Iterable[str]) -> Mapping[str, AnswerRecord]:
    """Answers with their questions by id.

    Raises:
        QAError: If there is no such answer.
    """
    wanted = list(dict.fromkeys(ids))
    found: dict[str, AnswerRecord] = {}
    question, answer = tables.question.c, tables.answer.c
    columns = (answer.id, question.question, answer.text, question.context, question.example_id, answer.step)
    joined = sa.select(*columns).join(tables.question, question.id == answer.question)
    for start in range(0, len(wanted), _IN):
        for key, *values in connection.execute(joined.where(answer.id.in_(wanted[start : start + _IN]))):
            found[key] = AnswerRecord(*values)
    missing = [key for key in wanted if key not in found]
    if missing:
        raise QAError(f"the feedback store has no answer {missing[0]!r:.60}")
    return {key: found[key] for key in wanted}


def stats(connection: Connection, now: float) -> Stats:
    """The store in numbers."""
    forms = sa.select(_event.c.form, sa.func.count()).where(standing()).group_by(_event.c.form)
    counts = {form: number for form, number in connection.execute(forms)}
    known = standing() & (_event.c.form != "skip") & _event.c.latency.is_not(None)
    return Stats(
        raters=tuple(raters(connection)),
        questions=_count(connection, tables.question),
        answers=_count(connection, tables.answer),
        queries=_count(connection, _query),
        open=count_open(connection, now),
        labels={form: counts[form] for form in labels.KINDS if form in counts},
        skips=counts.get("skip", 0),
        superseded=_count(connection, _event, ~standing()),
        latencies=tuple(connection.execute(sa.select(_event.c.latency).where(known)).scalars()),
    )


def _count(connection: Connection, table: sa.Table, condition: sa.ColumnElement[bool] | None = None) -> int:
    counted = sa.select(sa.func.count()).select_from(table)
    if condition is not None:
        counted = counted.where(condition)
    return connection.execute(counted).scalar_one()
