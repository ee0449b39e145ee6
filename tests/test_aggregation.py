from __future__ import annotations

import dataclasses
import itertools

import choix
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.miscmodels.ordinal_model import OrderedModel

from qa_env.errors import QAError
from qa_env.feedback.aggregation import Aggregate, AggregationConfig, aggregate, demonstrations
from qa_env.feedback.aggregation.forms import RATING, paired
from qa_env.feedback.aggregation.likelihoods import interval, mixture, order, order_weights, sigmoid
from qa_env.feedback.aggregation.raters import Channel, read_grades, update_grades
from qa_env.feedback.aggregation.tables import read
from qa_env.feedback.labels import Correction, Judgement, Label, Pair, Percent, Ranking, Rating, Skip, Thumb

QUIET = settings(max_examples=15, deadline=None, derandomize=True)
PLAIN = AggregationConfig(
    lapse_prior=(1e-6, 1e6),
    scale=1.0,
    scale_sd=1e-6,
    rater_cap=float("inf"),
    tolerance=1e-9,
    max_iterations=2000,
)
"""The textbook models: nobody lapses, and all raters have the scale 1."""
CUTS = np.array([-2.0, -0.7, 0.7, 2.0])


def one(rater: str, label: Label, *answers: str, unsure: bool = False) -> Judgement:
    return Judgement(rater, answers or ("a",), label, unsure)


def simulated(
    seed: int,
    form: str,
    answers: int = 200,
    raters: int = 8,
    each: int = 3,
    lapse: float = 0.1,
    scale: float = 2.0,
    inverted: int = 0,
    shift_sd: float = 0.7,
    group: int = 4,
) -> tuple[np.ndarray, list[Judgement]]:
    """Qualities, and what simulated raters say of them; the first `inverted` ones say the opposite."""
    rng = np.random.default_rng(seed)
    quality, shift = rng.normal(size=answers), rng.normal(0, shift_sd, raters)
    said = []
    for answer in range(answers):
        for rater in rng.choice(raters, each, replace=False):
            slope = -scale if rater < inverted else scale
            random = rng.random() < lapse
            felt = slope * quality[answer] + rng.logistic() - shift[rater]
            names = (f"a{answer}",)
            label: Label
            if form == "rating":
                grade = int(rng.integers(1, 6)) if random else 1 + int((felt > CUTS).sum())
                label = Rating(grade, grade)
            elif form == "thumb":
                label = Thumb(bool(rng.random() < 0.5 if random else felt > 0))
            else:
                block = answer // group * group + np.arange(group)
                other = int(rng.choice(block[block != answer]))
                if form == "pair":
                    names = (f"a{answer}", f"a{other}")
                    felt += shift[rater] - slope * quality[other]
                    choice = int(rng.integers(3)) if random else int(felt > -0.5) + int(felt > 0.5)
                    label = Pair(("second", "tie", "first")[choice])
                else:
                    names = tuple(f"a{i}" for i in block)
                    values = rng.gumbel(size=group) + (0.0 if random else slope) * quality[block]
                    label = Ranking(tuple(int(rank) + 1 for rank in (-values).argsort().argsort()))
            said.append(Judgement(f"r{rater}", names, label))
    return quality, said


def means(found: Aggregate, answers: int) -> np.ndarray:
    return np.array([found.quality[f"a{i}"].mean for i in range(answers)])


def sds(found: Aggregate, answers: int) -> np.ndarray:
    return np.array([found.quality[f"a{i}"].sd for i in range(answers)])


# The likelihoods


def test_the_grades_of_every_form_have_probabilities_that_add_to_1() -> None:
    for form in (RATING, paired(ties=True, strengths=True), paired(ties=False, strengths=False)):
        bounds = form.bounds(form.default)
        predictor = np.linspace(-3, 3, 7)[:, None]
        p = interval(bounds[:-1], bounds[1:], predictor).p
        np.testing.assert_allclose(p.sum(axis=1), 1.0)
        np.testing.assert_allclose(p[::-1], p[:, ::-1], atol=1e-12)


