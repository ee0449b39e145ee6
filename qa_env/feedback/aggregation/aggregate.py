"""From many people's labels to what is known of each answer, and of each rater."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from qa_env.errors import QAError
from qa_env.feedback.aggregation.config import AggregationConfig, Roles
from qa_env.feedback.aggregation.fit import Fit
from qa_env.feedback.aggregation.forms import OrdinalForm
from qa_env.feedback.aggregation.likelihoods import sigmoid
from qa_env.feedback.aggregation.tables import Table, read
from qa_env.feedback.aggregation.terms import Terms, terms_of
from qa_env.feedback.base import FloatArray
from qa_env.feedback.labels import Correction, Judgement

_NODES, _SHARES = np.polynomial.hermite_e.hermegauss(21)
_SHARES = _SHARES / _SHARES.sum()
_LOGISTIC_SD = math.pi / math.sqrt(3)


@dataclass(frozen=True)
class Estimate:
    """A posterior mean and standard deviation."""

    mean: float
    sd: float


@dataclass(frozen=True)
class Quality(Estimate):
    """What is known of one answer. Before any label, qualities are N(0, 1).

    Attributes:
        n: How many judgements, other than skips, touched it.
    """

    n: int


@dataclass(frozen=True)
class FormFit:
    """How a rater, or the average rater, uses one form of label.

    Attributes:
        scale: How steeply the label depends on the quality; below 0 if it runs against the others' labels.
        cuts: Cut points between the grades, in logits; none for rankings.
    """

    scale: float
    cuts: tuple[float, ...]


@dataclass(frozen=True)
class RaterFit:
    """What is known of one rater.

    Attributes:
        lapse: The share of labels given at random.
        reliability: From 0 to 1: the share of labels that are no lapses, times the correlation of what such
            a label rests on with the quality, ``scale / sqrt(scale ** 2 + pi ** 2 / 3)``; 0 for one who
            labels the wrong way round. Of several forms the mean, weighted by their labels.
        labels: How many judgements, other than skips.
        scale: The scale in each form that was used.
        cuts: The cut points in each form that was used, none for rankings.
    """

    lapse: float
    reliability: float
    labels: int
    scale: Mapping[str, float]
    cuts: Mapping[str, tuple[float, ...]]


class Aggregate:
    """What all labels together say.

    Attributes:
        quality: For each answer id that a judgement names.
        raters: For each rater.
        average: The average rater, whom all raters are shrunk to, by form of label. Ratings and thumbs are
            always there: as assumed, if nobody gave any.
        iterations: Steps that the fit took.
        terms: What the labels say, as rows of numbers; answers are numbered as they stand in `quality`.
    """

    def __init__(self, table: Table, fit: Fit) -> None:
        self._index = {answer: at for at, answer in enumerate(table.answers)}
        self._blocks, self._covariance = fit.blocks, fit.covariance
        sds = np.sqrt(fit.blocks.diagonal(fit.covariance)).tolist()
        found = zip(table.answers, fit.mean.tolist(), sds, table.counts.tolist(), strict=True)
        self.quality: Mapping[str, Quality] = {answer: Quality(mean, sd, n) for answer, mean, sd, n in found}
        self.raters: Mapping[str, RaterFit] = {
            rater: _rater(table, fit, at) for at, rater in enumerate(table.raters)
        }
        self.average: Mapping[str, FormFit] = {
            name: FormFit(float(channel.shared[0]), _cuts(channel.form, channel.shared))
            for name, channel in fit.channels.items()
        }
        self.iterations = fit.iterations
        self.terms: Terms = terms_of(table, fit)

    def prefers(self, first: str, second: str) -> float:
        """The posterior probability that one answer is better than another: a soft target, never 0 or 1.

        Raises:
            QAError: If no judgement names one of them.
        """
        one, other = self._known(first), self._known(second)
        variance = one.sd**2 + other.sd**2 - 2 * self._joint(first, second)
        if variance <= 0:
            return 0.5
        return NormalDist().cdf((one.mean - other.mean) / math.sqrt(variance))

    def expected_rating(self, answer: str) -> Estimate:
        """The rating from 1 to 5 that the average rater would give on average.

        The standard deviation is that of the expectation, as far as the answer's quality is uncertain.

        Raises:
            QAError: If no judgement names the answer.
        """
        return self._expected(answer, "rating", 1.0)

    def satisfaction(self, answer: str) -> Estimate:
        """The share of average raters who would give a thumb up, from 0 to 1: fit to be a reward.

        Raises:
            QAError: If no judgement names the answer.
        """
        return self._expected(answer, "thumb", 0.0)

    def satisfies(self, answer: str) -> float:
        """The posterior probability that an answer is good enough for a 4 or 5 of the average rater.

        It is about the answer's quality, where `satisfaction` is about the next label: labels that leave no
        doubt of the quality bring it near 0 or 1.

        Raises:
            QAError: If no judgement names the answer.
        """
        quality = self._known(answer)
        return NormalDist().cdf((quality.mean - self.good_enough) / quality.sd)

    @property
    def good_enough(self) -> float:
        """The quality at which half of the average rater's ratings are 4 or 5."""
        rating = self.average["rating"]
        return rating.cuts[2] / rating.scale

    def _expected(self, answer: str, form: str, lowest: float) -> Estimate:
        """The lowest grade, plus the chance to pass each cut point."""
        quality, average = self._known(answer), self.average[form]
        at = quality.mean + quality.sd * _NODES
        passed = sigmoid(average.scale * at[:, None] - np.array(average.cuts))
        expected = lowest + passed.sum(axis=1)
        mean = float(_SHARES @ expected)
        return Estimate(mean, math.sqrt(float(_SHARES @ (expected - mean) ** 2)))

    def _known(self, answer: str) -> Quality:
        if answer not in self.quality:
            raise QAError(f"no judgement names the answer {answer!r:.60}; ask for one, or leave it out")
        return self.quality[answer]

    def _joint(self, first: str, second: str) -> float:
        one, other = self._index[first], self._index[second]
        if not self._blocks.linked(one, other):
            return 0.0
        return float(self._covariance[self._blocks.index(np.array(one), np.array(other))])


