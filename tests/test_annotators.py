"""Simulated annotators: every error can be found again in the labels, and none is there unless asked for.

A parameter is recovered from 5,000 labels if its estimate's 99% interval covers the true value. Each interval
must exclude the value without error too, so that a test cannot pass for want of precision. The seeds are
fixed: of so many intervals, one in a hundred misses by chance. Where nothing is random, and for the same
error in another form of label, fewer labels do.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qa_env.errors import QAError
from qa_env.feedback import annotator_noise as noise
from qa_env.feedback.annotator_config import PRESETS, AnnotatorConfig
from qa_env.feedback.annotators import Reply, SimulatedAnnotator, crowd
from qa_env.feedback.labels import KINDS, Correction, Pair, Percent, Ranking, Rating, Skip, Thumb

LABELS = 5000
FEWER = 1500
Z = 2.5758
"""The 99.5% point of the normal distribution: two-sided 99%."""
ANSWERS = {"pair": 2, "ranking": 3}
SCORES = {"pair": (0.9, 0.2), "ranking": (0.9, 0.2, 0.5)}


def ask(config: AnnotatorConfig, kind: str, scores, lengths=None, **kwargs) -> list[Reply]:
    """Replies of one annotator, one query for each row of scores."""
    annotator = SimulatedAnnotator("simulated", config, seed=1)
    lengths = np.full(np.shape(scores)[:2], 8) if lengths is None else lengths
    return [
        annotator.answer(f"q{row}", kind, s, n, **kwargs)
        for row, (s, n) in enumerate(
            zip(np.asarray(scores).tolist(), np.asarray(lengths).tolist(), strict=True)
        )
    ]


def uniform(*shape: int, low: float = 0.0, high: float = 1.0) -> np.ndarray:
    return np.random.default_rng(3).uniform(low, high, shape)


def values(replies: list[Reply]) -> np.ndarray:
    return np.array([reply.label.low for reply in replies])


def chose_first(replies: list[Reply]) -> np.ndarray:
    return np.array([reply.label.choice == "first" for reply in replies])


def wilson(hits: np.ndarray) -> tuple[float, float]:
    """The 99% interval of a share (Wilson 1927)."""
    n, share = len(hits), float(np.mean(hits))
    centre = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return centre - half, centre + half


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * x))


def fit(losses: Callable[[np.ndarray], np.ndarray], start: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Maximum likelihood by the scores of the single labels (Berndt, Hall, Hall and Hausman 1974).

    Args:
        losses: Parameters to the negative log-likelihood of each label, shape ``(labels,)``.
        start: Where to begin.

    Returns:
        The estimates and their standard errors.
    """
    x, step = np.array(start), 1e-5
    for _ in range(100):
        slopes = np.stack([losses(x + a) - losses(x - a) for a in step * np.eye(len(x))]) / (2 * step)
        information = slopes @ slopes.T
        move = np.linalg.solve(information, slopes.sum(axis=1))
        if np.abs(move).max() < 1e-5:
            return x, np.sqrt(np.diag(np.linalg.inv(information)))
        while losses(x - move).sum() > losses(x).sum():
            move = move / 2
        x = x - move
    raise AssertionError(f"no convergence from {start}")


def assert_recovered(estimate, error, truth, without: float) -> None:
    assert abs(estimate - truth) < Z * error
    assert abs(estimate - without) > Z * error


# Recovery of each parameter.


def pair_losses(scores: np.ndarray, first: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    return lambda x: np.logaddexp(0, np.where(first, -x[0], x[0]) * (scores[:, 0] - scores[:, 1]))


def test_beta_is_recovered() -> None:
    scores = uniform(LABELS, 2)
    first = chose_first(ask(AnnotatorConfig(beta=6.0), "pair", scores))
    (beta,), (error,) = fit(pair_losses(scores, first), [3.0])
    assert_recovered(beta, error, 6.0, without=0.0)
    assert error < 0.3


def test_beta_is_recovered_from_rankings() -> None:
    scores = uniform(FEWER, 3)
    replies = ask(AnnotatorConfig(beta=6.0), "ranking", scores)
    best = np.array([reply.label.ranks.index(1) for reply in replies])

    def losses(x: np.ndarray) -> np.ndarray:
        logits = x[0] * scores
        return np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(FEWER), best]

    (beta,), (error,) = fit(losses, [3.0])
    assert_recovered(beta, error, 6.0, without=0.0)