def test_pairs_with_ties_are_the_model_of_rao_and_kupper() -> None:
    bounds = paired(ties=True, strengths=False).bounds(np.array([0.4]))
    difference = np.linspace(-2, 2, 9)
    second, tie, first = (interval(bounds[grade], bounds[grade + 1], difference).p for grade in range(3))
    np.testing.assert_allclose(first, sigmoid(difference - 0.4))
    np.testing.assert_allclose(second, sigmoid(-difference - 0.4))
    np.testing.assert_allclose(tie, 1 - first - second)


@pytest.mark.parametrize("bounds", [(-np.inf, -0.3), (-0.3, 0.8), (0.8, np.inf)])
def test_the_derivatives_of_an_interval_are_those_of_its_probability(bounds: tuple[float, float]) -> None:
    low, high = (np.array(bound) for bound in bounds)
    predictor, step = np.linspace(-4, 4, 9), 1e-5

    def log_p(shift: float) -> np.ndarray:
        return np.log(interval(low, high, predictor + shift).p)

    terms = interval(low, high, predictor)
    slope = (log_p(step) - log_p(-step)) / (2 * step)
    bend = (log_p(step) - 2 * log_p(0) + log_p(-step)) / step**2
    np.testing.assert_allclose(-(terms.d_low + terms.d_high), slope, atol=1e-5)
    second = terms.d_low_low + terms.d_high_high + 2 * terms.d_low_high
    np.testing.assert_allclose(second, bend, atol=1e-4)


def test_a_label_of_an_unsure_rater_may_be_random_more_often() -> None:
    p, uniform = np.array(0.9), np.array(0.2)
    sure = mixture(p, uniform, np.array(0.1), np.array(0.0))
    unsure = mixture(p, uniform, np.array(0.1), np.array(0.5))
    assert sure.meant == pytest.approx(0.81 / 0.83) and sure.meant + sure.lapsed == pytest.approx(1)
    assert unsure.meant == pytest.approx(0.405 / (0.405 + 0.09 + 0.02))


def test_rankings_of_all_orders_have_probabilities_that_add_to_1() -> None:
    ranks = np.array(list(itertools.permutations([1, 2, 3, 4]))).T
    p = order(np.array([0.5, -1.0, 0.2, 2.0])[:, None], order_weights(ranks)).p
    assert p.sum() == pytest.approx(1.0)


def test_tied_ranks_are_treated_as_by_efron() -> None:
    values = np.array([1.0, 0.0, -1.0])
    a, b, c = np.exp(values)
    total = a + b + c
    p = order(values[:, None], order_weights(np.array([[1], [1], [2]]))).p
    assert p[0] == pytest.approx(a * b / (total * (total - (a + b) / 2)))
    equal = order(np.zeros((3, 1)), order_weights(np.array([[1], [1], [1]]))).p
    assert equal[0] == pytest.approx(1 / 6)


# Against other implementations


def test_bradley_terry_agrees_with_choix() -> None:
    rng = np.random.default_rng(0)
    wins = [tuple(rng.choice(6, 2, replace=False).tolist()) for _ in range(60)]
    said = [one(f"r{i}", Pair("first"), f"a{w}", f"a{x}") for i, (w, x) in enumerate(wins)]
    found = aggregate(said, config=PLAIN)
    mean, covariance = choix.ep_pairwise(6, wins, alpha=1.0, model="logit")
    np.testing.assert_allclose(means(found, 6), mean, atol=0.01)
    np.testing.assert_allclose(sds(found, 6), np.sqrt(np.diag(covariance)), atol=0.02)


def test_plackett_luce_is_steepest_where_choix_says() -> None:
    rng = np.random.default_rng(1)
    orders = [tuple(rng.permutation(5).tolist()) for _ in range(30)]
    values = choix.opt_rankings(5, orders, alpha=0.05, tol=1e-9)
    ranks = np.argsort(np.array(orders), axis=1).T + 1
    chances = order(np.tile(values[:, None], (1, 30)), order_weights(ranks)).chances
    np.testing.assert_allclose((1 - chances.sum(axis=0)).sum(axis=1), 2 * 0.05 * values, atol=1e-5)


