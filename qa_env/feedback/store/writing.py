"""What is written into the feedback store, inside a transaction of `Database.write`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from qa_env.errors import QAError
from qa_env.feedback import labels
from qa_env.feedback.store import tables
from qa_env.feedback.store.reading import feedback_event, standing
from qa_env.feedback.store.records import LABEL_VERSION, FeedbackEvent, Query, Rater

_INSERT: dict[str, Callable[[sa.Table], Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


_event, _lease = tables.event, tables.lease
_RATER = sa.select(tables.rater).where(tables.rater.c.name == sa.bindparam("name"))
_QUERY = sa.select(tables.query.c.kind, tables.query.c.answers).where(tables.query.c.id == sa.bindparam("id"))
_EVENT = sa.select(_event).where(_event.c.uuid == sa.bindparam("uuid"))
_SUCCESSOR = sa.select(_event.c.uuid).where(_event.c.supersedes == sa.bindparam("uuid"))
_STANDING = sa.select(_event.c.uuid, _event.c.form).where(
    (_event.c.query == sa.bindparam("query")) & (_event.c.rater == sa.bindparam("rater")) & standing()
)
_END_LEASE = sa.delete(_lease).where(
    (_lease.c.query == sa.bindparam("of_query")) & (_lease.c.rater == sa.bindparam("of_rater"))
)


def insert(connection: Connection) -> Callable[[sa.Table], Any]:
    """The database's own insert, which can be told what to do about a row that is there already."""
    return _INSERT[connection.dialect.name]


def put_rater(connection: Connection, rater: Rater, now: float) -> None:
    """Add a rater, unless it is there.

    Raises:
        QAError: If it is there with another role.
    """
    found = connection.execute(
        sa.select(tables.rater.c.role).where(tables.rater.c.name == rater.name)
    ).scalar()
    if found is not None and found != rater.role:
        raise QAError(f"the rater '{rater.name}' is known as {found}, not as {rater.role}")
    if found is None:
        created = now if rater.created is None else rater.created
        row = {"name": rater.name, "role": rater.role, "created": created, "disabled": rater.disabled}
        connection.execute(sa.insert(tables.rater), row)


def put_user(connection: Connection, name: str, now: float) -> None:
    """Add a rater as a user, unless it is there in whatever role."""
    if connection.execute(_RATER, {"name": name}).one_or_none() is None:
        put_rater(connection, Rater(name), now)


def check_rater(connection: Connection, name: str, may_be_disabled: bool = False) -> None:
    """Raise a QAError unless there is such a rater, and it is not disabled."""
    row = connection.execute(_RATER, {"name": name}).one_or_none()
    if row is None:
        raise QAError(f"unknown rater {name!r:.60}; add it first")
    if row.disabled is not None and not may_be_disabled:
        raise QAError(f"the rater {name!r:.60} is disabled")


def put_queries(connection: Connection, queries: Iterable[tuple[Query, float]], renew: bool) -> None:
    """Add queries, each with the time it was made, and their questions and answers.

    Args:
        connection: A transaction that may write.
        queries: The queries.
        renew: Whether a query that is there gets the new priority, number of labels and expiry.
    """
    questions, answers, rows = {}, {}, {}
    for query, created in queries:
        for answer in query.answers:
            key = answer.question_id
            questions[key] = {
                "id": key,
                "question": answer.question,
                "context": answer.context,
                "example_id": answer.example_id,
            }
            answers[answer.id] = {"id": answer.id, "question": key, "text": answer.text, "step": answer.step}
        rows[query.id] = _query_row(query, created)
    if not rows:
        return
    new = insert(connection)
    connection.execute(new(tables.question).on_conflict_do_nothing(), list(questions.values()))
    connection.execute(new(tables.answer).on_conflict_do_nothing(), list(answers.values()))
    adding = new(tables.query)
    changed = {name: adding.excluded[name] for name in ("priority", "needed", "expires")}
    adding = (
        adding.on_conflict_do_update(index_elements=["id"], set_=changed)
        if renew
        else adding.on_conflict_do_nothing()
    )
    connection.execute(adding, list(rows.values()))


