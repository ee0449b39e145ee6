"""Every algorithm from the same warm start, with the same number of rated answers: held-out accuracy.

    python benchmarks/algorithms.py

Each learns alone: without self-imitation, which is no part of any of them. The rated answers are all that
feedback was asked about: critic warm-up, demonstrations, and the greedy answers of self-critical included.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch
from main_job import RESULTS, job, machine, write_csv
from rich.console import Console

from agents.commands import parse, run_command
from agents.config import RLConfig, TrainConfig, suggest, to_dict
from agents.runs import Run
from agents.training import Trainer
from qa_env.errors import QAError

SETTINGS: dict[str, dict[str, Any]] = {
    "ppo": {"learning_rate": 3e-4},  # the default job's 1e-4 leaves the rest to self-imitation
    "rloo": {},
    "self-critical": {},
    "a2c": {},
    "trpo": {},
    "dqn": {},
    "qrdqn": {},
    "dqn, dueling head": {"algorithm": "dueling_dqn:make"},
}
"""What differs from the default `RLConfig`; the own learning rates are in `agents.algorithms`."""
FIGURES = ("accuracy", "exact_match", "satisfaction")
FIELDS = ("algorithm", "seed", "figure", "before", "after", "rated_answers", "seconds")


@dataclass(frozen=True)
class AlgorithmsCommand:
    """Train with every algorithm and several seeds."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """Each is the seed of the run and of the data."""
    only: tuple[str, ...] = tuple(SETTINGS)
    """Which algorithms."""
    rated: int = 4000
    """Rated answers of each run."""
    out: str = str(RESULTS / "algorithms.csv")
    """The CSV file."""
    log_dir: str = "runs/algorithms"
    """Folder in which the runs' folders are made."""
    jobs: int = 1
    """Runs side by side; from two on each has one thread."""


def main(arguments: Sequence[str]) -> None:
    """Run everything; the CSV is written anew after each run."""
    command = parse(AlgorithmsCommand, arguments, prog="python benchmarks/algorithms.py")
    for name in command.only:
        if name not in SETTINGS:
            raise QAError(f"unknown algorithm '{name}'{suggest(name, list(SETTINGS))}")
    rows: list[dict[str, Any]] = []
    with ProcessPoolExecutor(command.jobs, get_context("spawn"), _one_thread, (command.jobs,)) as pool:
        configs = [job(seed, command.log_dir) for seed in command.seeds]
        warm = dict(zip(command.seeds, pool.map(warm_started, configs), strict=True))
        pairs = [(name, seed) for seed in command.seeds for name in command.only]
        tasks = [(warm[seed], name, command.rated) for name, seed in pairs]
        for (name, seed), results in zip(pairs, pool.map(learn, *zip(*tasks, strict=True)), strict=True):
            rows += figures(name, seed, results)
            write_csv(command.out, FIELDS, rows)
    print(markdown(rows))
    print(f"\nseeds {', '.join(map(str, command.seeds))}; {machine()}; every number is in {command.out}")


def _one_thread(jobs: int) -> None:
    if jobs > 1:
        torch.set_num_threads(1)


def warm_started(config: TrainConfig) -> Run:
    """A run that has done its warm start and nothing else."""
    nothing = dataclasses.replace(config.imitation, batches=0, epochs=0)
    no_critic = dataclasses.replace(config.warm_start, critic_rollouts=0)
    rl = dataclasses.replace(config.rl, timesteps=0)
    config = dataclasses.replace(config, rl=rl, imitation=nothing, warm_start=no_critic)
    run = Run.create(config)
    Trainer(config, run, Console()).train()
    return run


def learn(warm: Run, algorithm: str, rated: int) -> dict[str, Any]:
    """Learn with an algorithm from a copy of the warm start; the content of ``results.json``."""
    folder = warm.folder.with_name(f"{warm.folder.name}-{algorithm.replace(', ', '-').replace(' ', '-')}")
    shutil.rmtree(folder, ignore_errors=True)
    left_out = shutil.ignore_patterns("checkpoint", "model.safetensors", "results.json", "events*")
    run = Run(shutil.copytree(warm.folder, folder, ignore=left_out))
    config = run.config()
    default = TrainConfig()
    settings = {"timesteps": 15 * rated, "max_rated": rated, "eval_every": 5, "algorithm": algorithm}
    rl = dataclasses.replace(RLConfig(), **settings | SETTINGS[algorithm])
    config = dataclasses.replace(config, rl=rl, warm_start=default.warm_start)
    run.write_json("config.json", to_dict(config))
    return Trainer(config, run, Console()).train()


def figures(algorithm: str, seed: int, results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of one run."""
    spent = sum(results["seconds"].get(stage, 0.0) for stage in ("critic", "rl"))
    return [
        {
            "algorithm": algorithm,
            "seed": seed,
            "figure": figure,
            "before": results["before"][figure],
            "after": results["after"][figure],
            "rated_answers": results["episodes"],
            "seconds": spent,
        }
        for figure in FIGURES
    ]


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """A line an algorithm: accuracy before and after, gain (least to greatest), rated answers, seconds."""
    lines = ["| algorithm | accuracy | gain | rated answers | seconds |", "|---|---|---|---|---|"]
    for name in dict.fromkeys(row["algorithm"] for row in rows):
        found = [row for row in rows if (row["algorithm"], row["figure"]) == (name, "accuracy")]
        before, after, rated, seconds = (
            float(np.mean([row[key] for row in found]))
            for key in ("before", "after", "rated_answers", "seconds")
        )
        gains = [row["after"] - row["before"] for row in found]
        spread = f"{np.mean(gains):+.3f} ({min(gains):+.3f} to {max(gains):+.3f})"
        lines.append(f"| {name} | {before:.3f} → {after:.3f} | {spread} | {rated:,.0f} | {seconds:.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(main)