def test_rankings_of_two_are_comparisons() -> None:
    pairs = [("a", "b"), ("a", "b"), ("b", "c"), ("a", "c"), ("c", "b")]
    ranked = aggregate([one("r", Ranking((1, 2)), *pair) for pair in pairs], config=PLAIN)
    compared = aggregate([one("r", Pair("first"), *pair) for pair in pairs], config=PLAIN)
    for answer in "abc":
        assert ranked.quality[answer].mean == pytest.approx(compared.quality[answer].mean, abs=0.02)
        assert ranked.quality[answer].sd == pytest.approx(compared.quality[answer].sd, abs=0.02)


def test_cut_points_and_scale_agree_with_statsmodels() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=400)
    grades = ((1.5 * x + rng.logistic(size=400))[:, None] > CUTS).sum(axis=1)
    said = [one("r", Rating(int(g) + 1, int(g) + 1), f"a{i:03d}") for i, g in enumerate(grades)]
    config = dataclasses.replace(PLAIN, scale_sd=1e3, location_sd=1e3, gap_weight=1e-6)
    (table,) = read(said, {}, config).grades
    channel = Channel.prior(RATING, 1, np.array([0]), 1.0)
    for _ in range(50):
        known = read_grades(table, channel, np.zeros(1), x, np.zeros(400))
        update_grades(table, channel, known, config)
    oracle = OrderedModel(grades, x[:, None], distr="logit")
    result = oracle.fit(method="bfgs", disp=False, gtol=1e-8)
    np.testing.assert_allclose(channel.parameters[0, 0], result.params[0], atol=1e-3)
    expected = oracle.transform_threshold_params(result.params)[1:-1]
    np.testing.assert_allclose(channel.bounds()[0, 1:-1], expected, atol=1e-3)


