"""The feedback store: what people were asked and what they said, kept in a database."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import sqlalchemy as sa

from qa_env.errors import QAError
from qa_env.feedback import labels
from qa_env.feedback.store import reading, schema, tables, writing
from qa_env.feedback.store.database import Database
from qa_env.feedback.store.records import (
    AnswerRecord,
    FeedbackEvent,
    LeasedQuery,
    Query,
    Rater,
    Role,
    Stats,
    StoredEvent,
)


class Store:
    """Queries for people, and their answers as events that are only ever added.

    Any number of processes may have the same store open; readers do not wait for the writer. A label is
    stored for good when `submit` returns. Make a store after a fork, not before it.

    Args:
        url: A path or ``sqlite:///`` URL, or ``postgresql://user@host/database`` (extra ``postgres``).
        vocabulary: The fingerprint of the run's vocabulary. A store without one adopts it.
        must_exist: Whether a missing store is an error; else it is made.
        timeout: How many seconds to wait for another writer, or for a server.
        clock: The time in unix seconds.

    Raises:
        QAError: If the database cannot be used, belongs to something else, was made by a newer version,
            or holds the feedback of another vocabulary.
    """

    def __init__(
        self,
        url: str | Path,
        vocabulary: str | None = None,
        *,
        must_exist: bool = False,
        timeout: float = 10.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.database = Database(url, timeout)
        self.clock = clock
        try:
            schema.prepare(self.database, must_exist)
            if vocabulary is not None:
                self._adopt(vocabulary)
        except QAError:
            self.close()
            raise

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _adopt(self, vocabulary: str) -> None:
        found = self.vocabulary
        if found is None:
            with self.database.write() as connection:
                row = {"key": "vocabulary", "value": vocabulary}
                inserting = writing.insert(connection)(tables.meta).on_conflict_do_nothing()
                connection.execute(inserting, row)
            found = self.vocabulary
        if found != vocabulary:
            raise QAError(
                f"the feedback store {self.database.name} belongs to vocabulary {found}, this run has "
                f"{vocabulary}: take another store, or export and import its labels"
            )

    @property
    def vocabulary(self) -> str | None:
        """The fingerprint of the vocabulary that the store belongs to."""
        value = sa.select(tables.meta.c.value).where(tables.meta.c.key == "vocabulary")
        with self.database.read() as connection:
            return connection.execute(value).scalar()

    def add_rater(self, name: str, role: Role = "user") -> None:
        """Add a rater; once more is no error.

        Raises:
            QAError: If the name is blank, or known with another role.
        """
        with self.database.write() as connection:
            writing.put_rater(connection, Rater(name, role), self.clock())

    def disable_rater(self, name: str) -> None:
        """Ask a rater no more, and take no more labels from it; those it gave stay.

        Raises:
            QAError: If there is no such rater.
        """
        rater = tables.rater
        with self.database.write() as connection:
            writing.check_rater(connection, name, may_be_disabled=True)
            connection.execute(sa.update(rater).where(rater.c.name == name).values(disabled=self.clock()))

    def raters(self) -> list[Rater]:
        """All raters in the order they came."""
        with self.database.read() as connection:
            return reading.raters(connection)

    def roles(self) -> dict[str, Role]:
        """Whether each rater is a user or an expert, by name."""
        return {rater.name: rater.role for rater in self.raters()}

    def ask(self, queries: Sequence[Query]) -> list[str]:
        """Put queries up for people to answer, and return at once.

        A query that is there already is not asked again, but takes on the new priority, number of labels
        and expiry.

        Returns:
            The queries' ids, in their order.
        """
        now = self.clock()
        with self.database.write() as connection:
            writing.put_queries(connection, [(query, now) for query in queries], renew=True)
        return [query.id for query in queries]

    def lease(
        self, rater: str, seconds: float = 120, kinds: Collection[labels.Kind] | None = None
    ) -> LeasedQuery | None:
        """Hand a query to a rater for some time.

        It is the one that the rater holds already (its time starts anew), or else the foremost one that the
        rater has said nothing of, and for which labels given and leases running together are fewer than
        needed. A lease that has run out counts no more.

        Args:
            rater: Who asks.
            seconds: How long the lease runs.
            kinds: The kinds of query to choose from; None: all.

        Returns:
            The query, or None if there is none for this rater now.

        Raises:
            QAError: If the rater is unknown or disabled.
        """
        now = self.clock()
        with self.database.write() as connection:
            writing.check_rater(connection, rater)
            row = connection.execute(reading.held_query(rater, kinds, now)).one_or_none()
            if row is None:
                row = connection.execute(reading.next_query(rater, kinds, now)).one_or_none()
            if row is None:
                return None
            writing.put_lease(connection, row.id, rater, now + seconds)
            answers = tuple(reading.answers(connection, row.answers).values())
        return LeasedQuery(row.id, row.kind, answers, row.purpose, now + seconds)

    def submit(self, event: FeedbackEvent) -> bool:
        """Store what a rater said; it is committed when this returns.

        A label that comes after its lease or query ran out is kept all the same.

        Returns:
            Whether it is new: the same event sent twice is one label.

        Raises:
            QAError: If the rater is unknown or disabled, the query is unknown, the label does not fit it,
                the rater has labelled it already and supersedes nothing, what is superseded is another
                rater's, the uuid is that of another label, or the database does not take it. Then nothing
                is stored.
        """
        return self.submit_many([event])[0]

    def submit_many(self, events: Iterable[FeedbackEvent]) -> list[bool]:
        """Store several events, all or none of them; see `submit`."""
        with self.database.write() as connection:
            return [writing.put_event(connection, event) for event in events]

    def events(self, after: int = 0, limit: int | None = None) -> list[StoredEvent]:
        """The events numbered above `after`, in the order they were stored.

        The last one's ``seq`` is the next `after`: nothing that is stored later gets a lower number, so a
        reader that goes on from there misses nothing and sees nothing twice.
        """
        with self.database.read() as connection:
            rows = connection.execute(reading.events(tables.event.c.seq > after, limit))
            return [reading.stored_event(row) for row in rows]

    def judgements(
        self, up_to: int | None = None, purposes: Collection[str] | None = None
    ) -> list[labels.Judgement]:
        """What stands of everything that was said: events that were superseded are left out, skips are in.

        Args:
            up_to: The number of the last event to regard; later ones neither count nor supersede.
            purposes: The purposes of queries to take; None: all.
        """
        condition = reading.standing(up_to)
        if purposes is not None:
            condition &= tables.query.c.purpose.in_(purposes)
        with self.database.read() as connection:
            rows = connection.execute(reading.events(condition))
            return [reading.stored_event(row).judgement for row in rows]

    def answers(self, ids: Iterable[str]) -> Mapping[str, AnswerRecord]:
        """Answers by id, with their questions.

        Raises:
            QAError: If there is no such answer.
        """
        with self.database.read() as connection:
            return reading.answers(connection, ids)

    def open_queries(self) -> int:
        """How many queries have not expired and still need labels."""
        with self.database.read() as connection:
            return reading.count_open(connection, self.clock())

    def labels_given(self) -> int:
        """How many labels stand; a skip is none, and an edited label is one. This is the budget used."""
        with self.database.read() as connection:
            return reading.count_labels(connection)

    def stats(self) -> Stats:
        """The contents in numbers."""
        with self.database.read() as connection:
            return reading.stats(connection, self.clock())

    def transaction(self) -> AbstractContextManager[None]:
        """What is done inside, by this thread, is stored together or not at all; other writers wait."""
        return self.database.transaction()

    def close(self) -> None:
        """Close all connections."""
        self.database.close()
