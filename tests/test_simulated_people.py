"""Simulated people at a real store: who labels what, when it arrives, and that the truth stays out of it."""

from __future__ import annotations

import dataclasses
import json
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.simulated_people import SimulatedPeople
from qa_env.datasets.example import QAExample
from qa_env.errors import QAError
from qa_env.feedback import FunctionFeedback, ValueAccuracy
from qa_env.feedback.annotator_config import PRESETS, AnnotatorConfig
from qa_env.feedback.annotators import SimulatedAnnotator, crowd
from qa_env.feedback.labels import Correction, Pair, Rating, Skip
from qa_env.feedback.store import AnswerRecord, FeedbackEvent, Query, Store

START = 1_700_000_000.0
CAPITALS = {"Japan": "Tokyo", "Peru": "Lima", "Kenya": "Nairobi", "Norway": "Oslo"}
EXAMPLES = {
    country: QAExample(country, f"What is the capital of {country}?", answers=(f"It is {city}.",))
    for country, city in CAPITALS.items()
}
SLOW = AnnotatorConfig(delay_median=60.0, delay_sigma=0.5)


class Clock:
    now = START

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    with Store(tmp_path / "feedback.db", clock=clock) as store:
        yield store


def truth(examples, answers) -> list[float]:
    """1 for the reference answer, less the more characters there are besides."""
    return [
        1.0 / (1 + abs(len(answer) - len(example.answers[0])))
        for example, answer in zip(examples, answers, strict=True)
    ]


def people(annotators, seed: int = 0, feedback=None) -> SimulatedPeople:
    return SimulatedPeople(annotators, feedback or FunctionFeedback(truth, "truth"), EXAMPLES, seed)


def named(*configs: AnnotatorConfig) -> list[SimulatedAnnotator]:
    return [SimulatedAnnotator(f"simulated-{n}", config) for n, config in enumerate(configs)]


def query(kind: str, country: str, *texts: str, needed: int = 1) -> Query:
    answers = tuple(
        AnswerRecord(EXAMPLES[country].question, text, example_id=country) for text in texts or ("It is.",)
    )
    return Query(kind, answers, needed=needed)


def ratings(needed: int = 1, texts: int = 1) -> list[Query]:
    return [
        query("rating", country, f"It is {'x' * n}.", needed=needed)
        for country in CAPITALS
        for n in range(texts)
    ]


def said(store: Store) -> list[FeedbackEvent]:
    return [stored.event for stored in store.events()]


def test_every_kind_of_query_is_answered_by_the_true_scores(store: Store, clock: Clock) -> None:
    right, wrong = "It is Tokyo.", "Nothing that anybody would care to know."
    asked = [
        query("rating", "Japan", right),
        query("thumb", "Japan", wrong),
        query("percent", "Japan", right),
        query("pair", "Japan", wrong, right),
        query("ranking", "Japan", "It is Tokyo", wrong, right),
        query("correction", "Japan", wrong),
        query("correction", "Japan", right),
    ]
    store.ask(asked)
    crew = people(named(AnnotatorConfig()))
    crew.join(store)
    assert crew.work(store, clock.now) == len(asked)
    found = {event.query: event.label for event in said(store)}
    labels = [found[query.id] for query in asked]
    assert labels[0] == Rating(5, 5)
    assert (labels[1].up, labels[2].low) == (False, 100.0)
    assert labels[3] == Pair("second", 3)
    assert labels[4].ranks == (2, 3, 1)
    assert labels[5] == Correction("It is Tokyo.")
    assert isinstance(labels[6], Skip), "nothing is to be corrected in the reference answer"
    assert {event.created for event in said(store)} == {START}


def test_each_query_gets_as_many_labels_as_needed_from_different_people(store: Store, clock: Clock) -> None:
    store.ask(ratings(needed=3))
    crew = people(crowd(13))
    crew.join(store)
    assert crew.work(store, clock.now) == 12
    assert len({(event.query, event.rater) for event in said(store)}) == 12
    assert store.open_queries() == 0
    assert crew.work(store, clock.now) == 0