@pytest.mark.parametrize(
    "labels",
    [
        [Rating(5, 5)],
        [Rating(3, 4), Rating(1, 5)],
        [Rating(2, 2), Rating(4, 4), Thumb(True)],
        [Thumb(False), Thumb(False)],
        [Percent(80, 95), Percent(33, 33)],
    ],
)
def test_the_posterior_of_one_answer_agrees_with_numerical_integration(labels: list[Label]) -> None:
    found = aggregate(
        [one(f"r{i}", label) for i, label in enumerate(labels)],
        config=dataclasses.replace(PLAIN, location_sd=1e-6, gap_weight=1e12),
    )
    u = np.linspace(-6, 6, 4001)
    posterior = np.exp(-(u**2) / 2)
    for label in labels:
        form = type(label).__name__.lower()
        cuts = np.array([-np.inf, *found.average[form].cuts, np.inf])
        if isinstance(label, Thumb):
            low, high = int(label.up), int(label.up) + 1
        elif isinstance(label, Rating):
            low, high = label.low - 1, label.high
        else:
            low, high = int(label.low // 10), int(label.high // 10) + 1
        posterior *= sigmoid(cuts[high] - u) - sigmoid(cuts[low] - u)
    posterior /= posterior.sum()
    mean = (u * posterior).sum()
    assert found.quality["a"].mean == pytest.approx(mean, abs=0.01)
    assert found.quality["a"].sd == pytest.approx(np.sqrt(((u - mean) ** 2 * posterior).sum()), abs=0.01)


# What labels mean


def test_no_judgements_are_an_empty_result() -> None:
    found = aggregate([])
    assert found.quality == {} and found.raters == {}
    with pytest.raises(QAError, match="no judgement names"):
        found.prefers("a", "b")


def test_a_skip_says_nothing() -> None:
    found = aggregate([one("r", Skip("too long")), one("s", Skip(), "b", "c")])
    for answer in "abc":
        assert dataclasses.astuple(found.quality[answer]) == (0.0, 1.0, 0)
    assert found.raters["r"].labels == 0 and found.prefers("a", "b") == 0.5
    assert found.satisfaction("a").mean == pytest.approx(0.5)
    assert found.expected_rating("a").mean == pytest.approx(3.0)


BETTER_FIRST: list[tuple[Label, Label]] = [
    (Rating(4, 4), Rating(3, 3)),
    (Rating(4, 5), Rating(3, 5)),
    (Percent(70, 70), Percent(40, 40)),
    (Percent(60, 90), Percent(10, 90)),
    (Thumb(True), Thumb(False)),
    (Thumb(True), Correction("No.")),
    (Rating(3, 3), Correction("No.")),
]


@pytest.mark.parametrize(("better", "worse"), BETTER_FIRST)
def test_a_better_label_means_a_better_answer(better: Label, worse: Label) -> None:
    found = aggregate([one("r", better, "a"), one("r", worse, "b")])
    assert found.quality["a"].mean > found.quality["b"].mean + 0.1
    assert found.prefers("a", "b") > 0.55
    assert found.satisfaction("a").mean > found.satisfaction("b").mean
    assert found.expected_rating("a").mean > found.expected_rating("b").mean


def test_a_comparison_orders_two_answers_and_a_tie_does_not() -> None:
    assert aggregate([one("r", Pair("first"), "a", "b")]).prefers("a", "b") > 0.6
    both = aggregate([one("r", Pair("both_wrong"), "a", "b")])
    assert both.prefers("a", "b") == pytest.approx(0.5)
    assert both.quality["a"].mean < -0.2
    tie = aggregate([one("r", Pair("tie"), "a", "b")])
    assert tie.prefers("a", "b") == pytest.approx(0.5) and tie.quality["a"].sd < 0.95


def test_a_tie_draws_a_good_and_a_bad_answer_together() -> None:
    labels = [one("s", Rating(5, 5), "a"), one("t", Rating(1, 1), "b")]
    apart = aggregate(labels)
    for tie in (Pair("tie"), Ranking((1, 1))):
        joined = aggregate([*labels, one("r", tie, "a", "b")])
        gaps = [found.quality["a"].mean - found.quality["b"].mean for found in (joined, apart)]
        assert gaps[0] < gaps[1] - 0.1


def test_a_greater_strength_means_a_greater_difference() -> None:
    said = [one("r", Pair("first", strength), f"a{strength}", f"b{strength}") for strength in (1, 2, 3)]
    found = aggregate(said)
    gaps = [found.quality[f"a{s}"].mean - found.quality[f"b{s}"].mean for s in (1, 2, 3)]
    assert gaps[0] > 0.1 and gaps[1] > gaps[0] + 0.1 and gaps[2] > gaps[1] + 0.1


def test_a_ranking_orders_its_answers() -> None:
    found = aggregate([one("r", Ranking((2, 1, 3)), "a", "b", "c")])
    assert found.quality["b"].mean > found.quality["a"].mean > found.quality["c"].mean


def test_unsure_labels_say_less_and_experts_more() -> None:
    plain = aggregate([one("r", Rating(5, 5))]).quality["a"]
    unsure = aggregate([one("r", Rating(5, 5), unsure=True)]).quality["a"]
    expert = aggregate([one("r", Rating(5, 5))], {"r": "expert"}).quality["a"]
    assert 0 < unsure.mean < plain.mean < expert.mean
    assert unsure.sd > plain.sd > expert.sd


def test_an_expert_has_no_veto() -> None:
    said = [one("e", Thumb(False)), *(one(f"r{i}", Thumb(True)) for i in range(5))]
    assert aggregate(said, {"e": "expert"}).quality["a"].mean > 0.3


def test_corrections_are_demonstrations() -> None:
    said = [one("r", Correction("Tokyo.")), one("r", Thumb(False)), one("s", Correction("It is Tokyo."), "b")]
    assert demonstrations(said) == [("a", "Tokyo."), ("b", "It is Tokyo.")]


# Properties


@st.composite
def judgements(draw: st.DrawFn) -> list[Judgement]:
    """A few labels of all kinds."""
    said = []
    for _ in range(draw(st.integers(1, 12))):
        names = draw(st.permutations(["a", "b", "c", "d"]))
        kind = draw(st.sampled_from(["rating", "percent", "thumb", "pair", "ranking", "correction", "skip"]))
        label: Label
        if kind == "rating":
            label = Rating(*sorted(draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))))
        elif kind == "percent":
            label = Percent(*sorted(draw(st.tuples(st.integers(0, 100), st.integers(0, 100)))))
        elif kind == "pair":
            choice = draw(st.sampled_from(["first", "second", "tie", "both_wrong"]))
            label = Pair(choice, draw(st.integers(1, 3)))
        elif kind == "ranking":
            label = Ranking(tuple(draw(st.lists(st.integers(1, 3), min_size=2, max_size=4))))
        else:
            label = {"thumb": Thumb(draw(st.booleans())), "correction": Correction("x"), "skip": Skip()}[kind]
        number = len(label.ranks) if isinstance(label, Ranking) else 2 if isinstance(label, Pair) else 1
        rater = draw(st.sampled_from(["r", "s", "t"]))
        said.append(Judgement(rater, tuple(names[:number]), label, draw(st.booleans())))
    return said


