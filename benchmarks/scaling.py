"""How the cost of a token grows: with the answer's length, the source's, the vocabulary and the lanes.

    python benchmarks/scaling.py

Rollout and update of our PPO with the default network; questions are random words, and answers all run to
their limit (ending one is made unlikely). The values of an axis take turns, `runs` times; a figure is the
median. What is not on the axis is: answers of 8 tokens, sources of 64, a vocabulary of 2,000, 64 lanes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from main_job import RESULTS, machine, write_csv
from matplotlib.figure import Figure
from stable_baselines3.common.vec_env import VecMonitor
from throughput import ENDS, FIELDS, NEVER, iteration, reward

from agents.algorithms import make_ppo
from agents.commands import parse, run_command
from agents.config import RLConfig
from agents.vec_env import QAVecEnv
from policies.language_model import LMConfig, LSTMAttentionLM
from qa_env.datasets import QAExample
from qa_env.vector_env import QAVectorEnv
from qa_env.vocabulary import Vocabulary

AXES: dict[str, tuple[int, ...]] = {
    "answer": (4, 8, 16, 32, 64),
    "source": (16, 32, 64, 128, 256, 512),
    "vocabulary": (1_000, 5_000, 20_000, 50_000),
    "lanes": (16, 64, 256, 1_024),
}
USUAL = {"answer": 8, "source": 64, "vocabulary": 2_000, "lanes": 64}
STEPS = 64
"""Steps of a rollout: a multiple of every length of an answer."""


@dataclass(frozen=True)
class ScalingCommand:
    """Measure how the cost of a token grows."""

    runs: int = 3
    """Alternating runs."""
    out: str = str(RESULTS / "scaling.csv")
    """The CSV file; a plot stands beside it."""


def main(arguments: Sequence[str]) -> None:
    """Measure, print, write the CSV and the plot."""
    command = parse(ScalingCommand, arguments, prog="python benchmarks/scaling.py")
    texts = random_texts()
    vocabularies = {
        size: Vocabulary.train(texts, size) for size in (*AXES["vocabulary"], USUAL["vocabulary"])
    }
    costs: dict[str, dict[int, float]] = {}
    rows: list[dict[str, Any]] = []
    for axis, values in AXES.items():
        jobs = {value: job({**USUAL, axis: value}, texts, vocabularies) for value in values}
        costs[axis] = measured(jobs, command.runs)
        for value, cost in costs[axis].items():
            against = values[1] if axis == "answer" else values[0]
            rows.append(row(f"token_cost_{axis}_{value}", cost, costs[axis], against, command.runs))
            print(f"{axis} {value}: {cost * 1e6:.0f} microseconds a token", flush=True)
    first = {
        **row("", costs["answer"][64], costs["answer"], 8, command.runs),
        "figure": "token_cost_64_over_8",
    }
    write_csv(command.out, FIELDS, [first, *rows])
    plot(costs, Path(command.out).with_suffix(".png"))
    print(f"token_cost_64_over_8: {first['ratio']:.2f}; {machine()}; every number is in {command.out}")


def row(figure: str, cost: float, costs: dict[int, float], against: int, runs: int) -> dict[str, Any]:
    """A line of the CSV."""
    return {
        "figure": figure,
        "value": cost,
        "unit": "s/token",
        "against": against,
        "against_value": costs[against],
        "ratio": cost / costs[against],
        "runs": runs,
    }


def random_texts() -> list[str]:
    """Texts of random words, each word twice, so that a vocabulary of 50,000 can be made of them."""
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = ["".join(word) for word in rng.choice(letters, (40_000, 6))]
    return [" ".join(words[start : start + 800] * 2) for start in range(0, len(words), 800)]


def job(sizes: dict[str, int], texts: list[str], vocabularies: dict[int, Vocabulary]) -> Callable[[], int]:
    """A rollout and an update at these sizes; returns the number of tokens."""
    vocabulary = vocabularies[sizes["vocabulary"]]
    examples = [QAExample(str(i), "which word?", text, ("a",)) for i, text in enumerate(texts)]
    lm = LSTMAttentionLM(LMConfig(), len(vocabulary), vocabulary.kinds)
    with torch.no_grad():
        lm.output_bias[ENDS] = NEVER
    env = QAVectorEnv(
        sizes["lanes"],
        data=examples,
        vocabulary=vocabulary,
        encoder=lm.encoder,
        feedback=reward,
        max_source=sizes["source"],
        max_answer=sizes["answer"],
    )
    config = RLConfig(n_envs=sizes["lanes"], n_steps=STEPS, samples_per_question=1, batch_size=512)
    common = {"policy_kwargs": {"lm": lm}, "seed": 0, "device": "cpu"}
    return iteration(make_ppo(VecMonitor(QAVecEnv(env)), config, common))


def measured(jobs: dict[int, Callable[[], int]], runs: int) -> dict[int, float]:
    """The median seconds a token; the first turn is not counted."""
    costs: dict[int, list[float]] = {value: [] for value in jobs}
    for run in range(runs + 1):
        for value, iterate in jobs.items():
            start = time.perf_counter()
            tokens = iterate()
            if run:
                costs[value].append((time.perf_counter() - start) / tokens)
    return {value: float(np.median(seconds)) for value, seconds in costs.items()}


def plot(costs: dict[str, dict[int, float]], path: Path) -> None:
    """A line an axis."""
    figure = Figure(figsize=(10, 2.6), layout="constrained")
    for number, (axis, of) in enumerate(costs.items()):
        axes = figure.add_subplot(1, len(costs), number + 1)
        axes.plot(list(of), [cost * 1e6 for cost in of.values()], marker="o")
        axes.set_xscale("log", base=2)
        axes.set_ylim(bottom=0)
        axes.set_xlabel(axis)
        axes.set_ylabel("microseconds a token")
    figure.suptitle(machine(), fontsize=7)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    run_command(main)
