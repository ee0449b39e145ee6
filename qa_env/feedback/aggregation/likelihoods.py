"""The likelihoods of single labels, with their derivatives; plain functions of arrays."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qa_env.feedback.base import FloatArray

IntArray = NDArray[np.int64]


def sigmoid(x: FloatArray) -> FloatArray:
    """The logistic function, without overflow."""
    half: FloatArray = 0.5 * (1.0 + np.tanh(0.5 * x))
    return half


class Interval(NamedTuple):
    """The probability of an interval under the logistic distribution, and the derivatives of its logarithm.

    Attributes:
        p: ``sigmoid(high - predictor) - sigmoid(low - predictor)``.
        d_low: First derivative of ``log p`` in ``low``.
        d_high: First derivative in ``high``. That in the predictor is the negative sum of both.
        d_low_low: Second derivative.
        d_high_high: Likewise.
        d_low_high: Likewise.
    """

    p: FloatArray
    d_low: FloatArray
    d_high: FloatArray
    d_low_low: FloatArray
    d_high_high: FloatArray
    d_low_high: FloatArray


def interval(low: FloatArray, high: FloatArray, predictor: FloatArray) -> Interval:
    """The cumulative logit model (McCullagh 1980) of a label between two cut points.

    ``sigmoid(b) - sigmoid(a) = sigmoid(b) sigmoid(-a) (1 - exp(a - b))`` loses no digits to cancellation.
    ``log p`` is concave in all three.

    Args:
        low: Lower cut points; ``-inf`` below the first grade.
        high: Upper cut points, above `low`; ``inf`` above the last grade.
        predictor: What they are compared with; all of shapes that broadcast.
    """
    above_low, below_high = sigmoid(predictor - low), sigmoid(high - predictor)
    width = high - low
    between = 1.0 / np.expm1(np.minimum(width, 500.0))
    bend = between * (1.0 + between)
    return Interval(
        above_low * below_high * -np.expm1(-width),
        above_low - 1.0 - between,
        1.0 - below_high + between,
        above_low * (above_low - 1.0) - bend,
        below_high * (below_high - 1.0) - bend,
        bend,
    )


def order_weights(ranks: IntArray) -> FloatArray:
    """Who still takes part when each place of a ranking is given away, as weights.

    Args:
        ranks: Shape ``(answers, rankings)``, 1 the best; ties allowed.

    Returns:
        Shape ``(places, answers, rankings)``. An answer that ranks below takes part fully, one that ranks
        above not at all. Of ``m`` answers that tie, each takes part to ``1, 1 - 1/m, ..., 1/m`` in their
        ``m`` places: Efron's (1977) treatment of ties, by which a shared rank says that the answers are
        about equally good.
    """
    below = ranks[None] > ranks[:, None]
    tied = ranks[None] == ranks[:, None]
    earlier = np.tril(np.ones((len(ranks), len(ranks)), dtype=bool), -1)[:, :, None]
    gone = (tied & earlier).sum(axis=1, keepdims=True) / tied.sum(axis=1, keepdims=True)
    weights: FloatArray = below + tied * (1.0 - gone)
    return weights


class Order(NamedTuple):
    """The probability of rankings, and each answer's chance to get each place.

    Attributes:
        p: Shape ``(...)``.
        chances: Shape ``(places, answers, ...)``. The gradient of ``log p`` in the values is 1 less their
            sum over the places; its negative Hessian is the sum of the places' multinomial covariances.
    """

    p: FloatArray
    chances: FloatArray


def order(values: FloatArray, weights: FloatArray) -> Order:
    """Plackett-Luce: each place goes to one of those left, with chances as ``exp(value)``.

    Args:
        values: Shape ``(answers, ...)``.
        weights: What `order_weights` gives, to be broadcast to ``(places, answers, ...)``.
    """
    values = values - values.max(axis=0)
    left = weights * np.exp(values)
    totals = left.sum(axis=1)
    log_p = values.sum(axis=0) - np.log(totals).sum(axis=0)
    return Order(np.exp(log_p), left / totals[:, None])


class Mixture(NamedTuple):
    """Where labels came from, a posteriori: shares of one."""

    meant: FloatArray
    lapsed: FloatArray


def mixture(p: FloatArray, uniform: FloatArray, lapse: FloatArray, unsure: FloatArray) -> Mixture:
    """The chance that each label was meant, and the chance that it was a lapse of its rater.

    A label is ``(1 - lapse) ((1 - unsure) p + unsure uniform) + lapse uniform``.

    Args:
        p: Probability of the label if it is meant.
        uniform: Its probability if it is given at random.
        lapse: The rater's share of lapses.
        unsure: The further share of random labels, 0 for those not marked as unsure.
    """
    meant = (1.0 - lapse) * (1.0 - unsure) * p
    lapsed = lapse * uniform
    total = meant + lapsed + (1.0 - lapse) * unsure * uniform
    return Mixture(meant / total, lapsed / total)


def random_order(answers: int) -> float:
    """The chance of a ranking that is given at random."""
    return 1.0 / math.factorial(answers)