def test_gamma_is_recovered() -> None:
    parts = uniform(LABELS, 2, 5)
    first = chose_first(ask(AnnotatorConfig(gamma=0.8, beta=10.0), "pair", parts))

    def losses(x: np.ndarray) -> np.ndarray:
        weights = x[0] ** np.arange(4, -1, -1)
        return pair_losses(parts @ weights / weights.sum(), first)(np.array([10.0]))

    (gamma,), (error,) = fit(losses, [0.9])
    assert_recovered(gamma, error, 0.8, without=1.0)


def test_mistakes_are_recovered() -> None:
    scores = uniform(LABELS, 2)
    first = chose_first(ask(AnnotatorConfig(eps_mistake=0.1), "pair", scores))
    low, high = wilson(first != (scores[:, 0] > scores[:, 1]))
    assert 0.065 < low < 0.1 < high < 0.135


@pytest.mark.parametrize(
    ("field", "kind", "of", "hit"),
    [
        ("eps_skip", "pair", lambda s: s.max(axis=1), lambda label: isinstance(label, Skip)),
        ("eps_skip", "ranking", lambda s: s.max(axis=1), lambda label: isinstance(label, Skip)),
        ("both_wrong", "pair", lambda s: s.max(axis=1), lambda label: label == Pair("both_wrong")),
        ("eps_equal", "pair", lambda s: abs(s[:, 0] - s[:, 1]), lambda label: label == Pair("tie")),
        ("eps_equal", "ranking", lambda s: abs(s[:, 0] - s[:, 1]), lambda label: label == Ranking((1, 1))),
        ("thumb_cut", "thumb", lambda s: s[:, 0], lambda label: label == Thumb(False)),
    ],
)
def test_thresholds_are_recovered(field: str, kind: str, of, hit) -> None:
    scores = uniform(FEWER, 1 if kind == "thumb" else 2)
    below = np.array([hit(reply.label) for reply in ask(AnnotatorConfig(**{field: 0.3}), kind, scores)])
    low, high = of(scores)[below].max(), of(scores)[~below].min()
    assert low < 0.3 < high
    assert high - low < 0.03


def test_cut_points_and_noise_are_recovered() -> None:
    cuts, scale, scores = (0.2, 0.35, 0.7, 0.8), 0.1, uniform(LABELS, 1)
    grades = values(ask(AnnotatorConfig(cuts=cuts, noise=scale), "rating", scores))

    def losses(x: np.ndarray) -> np.ndarray:
        edges = np.concatenate([[-np.inf], x[:4], [np.inf]])
        below = [sigmoid((edges[place] - scores[:, 0]) / x[4]) for place in (grades - 1, grades)]
        return -np.log(below[1] - below[0])

    estimates, errors = fit(losses, [0.18, 0.37, 0.67, 0.82, 0.12])
    for estimate, error, truth, default in zip(
        estimates, errors, (*cuts, scale), (*AnnotatorConfig().cuts, 0.0), strict=True
    ):
        assert_recovered(estimate, error, truth, default)


def test_cut_points_without_noise_are_recovered() -> None:
    cuts, scores = (0.2, 0.35, 0.7, 0.8), uniform(FEWER, 1)[:, 0]
    grades = values(ask(AnnotatorConfig(cuts=cuts), "rating", scores[:, None]))
    for grade, cut in enumerate(cuts, start=1):
        low, high = scores[grades <= grade].max(), scores[grades > grade].min()
        assert low < cut < high < low + 0.02


def test_granularity_is_recovered() -> None:
    seen = values(ask(AnnotatorConfig(granularity=7), "percent", uniform(FEWER, 1)))
    fits = [bins for bins in range(1, 20) if np.allclose(seen * bins / 100, np.round(seen * bins / 100))]
    assert fits[0] == 7


