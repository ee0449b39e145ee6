"""Each row of the likelihood says what its label means, in the habits of the rater who gave it."""

from __future__ import annotations

import numpy as np
import pytest

from qa_env.feedback.aggregation import Aggregate, Roles, Terms, aggregate
from qa_env.feedback.aggregation.likelihoods import sigmoid
from qa_env.feedback.labels import Correction, Judgement, Label, Pair, Percent, Ranking, Rating, Skip, Thumb


def said(label: Label, *answers: str, rater: str = "ada", unsure: bool = False) -> Judgement:
    return Judgement(rater, answers or ("a",), label, unsure)


OTHERS = [
    *(said(Rating(stars, stars), f"r{stars}", rater="ben") for stars in range(1, 6)),
    *(said(Thumb(up), f"t{up}", rater="ben") for up in (True, False)),
    *(said(Percent(p, p), f"p{p}", rater="ben") for p in (5, 35, 95)),
    *(said(Pair(choice, 3), "r1", "r5", rater="ben") for choice in ("first", "second")),  # type: ignore[arg-type]
    said(Pair("tie"), "r2", "r3", rater="ben"),
]
"""What another rater says, so that habits are fitted and ties and strengths occur."""


def rows_of(
    *judgements: Judgement, answer: str = "a", roles: Roles | None = None
) -> tuple[Aggregate, list[dict[str, float]]]:
    """The rows that speak of an answer first, as dicts, in order."""
    fitted = aggregate([*OTHERS, *judgements], roles)
    terms = fitted.terms
    of_answer = np.flatnonzero(terms.first == list(fitted.quality).index(answer))
    names = ("second", "scale", "low", "high", "lapse", "uniform", "weight")
    return fitted, [{name: float(getattr(terms, name)[row]) for name in names} for row in of_answer]


RATINGS = [(1, 1), (2, 2), (4, 4), (5, 5), (3, 4), (1, 2), (4, 5), (1, 5)]


@pytest.mark.parametrize(("low", "high"), RATINGS)
def test_a_rating_or_a_range_lies_between_its_raters_cut_points(low: int, high: int) -> None:
    fitted, (row,) = rows_of(said(Rating(low, high)))
    ada = fitted.raters["ada"]
    bounds = [-np.inf, *ada.cuts["rating"], np.inf]
    assert (row["low"], row["high"]) == pytest.approx((bounds[low - 1], bounds[high]))
    assert (row["scale"], row["lapse"]) == pytest.approx((ada.scale["rating"], ada.lapse))
    assert row["uniform"] == pytest.approx((high - low + 1) / 5)
    assert row["second"] == -1 and row["weight"] == 1


@pytest.mark.parametrize(
    ("low", "high", "bins"), [(35, 35, (3, 4)), (25, 60, (2, 7)), (0, 0, (0, 1)), (100, 100, (9, 10))]
)
def test_a_percentage_counts_by_tens(low: float, high: float, bins: tuple[int, int]) -> None:
    fitted, (row,) = rows_of(said(Percent(low, high)))
    bounds = [-np.inf, *fitted.raters["ada"].cuts["percent"], np.inf]
    assert (row["low"], row["high"]) == pytest.approx((bounds[bins[0]], bounds[bins[1]]))
    assert row["uniform"] == pytest.approx((bins[1] - bins[0]) / 10)


@pytest.mark.parametrize("up", [True, False])
def test_a_thumb_lies_on_its_side_of_the_cut_point(up: bool) -> None:
    fitted, (row,) = rows_of(said(Thumb(up)))
    (cut,) = fitted.raters["ada"].cuts["thumb"]
    assert (row["low"], row["high"]) == pytest.approx((cut, np.inf) if up else (-np.inf, cut))
    assert row["uniform"] == 0.5 and row["second"] == -1


@pytest.mark.parametrize(
    ("pair", "place"),
    [
        (Pair("second", 3), 0),
        (Pair("second", 1), 2),
        (Pair("tie"), 3),
        (Pair("first"), 4),
        (Pair("first", 3), 6),
    ],
)
def test_a_comparison_is_a_grade_of_the_difference_with_ties_and_strengths(pair: Pair, place: int) -> None:
    fitted, (row,) = rows_of(said(pair, "a", "b"))
    bounds = [-np.inf, *fitted.raters["ada"].cuts["pair"], np.inf]
    assert len(bounds) == 8
    np.testing.assert_allclose(bounds, -np.array(bounds)[::-1])
    assert (row["low"], row["high"]) == pytest.approx((bounds[place], bounds[place + 1]))
    assert row["second"] == list(fitted.quality).index("b")
    assert row["uniform"] == pytest.approx(1 / 7)


