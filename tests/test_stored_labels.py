from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import MAX_ANSWER, MAX_SOURCE

from agents.decoding import Limits
from agents.preference_data import Preferences, RatedAnswers
from agents.stored_labels import StoredLabels
from qa_env.datasets import QAExample
from qa_env.errors import QAError
from qa_env.feedback.labels import Correction, Label, Pair, Rating, Skip
from qa_env.feedback.store import AnswerRecord, FeedbackEvent, Query, Store
from qa_env.task import encode_examples
from qa_env.vocabulary import Vocabulary

LIMITS = Limits(MAX_SOURCE, MAX_ANSWER)
RIVER = [AnswerRecord("What of the river?", text, "The river is long.") for text in ("gold", "salt", "tin")]
LAKE = [AnswerRecord("What of the lake?", text) for text in ("sea", "Asia")]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "feedback.db") as store:
        for rater in ("one", "two", "three"):
            store.add_rater(rater)
        yield store


def say(store: Store, label: Label, *answers: AnswerRecord) -> None:
    """All three raters say the same."""
    kind = {Pair: "pair", Correction: "correction"}.get(type(label), "rating")
    (query,) = store.ask([Query(kind, answers, needed=3)])
    store.submit_many([FeedbackEvent.new(query, rater, label) for rater in ("one", "two", "three")])


def pairs(data: Preferences, vocabulary: Vocabulary) -> dict[tuple[str, str], float]:
    texts = ([vocabulary.decode(row) for row in rows] for rows in (data.first, data.second))
    return dict(zip(zip(*texts, strict=True), data.target.tolist(), strict=True))


def answers(data: RatedAnswers, vocabulary: Vocabulary) -> dict[str, float]:
    texts = [vocabulary.decode(row) for row in data.answer]
    return dict(zip(texts, data.quality.tolist(), strict=True))


def test_ratings_and_comparisons_become_pairs_of_answers_to_one_question(
    store: Store, vocabulary: Vocabulary
) -> None:
    say(store, Rating(5, 5), RIVER[0])
    say(store, Rating(1, 1), RIVER[1])
    say(store, Rating(1, 1), RIVER[2])
    say(store, Pair("second"), *LAKE)
    labels = StoredLabels.read(store)
    targets = pairs(labels.preferences(vocabulary, LIMITS), vocabulary)
    both = {frozenset(pair): (pair, target) for pair, target in targets.items()}
    assert set(both) == {
        frozenset(pair) for pair in (("gold", "salt"), ("gold", "tin"), ("salt", "tin"), ("sea", "Asia"))
    }
    for better, worse in (("gold", "salt"), ("gold", "tin"), ("Asia", "sea")):
        (first, _), target = both[frozenset((better, worse))]
        assert (target if first == better else 1 - target) > 0.75
    assert both[frozenset(("salt", "tin"))][1] == pytest.approx(0.5, abs=1e-6)
    (pair, target), text = both[frozenset(("gold", "salt"))], {r.text: r.id for r in RIVER}
    assert target == labels.known.prefers(text[pair[0]], text[pair[1]])


def test_the_questions_come_with_their_context(store: Store, vocabulary: Vocabulary) -> None:
    say(store, Rating(4, 4), RIVER[0])
    data = StoredLabels.read(store).answers(vocabulary, LIMITS)
    expected, _ = encode_examples(
        [QAExample("", "What of the river?", "The river is long.")], vocabulary, MAX_SOURCE
    )
    assert data.source.tolist() == expected.tolist()


def test_an_answers_quality_is_the_share_of_satisfied_raters(store: Store, vocabulary: Vocabulary) -> None:
    say(store, Rating(5, 5), RIVER[0])
    say(store, Rating(1, 1), RIVER[1])
    labels = StoredLabels.read(store)
    quality = answers(labels.answers(vocabulary, LIMITS), vocabulary)
    assert quality == {r.text: labels.known.satisfaction(r.id).mean for r in RIVER[:2]}
    assert quality["gold"] > 0.6 > 0.4 > quality["salt"]


def test_a_correction_is_a_good_answer_and_better_than_what_it_corrects(
    store: Store, vocabulary: Vocabulary
) -> None:
    say(store, Correction("silver"), RIVER[1])
    labels = StoredLabels.read(store)
    lapse = labels.known.raters["one"].lapse
    assert 0 < lapse < 0.5
    targets = pairs(labels.preferences(vocabulary, LIMITS), vocabulary)
    assert targets == {("silver", "salt"): pytest.approx(1 - lapse / 2)}
    quality = answers(labels.answers(vocabulary, LIMITS), vocabulary)
    assert quality["silver"] == pytest.approx(1 - lapse) and quality["salt"] < 0.5


def test_a_label_that_was_corrected_leaves_no_trace(store: Store, vocabulary: Vocabulary) -> None:
    (query,) = store.ask([Query("correction", (RIVER[1],))])
    first = FeedbackEvent.new(query, "one", Correction("gold"))
    store.submit(first)
    store.submit(FeedbackEvent.new(query, "one", Correction("silver"), supersedes=first.uuid))
    data = StoredLabels.read(store).preferences(vocabulary, LIMITS)
    assert set(pairs(data, vocabulary)) == {("silver", "salt")}


def test_a_store_without_labels_or_pairs_is_refused(store: Store, vocabulary: Vocabulary) -> None:
    say(store, Skip("tired"), LAKE[1])
    with pytest.raises(QAError, match=r"feedback\.db holds no label to learn from: collect some"):
        StoredLabels.read(store)
    say(store, Rating(5, 5), RIVER[0])
    say(store, Rating(5, 5), LAKE[0])
    with pytest.raises(QAError, match="no preference in the store: no two of its 2 judged answers"):
        StoredLabels.read(store).preferences(vocabulary, LIMITS)