def test_skew_is_recovered() -> None:
    scores, cuts = uniform(LABELS, 1)[:, 0], np.array([-np.inf, *AnnotatorConfig().cuts, np.inf])
    grades = values(ask(AnnotatorConfig(skew=1.5, noise=0.1), "rating", scores[:, None]))

    def losses(x: np.ndarray) -> np.ndarray:
        high, low = (sigmoid((cuts[place] - scores ** x[0]) / 0.1) for place in (grades, grades - 1))
        return -np.log(high - low)

    (skew,), (error,) = fit(losses, [1.2])
    assert_recovered(skew, error, 1.5, without=1.0)


def test_the_scale_of_the_variance_is_recovered() -> None:
    scores = uniform(LABELS, 1, low=0.1, high=0.9)
    seen = values(ask(AnnotatorConfig(variance=0.3), "percent", scores)) / 100
    deviation = np.minimum(0.64 * scores[:, 0], 0.67 - 0.67 * scores[:, 0])
    residuals = (seen - scores[:, 0]) / deviation
    estimate = math.sqrt(np.mean(residuals**2))
    assert_recovered(estimate, estimate / math.sqrt(2 * LABELS), 0.3, without=0.0)
    # The same in both halves of the scale: the deviation has the form that it should.
    for half in (residuals[scores[:, 0] < 0.5], residuals[scores[:, 0] > 0.55]):
        assert abs(half.std() - 0.3) < Z * 0.3 / math.sqrt(2 * len(half))


def test_lapses_are_recovered() -> None:
    grades = values(ask(AnnotatorConfig(lapse=0.1), "rating", np.full((LABELS, 1), 1.0)))
    low, high = (5 / 4 * bound for bound in wilson(grades != 5))
    assert 0.065 < low < 0.1 < high < 0.135
    assert np.bincount(grades, minlength=6)[1:5].min() > 0.6 * LABELS * 0.1 / 5


@pytest.mark.parametrize(
    ("kind", "labels"),
    [
        ("rating", [Rating(grade, grade) for grade in range(1, 6)]),
        ("thumb", [Thumb(True), Thumb(False)]),
        ("pair", [Pair("tie")] * 3 + [Pair(c, n) for c in ("first", "second") for n in (1, 2, 3)]),
        ("ranking", [Ranking(ranks) for ranks in itertools.permutations((1, 2, 3))]),
    ],
)
def test_lapses_of_every_kind_are_uniform(kind: str, labels: list) -> None:
    replies = ask(AnnotatorConfig(lapse=1.0), kind, [SCORES.get(kind, (0.9,))] * FEWER)
    for label in labels:
        low, high = wilson(np.array([reply.label == label for reply in replies]))
        assert low < labels.count(label) / len(labels) < high


def test_lapses_of_percentages_are_uniform() -> None:
    percents = values(ask(AnnotatorConfig(lapse=1.0), "percent", np.full((FEWER, 1), 0.9)))
    for bound in (10, 50, 90):
        low, high = wilson(percents < bound)
        assert low < bound / 100 < high


@pytest.mark.parametrize("kind", ["rating", "percent", "thumb", "pair", "ranking"])
def test_mistakes_turn_preferences_alone(kind: str) -> None:
    honest, mistaken = (
        ask(AnnotatorConfig(eps_mistake=share), kind, [SCORES.get(kind, (0.9,))])[0].label
        for share in (0.0, 1.0)
    )
    assert mistaken == (noise.inverted(honest) if kind in ("pair", "ranking") else honest)


@pytest.mark.parametrize("kind", ["rating", "percent", "thumb", "pair", "ranking"])
def test_flips_of_every_kind_are_recovered(kind: str) -> None:
    scores = [SCORES.get(kind, (0.9,))] * FEWER
    honest = ask(AnnotatorConfig(), kind, scores[:1])[0].label
    flipped = [reply.label != honest for reply in ask(AnnotatorConfig(flip=0.25), kind, scores)]
    low, high = wilson(np.array(flipped))
    assert 0.163 < low < 0.25 < high < 0.337


