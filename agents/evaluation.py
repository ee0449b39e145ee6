"""Judging answers on held-out questions: metrics, bootstrap intervals and the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from qa_env.datasets import QAExample
from qa_env.feedback import SimulatedUsers
from qa_env.feedback.fluency import FluencyModel
from qa_env.feedback.text import exact_match, token_f1, value_accuracy, words

FloatArray = NDArray[np.float64]
METRICS = ("accuracy", "exact_match", "f1", "fluency", "satisfaction", "length", "distinct")
"""What a report holds: shares from 0 to 1, but `length`, which is in words."""
RESAMPLES = 1000


@dataclass(frozen=True)
class Judge:
    """Judges answers by references that training never saw, and by the simulated users' own standard.

    Attributes:
        fluency: A frozen language model that is not the policy.
        users: Simulated users; here their noise and lapses are switched off.
    """

    fluency: FluencyModel
    users: SimulatedUsers

    def measure(self, examples: Sequence[QAExample], answers: Sequence[str]) -> dict[str, FloatArray]:
        """Every metric but `distinct`, each of shape ``(batch,)``.

        `accuracy`: the marked value (or a reference, if none is marked) stands in the answer and no wrong
        candidate does. `satisfaction`: the share of users who rate the answer 4 or 5.
        """
        pairs = list(zip(examples, answers, strict=True))
        return {
            "accuracy": np.array([value_accuracy(e, a) for e, a in pairs]),
            "exact_match": np.array([exact_match(a, e.references) for e, a in pairs]),
            "f1": np.array([token_f1(a, e.references) for e, a in pairs]),
            "fluency": self.fluency.score(answers),
            "satisfaction": self.users.satisfaction(examples, answers),
            "length": np.array([float(len(words(a))) for a in answers]),
        }

    def report(self, examples: Sequence[QAExample], answers: Sequence[str]) -> dict[str, float]:
        """Means of all metrics, with ``<metric>_low`` and ``<metric>_high``, a 95% bootstrap interval.

        `distinct` is the share of different answers; it has no interval, since a resample holds doubles.
        """
        report: dict[str, float] = {}
        for name, values in self.measure(examples, answers).items():
            report[name] = float(values.mean())
            report[f"{name}_low"], report[f"{name}_high"] = bootstrap_interval(values)
        report["distinct"] = len(set(answers)) / len(answers)
        return report


def bootstrap_interval(values: FloatArray, seed: int = 0) -> tuple[float, float]:
    """The 95% percentile bootstrap interval of the mean (Efron & Tibshirani 1993, chapter 13)."""
    rng = np.random.default_rng(seed)
    means = values[rng.integers(len(values), size=(RESAMPLES, len(values)))].mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def results_table(columns: Mapping[str, Mapping[str, float]], title: str) -> Table:
    """A table with a row a metric and a column a report; intervals in brackets."""
    table = Table(title=title)
    table.add_column("metric")
    for name in columns:
        table.add_column(name, justify="right")
    for metric in METRICS:
        table.add_row(metric, *(_cell(report, metric) for report in columns.values()))
    return table


def _cell(report: Mapping[str, float], metric: str) -> str:
    digits = 1 if metric == "length" else 3
    cell = f"{report[metric]:.{digits}f}"
    if f"{metric}_low" in report:
        cell += f" [{report[f'{metric}_low']:.{digits}f}, {report[f'{metric}_high']:.{digits}f}]"
    return cell