def test_where_nobody_says_tie_or_clearly_a_comparison_has_one_cut_point() -> None:
    terms = aggregate([said(Pair("first"), "a", "b"), said(Pair("second"), "c", "d")]).terms
    assert terms.low.tolist() == [0, -np.inf] and terms.high.tolist() == [np.inf, 0]
    assert terms.uniform.tolist() == [0.5, 0.5]


def test_both_wrong_is_two_thumbs_down_and_a_correction_one() -> None:
    both, fixed = said(Pair("both_wrong"), "a", "b"), said(Correction("As it should be."), "c")
    fitted, _ = rows_of(both, fixed)
    down = (-np.inf, *fitted.raters["ada"].cuts["thumb"])
    for answer in "abc":
        _, (row,) = rows_of(both, fixed, answer=answer)
        assert (row["low"], row["high"]) == pytest.approx(down)
        assert row["second"] == -1 and row["uniform"] == 0.5


def test_a_ranking_is_its_pairs_with_shares_and_ties_say_nothing() -> None:
    fitted = aggregate([said(Ranking((2, 1, 2, 3)), "a", "b", "c", "d")])
    terms, answers = fitted.terms, list(fitted.quality)
    found = {
        (answers[one], answers[other]): weight
        for one, other, weight in zip(terms.first, terms.second, terms.weight, strict=True)
    }
    assert found == {pair: pytest.approx(1 / 3) for pair in zip("bbbac", "acddd", strict=True)}
    assert set(terms.low) == {0.0} and set(terms.high) == {np.inf} and set(terms.uniform) == {0.5}


def test_a_ranking_of_equals_gives_no_row() -> None:
    assert not len(aggregate([said(Ranking((1, 1, 1)), "a", "b", "c")]).terms.first)


def test_an_unsure_label_is_oftener_random() -> None:
    fitted, (sure, unsure) = rows_of(said(Rating(4, 4)), said(Rating(5, 5), unsure=True))
    lapse = fitted.raters["ada"].lapse
    assert sure["lapse"] == pytest.approx(lapse)
    assert unsure["lapse"] == pytest.approx(1 - (1 - lapse) * 0.5)


def test_experts_weigh_more_and_repetitions_as_one() -> None:
    _, rows = rows_of(said(Rating(4, 4)), roles={"ada": "expert"})
    assert [row["weight"] for row in rows] == [2.0]
    _, rows = rows_of(said(Rating(4, 4)), said(Rating(2, 2)), said(Thumb(True)))
    assert sorted(row["weight"] for row in rows) == [0.5, 0.5, 1.0]


def test_a_skip_gives_no_row() -> None:
    fitted = aggregate([said(Skip("no idea")), said(Thumb(True), "b"), said(Skip(), "c", "d")])
    assert [list(fitted.quality)[at] for at in fitted.terms.first] == ["b"]
    assert not len(aggregate([said(Skip())]).terms.first)
    assert not len(aggregate([]).terms.first)


def chance(terms: Terms, z: float) -> np.ndarray:
    """What the documentation of `Terms` says of each row's label."""
    meant = sigmoid(terms.high - terms.scale * z) - sigmoid(terms.low - terms.scale * z)
    return np.asarray((1 - terms.lapse) * meant + terms.lapse * terms.uniform)


@pytest.mark.parametrize("z", [-3.0, -0.2, 0.0, 1.7])
def test_the_chances_of_all_labels_of_a_form_add_up_to_one(z: float) -> None:
    stars = aggregate([said(Rating(s, s), f"a{s}") for s in range(1, 6)]).terms
    assert chance(stars, z).sum() == pytest.approx(1)
    tens = aggregate([said(Percent(p, p), f"a{p}") for p in range(5, 100, 10)]).terms
    assert chance(tens, z).sum() == pytest.approx(1)
    choices = [Pair("tie"), *(Pair(c, s) for c in ("first", "second") for s in (1, 2, 3))]  # type: ignore[arg-type]
    pairs = aggregate([said(pair, f"a{n}", f"b{n}") for n, pair in enumerate(choices)]).terms
    assert len(pairs.first) == 7 and chance(pairs, z).sum() == pytest.approx(1)


def test_the_order_of_the_judgements_changes_nothing() -> None:
    judgements = [*OTHERS, said(Ranking((2, 1)), "a", "b"), said(Rating(2, 3))]
    one, other = aggregate(judgements).terms, aggregate(judgements[::-1]).terms
    for name in ("first", "second", "scale", "low", "high", "lapse", "uniform", "weight"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