@pytest.mark.parametrize("kind", ["rating", "percent", "thumb", "pair", "ranking"])
def test_an_adversary_inverts_everything(kind: str) -> None:
    scores = uniform(200, ANSWERS.get(kind, 1))
    honest, adverse = (ask(PRESETS[name], kind, scores) for name in ("oracle", "adversary"))
    assert [noise.inverted(reply.label) for reply in honest] == [reply.label for reply in adverse]
    assert all(a.label != b.label for a, b in zip(honest, adverse, strict=True) if a.label != Rating(3, 3))


def test_position_bias_is_recovered_beside_beta() -> None:
    scores = uniform(LABELS, 2)
    replies = ask(AnnotatorConfig(beta=5.0, position_bias=0.4), "pair", scores)
    first = chose_first(replies)
    shown = np.array([1.0 if reply.shown_order == (0, 1) else -1.0 for reply in replies])
    assert abs(shown.mean()) < Z / math.sqrt(LABELS)

    def losses(x: np.ndarray) -> np.ndarray:
        logits = x[0] * (scores[:, 0] - scores[:, 1]) + x[1] * shown
        return np.logaddexp(0, np.where(first, -logits, logits))

    (_, bias), (_, error) = fit(losses, [3.0, 0.0])
    assert_recovered(bias, error, 0.4, without=0.0)


def test_position_bias_is_recovered_from_rankings() -> None:
    replies = ask(AnnotatorConfig(beta=5.0, position_bias=0.4), "ranking", np.full((FEWER, 3), 0.5))
    low, high = wilson(np.array([reply.label.ranks[reply.shown_order[0]] == 1 for reply in replies]))
    assert 1 / 3 < low < math.exp(0.4) / (math.exp(0.4) + 2) < high


def test_length_bias_is_recovered_from_pairs_beside_beta() -> None:
    scores, lengths = uniform(LABELS, 2), np.random.default_rng(5).integers(1, 30, (LABELS, 2))
    first = chose_first(ask(AnnotatorConfig(beta=5.0, length_bias=0.1), "pair", scores, lengths))

    def losses(x: np.ndarray) -> np.ndarray:
        seen = scores + x[1] * lengths / 10
        return pair_losses(seen, first)(x[:1])

    (_, bias), (_, error) = fit(losses, [3.0, 0.0])
    assert_recovered(bias, error, 0.1, without=0.0)


