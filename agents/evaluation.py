"""Judging answers on held-out questions: metrics, bootstrap intervals and the table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from qa_env.datasets import QAExample
from qa_env.feedback import Fluency, SimulatedUsers
from qa_env.feedback.fluency import FluencyModel
from qa_env.feedback.overlap import chrf, rouge_l
from qa_env.feedback.text import exact_match, token_f1, value_accuracy, words

FloatArray = NDArray[np.float64]
METRICS = (
    "accuracy",
    "exact_match",
    "f1",
    "rouge_l",
    "chrf",
    "fluency",
    "satisfaction",
    "length",
    "distinct",
    "abstained",
)
"""What a report holds: shares from 0 to 1, but `length`, which is in words."""
OF_ABSTAINING = ("abstain_accuracy", "has_answer_exact", "has_answer_f1", "no_answer_f1")
"""What it holds besides where some of the questions are unanswerable."""
RESAMPLES = 1000
GAPS = (" ", "\n")
"""What stands between a mean and its interval: a line break where lines are short."""


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
        """Every metric that each answer has by itself, each of shape ``(batch,)``.

        `accuracy`: the marked value (or a reference, if none is marked) stands in the answer and no wrong
        candidate does. `satisfaction`: the share of users who rate the answer 4 or 5. `abstained`: the
        answer has no word.

        On unanswerable questions all that compares with references is 1 for abstaining and 0 for an answer
        (Rajpurkar et al. 2018, "Know What You Don't Know", SQuAD 2.0), and so is `fluency` for abstaining.
        Where there are any, there is `abstain_accuracy` too: whether the answer abstains where it should, and
        only there.
        """
        pairs = list(zip(examples, answers, strict=True))
        measured = {
            "accuracy": np.array([value_accuracy(e, a) for e, a in pairs]),
            "exact_match": np.array([exact_match(a, e.references) for e, a in pairs]),
            "f1": np.array([token_f1(a, e.references) for e, a in pairs]),
            "rouge_l": np.array([rouge_l(a, e.references) for e, a in pairs]),
            "chrf": np.array([chrf(a, e.references) for e, a in pairs]),
            "fluency": Fluency(self.fluency).score(examples, answers, []).reward,
            "satisfaction": self.users.satisfaction(examples, answers),
            "length": np.array([float(len(words(a))) for a in answers]),
            "abstained": np.array([float(not words(a)) for a in answers]),
        }
        unanswerable = np.array([e.unanswerable for e in examples])
        if unanswerable.any():
            measured["abstain_accuracy"] = 1.0 * (measured["abstained"] == unanswerable)
        return measured

    def report(self, examples: Sequence[QAExample], answers: Sequence[str]) -> dict[str, float]:
        """Means of all metrics, with 95% intervals; see `report`."""
        return report(self.measure(examples, answers), examples, answers)


def report(
    measured: Mapping[str, FloatArray], examples: Sequence[QAExample], answers: Sequence[str]
) -> dict[str, float]:
    """Means of all metrics, with ``<metric>_low`` and ``<metric>_high``, a 95% bootstrap interval.

    `distinct` is the share of different answers; it has no interval, since a resample holds doubles. Exact
    match and F1 on the answerable and on the unanswerable questions alone go by SQuAD 2.0's names; on the
    latter the two are the same.

    Args:
        measured: What `Judge.measure` gave.
        examples: The questions.
        answers: Their answers.
    """
    parts = dict(measured)
    unanswerable = np.array([example.unanswerable for example in examples])
    if unanswerable.any():
        parts["no_answer_f1"] = measured["f1"][unanswerable]
        if not unanswerable.all():
            parts["has_answer_exact"] = measured["exact_match"][~unanswerable]
            parts["has_answer_f1"] = measured["f1"][~unanswerable]
    return {**summary(parts), "distinct": len(set(answers)) / len(answers)}


def summary(measured: Mapping[str, FloatArray]) -> dict[str, float]:
    """The mean of each metric, and the two ends of its interval."""
    means: dict[str, float] = {}
    for name, values in measured.items():
        means[name] = float(values.mean())
        means[f"{name}_low"], means[f"{name}_high"] = bootstrap_interval(values)
    return means


def bootstrap_interval(values: FloatArray, seed: int = 0) -> tuple[float, float]:
    """The 95% percentile bootstrap interval of the mean (Efron & Tibshirani 1993, chapter 13)."""
    rng = np.random.default_rng(seed)
    means = values[rng.integers(len(values), size=(RESAMPLES, len(values)))].mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def results_table(columns: Mapping[str, Mapping[str, float]], title: str, gap: str = " ") -> Table:
    """A table with a row a metric and a column a report; intervals in brackets.

    A metric that no report has is left out, and so is abstaining where nobody did or should have.

    Args:
        columns: The reports by name.
        title: What is above the table.
        gap: One of `GAPS`.
    """
    reports = columns.values()
    rows: dict[str, list[str]] = {}
    if any("examples" in one for one in reports):
        rows["questions"] = [f"{one['examples']:,}" for one in reports]
    for metric in (*METRICS, *OF_ABSTAINING):
        idle = metric == "abstained" and not any(
            one.get(metric) or OF_ABSTAINING[0] in one for one in reports
        )
        if not idle and any(metric in one for one in reports):
            rows[metric] = [cell(one, metric, gap) for one in reports]
    table = Table(title=title)
    table.add_column("metric", no_wrap=True)
    for name, cells in zip(columns, zip(*rows.values(), strict=True), strict=True):
        add_numbers(table, name, cells)
    for metric, row in rows.items():
        table.add_row(metric, *row)
    return table


def add_numbers(table: Table, name: str, cells: Iterable[str]) -> None:
    """Add a column that is wide enough for these cells, whatever becomes of its heading."""
    widest = max((len(line) for cell in cells for line in cell.split("\n")), default=1)
    table.add_column(Text(name), justify="right", overflow="fold", min_width=widest)


def fitting_tables(
    columns: Mapping[str, Mapping[str, float]], title: str, console: Console
) -> Iterator[Table]:
    """One table if the console is wide enough for all columns, else several with some columns each."""
    for gap in GAPS:
        table, names = results_table(columns, title, gap), [*columns]
        if fits(table, console) or (len(names) == 1 and gap == GAPS[-1]):
            yield table
            return
    middle = (len(names) + 1) // 2
    for part in (names[:middle], names[middle:]):
        yield from fitting_tables({name: columns[name] for name in part}, title, console)


def fits(table: Table, console: Console) -> bool:
    """Whether the table can be printed with no break inside a word or a number."""
    endless = console.options.update_width(10_000)  # a measurement never exceeds the width that it is told
    return Measurement.get(console, endless, table).minimum <= console.width


def cell(report: Mapping[str, float], metric: str, gap: str = " ") -> str:
    """The mean and its interval, `gap` between them; a dash where there is none."""
    if metric not in report:
        return "–"
    digits = 1 if metric == "length" else 3
    mean = f"{report[metric]:.{digits}f}"
    if f"{metric}_low" not in report:
        return mean
    low, high = (f"{report[f'{metric}_{end}']:.{digits}f}" for end in ("low", "high"))
    return f"{mean}{gap}[{low}–{high}]"


def checkpoint_score(metrics: Mapping[str, float], examples: Sequence[QAExample]) -> float:
    """What the best weights are chosen by: F1; accuracy and exact match where right values are marked."""
    if any(example.metadata.get("value") is not None for example in examples):
        return (metrics["accuracy"] + metrics["exact_match"]) / 2
    return metrics["f1"]
