"""The labels' likelihood as rows of numbers, for a model that says how good an answer is from its text."""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qa_env.feedback.aggregation.fit import Fit
from qa_env.feedback.aggregation.likelihoods import IntArray
from qa_env.feedback.aggregation.tables import Grades, Rankings, Table
from qa_env.feedback.base import FloatArray


class Terms(NamedTuple):
    """What labels say, given their raters' habits: one row for each thing that is said.

    With ``z`` the quality of the first answer, or its difference from that of the second,
    ``P(label) = (1 - lapse) (sigmoid(high - scale z) - sigmoid(low - scale z)) + lapse * uniform``.

    Attributes:
        first: Number of the answer, shape ``(rows,)``.
        second: Number of the answer that it is compared with, or -1.
        scale: How steeply the rater's label depends on ``z``.
        low: Cut point below the label, in logits; may be minus infinity.
        high: Cut point above; may be infinity.
        lapse: The chance that the label was given at random.
        uniform: The chance of this label then.
        weight: How many labels the row counts for.
    """

    first: IntArray
    second: IntArray
    scale: FloatArray
    low: FloatArray
    high: FloatArray
    lapse: FloatArray
    uniform: FloatArray
    weight: FloatArray

    def select(self, rows: NDArray[np.bool_]) -> Terms:
        """Some of the rows, ``(rows,)``."""
        return Terms(*(column[rows] for column in self))  # type: ignore[arg-type]  # each keeps its type


def terms_of(table: Table, fit: Fit) -> Terms:
    """The rows of all labels. A ranking counts as the pairs that it orders, each with its share."""
    parts = [_graded(grades, fit) for grades in table.grades]
    parts += [part for ranked in table.rankings for part in _ranked(ranked, fit)]
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)] if parts else [np.zeros(0)] * 8
    first, second, *rest = columns
    return Terms(first.astype(np.int64), second.astype(np.int64), *rest)


def _lapse(rater: IntArray, unsure: FloatArray, fit: Fit) -> FloatArray:
    lapse: FloatArray = 1 - (1 - fit.lapse[rater]) * (1 - unsure)
    return lapse


def _graded(grades: Grades, fit: Fit) -> tuple[FloatArray, ...]:
    rows, every = grades.rows, np.arange(len(grades.low))
    parameters = fit.channels[grades.form.name].parameters[rows.rater]
    bounds = grades.form.bounds(parameters[:, 1:])
    answers = rows.answers.astype(np.float64)
    second = answers[:, 1] if answers.shape[1] == 2 else np.full(len(every), -1.0)
    lapse = _lapse(rows.rater, rows.unsure, fit)
    low, high = bounds[every, grades.low], bounds[every, grades.high]
    return (answers[:, 0], second, parameters[:, 0], low, high, lapse, rows.uniform, rows.weight)


def _ranked(ranked: Rankings, fit: Fit) -> list[tuple[FloatArray, ...]]:
    """Each pair of a ranking: the better an answer, the fewer places it is still there to be given."""
    rows, count = ranked.rows, ranked.rows.answers.shape[1]
    scale = fit.channels["ranking"].parameters[rows.rater, 0]
    place = ranked.places.sum(axis=0).T
    lapse, zero, half = _lapse(rows.rater, rows.unsure, fit), np.zeros(len(rows.rater)), 0.5
    parts: list[tuple[FloatArray, ...]] = []
    for one, other in combinations(range(count), 2):
        better = place[:, one] < place[:, other]
        first = np.where(better, rows.answers[:, one], rows.answers[:, other])
        second = np.where(better, rows.answers[:, other], rows.answers[:, one])
        weight = rows.weight / (count - 1)
        part = (first, second, scale, zero, zero + np.inf, lapse, zero + half, weight)
        ordered = place[:, one] != place[:, other]  # of two that tie a ranking says nothing here
        parts.append(tuple(column[ordered] for column in part))
    return parts