def slope(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """Slope, its standard error and the place where the line crosses 0, by least squares."""
    design = np.stack([x, np.ones(len(x))], axis=1)
    (rise, level), (residual,), *_ = np.linalg.lstsq(design, y, rcond=None)
    error = math.sqrt(residual / (len(x) - 2) / ((x - x.mean()) ** 2).sum())
    return rise, error, -level / rise


def test_length_bias_is_recovered_from_percentages() -> None:
    scores, lengths = (
        uniform(FEWER, 1, low=0.4, high=0.6),
        np.random.default_rng(5).integers(1, 30, (FEWER, 1)),
    )
    config = AnnotatorConfig(length_bias=0.1, usual_words=12.0, noise=0.02)
    seen = values(ask(config, "percent", scores, lengths)) / 100
    rise, error, crossing = slope(lengths[:, 0] / 10, seen - scores[:, 0])
    assert_recovered(rise, error, 0.1, without=0.0)
    assert 10 * crossing == pytest.approx(12.0, abs=0.5)


def test_drift_is_recovered() -> None:
    scores = uniform(LABELS, 1, low=0.3, high=0.5)
    seen = values(ask(AnnotatorConfig(drift=0.004, noise=0.02), "percent", scores)) / 100
    rise, error, _ = slope(np.arange(LABELS) / 100, seen - scores[:, 0])
    assert_recovered(rise, error, 0.004, without=0.0)


def test_fatigue_is_recovered_beside_lapses() -> None:
    config = AnnotatorConfig(lapse=0.1, fatigue=0.4, sitting=80)
    wrong = values(ask(config, "rating", np.full((LABELS, 1), 1.0))) != 5
    place = (np.arange(LABELS) % 80) / 100

    def losses(x: np.ndarray) -> np.ndarray:
        rate = 4 / 5 * (x[0] + x[1] * place)
        return -np.where(wrong, np.log(rate), np.log1p(-rate))

    (lapse, fatigue), (lapse_error, fatigue_error) = fit(losses, [0.1, 0.2])
    assert_recovered(lapse, lapse_error, 0.1, without=0.0)
    assert_recovered(fatigue, fatigue_error, 0.4, without=0.0)


def test_laziness_is_recovered() -> None:
    grades = values(ask(AnnotatorConfig(lazy=0.3), "rating", np.full((LABELS, 1), 1.0)))
    low, high = wilson(grades == 3)
    assert 0.265 < low < 0.3 < high < 0.335
    assert set(grades) == {3, 5}


def test_skips_are_recovered() -> None:
    replies = ask(AnnotatorConfig(skip=0.2), "thumb", uniform(LABELS, 1))
    low, high = wilson(np.array([isinstance(reply.label, Skip) for reply in replies]))
    assert 0.165 < low < 0.2 < high < 0.235


def test_median_and_sigma_of_the_delay_are_recovered() -> None:
    replies = ask(AnnotatorConfig(delay_median=30.0, delay_sigma=0.8), "thumb", uniform(LABELS, 1))
    logs = np.log([reply.latency for reply in replies])
    spread = logs.std(ddof=1)
    assert_recovered(np.median(logs), 1.2533 * spread / math.sqrt(LABELS), math.log(30.0), without=0.0)
    assert_recovered(spread, spread / math.sqrt(2 * LABELS), 0.8, without=0.0)


@pytest.mark.parametrize("kind", ["rating", "percent"])
def test_the_share_of_ranges_is_recovered_and_they_hold_the_number(kind: str) -> None:
    scores = uniform(LABELS if kind == "rating" else FEWER, 1)
    ranges = ask(AnnotatorConfig(fuzzy=0.3), kind, scores)
    low, high = wilson(np.array([reply.label.low < reply.label.high for reply in ranges]))
    assert 0.25 < low < 0.3 < high < 0.35
    numbers = ask(AnnotatorConfig(), kind, scores[:500])
    pairs = [(number.label.low, given.label) for number, given in zip(numbers, ranges, strict=False)]
    assert all(label.low <= number <= label.high for number, label in pairs)
    assert max(label.high - label.low for _, label in pairs) == pytest.approx(1 if kind == "rating" else 20)


def test_the_share_of_unsure_replies_is_recovered() -> None:
    replies = ask(AnnotatorConfig(unsure=0.15), "thumb", uniform(LABELS, 1))
    low, high = wilson(np.array([reply.unsure for reply in replies]))
    assert 0.115 < low < 0.15 < high < 0.185


# Without errors.


def test_an_oracle_says_the_truth() -> None:
    def label(kind: str, *scores: float):
        return ask(AnnotatorConfig(), kind, [scores])[0].label

    assert [label("rating", score) for score in (0.0, 0.12, 0.13, 0.5, 1.0)] == [
        Rating(grade, grade) for grade in (1, 1, 2, 3, 5)
    ]
    assert label("percent", 0.25) == Percent(25.0, 25.0)
    assert (label("thumb", 0.4), label("thumb", 0.6)) == (Thumb(False), Thumb(True))
    assert label("pair", 0.5, 0.4) == Pair("first", 1)
    assert label("pair", 0.5, 0.8) == Pair("second", 2)
    assert label("pair", 1.0, 0.2) == Pair("first", 3)
    assert label("pair", 0.5, 0.5) == Pair("tie")
    assert label("pair", 0.0, 0.0) == Pair("both_wrong")
    assert label("ranking", 0.2, 0.9, 0.2, 0.5) == Ranking((3, 1, 3, 2))


def test_an_oracle_replies_at_once_and_is_sure() -> None:
    for reply in ask(AnnotatorConfig(), "rating", uniform(100, 1)):
        assert reply.latency == 0.0
        assert reply.unsure is False


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6))
def test_an_oracle_ranks_as_the_scores_do(scores: list[float]) -> None:
    ranks = (
        SimulatedAnnotator("a", AnnotatorConfig())
        .answer("q", "ranking", scores, [8] * len(scores))
        .label.ranks
    )
    for score, rank in zip(scores, ranks, strict=True):
        assert rank == 1 + len({other for other in scores if other > score})


