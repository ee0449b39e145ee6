from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hypothesis import given, settings
from hypothesis import strategies as st
from postgres import new_database

from qa_env.errors import QAError
from qa_env.feedback.labels import (
    Correction,
    Judgement,
    Label,
    Pair,
    Percent,
    Ranking,
    Rating,
    Skip,
    Thumb,
)
from qa_env.feedback.store import AnswerRecord, FeedbackEvent, Query, Rater, Store, schema
from qa_env.feedback.store.tables import metadata

CONTEXT = "Japan is an island country. Its capital is Tokyo."
QUESTION = "What is the capital of Japan?"
UUID = "12345678-1234-4234-8234-123456789abc"


def answer(text: str = "Tokyo.", question: str = QUESTION, step: int | None = None) -> AnswerRecord:
    return AnswerRecord(question, text, CONTEXT, "japan", step)


def rating_query(number: int = 0, **fields: object) -> Query:
    return Query("rating", (answer(f"answer {number}"),), **fields)  # type: ignore[arg-type]


class Clock:
    """A time that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return new_database() if request.param == "postgresql" else f"sqlite:///{tmp_path / 'feedback.db'}"


@pytest.fixture
def open_store(url: str) -> Iterator[Callable[..., Store]]:
    """Opens stores on one database, and closes them at the end."""
    stores: list[Store] = []

    def open_another(**options: object) -> Store:
        stores.append(Store(url, **options))  # type: ignore[arg-type]
        return stores[-1]

    yield open_another
    for store in stores:
        store.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(open_store: Callable[..., Store], clock: Clock) -> Store:
    """A store with the raters ann and ben."""
    store = open_store(clock=clock)
    store.add_rater("ann")
    store.add_rater("ben", "expert")
    return store


def said(query: str, label: Label, rater: str = "ann", **fields: object) -> FeedbackEvent:
    return FeedbackEvent.new(query, rater, label, created=5.0, **fields)  # type: ignore[arg-type]


def refusal(call: Callable[[], object]) -> str:
    """The message of the error that `call` raises, which must be one line."""
    with pytest.raises(QAError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


LABELS: dict[str, tuple[Query, Label]] = {
    "rating": (rating_query(), Rating(3, 4)),
    "percent": (Query("percent", (answer(),)), Percent(12.5, 60)),
    "thumb": (Query("thumb", (answer(),)), Thumb(False)),
    "pair": (Query("pair", (answer(), answer("Kyoto."))), Pair("second", 2)),
    "ranking": (Query("ranking", (answer("a"), answer("b"), answer("c"))), Ranking((2, 1, 2))),
    "correction": (Query("correction", (answer("tokio"),)), Correction("Tokyo — 東京.")),
    "skip": (Query("pair", (answer("x"), answer("y"))), Skip("both are odd")),
}


@pytest.mark.parametrize("form", LABELS)
def test_a_label_comes_back_as_it_was_given(store: Store, form: str) -> None:
    query, label = LABELS[form]
    (key,) = store.ask([query])
    order = tuple(reversed(range(len(query.answers))))
    event = said(key, label, unsure=True, shown_order=order, latency=3.25)
    assert store.submit(event)
    (stored,) = store.events()
    assert stored.event == event
    assert (stored.kind, stored.purpose) == (query.kind, query.purpose)
    ids = tuple(answer.id for answer in query.answers)
    assert store.judgements() == [Judgement("ann", ids, label, unsure=True)]
    assert store.answers(ids) == dict(zip(ids, query.answers, strict=True))


def test_what_is_stored_is_there_when_the_store_is_opened_again(open_store, store: Store) -> None:
    (key,) = store.ask([rating_query()])
    store.submit(said(key, Rating(5, 5)))
    again = open_store()
    assert again.events() == store.events()
    assert [(rater.name, rater.role) for rater in again.raters()] == [("ann", "user"), ("ben", "expert")]


def test_asking_again_asks_once_and_takes_the_new_wishes(store: Store, clock: Clock) -> None:
    first = store.ask([rating_query(), rating_query(), rating_query(1)])
    assert first[0] == first[1] != first[2]
    assert store.stats().queries == 2
    assert store.ask([rating_query(needed=2, expires=clock.now + 10)]) == first[:1]
    assert store.stats().queries == 2
    store.submit(said(first[0], Rating(1, 1)))
    store.submit(said(first[2], Rating(1, 1)))
    assert store.open_queries() == 1  # of the two labels needed now, one is missing
    clock.now += 11
    assert store.open_queries() == 0


def test_kind_answers_and_purpose_make_a_query() -> None:
    pair = Query("pair", (answer(), answer("Kyoto.")))
    others = [
        Query("pair", (answer("Kyoto."), answer())),
        Query("pair", (answer(), answer("Kyoto.")), purpose="repeat"),
        Query("ranking", (answer(), answer("Kyoto."))),
        Query("pair", (answer(), answer("Osaka."))),
    ]
    assert len({query.id for query in [pair, *others]}) == 5
    assert Query("pair", (answer(), answer("Kyoto.")), priority=2.0, needed=3).id == pair.id


def test_the_first_known_step_and_example_of_an_answer_stay(store: Store) -> None:
    store.ask([Query("rating", (answer(step=10),))])
    store.ask([Query("thumb", (answer(step=99),))])
    assert store.answers([answer().id])[answer().id].step == 10
    assert "no answer 'nowhere'" in refusal(lambda: store.answers([answer().id, "nowhere"]))


def test_queries_are_leased_by_priority_then_age(store: Store, clock: Clock) -> None:
    store.ask([rating_query(0)])
    clock.now += 1
    store.ask([rating_query(1)])
    store.ask([rating_query(2, priority=1.0)])
    order = []
    while (leased := store.lease("ann")) is not None:
        order.append(leased.answers[0].text)
        store.submit(said(leased.id, Rating(2, 2)))
    assert order == ["answer 2", "answer 0", "answer 1"]


def test_a_lease_is_one_raters_until_it_runs_out(store: Store, clock: Clock) -> None:
    (key,) = store.ask([rating_query()])
    leased = store.lease("ann", seconds=60)
    assert leased is not None
    assert (leased.id, leased.kind, leased.until) == (key, "rating", clock.now + 60)
    assert store.lease("ben") is None
    clock.now += 59
    assert store.lease("ben") is None
    clock.now += 1
    taken = store.lease("ben")
    assert taken is not None
    assert taken.id == key
    assert store.lease("ann") is None


def test_a_rater_that_comes_back_gets_the_query_it_holds(store: Store, clock: Clock) -> None:
    store.ask([rating_query(number) for number in range(5)])
    first = store.lease("ann", seconds=60)
    clock.now += 30
    again = store.lease("ann", seconds=60)
    assert first is not None and again is not None
    assert (again.id, again.until) == (first.id, clock.now + 60)
    other = store.lease("ben")
    assert other is not None
    assert other.id != first.id


def test_a_rater_is_not_asked_the_same_query_twice(store: Store) -> None:
    (key,) = store.ask([rating_query(needed=3)])
    store.submit(said(key, Rating(2, 2)))
    assert store.lease("ann") is None
    assert store.lease("ben") is not None


def test_a_skipped_query_goes_to_somebody_else(store: Store) -> None:
    (key,) = store.ask([rating_query()])
    store.submit(said(key, Skip("too hard")))
    assert (store.open_queries(), store.labels_given()) == (1, 0)
    assert store.lease("ann") is None
    leased = store.lease("ben")
    assert leased is not None
    store.submit(said(leased.id, Rating(2, 2), "ben"))
    assert (store.open_queries(), store.labels_given()) == (0, 1)


def test_only_queries_of_the_wanted_kinds_are_leased(store: Store) -> None:
    store.ask([rating_query(), Query("thumb", (answer(),))])
    leased = store.lease("ann", kinds=["thumb"])
    assert leased is not None
    assert leased.kind == "thumb"
    assert store.lease("ben", kinds=["thumb", "pair"]) is None


def test_an_expired_query_is_not_leased_but_its_late_label_is_kept(store: Store, clock: Clock) -> None:
    (key,) = store.ask([rating_query(expires=clock.now + 10)])
    assert store.lease("ann") is not None
    clock.now += 3600
    assert store.lease("ben") is None
    assert store.submit(said(key, Rating(4, 4)))
    assert store.labels_given() == 1


STEPS = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(["lease", "label", "skip", "wait", "ask"])), max_size=40
)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(STEPS)
def test_no_query_gets_more_labels_and_leases_than_it_needs(tmp_path_factory, steps) -> None:
    """While leases are kept: four raters lease, label, skip and wait in any order."""
    clock = Clock()
    asked = itertools.count()
    with Store(tmp_path_factory.mktemp("leases") / "feedback.db", clock=clock) as store:
        needed = {}
        for rater in "abcd":
            store.add_rater(rater)
        held: dict[str, tuple[str, float]] = {}
        labels: list[tuple[str, str]] = []
        for who, action in steps:
            rater = "abcd"[who]
            holds = rater in held and held[rater][1] > clock.now
            if action == "ask":
                number = next(asked)
                (key,) = store.ask([rating_query(number, needed=1 + who % 2)])
                needed[key] = 1 + who % 2
            elif action == "wait":
                clock.now += 40
            elif action == "lease":
                leased = store.lease(rater, seconds=100)
                if leased is None:
                    assert not holds
                else:
                    assert not holds or leased.id == held[rater][0]
                    held[rater] = (leased.id, leased.until)
            elif holds:
                key, _ = held.pop(rater)
                store.submit(said(key, Rating(1, 1) if action == "label" else Skip(), rater))
                if action == "label":
                    labels.append((key, rater))
            for key, most in needed.items():
                running = sum(query == key and until > clock.now for query, until in held.values())
                given_now = sum(query == key for query, _ in labels)
                assert given_now + running <= most
        assert store.labels_given() == len(labels)


def test_the_same_event_sent_twice_is_one_label(store: Store) -> None:
    (key,) = store.ask([rating_query()])
    event = said(key, Rating(3, 3))
    assert store.submit_many([event, event]) == [True, False]
    assert store.submit(event) is False
    assert len(store.events()) == 1
    other = said(key, Rating(4, 4), uuid=event.uuid.upper())
    assert "the uuid" in refusal(lambda: store.submit(other))


def test_an_edit_replaces_a_label_and_all_is_derived_anew(store: Store) -> None:
    (key,) = store.ask([rating_query()])
    first = said(key, Rating(2, 2))
    second = said(key, Rating(4, 4), supersedes=first.uuid)
    taken_back = said(key, Skip("a slip"), supersedes=second.uuid)
    seen = []
    for event in (first, second, taken_back):
        store.submit(event)
        seen.append((store.labels_given(), store.open_queries()))
    assert seen == [(1, 0), (1, 0), (0, 1)]
    assert [stored.event for stored in store.events()] == [first, second, taken_back]
    assert [judgement.label for judgement in store.judgements()] == [Skip("a slip")]
    until = [store.judgements(up_to=stored.seq) for stored in store.events()]
    assert [judgement.label for (judgement,) in until] == [Rating(2, 2), Rating(4, 4), Skip("a slip")]


def test_judgements_are_chosen_by_their_purpose(store: Store) -> None:
    train, probe = store.ask([rating_query(), rating_query(purpose="probe")])
    store.submit_many([said(train, Rating(1, 1)), said(probe, Rating(5, 5))])
    assert [judgement.label for judgement in store.judgements(purposes=["probe"])] == [Rating(5, 5)]
    assert len(store.judgements()) == 2


def test_a_correction_may_stand_beside_a_rating(store: Store) -> None:
    (key,) = store.ask([rating_query(needed=2)])
    store.submit_many([said(key, Rating(2, 2)), said(key, Correction("Tokyo."))])
    assert store.labels_given() == 2
    assert store.open_queries() == 1  # both are the same rater's
    refused = refusal(lambda: store.submit(said(key, Correction("Tokyo!"))))
    assert "has labelled this query; supersede" in refused


def wrong_events(store: Store) -> dict[str, tuple[FeedbackEvent, str]]:
    rating, pair = store.ask([rating_query(), Query("pair", (answer(), answer("Kyoto.")))])
    other = store.ask([rating_query(1)])[0]
    mine, superseded = said(other, Rating(1, 1)), said(rating, Rating(1, 1))
    newer = said(rating, Rating(2, 2), supersedes=superseded.uuid)
    store.submit_many([mine, superseded, newer])
    return {
        "unknown rater": (said(rating, Rating(2, 2), "zoe"), "unknown rater 'zoe'"),
        "unknown query": (said("nowhere", Rating(2, 2)), "unknown query 'nowhere'"),
        "other form": (said(rating, Thumb(True), "ben"), "a thumb does not fit a query for a rating"),
        "correction of two": (said(pair, Correction("x")), "a correction does not fit a query for a pair"),
        "order of others": (said(pair, Pair("tie"), shown_order=(0, 2, 1)), "shown_order has 3 places"),
        "twice": (said(other, Rating(3, 3)), f"supersede {mine.uuid} to change it"),
        "supersedes nothing": (said(other, Rating(3, 3), supersedes=UUID), f"no event {UUID} to supersede"),
        "another's": (said(other, Rating(3, 3), "ben", supersedes=mine.uuid), "is of another rater or query"),
        "another query's": (said(pair, Pair("tie"), supersedes=mine.uuid), "is of another rater or query"),
        "superseded already": (
            said(rating, Rating(3, 3), supersedes=superseded.uuid),
            f"superseded already; supersede {newer.uuid}",
        ),
    }


def test_events_that_do_not_fit_are_refused_in_one_line_and_leave_nothing_behind(store: Store) -> None:
    cases = wrong_events(store)
    good = said(store.ask([rating_query(7)])[0], Rating(3, 3))
    before = store.events()
    for event, message in cases.values():
        assert message in refusal(lambda event=event: store.submit_many([good, event]))
    assert store.events() == before


def test_a_disabled_rater_is_asked_no_more_and_its_labels_stay(store: Store) -> None:
    first, second = store.ask([rating_query(0), rating_query(1)])
    store.submit(said(first, Rating(3, 3)))
    store.disable_rater("ann")
    assert "'ann' is disabled" in refusal(lambda: store.lease("ann"))
    assert "'ann' is disabled" in refusal(lambda: store.submit(said(second, Rating(3, 3))))
    assert len(store.judgements()) == 1
    assert "unknown rater 'zoe'" in refusal(lambda: store.disable_rater("zoe"))
    assert "unknown rater 'zoe'" in refusal(lambda: store.lease("zoe"))


def test_adding_a_rater_again_is_no_error_unless_the_role_differs(store: Store) -> None:
    store.add_rater("ann")
    assert "'ann' is known as user, not as expert" in refusal(lambda: store.add_rater("ann", "expert"))
    assert len(store.raters()) == 2


def test_a_cursor_goes_on_where_it_stopped(store: Store) -> None:
    keys = store.ask([rating_query(number) for number in range(7)])
    store.submit_many([said(key, Rating(3, 3)) for key in keys])
    seen: list[str] = []
    after = 0
    while batch := store.events(after, limit=3):
        seen += [stored.event.query for stored in batch]
        after = batch[-1].seq
    assert seen == keys
    assert store.events(after) == []


def test_stats_count_what_stands(store: Store) -> None:
    keys = store.ask([rating_query(number) for number in range(4)])
    first = said(keys[0], Rating(1, 1), latency=2.0)
    store.submit_many([first, said(keys[0], Rating(2, 2), supersedes=first.uuid, latency=4.0)])
    store.submit_many([said(keys[1], Skip(), latency=99.0), said(keys[2], Rating(5, 5), latency=5.0)])
    stats = store.stats()
    assert (stats.questions, stats.answers, stats.queries, stats.open) == (1, 4, 4, 2)
    assert (dict(stats.labels), stats.skips, stats.superseded) == ({"rating": 2}, 1, 1)
    assert stats.latency_median == 4.5


def test_a_store_belongs_to_the_vocabulary_it_was_first_used_with(open_store) -> None:
    assert open_store().vocabulary is None
    assert open_store(vocabulary="aaaa").vocabulary == "aaaa"
    assert open_store(vocabulary="aaaa").vocabulary == "aaaa"
    assert open_store().vocabulary == "aaaa"
    assert "belongs to vocabulary aaaa, this run has bbbb" in refusal(lambda: open_store(vocabulary="bbbb"))


def test_the_tables_are_those_that_the_migrations_make(store: Store) -> None:
    options = {"version_table": schema.VERSION_TABLE, "compare_type": True}
    with store.database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []


NEXT = """
import sqlalchemy as sa
from alembic import op
revision = "0002"
down_revision = "0001"
def upgrade():
    op.add_column("rater", sa.Column("motto", sa.Text, server_default="none"))
