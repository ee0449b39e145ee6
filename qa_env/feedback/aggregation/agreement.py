"""How far raters agree: Krippendorff's alpha, with an interval from the bootstrap."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from qa_env.errors import QAError
from qa_env.feedback.base import FloatArray
from qa_env.feedback.labels import Judgement, Pair, Percent, Rating, Thumb

Level = Literal["nominal", "ordinal", "interval"]
LEVELS: dict[str, Level] = {
    "rating": "ordinal",
    "percent": "interval",
    "thumb": "nominal",
    "pair": "nominal",
}
"""What the differences between labels mean, for the forms of which agreement is measured."""


@dataclass(frozen=True)
class Agreement:
    """Krippendorff's alpha of some labels: 1 is agreement, 0 what chance would give, less is dispute.

    Attributes:
        alpha: The estimate; NaN if all labels are alike, so that nothing can be told.
        low: Lower end of the bootstrap interval.
        high: Upper end.
        units: How many answers, or pairs of answers, were labelled by two raters or more.
        labels: How many labels these have.
    """

    alpha: float
    low: float
    high: float
    units: int
    labels: int


def krippendorff_alpha(ratings: ArrayLike, level: Level) -> float:
    """Krippendorff's alpha, "Computing Krippendorff's Alpha-Reliability" (2011).

    Args:
        ratings: Shape ``(raters, units)``; NaN where a rater did not label a unit.
        level: Whether values merely differ, have an order, or have distances.

    Raises:
        QAError: If the array has another shape.
    """
    return _alpha(*_counts(_units(ratings)), level)


def krippendorff_interval(
    ratings: ArrayLike, level: Level, samples: int = 500, confidence: float = 0.95, seed: int = 0
) -> Agreement:
    """Alpha with a percentile interval from units drawn with replacement.

    Args:
        ratings: As for `krippendorff_alpha`.
        level: Likewise.
        samples: Of the bootstrap.
        confidence: The interval's share of the samples.
        seed: Of the draws.

    Raises:
        QAError: If an argument makes no sense.
    """
    return _agreement(_units(ratings), level, samples, confidence, seed)


def agreement(
    judgements: Sequence[Judgement], samples: int = 500, confidence: float = 0.95, seed: int = 0
) -> Mapping[str, Agreement]:
    """Alpha by form of label: ratings ordinal, percentages interval, thumbs and pairs nominal.

    A range counts as its middle. Pairs are told apart by their two answers, whichever came first, and not
    by their strength. A rater who labels a unit again counts once, with the median, or with the label
    given most often; if there is none, not at all. Forms of which no unit has two raters are left out.

    Args:
        judgements: In any order.
        samples: Of the bootstrap.
        confidence: The interval's share of the samples.
        seed: Of the draws.

    Raises:
        QAError: If an argument makes no sense.
    """
    said: dict[str, dict[tuple[str, ...], dict[str, list[float]]]] = {}
    for judgement in judgements:
        label = judgement.label
        if isinstance(label, Rating | Percent | Thumb | Pair):
            name, unit, value = _value(judgement.answers, label)
            raters = said.setdefault(name, {}).setdefault(unit, defaultdict(list))
            raters[judgement.rater].append(value)
    found = {}
    for name in sorted(said):
        level = LEVELS[name]
        units = [
            [value for labels in said[name][unit].values() for value in _settled(labels, level)]
            for unit in sorted(said[name])
        ]
        units = [sorted(values) for values in units if len(values) > 1]
        if units:
            found[name] = _agreement(units, level, samples, confidence, seed)
    return found


def _value(
    answers: tuple[str, ...], label: Rating | Percent | Thumb | Pair
) -> tuple[str, tuple[str, ...], float]:
    """Form, unit and value of a label; a pair's value is that of the answers in alphabetical order."""
    match label:
        case Thumb():
            return "thumb", answers, float(label.up)
        case Rating():
            return "rating", answers, (label.low + label.high) / 2
        case Percent():
            return "percent", answers, (label.low + label.high) / 2
        case Pair():
            direction = 1.0 if answers[0] <= answers[1] else -1.0
            value = {"first": direction, "second": -direction, "tie": 0.0, "both_wrong": 2.0}[label.choice]
            return "pair", tuple(sorted(answers)), value


def _settled(labels: list[float], level: Level) -> list[float]:
    """One value of a rater who may have labelled a unit more than once, or none."""
    if level != "nominal":
        return [median(labels)]
    most = max(labels.count(label) for label in labels)
    modes = {label for label in labels if labels.count(label) == most}
    return [*modes] if len(modes) == 1 else []


def _units(ratings: ArrayLike) -> list[list[float]]:
    array = np.asarray(ratings, dtype=np.float64)
    if array.ndim != 2:
        raise QAError(f"ratings must have the shape (raters, units), got {array.shape}")
    return [values for values in (unit[~np.isnan(unit)].tolist() for unit in array.T) if len(values) > 1]


def _counts(units: list[list[float]]) -> tuple[FloatArray, FloatArray]:
    """How often each value occurs in each unit, shape ``(units, values)``, and the values in order."""
    values, places = np.unique(np.array([v for unit in units for v in unit]), return_inverse=True)
    counts = np.zeros((len(units), len(values)))
    np.add.at(counts, (np.repeat(np.arange(len(units)), [len(unit) for unit in units]), places), 1.0)
    return counts, values


def _alpha(counts: FloatArray, values: FloatArray, level: Level) -> float:
    """Alpha from the coincidence matrix."""
    pairable = counts / (counts.sum(axis=1, keepdims=True) - 1.0)
    coincidences = pairable.T @ counts - np.diag(pairable.sum(axis=0))
    totals = counts.sum(axis=0)
    distance = _distance(totals, values, level)
    expected = totals @ distance @ totals
    if expected == 0:
        return math.nan
    return float(1.0 - (totals.sum() - 1.0) * (coincidences * distance).sum() / expected)


def _distance(totals: FloatArray, values: FloatArray, level: Level) -> FloatArray:
    """Squared distances between values, shape ``(values, values)``."""
    if level == "nominal":
        return 1.0 - np.eye(len(values))
    if level == "ordinal":
        values = np.cumsum(totals) - totals / 2
    distance: FloatArray = (values[:, None] - values) ** 2
    return distance


def _agreement(
    units: list[list[float]], level: Level, samples: int, confidence: float, seed: int
) -> Agreement:
    if samples < 1 or not 0 < confidence < 1:
        raise QAError(
            f"a bootstrap needs samples, and a confidence between 0 and 1; got {samples} and {confidence}"
        )
    counts, values = _counts(units)
    rng = np.random.default_rng(seed)
    draws = (rng.integers(len(units), size=len(units)) for _ in range(samples if units else 0))
    alphas = np.array([_alpha(counts[draw], values, level) for draw in draws])
    alphas = alphas[~np.isnan(alphas)]
    tail = (1.0 - confidence) / 2
    low, high = np.quantile(alphas, [tail, 1 - tail]) if len(alphas) else (math.nan, math.nan)
    return Agreement(_alpha(counts, values, level), float(low), float(high), len(units), sum(map(len, units)))