def test_a_correction_is_the_given_text_and_a_skip_without_one() -> None:
    annotator = SimulatedAnnotator("a", PRESETS["adversary"])
    assert annotator.answer("q", "correction", [0.2], [4], "It is Tokyo.").label == Correction("It is Tokyo.")
    assert isinstance(annotator.answer("q", "correction", [0.2], [4]).label, Skip)
    assert annotator.given == 1


def test_a_ranking_with_a_margin_does_not_chain() -> None:
    assert noise.ranks_of([0.9, 0.8, 0.7, 0.1], 0.15) == (1, 1, 2, 3)


# Determinism and state.


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_preset_replies_to_every_kind_the_same_each_time(preset: str, kind: str) -> None:
    scores = uniform(20, ANSWERS.get(kind, 1))
    first, again = (ask(PRESETS[preset], kind, scores, correction="So.") for _ in range(2))
    assert first == again
    assert all(isinstance(reply.label, Skip) or len(reply.shown_order) == scores.shape[1] for reply in first)


def test_replies_depend_on_seed_name_and_query_and_not_on_their_order() -> None:
    config = AnnotatorConfig(lapse=1.0)

    def replies(name: str, seed: int, queries: list[int]) -> list[float]:
        annotator = SimulatedAnnotator(name, config, seed)
        return [annotator.answer(f"q{q}", "percent", [0.5], [8]).label.low for q in queries]

    base = replies("a", 0, [1, 2, 3])
    assert replies("a", 0, [3, 1, 2]) == [base[2], base[0], base[1]]
    assert len({*base, *replies("a", 1, [1, 2, 3]), *replies("b", 0, [1, 2, 3])}) == 9


def test_a_restored_annotator_goes_on_as_if_there_had_been_no_break() -> None:
    def run(annotator: SimulatedAnnotator, queries: range) -> list[Reply]:
        return [annotator.answer(f"q{q}", "rating", [0.6], [8]) for q in queries]

    config = AnnotatorConfig(drift=0.3, fatigue=1.0, skip=0.3)
    whole = run(SimulatedAnnotator("a", config), range(100))
    before = SimulatedAnnotator("a", config)
    start = run(before, range(50))
    after = SimulatedAnnotator("a", config)
    fresh = run(SimulatedAnnotator("a", config), range(50, 100))
    after.load_state(before.state())
    assert start + run(after, range(50, 100)) == whole
    assert start + fresh != whole


def test_skips_do_not_count_as_labels() -> None:
    annotator = SimulatedAnnotator("a", AnnotatorConfig(skip=0.5))
    labels = [annotator.answer(f"q{q}", "thumb", [0.5], [8]).label for q in range(100)]
    assert 0 < annotator.given == sum(not isinstance(label, Skip) for label in labels) < 100


def test_a_given_order_is_kept() -> None:
    annotator = SimulatedAnnotator("a", AnnotatorConfig(beta=0.01, position_bias=50.0))
    reply = annotator.answer("q", "pair", [0.9, 0.1], [8, 8], shown_order=(1, 0))
    assert reply.shown_order == (1, 0)
    assert reply.label.choice == "second"


@pytest.mark.parametrize(
    ("hour", "latency", "expected"),
    [(21.0, 0.0, 21.0), (21.0, 7200.0, 31.0), (2.0, 60.0, 7.0), (12.0, 3600.0, 13.0)],
)
def test_nobody_replies_at_night(hour: float, latency: float, expected: float) -> None:
    annotator = SimulatedAnnotator("a", AnnotatorConfig(night_start=22.0, night_hours=9.0))
    assert annotator.replied_at(hour * 3600, latency) == expected * 3600
    assert SimulatedAnnotator("a", AnnotatorConfig()).replied_at(23 * 3600, 5.0) == 23 * 3600 + 5


