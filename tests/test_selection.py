from __future__ import annotations

import sys
import types
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.selection import MAX_PAIRS, PRESELECTED, SELECTORS, Candidates, pairs_of, select
from qa_env.errors import QAError

NAMES = st.sampled_from(sorted(SELECTORS))
SEEDS = st.integers(0, 2**32 - 1)
steady = settings(derandomize=True, deadline=None, database=None)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def different(n: int, **fields) -> Candidates:
    """Answers to as many questions."""
    return Candidates(np.arange(n), np.zeros(n, dtype=np.int64), **fields)


@st.composite
def candidates(draw) -> Candidates:
    """Few questions and answers, so that many are the same; any kind of information may be missing."""
    n, random = draw(st.integers(0, 30)), rng(draw(SEEDS))
    fields = {
        "disagreement": np.where(random.random(n) < 0.2, np.nan, random.integers(0, 4, n)),
        "entropy": random.normal(size=n),
        "features": random.integers(-2, 3, (n, 2)).astype(np.float64),
        "labelled": random.normal(size=(draw(st.integers(0, 3)), 2)),
        "asked": random.integers(0, 3, 6),
    }
    if draw(st.booleans()):
        del fields["features"], fields["labelled"]
    kept = draw(st.sets(st.sampled_from(sorted(fields))) | st.just(set(fields)))
    if "features" not in kept:
        kept.discard("labelled")
    texts = np.array(["yes", "no", "maybe", ""])[random.integers(0, 4, n)].tolist()
    return Candidates(random.integers(0, 6, n), texts, **{name: fields[name] for name in sorted(kept)})


def keys(of: Candidates, rows) -> list[tuple[int, int]]:
    return [(int(of.question[row]), int(of.answer[row])) for row in rows]


@steady
@given(candidates(), st.integers(-1, 40), NAMES, st.floats(0, 1), SEEDS)
def test_as_many_different_answers_as_asked_for_are_chosen(of, number, name, share, seed) -> None:
    chosen = select(of, number, name, share, rng=rng(seed))
    found = keys(of, chosen.indices)
    assert len(set(found)) == len(found) == max(0, min(number, len(set(keys(of, range(len(of)))))))
    assert abs(chosen.purposes.count("uniform") - share * len(found)) < 1
    assert len(chosen.purposes) == len(found)


