"""How well probabilities agree with labels: log-loss, Brier score, calibration error and curve."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from agents.reward_data import FloatArray

BINS = 10
"""Of the calibration curve."""


@dataclass(frozen=True)
class Calibration:
    """How a reward model does on held-out labels, ratings and comparisons alike.

    Attributes:
        labels: How many there are.
        log_loss: Mean of minus the labels' log-likelihood, in nats.
        constant: That of the best model that gives every answer the same quality.
        margin: Standard error of the difference of the two.
        accuracy: Share of the labels on whose side the model is, ties left out.
        brier: Mean squared difference of predicted chance and label (Brier 1950).
        error: Expected calibration error (Naeini et al. 2015), over `BINS` bins.
        predicted: Chances that the label says yes, ``(labels,)``.
        said: 1 for yes, 0 for no, a half for a tie, ``(labels,)``.
    """

    labels: int
    log_loss: float
    constant: float
    margin: float
    accuracy: float
    brier: float
    error: float
    predicted: FloatArray
    said: FloatArray

    @classmethod
    def of(
        cls, predicted: FloatArray, said: FloatArray, log_loss: float, constant: float, margin: float
    ) -> Calibration:
        """Measure predictions ``(labels,)`` against what was said."""
        decided = said != 0.5
        right = (predicted[decided] > 0.5) == (said[decided] > 0.5)
        accuracy = float(right.mean()) if decided.any() else 0.5
        brier = float(((predicted - said) ** 2).mean())
        error = calibration_error(predicted, said)
        return cls(len(said), log_loss, constant, margin, accuracy, brier, error, predicted, said)

    @classmethod
    def unknown(cls) -> Calibration:
        """Of a model that could not be tested: it is not trusted."""
        nothing = np.zeros(0)
        return cls(0, np.inf, np.inf, np.inf, 0.0, 1.0, 1.0, nothing, nothing)

    def figures(self) -> dict[str, float]:
        """The numbers by name, for logs and files."""
        return {
            "labels": self.labels,
            "log_loss": self.log_loss,
            "constant": self.constant,
            "margin": self.margin,
            "accuracy": self.accuracy,
            "brier": self.brier,
            "error": self.error,
        }


def calibration_error(predicted: FloatArray, said: FloatArray) -> float:
    """Expected calibration error: mean difference of prediction and label over bins, by their size."""
    total = sum(len(p) * abs(float(p.mean() - s.mean())) for _, p, s in calibration_curve(predicted, said))
    return total / len(predicted)


def calibration_curve(
    predicted: FloatArray, said: FloatArray
) -> Iterator[tuple[int, FloatArray, FloatArray]]:
    """The bins that are not empty: number, predictions and labels in each."""
    places = np.minimum((predicted * BINS).astype(int), BINS - 1)
    for place in np.unique(places):
        inside = places == place
        yield int(place), predicted[inside], said[inside]


def calibration_plot(calibration: Calibration) -> Figure:
    """Labels over predictions, a point a bin, as large as the bin has labels."""
    figure = Figure(figsize=(4, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
    bins = list(calibration_curve(calibration.predicted, calibration.said))
    axes.scatter(
        [p.mean() for _, p, _ in bins], [s.mean() for _, _, s in bins], [5 * len(p) for _, p, _ in bins]
    )
    axes.set(xlabel="predicted", ylabel="share of labels that say yes", xlim=(0, 1), ylim=(0, 1))
    return figure