# Crowds.


def test_a_crowd_differs_and_is_the_same_for_a_seed() -> None:
    people, again, other = (crowd(seed=seed) for seed in (1, 1, 2))
    assert (
        len(people) == len({person.name for person in people}) == len({p.config.cuts for p in people}) == 13
    )
    assert [person.config for person in people] == [person.config for person in again]
    assert people[0].config != other[0].config
    # A skew alone would not tell them apart here.
    base = AnnotatorConfig(thumb_cut=0.999)
    assert len({p.answer("q", "rating", [1.0], [8]).label for p in crowd(100)}) > 1
    assert len({p.answer("q", "thumb", [1.0], [8]).label for p in crowd(100, base)}) > 1


def test_what_is_off_in_the_base_of_a_crowd_stays_off() -> None:
    for person in crowd(20):
        assert (person.config.beta, person.config.noise, person.config.delay_median) == (math.inf, 0.0, 0.0)
    slow = crowd(20, AnnotatorConfig(beta=5.0, delay_median=30.0))
    assert len({person.config.delay_median for person in slow}) == len({p.config.beta for p in slow}) == 20


def test_an_empty_crowd_is_refused() -> None:
    with pytest.raises(QAError, match="at least 1 annotator"):
        crowd(0)


# Bad values.


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(
            (name, bad)
            for name in ("eps_mistake", "eps_skip", "eps_equal", "both_wrong")
            for bad in (-0.1, 1.1)
        ),
        *(
            (name, bad)
            for name in ("lapse", "flip", "lazy", "skip", "fuzzy", "unsure")
            for bad in (-0.1, 1.1)
        ),
        *(
            (name, bad)
            for name in ("gamma", "flip", "noise", "beta", "drift", "skew")
            for bad in (math.nan, -math.inf)
        ),
        *(
            (name, -1.0)
            for name in ("beta", "skew", "noise", "variance", "fatigue", "delay_median", "delay_sigma")
        ),
        *(
            (name, math.inf)
            for name in ("position_bias", "length_bias", "usual_words", "thumb_cut", "night_start")
        ),
        ("beta", 0.0),
        ("skew", 0.0),
        ("granularity", 0),
        ("sitting", 0),
        ("night_hours", 24.0),
        ("cuts", (0.1, 0.2, 0.3)),
        ("cuts", (0.1, 0.3, 0.2, 0.4)),
        ("cuts", (0.1, 0.2, 0.3, math.inf)),
    ],
)
def test_bad_settings_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(QAError, match=f"^{field} must") as caught:
        AnnotatorConfig(**{field: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "scores", "message"),
    [
        ("stars", [0.5], "kind must be one of rating"),
        ("rating", [0.5, 0.5], "one answer"),
        ("pair", [0.5], "two answers"),
        ("ranking", [0.5], "two or more answers"),
        ("rating", [1.5], "from 0 to 1"),
        ("rating", [math.nan], "from 0 to 1"),
        ("rating", [[]], "from 0 to 1"),
    ],
)
def test_bad_queries_are_refused(kind: str, scores: list, message: str) -> None:
    with pytest.raises(QAError, match=message):
        SimulatedAnnotator("a", AnnotatorConfig()).answer("q", kind, scores, [8] * len(scores))


def test_lengths_orders_seeds_and_states_are_checked() -> None:
    annotator = SimulatedAnnotator("a", AnnotatorConfig())
    with pytest.raises(QAError, match="2 scores and 1 lengths"):
        annotator.answer("q", "pair", [0.1, 0.2], [8])
    with pytest.raises(QAError, match="shown_order must hold the places 0 to 1"):
        annotator.answer("q", "pair", [0.1, 0.2], [8, 8], shown_order=(0, 0))
    with pytest.raises(QAError, match="seed"):
        SimulatedAnnotator("a", AnnotatorConfig(), seed=-1)
    for state in ({}, {"given": -1}, {"given": "3"}):
        with pytest.raises(QAError, match="state of an annotator"):
            annotator.load_state(state)