"""


def test_an_older_schema_is_upgraded_and_a_newer_one_refused(
    open_store, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (key,) = store.ask([rating_query()])
    store.submit(said(key, Rating(3, 3)))
    scripts = tmp_path / "migrations"
    (scripts / "versions").mkdir(parents=True)
    for name in ("env.py", "versions/0001_first.py"):
        (scripts / name).write_text((schema.SCRIPTS / name).read_text())
    (scripts / "versions/0002_next.py").write_text(NEXT)
    with monkeypatch.context() as newer:
        newer.setattr(schema, "SCRIPTS", scripts)
        upgraded = open_store()
        with upgraded.database.read() as connection:
            assert connection.execute(sa.text("SELECT motto FROM rater")).scalars().all() == ["none"] * 2
        assert upgraded.events() == store.events()
    assert "has schema 0002, newer than 0001" in refusal(open_store)


def test_a_database_of_something_else_is_left_alone(url: str) -> None:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE invoices (id INTEGER)"))
    assert "is a database of something else (it has a table invoices)" in refusal(lambda: Store(url))
    assert sa.inspect(engine).get_table_names() == ["invoices"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Query("pair", (answer(),)), "a pair query needs two answers, got 1"),
        (lambda: Query("rating", (answer(), answer("b"))), "a rating query needs one answer, got 2"),
        (lambda: Query("ranking", (answer(),)), "needs two or more answers"),
        (lambda: Query("pair", (answer(), answer())), "must differ"),
        (lambda: Query("pair", (answer(), answer("x", "Who?"))), "must be to one question"),
        (lambda: rating_query(needed=0), "needed must be a whole number from 1"),
        (lambda: rating_query(priority=float("nan")), "priority must be a finite number"),
        (lambda: rating_query(purpose="fun"), "purpose must be one of train, uniform, probe, repeat"),
        (lambda: Query("stars", (answer(),)), "kind must be one of rating"),  # type: ignore[arg-type]
        (lambda: AnswerRecord(" ", "x"), "a question must not be blank"),
        (lambda: AnswerRecord("Who?", "a\0b"), "must not hold the character NUL"),
        (lambda: AnswerRecord("Who?", "\udc80"), "must be valid Unicode"),
        (lambda: AnswerRecord("Who?", "x", step=-1), "step must be a whole number from 0"),
        (lambda: Rater("  "), "must not be blank"),
        (lambda: Rater("ann", "king"), "role must be one of user, expert"),  # type: ignore[arg-type]
        (lambda: said("q", Rating(1, 1), latency=-1.0), "latency must be 0 s or more"),
        (lambda: said("q", Rating(1, 1), shown_order=(1, 2)), "the places 0, 1, ..."),
        (lambda: said("q", Rating(1, 1), uuid="7"), "needs a UUID"),
        (lambda: said("q", "good"), "needs a label, one of rating"),  # type: ignore[arg-type]
        (lambda: said("q", Correction("\ud800")), "a label must be valid Unicode"),
    ],
)
def test_malformed_records_are_refused_when_they_are_made(make: Callable[[], object], message: str) -> None:
    assert message in refusal(make)


WORDS = st.text(
    st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1, max_size=20
).filter(str.strip)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(st.lists(WORDS, min_size=1, max_size=5, unique=True))
def test_any_text_is_kept_to_the_letter(tmp_path_factory, texts: Sequence[str]) -> None:
    with Store(tmp_path_factory.mktemp("texts") / "feedback.db") as store:
        records = [AnswerRecord(text, text, text, text) for text in texts]
        keys = store.ask([Query("correction", (record,)) for record in records])
        for key, text in zip(keys, texts, strict=True):
            store.add_rater(text)
            store.submit(said(key, Correction(text), text))
        assert list(store.answers(record.id for record in records).values()) == records
        assert [stored.event.label for stored in store.events()] == [Correction(text) for text in texts]
        assert {rater.name for rater in store.raters()} == set(texts)
