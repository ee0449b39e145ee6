"""The fit: variational EM, with a Gaussian posterior of the answers' qualities.

The E-step finds the Gaussian nearest to the posterior (Opper and Archambeau 2009) by Newton steps whose
gradient and curvature are averaged over it, so a label that may be a lapse is never settled by one point;
a Laplace approximation at the mode gave intervals up to a fifth too narrow. The M-step fits the raters
to that posterior, not to the most probable qualities: with a few labels an answer, fitting both at once
would make the qualities small and the raters' scales large without end.
"""

from __future__ import annotations

import math

import numpy as np

from qa_env.feedback.aggregation.blocks import Blocks
from qa_env.feedback.aggregation.config import AggregationConfig
from qa_env.feedback.aggregation.forms import RATING, THUMB
from qa_env.feedback.aggregation.likelihoods import IntArray
from qa_env.feedback.aggregation.raters import (
    Channel,
    Lapses,
    read_grades,
    read_rankings,
    update_grades,
    update_rankings,
)
from qa_env.feedback.aggregation.tables import Grades, Rankings, Table
from qa_env.feedback.base import FloatArray


class Fit:
    """Everything that is estimated, from the prior onwards.

    Attributes:
        mean: Posterior mean of each answer's quality, shape ``(answers,)``.
        covariance: Posterior covariance of linked answers, laid out by `blocks`.
        lapse: Each rater's share of random labels, shape ``(raters,)``.
        channels: The raters' other parameters, by form of label.
        iterations: Steps of EM that were taken.
    """

    def __init__(self, table: Table, config: AggregationConfig) -> None:
        self._table, self._config = table, config
        self.blocks = Blocks(len(table.answers), table.links())
        self.mean = np.zeros(len(table.answers))
        self.covariance = self._identity()
        self.lapse = np.full(len(table.raters), config.lapse_prior[0] / sum(config.lapse_prior))
        self.channels = self._priors()
        self._default = {name: channel.shared for name, channel in self.channels.items()}
        self.iterations = 0

    def run(self) -> None:
        """Alternate until the qualities stay where they are."""
        change = math.inf
        while change > self._config.tolerance and self.iterations < self._config.max_iterations:
            change = self.improve_qualities()
            self.improve_raters()
            self.iterations += 1
        self.improve_qualities()

    def improve_qualities(self) -> float:
        """One Newton step of all qualities; returns the greatest move."""
        self._gradient, self._precision = -self.mean, self._identity()
        for grades in self._table.grades:
            self._add_grades(grades)
        for rankings in self._table.rankings:
            self._add_rankings(rankings)
        self.covariance = self.blocks.inverse(self._precision)
        move = np.clip(self.blocks.multiply(self.covariance, self._gradient), -1.0, 1.0)
        self.mean = self.mean + move
        return float(np.abs(move).max(initial=0.0))

    def improve_raters(self) -> None:
        """One step of all raters' parameters."""
        lapses = Lapses(np.zeros(len(self.lapse)), np.zeros(len(self.lapse)))
        for table in self._table.grades:
            channel = self.channels[table.form.name]
            said = read_grades(table, channel, self.lapse, *self._about(table))
            lapses.add(table.rows, said.lapsed)
            update_grades(table, channel, said, self._config)
        if self._table.rankings:
            channel = self.channels["ranking"]
            orders = [read_rankings(t, channel, self.lapse, self._points(t)) for t in self._table.rankings]
            for ranked, order in zip(self._table.rankings, orders, strict=True):
                lapses.add(ranked.rows, order.lapsed)
            update_rankings(self._table.rankings, channel, orders, self._config)
        for name, channel in self.channels.items():
            channel.share(self._default[name])
        self.lapse = lapses.mean(self._config.lapse_prior)

    def _priors(self) -> dict[str, Channel]:
        """A channel for each form that occurs, and for ratings and thumbs, of which results speak."""
        raters, scale = len(self._table.raters), self._config.scale
        nobody = np.empty(0, dtype=np.int64)
        channels = {form.name: Channel.prior(form, raters, nobody, scale) for form in (RATING, THUMB)}
        for table in self._table.grades:
            active = np.unique(table.rows.rater)
            channels[table.form.name] = Channel.prior(table.form, raters, active, scale)
        if self._table.rankings:
            active = np.unique(np.concatenate([table.rows.rater for table in self._table.rankings]))
            channels["ranking"] = Channel.prior(None, raters, active, scale)
        return channels

    def _add_grades(self, table: Grades) -> None:
        rows, channel = table.rows, self.channels[table.form.name]
        said = read_grades(table, channel, self.lapse, *self._about(table))
        slope = -(said.terms.d_low + said.terms.d_high)
        bend = -(said.terms.d_low_low + said.terms.d_high_high + 2 * said.terms.d_low_high)
        # Louis (1982): what is known of the quality is less if the label may be a lapse. A label that
        # contradicts all others would even take away; then it is held to add nothing.
        known = (said.weight * (bend - (1 - said.meant) * slope**2)).sum(axis=1)
        scale = channel.scale(rows.rater)
        gradient, known = scale * (said.weight * slope).sum(axis=1), scale**2 * np.maximum(known, 0.0)
        signs = (1.0, -1.0)[: rows.answers.shape[1]]
        for i, sign in enumerate(signs):
            self._add_gradient(rows.answers[:, i], sign * gradient)
            for j, other in enumerate(signs):
                self._add_precision(rows.answers[:, i], rows.answers[:, j], sign * other * known)

    def _add_rankings(self, table: Rankings) -> None:
        rows, channel = table.rows, self.channels["ranking"]
        said = read_rankings(table, channel, self.lapse, self._points(table))
        chances, scale = said.terms.chances, channel.scale(rows.rater)
        slope = 1 - chances.sum(axis=0)
        gradient = scale * (said.weight * slope).sum(axis=2)
        weighted = said.weight * chances
        number = rows.answers.shape[1]
        # As above; all directions are held to lose the same share.
        trace = (weighted * (1 - chances)).sum(axis=(0, 1, 3))
        lost = (said.weight * (1 - said.meant) * slope**2).sum(axis=(0, 2))
        kept = scale**2 * np.maximum(1 - lost / np.maximum(trace, 1e-300), 0.0)
        for i in range(number):
            self._add_gradient(rows.answers[:, i], gradient[i])
            for j in range(number):
                shared = (weighted[:, i] * ((i == j) - chances[:, j])).sum(axis=(0, 2))
                self._add_precision(rows.answers[:, i], rows.answers[:, j], kept * shared)

    def _identity(self) -> FloatArray:
        every = np.arange(len(self.mean))
        matrix = np.zeros(self.blocks.size)
        matrix[self.blocks.index(every, every)] = 1.0
        return matrix

    def _add_gradient(self, answers: IntArray, values: FloatArray) -> None:
        self._gradient += np.bincount(answers, values, len(self.mean))

    def _add_precision(self, row: IntArray, column: IntArray, values: FloatArray) -> None:
        self._precision += np.bincount(self.blocks.index(row, column), values, self.blocks.size)

    def _about(self, table: Grades) -> tuple[FloatArray, FloatArray]:
        """Posterior mean and standard deviation of what each label is about, an answer or a difference."""
        first, second = table.rows.answers[:, 0], table.rows.answers[:, -1]
        variance = self._covariances(first, first)
        if table.rows.answers.shape[1] == 1:
            return self.mean[first], np.sqrt(variance)
        variance = variance + self._covariances(second, second) - 2 * self._covariances(first, second)
        return self.mean[first] - self.mean[second], np.sqrt(np.maximum(variance, 0.0))

    def _points(self, table: Rankings) -> FloatArray:
        """The ``2 m`` points of the third-degree spherical cubature rule for the posterior of `m` answers."""
        answers = table.rows.answers
        number = answers.shape[1]
        covariance = self._covariances(answers[:, :, None], answers[:, None, :])
        # The ridge is for a query that names an answer twice.
        root = np.linalg.cholesky(covariance + 1e-9 * np.eye(number)) * np.sqrt(number)
        steps = np.concatenate([root, -root], axis=2)
        return np.ascontiguousarray(np.swapaxes(self.mean[answers][:, :, None] + steps, 0, 1))

    def _covariances(self, one: IntArray, other: IntArray) -> FloatArray:
        covariance: FloatArray = self.covariance[self.blocks.index(one, other)]
        return covariance
