"""The single ways in which a simulated annotator errs, as plain functions of scores and labels."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from qa_env.errors import QAError
from qa_env.feedback.base import FloatArray
from qa_env.feedback.labels import STRENGTHS, Kind, Label, Pair, Percent, Ranking, Rating, Thumb

HALF_RANGE = 10.0
"""A fuzzy percentage reaches so far to both sides, in points."""


def discounted(parts: float | Sequence[float], gamma: float) -> float:
    """The worth of one answer to a rater who forgets its beginning (B-Pref's "myopic" teacher).

    ``sum_t gamma^(T-t) parts_t / sum_t gamma^(T-t)``: the mean of the parts if ``gamma`` is 1, the last
    part if it is 0.

    Args:
        parts: The score of the whole answer, or of its parts from first to last, each in [0, 1].
        gamma: The discount, from 0 to 1.

    Raises:
        QAError: If there is no part, or one outside [0, 1].
    """
    values = [parts] if isinstance(parts, int | float) else list(parts)
    if not values or not all(0.0 <= value <= 1.0 for value in values):
        raise QAError(f"a true score must be from 0 to 1, or a sequence of such parts; got {parts!r:.60}")
    if len(values) == 1:
        return float(values[0])
    weights = [gamma**age for age in range(len(values) - 1, -1, -1)]
    total = sum(weight * value for weight, value in zip(weights, values, strict=True))
    return min(total / sum(weights), 1.0)


def skewed(scores: FloatArray, power: float) -> FloatArray:
    """``scores ** power``: above 1 a harsh rater, below 1 a lenient one (Nguyen et al. 2017)."""
    return np.asarray(scores**power, dtype=np.float64)


def varied(scores: FloatArray, scale: float, rng: np.random.Generator) -> FloatArray:
    """Scores with the noise of human ratings, which is least at both ends (Nguyen et al. 2017).

    Normal, with the standard deviation ``scale * min(0.64 r, 0.67 - 0.67 r)``, clipped to [0, 1].
    """
    deviation = scale * np.minimum(0.64 * scores, 0.67 - 0.67 * scores)
    return np.asarray(np.clip(scores + deviation * rng.standard_normal(scores.shape), 0.0, 1.0))


def granular(scores: FloatArray, bins: int) -> FloatArray:
    """``round(r b) / b``, the grid of a rater who tells few levels apart (Nguyen et al. 2017)."""
    return np.asarray(np.round(scores * bins) / bins, dtype=np.float64)


def inverted(label: Label) -> Label:
    """The opposite of a label: 1 becomes 5, up becomes down, the best becomes the last.

    A tie, "both wrong", a correction and a skip have no opposite and stay.
    """
    if isinstance(label, Rating):
        return Rating(6 - label.high, 6 - label.low)
    if isinstance(label, Percent):
        return Percent(100.0 - label.high, 100.0 - label.low)
    if isinstance(label, Thumb):
        return Thumb(not label.up)
    if isinstance(label, Ranking):
        return Ranking(tuple(max(label.ranks) + 1 - rank for rank in label.ranks))
    if isinstance(label, Pair) and label.choice in ("first", "second"):
        return dataclasses.replace(label, choice="second" if label.choice == "first" else "first")
    return label


def fuzzy(label: Label, rng: np.random.Generator) -> Label:
    """A range in place of a number: two neighbouring grades, or a percentage with 10 points to both sides."""
    if isinstance(label, Rating):
        low = label.low - int(rng.integers(2))
        low = min(max(low, 1), 4)
        return Rating(low, low + 1)
    if isinstance(label, Percent):
        return Percent(max(0.0, label.low - HALF_RANGE), min(100.0, label.high + HALF_RANGE))
    return label


def careless(kind: Kind, answers: int, rng: np.random.Generator) -> Label:
    """A label drawn at random without a look at the answers, each as probable as any other.

    Of a pair these are the first, the second and a tie; the strength is random too.
    """
    if kind == "rating":
        grade = int(rng.integers(1, 6))
        return Rating(grade, grade)
    if kind == "percent":
        percent = float(rng.uniform(0.0, 100.0))
        return Percent(percent, percent)
    if kind == "thumb":
        return Thumb(bool(rng.integers(2)))
    if kind == "ranking":
        return Ranking(tuple(int(rank) + 1 for rank in rng.permutation(answers)))
    place = int(rng.integers(3))
    strength = int(rng.choice(STRENGTHS))
    return Pair("tie") if place == 2 else Pair("first" if place == 0 else "second", strength)


def middling(kind: Kind, answers: int) -> Label:
    """What a lazy rater always says: 3 of 5, 50 percent, a tie, all ranks equal, thumb up."""
    if kind == "rating":
        return Rating(3, 3)
    if kind == "percent":
        return Percent(50.0, 50.0)
    if kind == "thumb":
        return Thumb(True)
    return Ranking((1,) * answers) if kind == "ranking" else Pair("tie")


def ranks_of(scores: ArrayLike, margin: float) -> tuple[int, ...]:
    """Ranks from 1 (the best), where answers within `margin` of the best of their group share one.

    The next group's rank is one more, whatever the size of the group before.
    """
    array = np.asarray(scores, dtype=np.float64)
    ranks = np.ones(array.size, dtype=np.int64)
    order = np.argsort(-array, kind="stable")
    head = order[0]
    for previous, place in itertools.pairwise(order):
        apart = array[head] - array[place] > margin
        ranks[place] = ranks[previous] + apart
        head = place if apart else head
    return tuple(int(rank) for rank in ranks)
