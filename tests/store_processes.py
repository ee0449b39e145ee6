"""What the tests of the feedback store run in processes of their own, to be killed or to compete."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier, Event

from qa_env.feedback.labels import Rating
from qa_env.feedback.store import FeedbackEvent, Store


def event_number(rater: str, number: int, query: str) -> FeedbackEvent:
    """The rater's event of that number: the same in every process."""
    key = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{rater} {number}"))
    return FeedbackEvent.new(query, rater, Rating(3, 3), created=0.0, uuid=key)


def label_all(url: str, rater: str, queries: Sequence[str], acknowledged: Connection) -> None:
    """Label the queries, and send word of each label once it is stored."""
    with Store(url, timeout=60) as store:
        for number, query in enumerate(queries):
            store.submit(event_number(rater, number, query))
            acknowledged.send(number)


def label_leased(url: str, rater: str, start: Barrier, counts: Connection) -> None:
    """Lease and label until nothing is left; send how many labels it were."""
    with Store(url, timeout=60) as store:
        start.wait()
        number = 0
        while (leased := store.lease(rater)) is not None:
            store.submit(event_number(rater, number, leased.id))
            number += 1
    counts.send(number)


def follow(url: str, done: Event, seen: Connection) -> None:
    """Poll with a cursor, as training does, until the writers are done; send the numbers and uuids seen."""
    found: list[tuple[int, str]] = []
    with Store(url, timeout=60) as store:
        last = False
        while not last:
            last = done.is_set()  # asked before reading: what is written before it is set is read below
            while batch := store.events(after=found[-1][0] if found else 0, limit=100):
                found += [(stored.seq, stored.event.uuid) for stored in batch]
    seen.send(found)


def open_store(url: str, start: Barrier, result: Connection) -> None:
    """Open a store at the same moment as others."""
    start.wait()
    with Store(url, timeout=60) as store:
        result.send(len(store.raters()))


def open_and_tell(url: str, result: Connection) -> None:
    """Send word, then open a store, and send word again."""
    result.send("opening")
    with Store(url, timeout=60):
        result.send("open")
