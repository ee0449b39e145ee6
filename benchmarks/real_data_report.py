"""The measurements of `real_data.py`: the files that they are in, tables and picture.

    python benchmarks/real_data_report.py OUT.csv [PART.csv ...]

prints the tables of what is in ``OUT.csv`` and beside it. Runs that were made side by side, each with an
``--out`` of its own, are put together there first: what a part holds of a data set and seed counts.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from main_job import write_csv
from matplotlib.figure import Figure

from agents.commands import parse, run_command
from qa_env.errors import QAError

SIDES = ("trivial", "warm", "control", "rl", "ceiling")
FIELDS = ("figure", "value", "low", "high", "unit", "runs")
RUN_FIELDS = ("data", "seed", "side", "task", "metric", "value", "questions", "seconds")
CURVE_FIELDS = ("data", "seed", "tokens", "metric", "value")
HEADLINES = {
    "babi": ("accuracy",),
    "fairytaleqa": ("rouge_l", "f1"),
    "fairytaleqa_lstm": ("rouge_l", "f1"),
}
"""The metrics of a data set's lines in the table; of others exact match and F1."""
COLUMNS = (
    "data,metric,trivial,warm start,without ratings,after RL,"
    "gain,from ratings,all labels,gap closed,seeds,minutes"
).split(",")
Row = dict[str, Any]


@dataclass(frozen=True)
class ReportCommand:
    """Put measurements together, and print the tables."""

    out: Annotated[str, tyro.conf.Positional]
    """The CSV file of the figures."""
    parts: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Files of other runs, to be taken in."""


def main(arguments: Sequence[str]) -> None:
    """Print the tables of the files of measurements."""
    command = parse(ReportCommand, arguments, prog="python benchmarks/real_data_report.py")
    results = Results.read(command.out)
    for part in command.parts:
        if not with_ending(Path(part), "runs").is_file():
            raise QAError(f"no measurements beside {part}")
        results.take(Results.read(part))
    if not results.runs:
        raise QAError(f"no measurements beside {command.out}")
    if command.parts:
        results.write()
    print(markdown(results.runs))
    print(f"\n{tasks(results.runs)}")


class Results:
    """The rows of all runs, and the files that they are in."""

    def __init__(self, out: Path, runs: list[Row], curves: list[Row]) -> None:
        self.out, self.runs, self.curves = out, runs, curves

    @classmethod
    def read(cls, out: str) -> Results:
        """What the files hold already."""
        path = Path(out)
        return cls(path, read_csv(with_ending(path, "runs")), read_csv(with_ending(path, "curves")))

    def replace(self, runs: list[Row], curve: list[Row]) -> None:
        """Put a run's rows in the place of those of the same data and seed."""
        which = (runs[0]["data"], runs[0]["seed"])
        self.runs = [row for row in self.runs if (row["data"], row["seed"]) != which] + runs
        self.curves = [row for row in self.curves if (row["data"], row["seed"]) != which] + curve

    def add(self, runs: list[Row]) -> None:
        """Add rows."""
        self.runs += runs

    def take(self, other: Results) -> None:
        """Put the rows of other runs in the place of those of the same data and seeds."""
        for which in dict.fromkeys((row["data"], row["seed"]) for row in other.runs):
            own, curve = (
                [row for row in rows if (row["data"], row["seed"]) == which]
                for rows in (other.runs, other.curves)
            )
            self.replace(own, curve)

    def figures(self) -> list[Row]:
        """The mean over the seeds of each figure, and the least and the greatest of them."""
        found: dict[str, list[float]] = {}
        for row in self.runs:
            task = f"_{row['task']}" if row["task"] else ""
            name = f"{row['data']}{task}_{row['metric']}_{row['side']}"
            found.setdefault(name, []).append(row["value"])
        return [
            dict(zip(FIELDS, (name, float(np.mean(v)), min(v), max(v), "share", len(v)), strict=True))
            for name, v in sorted(found.items())
        ]

    def write(self) -> None:
        """Write figures, runs, curves and picture."""
        write_csv(str(self.out), FIELDS, self.figures())
        write_csv(str(with_ending(self.out, "runs")), RUN_FIELDS, self.runs)
        write_csv(str(with_ending(self.out, "curves")), CURVE_FIELDS, self.curves)
        picture(self.curves).savefig(self.out.with_suffix(".png"), dpi=120)