def _query_row(query: Query, created: float) -> dict[str, Any]:
    return {
        "id": query.id,
        "kind": query.kind,
        "answers": [answer.id for answer in query.answers],
        "purpose": query.purpose,
        "selector": query.selector,
        "priority": query.priority,
        "needed": query.needed,
        "created": created,
        "expires": query.expires,
    }


def put_lease(connection: Connection, query: str, rater: str, until: float) -> None:
    """Let a rater hold a query."""
    row = {"query": query, "rater": rater, "until": until}
    adding = insert(connection)(tables.lease)
    adding = adding.on_conflict_do_update(
        index_elements=["query", "rater"], set_={"until": adding.excluded.until}
    )
    connection.execute(adding, row)


def put_event(connection: Connection, event: FeedbackEvent, imported: bool = False) -> bool:
    """Add an event, unless it is there.

    Args:
        connection: A transaction that may write.
        event: What was said.
        imported: Whether it was said elsewhere: then a disabled rater's is taken too.

    Returns:
        Whether it is new.

    Raises:
        QAError: If the event does not fit what is stored; see `Store.submit`.
    """
    found = connection.execute(_EVENT, {"uuid": event.uuid}).one_or_none()
    if found is not None:
        if _said(feedback_event(found)) != _said(event):
            raise QAError(f"the uuid {event.uuid} is that of another label already; make a new one for each")
        return False
    check_rater(connection, event.rater, may_be_disabled=imported)
    _check_query(connection, event)
    _check_place(connection, event)
    connection.execute(sa.insert(_event), _event_row(event))
    connection.execute(_END_LEASE, {"of_query": event.query, "of_rater": event.rater})
    return True


def _said(event: FeedbackEvent) -> tuple[object, ...]:
    """What makes two events the same; a table, say, has no latencies."""
    return event.query, event.rater, event.label, event.unsure


def _event_row(event: FeedbackEvent) -> dict[str, Any]:
    return {
        "uuid": event.uuid,
        "query": event.query,
        "rater": event.rater,
        "form": labels.form(event.label),
        "label": labels.to_json(event.label),
        "schema_version": LABEL_VERSION,
        "unsure": event.unsure,
        "shown_order": list(event.shown_order),
        "latency": event.latency,
        "created": event.created,
        "supersedes": event.supersedes,
    }


def _check_query(connection: Connection, event: FeedbackEvent) -> None:
    """Raise a QAError unless there is such a query, and the label fits it."""
    row = connection.execute(_QUERY, {"id": event.query}).one_or_none()
    if row is None:
        raise QAError(f"unknown query {event.query!r:.60}; ask it first")
    form, number = labels.form(event.label), len(row.answers)
    fitting = {row.kind, "skip"} | ({"correction"} if number == 1 else set())
    if form not in fitting:
        raise QAError(
            f"a {form} does not fit a query for a {row.kind}; it takes {', '.join(sorted(fitting))}"
        )
    labels.check_number(event.label, number)
    if event.shown_order and len(event.shown_order) != number:
        raise QAError(f"shown_order has {len(event.shown_order)} places, but the query {number} answers")


def _check_place(connection: Connection, event: FeedbackEvent) -> None:
    """Raise a QAError unless the event is its rater's first on the query, or supersedes the one that stands.

    A correction may stand beside another label of the same answer.
    """
    if event.supersedes is not None:
        old = connection.execute(_EVENT, {"uuid": event.supersedes}).one_or_none()
        if old is None:
            raise QAError(f"there is no event {event.supersedes} to supersede")
        if old.rater != event.rater or old.query != event.query:
            raise QAError(f"the event {event.supersedes} is of another rater or query; supersede one's own")
        newer = connection.execute(_SUCCESSOR, {"uuid": event.supersedes}).scalar()
        if newer is not None:
            raise QAError(f"the event {event.supersedes} is superseded already; supersede {newer}")
    corrects = labels.form(event.label) == "correction"
    mine = {"query": event.query, "rater": event.rater}
    for uuid, form in connection.execute(_STANDING, mine):
        if uuid != event.supersedes and (form == "correction") == corrects:
            raise QAError(
                f"the rater {event.rater!r:.60} has labelled this query; supersede {uuid} to change it"
            )
