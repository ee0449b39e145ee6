"""Memory: what a transition costs in the replay buffer, and the default job's peak.

    python benchmarks/memory.py

Bytes are measured as the growth of this process's resident memory while a million transitions are added, and
sampled from. The answers have 1 to 16 tokens; ``replay_bytes_per_transition`` is the worst case, every answer
to a question of its own, ``..._8000_questions`` the usual one. Against it stands SB3's `DictReplayBuffer`
with the encoder's outputs in the observation (measured with fewer transitions, and per transition).
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from main_job import RESULTS, machine, write_csv
from matplotlib.figure import Figure
from stable_baselines3.common.buffers import DictReplayBuffer

from agents.commands import parse, run_command
from agents.replay import AnswerReplayBuffer

FIELDS = ("figure", "value", "unit", "against", "against_value", "ratio", "runs")
SOURCE, HIDDEN, LONGEST, VOCABULARY = 64, 256, 32, 2048


@dataclass(frozen=True)
class MemoryCommand:
    """Measure memory."""

    transitions: int = 1_000_000
    """Transitions that the replay buffer holds."""
    timesteps: int | None = None
    """Tokens of RL of the job whose peak is measured; the default job's if left out."""
    out: str = str(RESULTS / "memory.csv")
    """The CSV file; a plot stands beside it."""


def main(arguments: Sequence[str]) -> None:
    """Measure, print, write the CSV and the plot."""
    command = parse(MemoryCommand, arguments, prog="python benchmarks/memory.py")
    stock = stock_bytes()
    rows: list[dict[str, Any]] = []
    for figure, questions in (
        ("replay_bytes_per_transition", None),
        ("replay_bytes_per_transition_8000_questions", 8000),
    ):
        with ProcessPoolExecutor(1, get_context("spawn")) as fresh:  # nothing freed before is used again
            ours = fresh.submit(replay_bytes, command.transitions, questions).result()
        rows.append(row(figure, ours, "bytes", "DictReplayBuffer", stock))
        print(f"{figure}: {ours:.0f} bytes, DictReplayBuffer {stock:,.0f}", flush=True)
    peak = peak_megabytes(command.timesteps)
    rows.append(row("peak_memory_mb", peak, "MB", "", ""))
    print(f"peak_memory_mb: {peak:,.0f} MB")
    write_csv(command.out, FIELDS, rows)
    figure = Figure(figsize=(6, 2), layout="constrained")
    axes = figure.add_subplot()
    axes.barh(
        [r["figure"] for r in rows[:2]] + ["DictReplayBuffer"], [r["value"] for r in rows[:2]] + [stock]
    )
    axes.set_xscale("log")
    axes.set_xlabel("bytes a transition")
    figure.savefig(Path(command.out).with_suffix(".png"), dpi=120)
    print(f"{machine()}; every number is in {command.out}")


def row(figure: str, value: float, unit: str, against: str, other: float | str) -> dict[str, Any]:
    """A line of the CSV; the ratio says how many times less ours is."""
    ratio = other / value if isinstance(other, float) else ""
    return {
        "figure": figure,
        "value": value,
        "unit": unit,
        "against": against,
        "against_value": other,
        "ratio": ratio,
        "runs": 1,
    }


def resident() -> int:
    """Bytes of this process in memory (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def observation_space(memory: bool) -> spaces.Dict:
    """That of `QAEnv`, with the encoder's outputs or without."""
    parts: dict[str, spaces.Space[Any]] = {
        "source": spaces.Box(0, VOCABULARY - 1, (SOURCE,), np.int64),
        "answer": spaces.Box(0, VOCABULARY - 1, (LONGEST,), np.int64),
    }
    if memory:
        parts["memory"] = spaces.Box(-np.inf, np.inf, (SOURCE, HIDDEN), np.float32)
    return spaces.Dict(parts)


def replay_bytes(transitions: int, questions: int | None) -> float:
    """Resident bytes a transition of a full `AnswerReplayBuffer`, sampling included."""
    rng = np.random.default_rng(0)
    known = None if questions is None else rng.integers(4, VOCABULARY, (questions, SOURCE))
    before = resident()
    buffer = AnswerReplayBuffer(transitions, observation_space(False), spaces.Discrete(VOCABULARY), "cpu")
    while not buffer.full:
        source = rng.integers(4, VOCABULARY, SOURCE) if known is None else known[rng.integers(len(known))]
        length = int(rng.integers(1, 17))
        buffer.add_answer(source, rng.integers(4, VOCABULARY, length), rng.normal(size=length))
    for _ in range(100):
        buffer.sample(768)
    return (resident() - before) / buffer.size()


def stock_bytes(transitions: int = 1000) -> float:
    """Bytes a transition of SB3's `DictReplayBuffer`, by its arrays."""
    buffer = DictReplayBuffer(transitions, observation_space(True), spaces.Discrete(VOCABULARY), "cpu")
    arrays = [*buffer.observations.values(), *buffer.next_observations.values()]
    arrays += [buffer.actions, buffer.rewards, buffer.dones, buffer.timeouts]
    return float(sum(array.nbytes for array in arrays) / transitions)


def peak_megabytes(timesteps: int | None) -> float:
    """Peak resident memory of ``train.py``, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        train = Path(__file__).parents[1] / "train.py"
        flags = [] if timesteps is None else ["--rl.timesteps", str(timesteps)]
        job = [sys.executable, str(train), "--log-dir", folder, *flags]
        subprocess.run(job, check=True, stdout=subprocess.DEVNULL)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


if __name__ == "__main__":
    run_command(main)
