"""The main figures: `train.py`'s default job with several seeds, before and after RL.

    python benchmarks/main_job.py

A seed decides the data and its splits as well as the networks and the sampling. The CSV has a row for each
figure and seed; the Markdown table gives the mean over the seeds and, in brackets, the least and greatest.
"""

from __future__ import annotations

import csv
import dataclasses
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from agents.commands import parse, run_command
from agents.config import TrainConfig
from agents.evaluation import METRICS
from agents.runs import Run
from agents.training import Trainer
from qa_env.errors import QAError

RESULTS = Path(__file__).parent / "results"
SIDES = ("before", "after")
FIELDS = ("level", "figure", "seed", *SIDES, *(f"{side}_{end}" for side in SIDES for end in ("low", "high")))


@dataclass(frozen=True)
class MainJobCommand:
    """Run the default job with several seeds."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """Each is the seed of the run and of the data."""
    level: int = 1
    """1: questions for one fact; 2: for a fact on the country in which a city lies."""
    timesteps: int | None = None
    """Tokens to write during RL; the default job's number if left out."""
    out: str = str(RESULTS / "main_job.csv")
    """The CSV file."""
    log_dir: str = "runs"
    """Folder in which the runs' folders are made."""


def main(arguments: Sequence[str]) -> None:
    """Run every seed; the CSV is written anew after each."""
    command = parse(MainJobCommand, arguments, prog="python benchmarks/main_job.py")
    if not command.seeds:
        raise QAError("--seeds needs at least one seed")
    rows: list[dict[str, Any]] = []
    for seed in command.seeds:
        config = job(seed, command.log_dir, command.level, command.timesteps)
        rows += [{"level": command.level, **row} for row in figures(train(config), seed)]
        write_csv(command.out, FIELDS, rows)
    print(markdown(rows))
    print(f"\n{len(command.seeds)} seeds; {machine()}; every number is in {command.out}")


def job(seed: int, log_dir: str, level: int = 1, timesteps: int | None = None) -> TrainConfig:
    """The default job with another seed, for the run and for the data."""
    default = TrainConfig()
    rl = default.rl if timesteps is None else dataclasses.replace(default.rl, timesteps=timesteps)
    facts = dataclasses.replace(default.facts, seed=seed, level=level)
    return dataclasses.replace(default, seed=seed, facts=facts, rl=rl, log_dir=log_dir)


def train(
    config: TrainConfig, trainer: Callable[[TrainConfig, Run, Console], Trainer] = Trainer
) -> dict[str, Any]:
    """Do what ``python train.py`` does with these settings; the content of ``results.json``."""
    return trainer(config, Run.create(config), Console()).train()


def figures(results: Mapping[str, Any], seed: int) -> list[dict[str, Any]]:
    """A row for each figure of a run: the metrics before and after RL, then what RL took."""
    rows: list[dict[str, Any]] = []
    for metric in METRICS:
        row: dict[str, Any] = {"figure": metric, "seed": seed}
        for side in SIDES:
            row[side] = results[side][metric]
            for end in ("low", "high"):
                row[f"{side}_{end}"] = results[side].get(f"{metric}_{end}", "")
        rows.append(row)
    rows.append({"figure": "rated answers", "seed": seed, "after": results["episodes"]})
    for stage, seconds in results["seconds"].items():
        rows.append({"figure": f"seconds: {stage}", "seed": seed, "after": seconds})
    return rows


def write_csv(path: str, fields: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV, each with the machine; fields that a row lacks stay empty."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, (*fields, "machine"), lineterminator="\n")
        writer.writeheader()
        writer.writerows({"machine": machine(), **row} for row in rows)


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table of means and ranges over the seeds, a line a figure."""
    lines = ["| figure | before RL | after RL |", "|---|---|---|"]
    for name in dict.fromkeys(row["figure"] for row in rows):
        digits = 3 if name in METRICS and name != "length" else 1 if name == "length" else 0
        of_name = [row for row in rows if row["figure"] == name]
        cells = [spread([row[side] for row in of_name if side in row], digits) for side in SIDES]
        lines.append(f"| {name} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)


def spread(values: Sequence[float], digits: int) -> str:
    """``mean (least–greatest)``; nothing for no values."""
    if not values:
        return ""
    mean, least, greatest = (f"{v:,.{digits}f}" for v in (np.mean(values), min(values), max(values)))
    return mean if least == greatest else f"{mean} ({least}–{greatest})"


def machine() -> str:
    """What the timings were taken on."""
    described = Path("/proc/cpuinfo")  # Linux
    lines = described.read_text().splitlines() if described.is_file() else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    processor = models[0] if models else platform.machine()
    return (
        f"{torch.get_num_threads()} threads, {os.cpu_count()} cores, {processor}, torch {torch.__version__}"
    )


if __name__ == "__main__":
    run_command(main)