@QUIET
@given(judgements(), st.randoms(use_true_random=False))
def test_the_order_of_judgements_does_not_matter(said: list[Judgement], random) -> None:
    mixed = random.sample(said, len(said))
    first, second = aggregate(said), aggregate(mixed)
    assert first.quality == second.quality and first.raters == second.raters


@QUIET
@given(judgements())
def test_names_do_not_matter(said: list[Judgement]) -> None:
    answer = dict(zip("abcd", "zywx", strict=True))
    rater = {"r": "3", "s": "1", "t": "2"}
    renamed = [
        Judgement(rater[j.rater], tuple(answer[a] for a in j.answers), j.label, j.unsure) for j in said
    ]
    found, other = aggregate(said), aggregate(renamed)
    for name, quality in found.quality.items():
        assert dataclasses.astuple(other.quality[answer[name]]) == pytest.approx(dataclasses.astuple(quality))
    for name, fit in found.raters.items():
        assert other.raters[rater[name]].reliability == pytest.approx(fit.reliability)


@QUIET
@given(judgements())
def test_what_is_found_is_finite_and_within_its_range(said: list[Judgement]) -> None:
    found = aggregate(said)
    for answer, quality in found.quality.items():
        assert abs(quality.mean) < 5 and 0 < quality.sd <= 1
        assert 0 < found.satisfaction(answer).mean < 1 and 1 < found.expected_rating(answer).mean < 5
    for rater in found.raters.values():
        assert 0 < rater.lapse < 1 and 0 <= rater.reliability < 1
        assert all(list(cuts) == sorted(cuts) for cuts in rater.cuts.values())
    for first, second in itertools.permutations(found.quality, 2):
        assert 0 < found.prefers(first, second) < 1
        assert found.prefers(first, second) + found.prefers(second, first) == pytest.approx(1)


def swapped(judgement: Judgement) -> Judgement:
    label = judgement.label
    assert isinstance(label, Pair)
    choice = {"first": "second", "second": "first"}.get(label.choice, label.choice)
    return Judgement(judgement.rater, judgement.answers[::-1], Pair(choice, label.strength), judgement.unsure)


@QUIET
@given(judgements())
def test_a_pair_means_the_same_from_both_sides(said: list[Judgement]) -> None:
    turned = [swapped(j) if isinstance(j.label, Pair) else j for j in said]
    found, other = aggregate(said), aggregate(turned)
    for first, second in itertools.permutations(found.quality, 2):
        assert other.prefers(first, second) == pytest.approx(found.prefers(first, second), abs=1e-9)


