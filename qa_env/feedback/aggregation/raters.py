"""What raters are like, given what the answers are probably like: the M-step of the fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from qa_env.feedback.aggregation.config import AggregationConfig
from qa_env.feedback.aggregation.forms import OrdinalForm
from qa_env.feedback.aggregation.likelihoods import IntArray, Interval, Order, interval, mixture, order
from qa_env.feedback.aggregation.tables import Grades, Rankings, Rows
from qa_env.feedback.base import FloatArray

_NODES, _SHARES = np.polynomial.hermite_e.hermegauss(5)
_SHARES = _SHARES / _SHARES.sum()


@dataclass
class Channel:
    """The parameters of all raters in one form of label.

    Attributes:
        form: The form; None for rankings, which have a scale only.
        parameters: Shape ``(raters, 1 + parameters of the form)``; the first is the scale.
        shared: What they are shrunk to, shape ``(1 + parameters of the form,)``.
        active: Which raters gave such labels, shape ``(raters,)``; the others keep the shared parameters.
    """

    form: OrdinalForm | None
    parameters: FloatArray
    shared: FloatArray
    active: IntArray

    @classmethod
    def prior(cls, form: OrdinalForm | None, raters: int, active: IntArray, scale: float) -> Channel:
        """Every rater as nothing is known of them."""
        default = np.concatenate([[scale], form.default if form else []])
        return cls(form, np.tile(default, (raters, 1)), default, active)

    def scale(self, rater: IntArray) -> FloatArray:
        """The scales of some raters."""
        scale: FloatArray = self.parameters[rater, 0]
        return scale

    def bounds(self) -> FloatArray:
        """Cut points with the infinite ones, shape ``(raters, grades + 1)``."""
        assert self.form is not None
        return self.form.bounds(self.parameters[:, 1:])

    def share(self, default: FloatArray) -> None:
        """Set the shared parameters to the mean of the active raters' and of one more at the default.

        For the gaps' gamma prior that mean is the maximum too. However much one rater says, it counts once.
        """
        total = default + self.parameters[self.active].sum(axis=0)
        self.shared = total / (1 + len(self.active))
        idle = np.ones(len(self.parameters), dtype=bool)
        idle[self.active] = False
        self.parameters[idle] = self.shared

    def step(self, gradient: FloatArray, information: FloatArray, config: AggregationConfig) -> None:
        """One Newton step of the active raters, towards the labels and the shared parameters.

        Args:
            gradient: Of the expected log-likelihood, shape ``(raters, parameters)``.
            information: Its negative Hessian, shape ``(raters, parameters, parameters)``.
            config: Gives the prior.
        """
        located = self.form is not None and self.form.located
        gaps = 2 if located else 1
        values = self.parameters[self.active]
        sd = np.array([config.scale_sd, config.location_sd][:gaps])
        slope, bend = np.empty_like(values), np.empty_like(values)
        slope[:, :gaps] = (self.shared[:gaps] - values[:, :gaps]) / sd**2
        bend[:, :gaps] = sd**-2.0
        # A gamma prior with its mode at the shared gap: concave, and no gap comes to 0.
        slope[:, gaps:] = config.gap_weight * (1 / values[:, gaps:] - 1 / self.shared[gaps:])
        bend[:, gaps:] = config.gap_weight / values[:, gaps:] ** 2
        matrix = information[self.active] + bend[:, :, None] * np.eye(values.shape[1])
        step = np.linalg.solve(matrix, (gradient[self.active] + slope)[:, :, None])[:, :, 0]
        shrink = np.maximum(1.0, np.abs(step).max(axis=1))
        if values.shape[1] > gaps:
            shrink = np.maximum(shrink, (-step[:, gaps:] / values[:, gaps:]).max(axis=1) / 0.9)
        self.parameters[self.active] = values + step / shrink[:, None]


@dataclass
class Lapses:
    """Counts of labels and of those given at random, for each rater."""

    labels: FloatArray
    random: FloatArray

    def add(self, rows: Rows, random: FloatArray) -> None:
        """Count labels, of which shares are random."""
        self.labels += np.bincount(rows.rater, rows.weight, len(self.labels))
        self.random += np.bincount(rows.rater, rows.weight * random, len(self.labels))

    def mean(self, prior: tuple[float, float]) -> FloatArray:
        """The share of random labels, under a beta prior."""
        return (prior[0] + self.random) / (sum(prior) + self.labels)


class GradesRead(NamedTuple):
    """Grades in the light of what is known, at points that stand for the posterior of each one's subject.

    Attributes:
        at: The points, shape ``(n, points)``.
        terms: Their probabilities there, and derivatives.
        meant: The chance that a label was meant, of the same shape.
        weight: That, times the weights of the label and of the point.
        lapsed: The chance that it was a lapse, shape ``(n,)``.
    """

    at: FloatArray
    terms: Interval
    meant: FloatArray
    weight: FloatArray
    lapsed: FloatArray


def read_grades(
    table: Grades, channel: Channel, lapse: FloatArray, mean: FloatArray, sd: FloatArray
) -> GradesRead:
    """Evaluate `n` grades where their subjects have the posterior mean and standard deviation given.

    Args:
        table: The grades.
        channel: The raters' parameters.
        lapse: The raters' shares of lapses, shape ``(raters,)``.
        mean: Of the quality, or of the difference of two, shape ``(n,)``.
        sd: Likewise.
    """
    rows, bounds = table.rows, channel.bounds()
    at = mean[:, None] + sd[:, None] * _NODES
    predictor = channel.scale(rows.rater)[:, None] * at
    low, high = bounds[rows.rater, table.low], bounds[rows.rater, table.high]
    terms = interval(low[:, None], high[:, None], predictor)
    source = mixture(terms.p, rows.uniform[:, None], lapse[rows.rater, None], rows.unsure[:, None])
    weight = rows.weight[:, None] * source.meant * _SHARES
    return GradesRead(at, terms, source.meant, weight, source.lapsed @ _SHARES)


def update_grades(table: Grades, channel: Channel, said: GradesRead, config: AggregationConfig) -> None:
    """One step of EM (Lange 1995: a Newton step in place of the M-step) on one ordinal form."""
    assert channel.form is not None
    raters, grades = len(channel.parameters), channel.form.grades
    gradient, hessian = _collect(table, said, (raters, grades + 1))
    chain = np.zeros((grades + 2, channel.parameters.shape[1]))
    chain[1:-2, 1:] = channel.form.design
    chain[-1, 0] = 1.0
    channel.step(gradient @ chain, -chain.T @ hessian @ chain, config)


def _collect(table: Grades, said: GradesRead, shape: tuple[int, int]) -> tuple[FloatArray, FloatArray]:
    """Gradient and Hessian of each rater in its cut points, the infinite ones too, and its scale."""
    raters, width = shape[0], shape[1] + 1
    at, terms, _, weight, _ = said
    rater, low, high = table.rows.rater, table.low, table.high
    scale = np.full_like(low, width - 1)
    both_low, both_high = terms.d_low_low + terms.d_low_high, terms.d_high_high + terms.d_low_high
    slopes = ((low, terms.d_low), (high, terms.d_high), (scale, -at * (terms.d_low + terms.d_high)))
    bends = (
        (low, low, 0.5 * terms.d_low_low),
        (high, high, 0.5 * terms.d_high_high),
        (scale, scale, 0.5 * at**2 * (both_low + both_high)),
        (low, high, terms.d_low_high),
        (low, scale, -at * both_low),
        (high, scale, -at * both_high),
    )
    gradient = np.zeros(raters * width)
    for row, values in slopes:
        gradient += np.bincount(rater * width + row, (weight * values).sum(axis=1), len(gradient))
    half = np.zeros(raters * width * width)
    for row, column, values in bends:
        index = (rater * width + row) * width + column
        half += np.bincount(index, (weight * values).sum(axis=1), len(half))
    hessian = half.reshape(raters, width, width)
    return gradient.reshape(raters, width), hessian + hessian.transpose(0, 2, 1)


class RankingsRead(NamedTuple):
    """As `GradesRead`, for ``n`` rankings of ``m`` answers: `at` is ``(m, n, points)``."""

    at: FloatArray
    terms: Order
    meant: FloatArray
    weight: FloatArray
    lapsed: FloatArray


def read_rankings(table: Rankings, channel: Channel, lapse: FloatArray, at: FloatArray) -> RankingsRead:
    """Evaluate ``n`` rankings at points of equal weight, shape ``(m, n, points)``."""
    rows = table.rows
    terms = order(channel.scale(rows.rater)[:, None] * at, table.places[..., None])
    source = mixture(terms.p, rows.uniform[:, None], lapse[rows.rater, None], rows.unsure[:, None])
    weight = rows.weight[:, None] * source.meant / at.shape[-1]
    return RankingsRead(at, terms, source.meant, weight, source.lapsed.mean(axis=1))


def update_rankings(
    tables: Sequence[Rankings], channel: Channel, said: Sequence[RankingsRead], config: AggregationConfig
) -> None:
    """The same for the scales of rankings, all numbers of answers together."""
    raters = len(channel.parameters)
    gradient, information = np.zeros((raters, 1)), np.zeros((raters, 1, 1))
    for table, (at, terms, _, weight, _) in zip(tables, said, strict=True):
        means = (terms.chances * at).sum(axis=1)
        slope = (weight * (at.sum(axis=0) - means.sum(axis=0))).sum(axis=1)
        bend = (weight * ((terms.chances * at**2).sum(axis=(0, 1)) - (means**2).sum(axis=0))).sum(axis=1)
        gradient[:, 0] += np.bincount(table.rows.rater, slope, raters)
        information[:, 0, 0] += np.bincount(table.rows.rater, bend, raters)
    channel.step(gradient, information, config)