def with_ending(path: Path, ending: str) -> Path:
    """The file beside `path` whose name ends so."""
    return path.with_name(f"{path.stem}_{ending}.csv")


def read_csv(path: Path) -> list[Row]:
    """Rows that `write_csv` wrote, numbers as numbers; none if there is no file."""
    if not path.is_file():
        return []
    numbers = {"seed": int, "tokens": int, "questions": int, "value": float, "seconds": float}
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {name: numbers.get(name, str)(value) for name, value in row.items()}
            for row in csv.DictReader(file)
        ]


def markdown(runs: Sequence[Row]) -> str:
    """A table with a line for each data set and headline metric.

    The gain is that of each seed over its own warm start, what is from ratings that over the same passes
    without any, of the seeds that have both; the gap is that between the warm start and all labels, likewise.
    """
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    for name in dict.fromkeys(row["data"] for row in runs):
        for metric in HEADLINES.get(name, ("exact_match", "f1")):
            own = [row for row in runs if (row["data"], row["metric"], row["task"]) == (name, metric, "")]
            by_side = {side: {r["seed"]: r["value"] for r in own if r["side"] == side} for side in SIDES}
            warm, rl, ceiling = by_side["warm"], by_side["rl"], by_side["ceiling"]
            *values, most = (spread(by_side[side].values()) for side in SIDES)
            gains = [
                spread([rl[seed] - known[seed] for seed in rl if seed in known], sign="+")
                for known in (warm, by_side["control"])
            ]
            minutes = spread([row["seconds"] / 60 for row in own if row["side"] == "rl"], 0)
            cells = (name, metric, *values, *gains, most, closed(warm, rl, ceiling), str(len(rl)), minutes)
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def tasks(runs: Sequence[Row]) -> str:
    """A table with a line for each task of the data sets that name some: accuracy."""
    lines = ["| task | warm start | without ratings | after RL | all labels |", "|---|---|---|---|---|"]
    for task in sorted({row["task"] for row in runs if row["task"]}):
        own = [row for row in runs if (row["task"], row["metric"]) == (task, "accuracy")]
        cells = [spread([row["value"] for row in own if row["side"] == side]) for side in SIDES[1:]]
        lines.append(f"| {task} | {' | '.join(cells)} |")
    return "\n".join(lines)


def spread(values: Any, digits: int = 3, sign: str = "") -> str:
    """``mean (least–greatest)``, or nothing if there are no values."""
    found = list(values)
    if not found:
        return ""
    mean, low, high = (f"{v:{sign}.{digits}f}" for v in (float(np.mean(found)), min(found), max(found)))
    return mean if low == high else f"{mean} ({low}–{high})"


def closed(warm: dict[int, float], rl: dict[int, float], ceiling: dict[int, float]) -> str:
    """What share of the way from the warm start to all labels RL went, of the seeds that have all three."""
    seeds = [seed for seed in ceiling if seed in rl]
    gap = sum(ceiling[seed] - warm[seed] for seed in seeds)
    return f"{sum(rl[seed] - warm[seed] for seed in seeds) / gap:.0%}" if gap > 0 else ""


def picture(curves: Sequence[Row]) -> Figure:
    """The first headline metric on validation questions, over tokens: a panel a data set, a line a seed."""
    names = list(dict.fromkeys(row["data"] for row in curves))
    columns = min(len(names), 3)
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(4 * columns, 3 * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels[len(names) :]:
        axes.remove()
    for axes, name in zip(panels, names, strict=False):
        metric = HEADLINES.get(name, ("f1",))[0]
        own = [row for row in curves if row["data"] == name and row["metric"] == metric]
        for seed in dict.fromkeys(row["seed"] for row in own):
            line = sorted((row["tokens"], row["value"]) for row in own if row["seed"] == seed)
            axes.plot(*zip(*line, strict=True), marker=".", label=f"seed {seed}")
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("tokens in RL")
        axes.set_ylabel(f"{metric}, validation")
        axes.legend(fontsize=8)
    return figure


if __name__ == "__main__":
    run_command(main)