HONEST = [
    one(f"r{rater}", Rating(grade, grade), f"a{answer}")
    for answer, grade in enumerate([1, 2, 3, 4, 5, 2, 4, 3, 1, 5])
    for rater in range(4)
]


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.integers(1, 300), st.sampled_from(["rating", "thumb", "percent", "pair", "ranking", "all"]))
def test_one_rater_can_move_an_answer_only_so_far(number: int, form: str) -> None:
    attacks = {
        "rating": one("x", Rating(5, 5), "a0"),
        "thumb": one("x", Thumb(True), "a0"),
        "percent": one("x", Percent(100, 100), "a0"),
        "pair": one("x", Pair("first", 3), "a0", "a4"),
        "ranking": one("x", Ranking((1, 2, 2, 2)), "a0", "a4", "a6", "a9"),
    }
    kinds = list(attacks.values()) if form == "all" else [attacks[form]]
    before, after = aggregate(HONEST), aggregate(HONEST + kinds * number)
    assert after.quality["a0"].mean - before.quality["a0"].mean < 0.7
    assert after.prefers("a4", "a0") > 0.9
    assert abs(after.quality["a2"].mean - before.quality["a2"].mean) < 0.3


def test_two_raters_outweigh_a_third_who_was_credible_and_then_repeats_itself() -> None:
    credible = [dataclasses.replace(j, rater="x") for j in HONEST if j.rater == "r0"]
    doubted = [one("r1", Rating(1, 1), "b"), one("r2", Rating(2, 2), "b")]
    found = aggregate(HONEST + credible + doubted + [one("x", Rating(5, 5), "b")] * 500)
    assert found.quality["b"].mean < -0.5 and found.quality["b"].n == 502


def test_saying_the_same_again_says_nothing_new() -> None:
    for label, *answers in ((Rating(4, 4), "a"), (Pair("first"), "a", "b"), (Ranking((1, 2)), "a", "b")):
        once, often = (aggregate([one("r", label, *answers)] * times) for times in (1, 7))
        assert often.quality["a"].mean == pytest.approx(once.quality["a"].mean)
        assert often.quality["a"].sd == pytest.approx(once.quality["a"].sd)


def test_one_rater_s_labels_of_an_answer_weigh_at_most_the_cap() -> None:
    said = [one("r", Pair("first"), "a", f"b{i}") for i in range(12)]
    tight, loose = (aggregate(said, config=AggregationConfig(rater_cap=cap)) for cap in (2.0, 12.0))
    assert tight.quality["a"].mean < loose.quality["a"].mean
    assert tight.quality["a"].sd > loose.quality["a"].sd


def test_each_further_rater_makes_an_answer_better_known() -> None:
    _, said = simulated(4, "rating", raters=16)
    known = [
        aggregate([*said, *(one(f"r{i}", Rating(4, 4)) for i in range(n))]).quality["a"]
        for n in (1, 2, 4, 8, 16)
    ]
    assert [quality.n for quality in known] == [1, 2, 4, 8, 16]
    assert (np.diff([quality.sd for quality in known]) < -0.05).all()


def test_more_labels_bring_answers_nearer_to_their_qualities() -> None:
    errors, uncertain = [], []
    for each in (1, 3, 8):
        quality, said = simulated(0, "rating", each=each)
        found = aggregate(said)
        errors.append(np.sqrt(np.mean((means(found, 200) - quality) ** 2)))
        uncertain.append(sds(found, 200).mean())
    assert (np.diff(errors) < -0.05).all() and (np.diff(uncertain) < -0.05).all()
    np.testing.assert_allclose(errors, uncertain, rtol=0.2)


# Recovery from simulated labels


@pytest.mark.parametrize("form", ["rating", "thumb", "pair", "ranking"])
def test_intervals_cover_the_simulated_qualities_about_as_often_as_they_say(form: str) -> None:
    quality, said = simulated(3, form, answers=400, inverted=1)
    found = aggregate(said)
    z = (quality - means(found, 400)) / sds(found, 400)
    assert 0.85 < np.mean(np.abs(z) < 1.645) < 0.95
    assert 0.6 < np.mean(np.abs(z) < 1.0) < 0.8