@steady
@given(candidates(), st.integers(0, 60), NAMES, SEEDS)
def test_pairs_are_different_answers_to_the_same_question(of, number, name, seed) -> None:
    chosen = pairs_of(of, number, name, rng=rng(seed))
    pairs = [tuple(keys(of, pair)) for pair in chosen.indices]
    assert chosen.indices.shape == (len(pairs), 2) and len(chosen.purposes) == len(pairs)
    assert all(first[0] == second[0] and first[1] != second[1] for first, second in pairs)
    answers = Counter(question for question, _ in set(keys(of, range(len(of)))))
    possible = sum(count * (count - 1) // 2 for count in answers.values())
    assert len({frozenset(pair) for pair in pairs}) == len(pairs) == min(number, possible)


@steady
@given(candidates(), NAMES, SEEDS)
def test_the_same_generator_gives_the_same_choice(of, name, seed) -> None:
    for choose in (select, pairs_of):
        first, again = (choose(of, 5, name, rng=rng(seed)) for _ in range(2))
        np.testing.assert_array_equal(first.indices, again.indices)
        assert first.purposes == again.purposes


@pytest.mark.parametrize(("number", "uniforms"), [(5, 1), (15, 3), (100, 20)])
def test_a_fifth_is_uniform_exactly_where_it_can_be(number: int, uniforms: int) -> None:
    for seed in range(50):
        chosen = select(different(200), number, "entropy", rng=rng(seed))
        assert chosen.purposes == ("uniform",) * uniforms + ("train",) * (number - uniforms)


@pytest.mark.parametrize("number", [1, 2, 7])
def test_a_fifth_is_uniform_on_average_where_few_are_asked_about(number: int) -> None:
    generator, of = rng(), different(20)
    counts = [select(of, number, "entropy", rng=generator).purposes.count("uniform") for _ in range(2000)]
    assert np.mean(counts) == pytest.approx(0.2 * number, abs=0.05)
    assert len(set(counts)) == 2


def frequencies(n: int, number: int, choose: Callable[[np.random.Generator], np.ndarray]) -> np.ndarray:
    """How often each of `n` candidates is chosen, of 1500 times, relative to a uniform choice."""
    generator = rng()
    counts = sum(np.bincount(choose(generator), minlength=n) for _ in range(1500))
    return counts / (1500 * number / n)


@pytest.mark.parametrize("name", SELECTORS)
def test_without_the_information_it_goes_by_a_selector_is_uniform(name: str) -> None:
    of = different(10)
    chosen = frequencies(10, 3, lambda generator: select(of, 3, name, 0.0, rng=generator).indices)
    np.testing.assert_allclose(chosen, 1.0, atol=0.16)


def test_uniform_picks_are_uniform_whatever_the_selector() -> None:
    of = different(10, disagreement=np.arange(10.0))

    def fair(generator: np.random.Generator) -> np.ndarray:
        chosen = select(of, 5, "disagreement", 0.4, rng=generator)
        return chosen.indices[np.array(chosen.purposes) == "uniform"]

    np.testing.assert_allclose(frequencies(10, 2, fair), 1.0, atol=0.16)


def test_an_answer_that_was_given_more_often_is_likelier_to_be_a_uniform_pick() -> None:
    of = Candidates(np.zeros(10, dtype=np.int64), ["usual"] * 9 + ["rare"])
    chosen = frequencies(10, 1, lambda generator: select(of, 1, "uniform", 1.0, rng=generator).indices)
    np.testing.assert_allclose(chosen, 1.0, atol=0.3)


@pytest.mark.parametrize("name", ["disagreement", "entropy"])
def test_the_greatest_scores_are_chosen_and_unknown_ones_last(name: str) -> None:
    of = different(6, **{name: np.array([0.3, np.nan, 0.9, 0.1, np.nan, 0.5])})
    chosen = select(of, 5, name, 0.0, rng=rng()).indices
    assert chosen[:4].tolist() == [2, 5, 0, 3] and chosen[4] in (1, 4)


def test_ties_are_broken_at_random() -> None:
    of = different(10, disagreement=np.ones(10), entropy=np.ones(10), features=np.ones((10, 2)))
    for name in SELECTORS:
        chosen = frequencies(10, 2, lambda generator, name=name: SELECTORS[name](of, 2, generator))
        np.testing.assert_allclose(chosen, 1.0, atol=0.2)


def test_k_centre_picks_the_farthest_from_what_is_labelled_and_picked() -> None:
    of = different(5, features=np.array([[0.0], [1.0], [5.0], [9.0], [10.0]]), labelled=np.array([[0.5]]))
    assert select(of, 3, "k-centre", 0.0, rng=rng()).indices.tolist() == [4, 2, 3]


@steady
@given(SEEDS)
def test_k_centre_covers_at_most_twice_as_widely_as_the_best_choice(seed: int) -> None:
    features = rng(seed).normal(size=(8, 2))
    distances = np.linalg.norm(features[:, None] - features, axis=2)
    triples = [(a, b, c) for a in range(8) for b in range(a) for c in range(b)]
    best = min(distances[list(triple)].min(axis=0).max() for triple in triples)
    chosen = select(different(8, features=features), 3, "k-centre", 0.0, rng=rng(seed)).indices
    assert distances[chosen].min(axis=0).max() <= 2 * best + 1e-9


def test_uniform_picks_count_as_labelled_for_the_others() -> None:
    of = different(4, features=np.array([[0.0], [0.1], [9.0], [9.1]]))
    for seed in range(20):
        first, second = select(of, 2, "k-centre", 0.5, rng=rng(seed)).indices
        assert (first < 2) != (second < 2)
        first, second = select(
            Candidates(np.array([0, 0, 1, 1]), [0, 1, 0, 1]), 2, "rare-question", 0.5, rng=rng(seed)
        ).indices
        assert (first < 2) != (second < 2)


def test_k_centre_with_disagreement_keeps_to_the_most_disputed() -> None:
    features = rng(1).normal(size=(40, 3))
    of = different(40, disagreement=np.arange(40.0), features=features)
    chosen = select(of, 5, "k-centre+disagreement", 0.0, rng=rng()).indices
    assert chosen.min() >= 40 - 5 * PRESELECTED
    disputed = of.take(np.arange(20, 40))
    assert set(chosen.tolist()) != set(range(35, 40))
    spread = [np.ptp(features[rows], axis=0).prod() for rows in (chosen, np.arange(35, 40))]
    assert spread[0] > spread[1] and len(disputed) == 20


def test_rare_questions_are_evened_out() -> None:
    of = Candidates(np.repeat([0, 1, 2], 4), np.arange(12), asked=np.array([3, 0, 1]))
    for seed in range(20):
        for number, expected in [(1, [0, 1, 0]), (3, [0, 2, 1]), (8, [1, 4, 3])]:
            chosen = select(of, number, "rare-question", 0.0, rng=rng(seed)).indices
            assert np.bincount(of.question[chosen], minlength=3).tolist() == expected


def test_pairs_are_ranked_by_the_sum_of_their_answers_scores() -> None:
    of = Candidates(
        np.array([0, 0, 0, 1, 1]),
        ["a", "b", "c", "a", "b"],
        disagreement=np.array([0.1, 0.4, 0.3, 0.35, 0.3]),
    )
    chosen = pairs_of(of, 3, "disagreement", 0.0, rng=rng()).indices
    assert [set(pair) for pair in chosen.tolist()] == [{1, 2}, {3, 4}, {0, 1}]


def test_k_centre_of_pairs_goes_by_the_mean_of_their_features() -> None:
    features = np.array([[0.0], [4.0], [0.0], [20.0]])
    of = Candidates(np.array([0, 0, 1, 1]), [0, 1, 0, 1], features=features, labelled=np.array([[1.0]]))
    assert set(pairs_of(of, 1, "k-centre", 0.0, rng=rng()).indices[0].tolist()) == {2, 3}
    labelled = replace(of, labelled=np.array([[11.0]]))
    assert set(pairs_of(labelled, 1, "k-centre", 0.0, rng=rng()).indices[0].tolist()) == {0, 1}


def test_the_order_in_a_pair_is_random() -> None:
    of, generator = Candidates(np.zeros(2, dtype=np.int64), ["a", "b"]), rng()
    first = [pairs_of(of, 1, rng=generator).indices[0, 0] for _ in range(1000)]
    assert np.mean(first) == pytest.approx(0.5, abs=0.05)


def test_of_very_many_pairs_some_are_considered() -> None:
    of = Candidates(np.zeros(200, dtype=np.int64), np.arange(200))
    assert len(pairs_of(of, 10**6, "disagreement", rng=rng()).indices) == MAX_PAIRS < 200 * 199 / 2


def test_answers_may_be_told_apart_by_anything_hashable() -> None:
    question = np.zeros(4, dtype=np.int64)
    for answers in (["x", "y", "x", "z"], [(1, 2), (1,), (1, 2), ()], np.array([7, 8, 7, 9])):
        assert Candidates(question, answers).answer.tolist() == [0, 1, 0, 2]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"answer": [0, 1]}, r"answer must have shape \(3,\)"),
        ({"disagreement": np.ones(2)}, r"disagreement must have shape \(3,\)"),
        ({"entropy": np.ones((3, 1))}, r"entropy must have shape \(3,\)"),
        ({"features": np.ones((2, 4))}, r"features must have shape \(3, 4\)"),
        ({"features": np.ones((3, 4)), "labelled": np.ones((5, 3))}, r"labelled must have shape \(5, 4\)"),
        ({"features": np.full((3, 4), np.nan)}, "embeddings must be finite"),
        ({"asked": np.zeros(2)}, "index into 2 counts"),
        ({"question": np.array([0, -1, 2])}, "must be an index"),
    ],
)
def test_candidates_that_do_not_fit_are_refused(fields: dict, message: str) -> None:
    with pytest.raises(QAError, match=message):
        Candidates(**{"question": np.arange(3), "answer": [0, 0, 0], **fields})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("k-center", "unknown selector 'k-center': did you mean 'k-centre'"),
        ("??", "Names are uniform, disagreement"),
        ("no_such_module:pick", "cannot import"),
    ],
)
def test_an_unknown_selector_is_refused(name: str, message: str) -> None:
    with pytest.raises(QAError, match=message):
        select(different(3), 1, name, rng=rng())


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(QAError, match="share of uniform picks"):
        select(different(3), 1, "uniform", share, rng=rng())


@pytest.fixture
def own_selector(monkeypatch: pytest.MonkeyPatch):
    """Names a selector of one's own that returns what it is given."""

    def name(result: object) -> str:
        module = types.ModuleType("my_selectors")
        module.mine = lambda candidates, number, rng: result
        monkeypatch.setitem(sys.modules, "my_selectors", module)
        return "my_selectors:mine"

    return name


def test_a_selector_of_ones_own_chooses_from_those_that_are_not_uniform_picks(own_selector) -> None:
    chosen = select(different(6), 4, own_selector([0, 3]), 0.5, rng=rng())
    assert len(set(chosen.indices.tolist())) == 4
    assert chosen.purposes == ("uniform", "uniform", "train", "train")


@pytest.mark.parametrize("result", [[0, 0], [0, 1, 2], [-1], [5], [0.5], [[0]], None, "first"])
def test_a_selector_that_returns_anything_else_is_refused(own_selector, result) -> None:
    with pytest.raises(QAError, match="'my_selectors:mine' must return at most 2 different indices below 5"):
        select(different(5), 2, own_selector(result), 0.0, rng=rng())
