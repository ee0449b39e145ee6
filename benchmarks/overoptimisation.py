"""A reward model of few labels, optimised without and with guards: reward and accuracy over KL divergence.

    python benchmarks/overoptimisation.py

Both runs start from the same warm start and the same 60 ratings of a SIMULATED annotator; 40 more come during
training and are not fitted to. Without guards the policy is charged nothing for moving away, one network
serves alone, whatever its held-out labels say, and nothing takes training back: the reward that it pays goes
on rising, accuracy on validation questions falls (Gao et al. 2023, "Scaling Laws for Reward Model
Overoptimization"). With guards all is as by default. Neither imitates. Accuracy is measured by references
that no reward sees.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from algorithms import warm_started
from curves import latest, scalars
from feedback_efficiency import copied, merge
from main_job import RESULTS, job, machine, write_csv
from matplotlib.figure import Figure
from rich.console import Console

from agents.commands import parse, run_command
from agents.config import TrainConfig, from_dict, to_dict
from agents.reward_model import RewardModel
from agents.runs import Run
from agents.training import Trainer

NEVER = 1e9
COMMON: Mapping[str, Any] = {
    "feedback": "reward-model",
    "labels": 100,
    "budget": {"initial": 0.6, "schedule": "constant"},
    "ask": {"refits": 0},
    "rl": {"eval_every": 3, "learning_rate": 5e-4},
    "imitation": {"batches": 0, "epochs": 0},
}
GUARDED: dict[str, Mapping[str, Any]] = {
    "guards off": {
        "rl": {"kl_coef": 0.0, "max_kl": NEVER, "max_drop": NEVER},
        "guards": {"max_gap": NEVER, "max_length_correlation": NEVER, "least_distinct": 0.0},
        "reward_model": {"members": 1, "pessimism": 0.0},
    },
    "guards on": {},
}
SERIES = {
    "reward": "rollout/reward",
    "kl": "train/kl_reference",
    "accuracy": "eval/accuracy",
    "human_gap": "guards/human_gap",
    "rolled_back": "guards/rolled_back",
    "backed_off": "train/backed_off",
}
FIELDS = ("guards", "seed", "tokens", *SERIES)


@dataclass(frozen=True)
class OveroptimisationCommand:
    """Train without and with guards."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """Each is the seed of the run and of the data."""
    timesteps: int = 80_000
    """Tokens that each writes in RL."""
    out: str = str(RESULTS / "overoptimisation.csv")
    """The CSV file; the picture lies beside it."""
    log_dir: str = "runs/overoptimisation"
    """Folder in which the runs' folders are made."""


def main(arguments: Sequence[str]) -> None:
    """Run everything; the files are written anew after each run."""
    command = parse(OveroptimisationCommand, arguments, prog="python benchmarks/overoptimisation.py")
    rows: list[dict[str, Any]] = []
    for seed in command.seeds:
        warm = warm_started(job(seed, command.log_dir))
        for name in GUARDED:
            rows += learn(warm, name, command.timesteps)
            write_csv(command.out, FIELDS, rows)
            picture(rows).savefig(Path(command.out).with_suffix(".png"), dpi=120)
    for line in summary(rows):
        print(line)
    print(f"\n{machine()}; every number is in {command.out}")


def learn(warm: Run, name: str, timesteps: int) -> list[dict[str, Any]]:
    """Train from a copy of the warm start; a row for each validation."""
    run, config = copied(warm, name.replace(" ", "-")), warm.config()
    values = to_dict(dataclasses.replace(TrainConfig(), seed=config.seed, facts=config.facts))
    for part in (COMMON, {"rl": {"timesteps": timesteps}}, GUARDED[name]):
        merge(values, part)
    run.write_json("config.json", values)
    trust: AbstractContextManager[Any] = nullcontext()
    if name == "guards off":
        trust = patch.object(RewardModel, "trusted", True)
    with trust:
        Trainer(from_dict(TrainConfig, values), run, Console()).train()
    told = {column: scalars(run, tag) for column, tag in SERIES.items()}
    return [
        {"guards": name.removeprefix("guards "), "seed": config.seed, "tokens": step}
        | {column: latest(series, step) for column, series in told.items()}
        for step in told["accuracy"]
    ]


def summary(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """For each run: reward, accuracy and KL at the best accuracy and at the end."""
    lines = []
    for guards, seed in dict.fromkeys((row["guards"], row["seed"]) for row in rows):
        own = [row for row in rows if (row["guards"], row["seed"]) == (guards, seed)]
        best, last = max(own, key=lambda row: row["accuracy"]), own[-1]
        name = f"guards {guards}, seed {seed}"
        lines += [
            f"{name}, {when}: accuracy {row['accuracy']:.3f}, reward {row['reward']:.2f}, KL {row['kl']:.2f}"
            for when, row in (("first", own[0]), ("best", best), ("last", last))
        ]
    return lines


def picture(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Reward and accuracy over the KL divergence, a line a run."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    panels = figure.subplots(1, 2)
    colours = {"off": "tab:red", "on": "tab:blue"}
    for guards, seed in dict.fromkeys((row["guards"], row["seed"]) for row in rows):
        own = [row for row in rows if (row["guards"], row["seed"]) == (guards, seed)]
        kl = np.array([row["kl"] for row in own])
        for axes, column in zip(panels, ("reward", "accuracy"), strict=True):
            label = f"guards {guards}" if seed == rows[0]["seed"] else None
            axes.plot(kl, [row[column] for row in own], color=colours[guards], marker=".", label=label, lw=1)
    for axes, title in zip(
        panels, ("reward that the model pays", "accuracy on validation questions"), strict=True
    ):
        axes.set_xlabel("KL divergence from the start, nats a token")
        axes.set_title(title, fontsize=10)
    panels[0].legend()
    return figure


if __name__ == "__main__":
    run_command(main)