def test_cut_points_lapses_and_scales_of_simulated_raters_are_recovered() -> None:
    quality, said = simulated(5, "rating", answers=700, raters=6, each=6, lapse=0.0)
    rng = np.random.default_rng(6)
    said = [
        dataclasses.replace(j, label=Rating(grade, grade))
        if j.rater == "r0" and rng.random() < 0.4 and (grade := int(rng.integers(1, 6)))
        else j
        for j in said
    ]
    found = aggregate(said)
    shift = np.random.default_rng(5)
    shift.normal(size=700)
    strictness = shift.normal(0, 0.7, 6)
    assert found.raters["r0"].lapse == pytest.approx(0.4, abs=0.08)
    for rater in range(1, 6):
        fit = found.raters[f"r{rater}"]
        assert fit.lapse < 0.08 and fit.labels == 700
        assert fit.scale["rating"] == pytest.approx(2.0, abs=0.35)
        np.testing.assert_allclose(fit.cuts["rating"], CUTS + strictness[rater], atol=0.45)
    assert np.corrcoef(quality, means(found, 700))[0, 1] > 0.9


def test_an_inverted_rater_is_recognised_and_a_random_one_counts_for_little() -> None:
    _, said = simulated(7, "rating", answers=150, raters=5, each=4, inverted=1)
    rng = np.random.default_rng(8)
    said += [one("random", Rating(g, g), f"a{i}") for i, g in enumerate(rng.integers(1, 6, 150).tolist())]
    raters = aggregate(said).raters
    assert raters["r0"].scale["rating"] < 0 and raters["r0"].reliability == 0
    assert raters["random"].reliability < 0.2
    assert min(raters[f"r{i}"].reliability for i in range(1, 5)) > 0.5


def test_a_quarter_of_labels_flipped_still_leaves_the_right_order() -> None:
    quality, said = simulated(9, "pair", lapse=0.0, each=5)
    rng = np.random.default_rng(10)
    said = [dataclasses.replace(swapped(j), answers=j.answers) if rng.random() < 0.25 else j for j in said]
    found = aggregate(said)
    pairs = [(i, j) for i, j in itertools.combinations(range(200), 2) if i // 4 == j // 4]
    right = [(found.prefers(f"a{i}", f"a{j}") > 0.5) == (quality[i] > quality[j]) for i, j in pairs]
    assert np.mean(right) > 0.75


def test_with_one_rater_who_is_too_strict_the_others_are_not_misled() -> None:
    said = [
        one("strict", Rating(max(1, g - 2), max(1, g - 2)), f"a{i}") for i, g in enumerate([3, 4, 5] * 20)
    ]
    said += [one("mild", Rating(g, g), f"b{i}") for i, g in enumerate([3, 4, 5] * 20)]
    found = aggregate(said)
    assert found.quality["a2"].mean > found.quality["b0"].mean + 0.3


# Arguments


@pytest.mark.parametrize(
    "fields",
    [
        {"lapse_prior": (0.0, 9.0)},
        {"lapse_prior": (1.0, float("nan"))},
        {"unsure": 1.0},
        {"unsure": -0.1},
        {"scale": 0.0},
        {"scale_sd": -1.0},
        {"location_sd": float("inf")},
        {"gap_weight": 0.0},
        {"expert_weight": 0.0},
        {"rater_cap": 0.0},
        {"max_iterations": 0},
        {"tolerance": 0.0},
    ],
)
def test_bad_settings_are_refused(fields: dict) -> None:
    with pytest.raises(QAError):
        AggregationConfig(**fields)


def test_an_unknown_role_or_answer_is_refused() -> None:
    with pytest.raises(QAError, match="role of rater 'r'"):
        aggregate([], {"r": "boss"})
    found = aggregate([one("r", Thumb(True))])
    for ask in (found.satisfaction, found.expected_rating, lambda answer: found.prefers("a", answer)):
        with pytest.raises(QAError, match="no judgement names the answer 'b'"):
            ask("b")
