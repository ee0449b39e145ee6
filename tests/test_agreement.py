from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qa_env.errors import QAError
from qa_env.feedback.aggregation import agreement, krippendorff_alpha, krippendorff_interval
from qa_env.feedback.labels import Correction, Judgement, Label, Pair, Percent, Ranking, Rating, Skip, Thumb

NAN = math.nan
PUBLISHED = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
)
"""Four observers and twelve units, from Krippendorff (2011)."""


def said(rater: str, label: Label, *answers: str) -> Judgement:
    return Judgement(rater, answers, label)


@pytest.mark.parametrize(("level", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_is_that_of_the_published_example(level, alpha: float) -> None:
    assert krippendorff_alpha(PUBLISHED, level) == pytest.approx(alpha, abs=0.0005)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(st.lists(st.integers(0, 4), min_size=2, max_size=4), min_size=2, max_size=8))
def test_alpha_is_one_minus_observed_over_expected_distance(units: list[list[int]]) -> None:
    table = np.full((4, len(units)), NAN)
    for column, values in enumerate(units):
        table[: len(values), column] = values
    every = [value for values in units for value in values]
    apart = [(a - b) ** 2 for a, b in itertools.permutations(every, 2)]
    if not any(apart):
        assert math.isnan(krippendorff_alpha(table, "interval"))
        return
    observed = sum(
        (a - b) ** 2 / (len(values) - 1) for values in units for a, b in itertools.permutations(values, 2)
    )
    expected = 1 - observed / len(every) / (sum(apart) / len(apart))
    assert krippendorff_alpha(table, "interval") == pytest.approx(expected)


def test_full_agreement_is_1_and_labels_at_random_are_about_0() -> None:
    rng = np.random.default_rng(0)
    unit = rng.integers(1, 6, 1200).astype(float)
    for level in ("nominal", "ordinal", "interval"):
        assert krippendorff_alpha(np.tile(unit, (3, 1)), level) == 1.0
        assert abs(krippendorff_alpha(rng.integers(1, 6, (3, 1200)), level)) < 0.06


def test_ordinal_alpha_depends_on_the_order_of_values_alone() -> None:
    assert krippendorff_alpha(PUBLISHED**3, "ordinal") == krippendorff_alpha(PUBLISHED, "ordinal")
    assert krippendorff_alpha(PUBLISHED**3, "interval") != krippendorff_alpha(PUBLISHED, "interval")


def test_the_interval_covers_the_alpha_of_all_units_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    truth = rng.normal(size=2000)
    ratings = np.round(truth + rng.normal(0, 0.7, (3, 2000)))
    alpha = krippendorff_alpha(ratings, "interval")
    parts = [
        krippendorff_interval(part, "interval", samples=100, confidence=0.9)
        for part in np.split(ratings, 50, axis=1)
    ]
    assert 0.75 < np.mean([part.low < alpha < part.high for part in parts]) < 0.97
    whole = krippendorff_interval(ratings, "interval", samples=100, confidence=0.9)
    assert whole.high - whole.low < 0.3 * np.mean([part.high - part.low for part in parts])
    assert (whole.units, whole.labels) == (2000, 6000)


def test_the_interval_depends_on_the_seed_alone() -> None:
    first, again, other = (krippendorff_interval(PUBLISHED, "ordinal", seed=seed) for seed in (1, 1, 2))
    assert first == again and first != other


@pytest.mark.parametrize("table", [np.ones((3, 5)), np.full((3, 5), NAN), np.empty((2, 0)), [[1.0, 2.0]]])
def test_without_anything_to_compare_alpha_is_nan(table) -> None:
    found = krippendorff_interval(table, "nominal")
    assert math.isnan(found.alpha) and math.isnan(found.low) and math.isnan(found.high)


def test_agreement_is_told_by_form() -> None:
    labels = [
        *(said(r, Rating(g, g), f"a{i}") for r in "xy" for i, g in enumerate([1, 3, 5, 4])),
        *(said(r, Thumb(i < 2), f"a{i}") for r in "xy" for i in range(4)),
        *(said(r, Percent(10 * i, 10 * i + 5 * (r == "x")), f"a{i}") for r in "xy" for i in range(4)),
        said("x", Ranking((1, 2)), "a0", "a1"),
        said("x", Skip(), "a0"),
        said("x", Correction("No."), "a0"),
    ]
    found = agreement(labels, samples=50)
    assert set(found) == {"rating", "thumb", "percent"}
    assert found["rating"].alpha == found["thumb"].alpha == 1.0
    assert 0.9 < found["percent"].alpha < 1.0
    assert (found["rating"].units, found["rating"].labels) == (4, 8)


def test_pairs_agree_whichever_answer_comes_first() -> None:
    labels = [
        said("x", Pair("first"), "a", "b"),
        said("y", Pair("second", 3), "b", "a"),
        said("x", Pair("second"), "a", "c"),
        said("y", Pair("first"), "c", "a"),
        said("x", Pair("tie"), "b", "c"),
        said("y", Pair("tie"), "c", "b"),
        said("x", Pair("both_wrong"), "b", "d"),
        said("y", Pair("both_wrong"), "d", "b"),
    ]
    assert agreement(labels)["pair"].alpha == 1.0
    disputed = [*labels[:-1], said("y", Pair("tie"), "d", "b")]
    assert agreement(disputed)["pair"].alpha < 1.0


def test_a_rater_who_labels_a_unit_again_counts_once() -> None:
    once = [said("x", Rating(2, 2), "a"), said("y", Rating(4, 4), "a"), said("x", Rating(5, 5), "b")]
    once.append(said("y", Rating(5, 5), "b"))
    again = [*once, said("x", Rating(2, 3), "a"), said("x", Rating(1, 2), "a")]
    assert agreement(again) == agreement(once)
    settled = [said("x", Thumb(up), "a") for up in (True, True, False)] + [said("y", Thumb(True), "a")]
    assert agreement(settled)["thumb"].labels == 2
    assert "thumb" not in agreement(settled[1:])


def test_the_order_of_judgements_does_not_matter() -> None:
    rng = np.random.default_rng(2)
    labels = [
        said(f"r{r}", Rating(g, g), f"a{i}")
        for r in range(3)
        for i, g in enumerate(rng.integers(1, 6, 20).tolist())
    ]
    mixed = [labels[i] for i in rng.permutation(len(labels))]
    assert agreement(labels) == agreement(mixed)


def test_no_judgements_have_no_agreement() -> None:
    assert agreement([]) == {}


@pytest.mark.parametrize(
    ("table", "fields"), [([1.0, 2.0], {}), (PUBLISHED, {"samples": 0}), (PUBLISHED, {"confidence": 1.0})]
)
def test_bad_arguments_are_refused(table, fields: dict) -> None:
    with pytest.raises(QAError):
        krippendorff_interval(table, "nominal", **fields)
