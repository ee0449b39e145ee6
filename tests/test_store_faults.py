"""What may happen to a database: killed writers, competitors, locks, full disks, servers that are gone."""

from __future__ import annotations

import os
import random
import sqlite3
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import sqlalchemy as sa
import store_processes
from forked import processes, start
from postgres import new_database

from qa_env.errors import QAError
from qa_env.feedback.labels import Rating
from qa_env.feedback.store import AnswerRecord, FeedbackEvent, Query, Store, writing
from qa_env.feedback.store.database import parse_url

KILLS = int(os.environ.get("QA_ENV_TEST_KILLS", "20"))
"""How many writers are killed on each database."""
EVENTS = int(os.environ.get("QA_ENV_TEST_EVENTS", "2000"))
"""How many labels two competing writers give."""


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return new_database() if request.param == "postgresql" else f"sqlite:///{tmp_path / 'feedback.db'}"


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with Store(url) as store:
        yield store


def queries(number: int, needed: int = 1) -> list[Query]:
    return [Query("rating", (AnswerRecord("Who?", f"answer {n}"),), needed=needed) for n in range(number)]


def said(query: str, rater: str = "ann") -> FeedbackEvent:
    return FeedbackEvent.new(query, rater, Rating(3, 3), created=0.0)


def refusal(call: Callable[[], object]) -> str:
    """The message of the error that `call` raises, which must be one line."""
    with pytest.raises(QAError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def check_integrity(store: Store) -> None:
    if store.database.dialect == "sqlite":
        with store.database.read() as connection:
            assert connection.execute(sa.text("PRAGMA integrity_check")).scalars().all() == ["ok"]
            assert connection.execute(sa.text("PRAGMA foreign_key_check")).all() == []


def received(connection: Connection, most: int | None = None) -> int:
    """How many messages came, until the sender died or there were so many."""
    number = 0
    while most is None or number < most:
        try:
            connection.recv()
        except (EOFError, OSError):
            break
        number += 1
    return number


def test_every_acknowledged_label_of_a_killed_writer_is_stored_once(url: str, store: Store) -> None:
    keys = store.ask(queries(200, needed=KILLS))
    unacknowledged = 0
    for round_ in range(KILLS):
        rater, chance = f"rater {round_}", random.Random(round_)
        store.add_rater(rater)
        process, acknowledged = start(store_processes.label_all, url, rater, keys)
        count = received(acknowledged, chance.randrange(12))
        time.sleep(chance.uniform(0, 0.01))
        process.kill()
        process.join()
        count += received(acknowledged)
        acknowledged.close()
        events = [stored.event for stored in store.events() if stored.event.rater == rater]
        expected = [store_processes.event_number(rater, n, keys[n]) for n in range(len(events) + 1)]
        assert events == expected[:-1]
        assert len(events) - count in (0, 1)  # stored, but killed before saying so
        unacknowledged += len(events) - count
        # Whoever got no answer sends again: the label is there once in the end.
        assert store.submit_many(expected[count:]) == [False] * (len(events) - count) + [True]
    assert len({stored.event.uuid for stored in store.events()}) == len(store.events())
    check_integrity(store)
    print(f"{KILLS} writers killed, {unacknowledged} of them between storing a label and saying so")


def test_a_store_can_be_opened_after_its_maker_was_killed(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    for round_ in range(10):
        path = tmp_path / f"{round_}.db"
        process, told = start(store_processes.open_and_tell, str(path))
        assert received(told, 1) == 1
        time.sleep(random.Random(round_).uniform(0, 0.1))
        process.kill()
        process.join()
        told.close()
        with Store(path) as store:
            store.add_rater("ann")
            assert store.submit(said(*store.ask(queries(1))))
            check_integrity(store)


def test_two_writers_and_a_reader_lose_nothing_and_see_nothing_twice(url: str, store: Store) -> None:
    keys = store.ask(queries(EVENTS // 2, needed=2))
    done = processes.Event()
    reader, seen = start(store_processes.follow, url, done)
    writers = []
    for rater in ("ann", "ben"):
        store.add_rater(rater)
        writers.append(start(store_processes.label_all, url, rater, keys))
    for process, acknowledged in writers:
        assert received(acknowledged) == len(keys)
        process.join()
        acknowledged.close()
    done.set()
    found = seen.recv()
    reader.join()
    seen.close()
    numbers = [number for number, _ in found]
    assert numbers == sorted(set(numbers))
    sent = [
        store_processes.event_number(rater, number, key).uuid
        for rater in ("ann", "ben")
        for number, key in enumerate(keys)
    ]
    assert Counter(uuid for _, uuid in found) == Counter(sent)
    assert store.labels_given() == 2 * len(keys)
    check_integrity(store)


def test_competing_raters_give_a_query_no_more_labels_than_it_needs(url: str, store: Store) -> None:
    store.ask(queries(15, needed=2))
    raters = ("ann", "ben", "cem")
    barrier = processes.Barrier(len(raters))
    for rater in raters:
        store.add_rater(rater)
    running = [start(store_processes.label_leased, url, rater, barrier) for rater in raters]
    given = 0
    for process, counts in running:
        given += counts.recv()
        process.join()
        counts.close()
    assert given == 30
    assert set(Counter(stored.event.query for stored in store.events()).values()) == {2}


def test_processes_may_make_the_same_store_at_the_same_time(url: str) -> None:
    barrier = processes.Barrier(4)
    running = [start(store_processes.open_store, url, barrier) for _ in range(4)]
    for process, result in running:
        assert result.recv() == 0
        process.join()
        result.close()


def test_making_a_store_waits_for_another_who_writes_into_the_file(tmp_path: Path) -> None:
    path = tmp_path / "feedback.db"
    writer = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    writer.execute("BEGIN IMMEDIATE")
    with pytest.raises(QAError, match=r"locked by another process for longer than 0\.1 s"):
        Store(path, timeout=0.1)
    ends = threading.Timer(0.2, writer.rollback)
    ends.start()
    with Store(path, timeout=60) as store:
        assert store.events() == []
    ends.join()
    writer.close()


def test_a_second_writer_waits_so_that_numbers_become_visible_in_order(url: str, store: Store) -> None:
    store.add_rater("ann")
    first, second = store.ask(queries(2))
    event = said(second)
    with Store(url, timeout=0.1) as other:
        with store.database.write() as connection:
            writing.put_event(connection, said(first))
            message = refusal(lambda: other.submit(event))
            assert other.events() == []  # readers do not wait, and see what is committed
        assert "is locked by another process for longer than 0.1 s" in message
        assert other.submit(event)
        assert [stored.event.query for stored in other.events()] == [first, second]


def test_an_exception_undoes_the_whole_transaction(store: Store) -> None:
    store.add_rater("ann")
    (key,) = store.ask(queries(1))
    with pytest.raises(KeyboardInterrupt), store.database.write() as connection:
        writing.put_event(connection, said(key))
        raise KeyboardInterrupt
    assert store.events() == []


def read_only(url: str) -> str:
    if url.startswith("sqlite"):
        return url.replace("sqlite:///", "sqlite:///file:") + "?mode=ro&uri=true"
    options = sa.make_url(url).query["options"]
    changed = sa.make_url(url).update_query_dict({"options": f"{options} -cdefault_transaction_read_only=on"})
    return changed.render_as_string(hide_password=False)


def test_a_store_that_may_only_be_read_is_read(url: str, store: Store) -> None:
    store.add_rater("ann")
    first, second = store.ask(queries(2))
    store.submit(said(first))
    with Store(read_only(url), must_exist=True) as reader:
        assert reader.events() == store.events()
        assert reader.stats() == store.stats()
        assert "may only be read" in refusal(lambda: reader.submit(said(second)))
        assert "may only be read" in refusal(lambda: reader.lease("ann"))
    assert len(store.events()) == 1


def test_a_full_disk_refuses_a_label_and_keeps_all_that_were_acknowledged(tmp_path: Path) -> None:
    with Store(tmp_path / "feedback.db") as store:
        store.add_rater("ann")
        keys = store.ask(queries(400))
        limit = "PRAGMA max_page_count=1"  # less than there are: not a page more

        @sa.event.listens_for(store.database.engine, "checkout")
        def limited(connection, *_: object) -> None:
            connection.execute(limit)

        acknowledged = []
        with pytest.raises(QAError, match=r"has no room left; make room on the disk"):
            for key in keys:
                event = said(key)
                store.submit(event)
                acknowledged.append(event)
        assert [stored.event for stored in store.events()] == acknowledged
        check_integrity(store)
        limit = "PRAGMA max_page_count=100000"
        assert store.submit(event)
        assert len(store.events()) == len(acknowledged) + 1


def test_a_lost_server_is_one_line_and_a_new_connection_goes_on() -> None:
    with Store(new_database()) as store:
        store.add_rater("ann")
        (key,) = store.ask(queries(1))
        event = said(key)

        def cut_off() -> None:
            with store.database.write() as connection:
                writing.put_event(connection, event)
                number = connection.execute(sa.select(sa.func.pg_backend_pid())).scalar()
                with store.database.read() as other:
                    other.execute(sa.select(sa.func.pg_terminate_backend(number)))
                connection.execute(sa.text("SELECT 1"))

        assert "was lost: " in refusal(cut_off)
        assert store.events() == []
        assert store.submit(event)


def test_a_server_that_is_not_there_is_one_line_without_the_password() -> None:
    pytest.importorskip("psycopg")
    address = "postgresql://ann:s3cret@127.0.0.1:1/feedback?password=s3cret"
    message = refusal(lambda: Store(address))
    assert "the feedback store postgresql+psycopg://ann:***@127.0.0.1:1/feedback cannot be reached" in message
    assert "s3cret" not in message


def test_a_missing_driver_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    message = refusal(lambda: Store("postgresql://localhost/feedback"))
    assert "PostgreSQL needs the package psycopg: pip install 'qa-env-rl[postgres]'" in message


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("Dear diary, " * 500)
    assert "is not an SQLite database" in refusal(lambda: Store(text))
    assert text.read_text() == "Dear diary, " * 500
    assert "cannot be opened" in refusal(lambda: Store(tmp_path))
    assert "cannot be opened" in refusal(lambda: Store(tmp_path / "nowhere" / "feedback.db"))


def test_a_store_that_must_exist_is_not_made(url: str, tmp_path: Path) -> None:
    assert "there is no feedback store" in refusal(lambda: Store(url, must_exist=True))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://ann:s3cret@host:port/x", "not a database URL: 'postgresql://...'"),
        ("mysql://ann:s3cret@host/x", "is in SQLite or PostgreSQL, not in mysql"),
        ("://", "not a database URL"),
        ("sqlite://", "needs a file"),
        ("sqlite:///:memory:", "needs a file"),
        (":memory:", "needs a file"),
        ("", "needs a file"),
    ],
)
def test_a_url_that_will_not_do_is_one_line_without_the_password(url: str, message: str) -> None:
    refused = refusal(lambda: Store(url))
    assert message in refused
    assert "s3cret" not in refused


def test_paths_and_urls_mean_the_same(tmp_path: Path) -> None:
    path = tmp_path / "feedback.db"
    assert parse_url(path) == parse_url(str(path)) == parse_url(f"sqlite:///{path}")
    for scheme in ("postgresql", "postgresql+psycopg"):
        assert parse_url(f"{scheme}://ann@host/x").drivername == "postgresql+psycopg"