def test_nobody_takes_all_queries(store: Store, clock: Clock) -> None:
    store.ask(ratings())
    crew = people(named(*[AnnotatorConfig()] * 4))
    crew.join(store)
    crew.work(store, clock.now)
    assert len({event.rater for event in said(store)}) == 4


def test_the_order_of_people_is_by_seed(tmp_path: Path, clock: Clock) -> None:
    def raters(seed: int, name: str) -> list[str]:
        with Store(tmp_path / name, clock=clock) as store:
            store.ask(ratings())
            crew = people(named(*[AnnotatorConfig()] * 6), seed)
            crew.join(store)
            crew.work(store, clock.now)
            return [event.rater for event in said(store)]

    first = raters(1, "first.db")
    assert raters(1, "again.db") == first
    assert raters(2, "other.db") != first


def test_late_labels_are_held_back_until_their_time(store: Store, clock: Clock) -> None:
    store.ask(ratings(needed=2))
    crew = people(named(SLOW, SLOW))
    crew.join(store)
    assert crew.work(store, clock.now) == 0
    seen = []
    for _ in range(12):
        clock.now += 60.0
        before = len(said(store))
        assert crew.work(store, clock.now) == len(said(store)) - before
        seen += [(event.created, clock.now) for event in said(store)[before:]]
    assert len(seen) == 8
    assert all(now - 60.0 < created <= now for created, now in seen)
    assert len({now for _, now in seen}) > 2
    for rater in ("simulated-0", "simulated-1"):
        own = [event for event in said(store) if event.rater == rater]
        starts = [event.created - event.latency for event in own]
        assert starts[0] == pytest.approx(START)
        assert starts[1:] == pytest.approx([event.created for event in own[:-1]], abs=1e-3)


def test_no_reply_begins_before_queries_that_were_asked_after_a_call(store: Store, clock: Clock) -> None:
    crew = people(named(SLOW))
    crew.join(store)
    crew.work(store, clock.now)
    clock.now += 1000.0
    crew.work(store, clock.now)
    store.ask(ratings())
    clock.now += 1000.0
    crew.work(store, clock.now)
    assert min(event.created - event.latency for event in said(store)) == pytest.approx(START + 1000.0)


def test_nobody_takes_a_query_from_a_sleeper(store: Store, clock: Clock) -> None:
    clock.now = 86_400 * 19_000 + 23 * 3600.0
    asleep = AnnotatorConfig(night_start=22.0, night_hours=9.0, delay_median=1.0)
    store.ask([query("rating", "Japan", "It is Tokyo.")])
    crew = people(named(asleep, asleep))
    crew.join(store)
    for _ in range(8):
        assert crew.work(store, clock.now) == 0
        clock.now += 3000.0
    clock.now += 9000.0
    assert crew.work(store, clock.now) == 1
    assert said(store)[0].created == 86_400 * 19_001 + 7 * 3600.0


@pytest.mark.parametrize("seed", range(3))
def test_what_one_skips_another_answers_in_the_same_call(store: Store, clock: Clock, seed: int) -> None:
    store.ask([query("rating", "Japan", "It is Tokyo.")])
    crew = people(named(AnnotatorConfig(skip=1.0), AnnotatorConfig(skip=1.0), AnnotatorConfig()), seed)
    crew.join(store)
    crew.work(store, clock.now)
    assert said(store)[-1].label == Rating(5, 5)
    assert store.labels_given() == 1