def aggregate(
    judgements: Sequence[Judgement], roles: Roles | None = None, config: AggregationConfig | None = None
) -> Aggregate:
    """Fit the qualities of all answers and the habits of all raters to what was said.

    Each answer has a quality ``u ~ N(0, 1)``. A label is given at random with the rater's lapse rate, and
    otherwise depends on ``u``, by the rater's own scale and cut points for that form of label:

    - ratings, percentages (by tens) and thumbs: cumulative logit, ``P(y <= k) = sigmoid(cut_k - scale u)``;
      a range has the probability of all that lies in it;
    - pairs: the same for the difference of two qualities, with cut points symmetric about 0, so that
      ``P(first) = sigmoid(scale (u_first - u_second) - t)`` (Rao and Kupper 1967);
      "both wrong" is two thumbs down;
    - rankings: Plackett-Luce, ties after Efron (1977);
    - a correction is a thumb down (what it teaches is in `demonstrations`); a skip says nothing.

    Raters' parameters are shrunk to shared ones. How much one rater can move an answer is bounded: by the
    lapses, by `AggregationConfig.rater_cap`, and since each rater counts once in what is shared.

    Args:
        judgements: In any order. Nothing is kept between calls, so corrected events leave no trace.
        roles: "expert" or "user" for some raters; users are the default.
        config: Assumptions.

    Returns:
        The posterior. Without judgements, one that has no answers and no raters.

    Raises:
        QAError: For an unknown role.
    """
    roles, config = roles or {}, config or AggregationConfig()
    for rater, role in roles.items():
        if role not in ("user", "expert"):
            raise QAError(f"the role of rater {rater!r:.40} must be 'user' or 'expert', got {role!r:.40}")
    table = read(judgements, roles, config)
    fit = Fit(table, config)
    fit.run()
    return Aggregate(table, fit)


def demonstrations(judgements: Sequence[Judgement]) -> list[tuple[str, str]]:
    """What corrections teach: ``(id of the answer that was shown, how it should have read)``, in order.

    The text is an example to learn from, and better than the answer that was shown.
    """
    return [
        (judgement.answers[0], judgement.label.text)
        for judgement in judgements
        if isinstance(judgement.label, Correction)
    ]


def _rater(table: Table, fit: Fit, rater: int) -> RaterFit:
    labels = {name: 0 for name in fit.channels}
    for rows in table.grades:
        labels[rows.form.name] = int((rows.rows.rater == rater).sum())
    for ranked in table.rankings:
        labels["ranking"] += int((ranked.rows.rater == rater).sum())
    used = {name: fit.channels[name] for name, count in labels.items() if count}
    scale = {name: float(channel.parameters[rater, 0]) for name, channel in used.items()}
    signal = sum(labels[name] * max(s, 0.0) / math.hypot(s, _LOGISTIC_SD) for name, s in scale.items())
    lapse = float(fit.lapse[rater])
    return RaterFit(
        lapse,
        (1 - lapse) * signal / max(1, sum(labels.values())),
        int(table.labels[rater]),
        scale,
        {n: _cuts(c.form, c.parameters[rater]) for n, c in used.items() if c.form is not None},
    )


def _cuts(form: OrdinalForm | None, parameters: FloatArray) -> tuple[float, ...]:
    return () if form is None else tuple((form.design @ parameters[1:]).tolist())