def run(
    path: Path, config: AnnotatorConfig, breaks: tuple[int, ...], forget: bool = False
) -> list[FeedbackEvent]:
    """Nine calls at the store; before some of them the people are made anew from their state.

    With `forget` the state is older than the last replies that were submitted.
    """
    clock = Clock()
    crew = people(named(*[config] * 3))
    with Store(path, clock=clock) as store:
        crew.join(store)
        for call in range(9):
            if call in breaks:
                state = json.loads(json.dumps(crew.state()))
                if forget:
                    crew.work(store, clock.now)
                crew = people(named(*[config] * 3))
                crew.load_state(state)
            if call < 3:
                store.ask(ratings(needed=2, texts=2 + call))
            clock.now += 100.0
            crew.work(store, clock.now)
        return said(store)


TIRED = AnnotatorConfig(skip=0.2, drift=2.0, fatigue=5.0, variance=1.0)
TIRED_AND_SLOW = dataclasses.replace(TIRED, delay_median=50.0, delay_sigma=0.8)


@pytest.mark.parametrize("config", [TIRED, TIRED_AND_SLOW])
def test_people_restored_from_their_state_go_on_as_if_there_had_been_no_break(
    tmp_path: Path, config: AnnotatorConfig
) -> None:
    whole = run(tmp_path / "whole.db", config, ())
    assert len(whole) > 20
    assert run(tmp_path / "broken.db", config, (1, 2, 3, 7)) == whole


def test_a_reply_submitted_after_the_state_was_taken_is_not_stored_twice(tmp_path: Path) -> None:
    events = run(tmp_path / "crash.db", TIRED_AND_SLOW, (1, 4), forget=True)
    assert len({(event.query, event.rater) for event in events}) == len(events) > 20


def test_the_true_score_never_reaches_the_store(tmp_path: Path, clock: Clock) -> None:
    score = 0.8137591346
    with Store(tmp_path / "feedback.db", clock=clock) as store:
        store.ask([query(kind, "Japan", "It is Tokyo.") for kind in ("rating", "thumb", "correction")])
        store.ask([query("pair", "Japan", "It is Tokyo.", "Tokyo")])
        crew = people(named(PRESETS["oracle"]), feedback=FunctionFeedback(lambda e, a: [score] * len(a), "t"))
        crew.join(store)
        assert crew.work(store, clock.now) == 4
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b'"rating"' in stored
    assert not any(
        trace in stored for trace in (b"0.81375", struct.pack(">d", score), struct.pack("<d", score))
    )


def test_an_unknown_example_and_a_score_off_the_scale_are_refused(store: Store, clock: Clock) -> None:
    store.ask([Query("rating", (AnswerRecord("Who?", "Ada", example_id="ada"),))])
    crew = people(named(AnnotatorConfig()))
    crew.join(store)
    with pytest.raises(QAError, match="know nothing of example 'ada'"):
        crew.work(store, clock.now)
    minus = SimulatedPeople(
        crew.annotators.values(),
        FunctionFeedback(lambda e, a: [-1.0] * len(a), "minus"),
        {"ada": QAExample("ada", "Who?")},
    )
    with pytest.raises(QAError, match="from 0 to 1"):
        minus.work(store, clock.now)


def test_built_in_feedback_will_do_as_the_truth(store: Store, clock: Clock) -> None:
    examples = {
        "x": QAExample("x", "Capital of Japan?", metadata={"value": "Tokyo", "distractors": ("Lima",)})
    }
    right, wrong = (AnswerRecord("Capital of Japan?", text, example_id="x") for text in ("Tokyo", "Lima"))
    store.ask([Query("pair", (wrong, right))])
    crew = SimulatedPeople(named(AnnotatorConfig()), ValueAccuracy(), examples)
    crew.join(store)
    crew.work(store, clock.now)
    assert [event.label for event in said(store)] == [Pair("second", 3)]


def test_people_need_names_of_their_own_and_their_own_state() -> None:
    with pytest.raises(QAError, match="different names"):
        people([*named(AnnotatorConfig()), *named(AnnotatorConfig())])
    with pytest.raises(QAError, match="at least one annotator"):
        people([])
    with pytest.raises(QAError, match="other simulated people"):
        people(named(AnnotatorConfig())).load_state(people(crowd(2)).state())
