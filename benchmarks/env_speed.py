"""How fast the environment alone is: steps of one lane a second, without a policy.

    python benchmarks/env_speed.py

`QAVectorEnv` is compared with gymnasium's `SyncVectorEnv` around `QAEnv`, and its Stable-Baselines3 adapter
`QAVecEnv` with SB3's `DummyVecEnv` around `QAEnv`; all with their default settings, but that autoreset is
SAME_STEP everywhere. They run in turn in one process, `runs` times; a figure is the median.

Observations are token ids (``encoder=None``). Tokens are drawn from the allowed ones at random, outside the
timed part: nearly every answer then runs to the length limit of 32. The reward is the built-in ``f1``, paid
for the finished answer: text is decoded, normalised and compared with the references. At 1,024 lanes there
are three further cases: ``length``, a plain function of the answer's text; ``short``, EOS with chance 1/8 a
token; and both. (Telling whether an answer is an exact match is part of every case.)

The lanes begin together, so answers end in bursts: runs are whole multiples of the length limit. Before the
first run the reference answers of all questions are read once, as in any longer use.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from main_job import RESULTS, machine, write_csv
from matplotlib.figure import Figure
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import DummyVecEnv

from agents.commands import parse, run_command
from agents.vec_env import QAVecEnv
from qa_env.answers import Answers
from qa_env.datasets import QAExample
from qa_env.env import QAEnv
from qa_env.errors import QAError
from qa_env.feedback.text import token_f1
from qa_env.vector_env import QAVectorEnv
from qa_env.vocabulary import EOS

FIELDS = ("figure", "value", "unit", "against", "against_value", "ratio", "runs")
PAIRS = {"QAVectorEnv": "SyncVectorEnv", "QAVecEnv": "DummyVecEnv"}
PREFIXES = {"QAVectorEnv": "env_steps_per_second", "QAVecEnv": "vec_env_steps_per_second"}
CASES_AT = 1024
"""The lanes at which the further cases are measured."""

Step = Callable[[NDArray[np.int64]], Any]


class Case(NamedTuple):
    """What is measured: the figure's ending, the reward, and the chance of EOS besides drawing it."""

    ending: str
    feedback: Any
    end: float


def length(examples: Sequence[QAExample], answers: Sequence[str]) -> list[float]:
    """Characters of the answers."""
    return [float(len(answer)) for answer in answers]


DEFAULT = Case("", "f1", 0.0)
FURTHER = (Case("_length", length, 0.0), Case("_short", "f1", 1 / 8), Case("_length_short", length, 1 / 8))


@dataclass(frozen=True)
class EnvSpeedCommand:
    """Measure environment steps a second without a policy."""

    lanes: tuple[int, ...] = (1, 16, 64, 256, 1024, 4096)
    """Numbers of lanes."""
    runs: int = 5
    """Timed runs of each; the figures are medians."""
    seconds: float = 0.5
    """Least length of a run."""
    out: str = str(RESULTS / "env_speed.csv")
    """The CSV file; the picture stands beside it."""


def main(arguments: Sequence[str]) -> None:
    """Measure, print the table, write CSV and picture."""
    command = parse(EnvSpeedCommand, arguments, prog="python benchmarks/env_speed.py")
    if not command.lanes or min(command.lanes) < 1 or command.runs < 1:
        raise QAError("--lanes needs positive numbers and --runs at least 1")
    rows: list[dict[str, Any]] = []
    for lanes in command.lanes:
        for case in (DEFAULT, *FURTHER) if lanes == CASES_AT else (DEFAULT,):
            rows += figures(measure(lanes, case, command), lanes, case)
            write_csv(command.out, FIELDS, rows)
            print(*map(line, rows[-len(PAIRS) :]), sep="\n", flush=True)
    picture(rows, command.lanes).savefig(Path(command.out).with_suffix(".png"), dpi=120)
    print(f"\nmedians of {command.runs} runs; {machine()}; every number is in {command.out}")


def measure(lanes: int, case: Case, command: EnvSpeedCommand) -> dict[str, list[float]]:
    """Steps a second of each environment in each run."""
    steps, single = environments(lanes, case)
    task, rng = single.task, np.random.default_rng(0)
    for example in task.examples:
        token_f1("", example.answers)
    allowed = np.flatnonzero(task.action_masks(np.zeros(1))[0])

    def draw() -> NDArray[np.int64]:
        actions = rng.choice(allowed, size=(task.max_answer, lanes))
        return np.where(rng.random(actions.shape) < case.end, EOS, actions)

    speeds: dict[str, list[float]] = {name: [] for name in steps}
    for run in range(command.runs + 1):
        for name, step in steps.items():
            speed = steps_per_second(step, draw, command.seconds if run else 0.0)
            if run:  # the first warms up
                speeds[name].append(speed)
    return speeds


def environments(lanes: int, case: Case) -> tuple[dict[str, Step], QAEnv]:
    """The step function of each environment, reset; and one of the single environments."""
    single = QAEnv(encoder=None, feedback=case.feedback)

    def another() -> QAEnv:
        """A `QAEnv` with the same task, since a set of 8,000 questions for each lane fits no memory."""
        env = copy.copy(single)
        env.answers = Answers(1, env.task.max_answer)
        return env

    task = {"data": single.task.examples, "vocabulary": single.task.vocabulary, "encoder": None}
    vector = QAVectorEnv(lanes, feedback=case.feedback, **task)
    adapter = QAVecEnv(QAVectorEnv(lanes, feedback=case.feedback, **task))
    sync = SyncVectorEnv([another] * lanes, autoreset_mode=AutoresetMode.SAME_STEP)
    dummy = DummyVecEnv([another] * lanes)
    for env in (vector, sync):
        env.reset(seed=0)
    for vec_env in (adapter, dummy):
        vec_env.seed(0)
        vec_env.reset()
    steps = {"QAVectorEnv": vector.step, "SyncVectorEnv": sync.step}
    return {**steps, "QAVecEnv": adapter.step, "DummyVecEnv": dummy.step}, single


def steps_per_second(step: Step, draw: Callable[[], NDArray[np.int64]], seconds: float) -> float:
    """Steps of single lanes a second, over at least `seconds`; `draw` gives tokens ``(steps, lanes)``.

    Every round draws new ones: text metrics remember texts, and would know the answers of a round before.
    """
    steps, elapsed = 0, 0.0
    while elapsed < seconds or not steps:
        actions = draw()
        start = time.perf_counter()
        for action in actions:
            step(action)
        elapsed += time.perf_counter() - start
        steps += actions.size
    return steps / elapsed


def figures(speeds: dict[str, list[float]], lanes: int, case: Case) -> list[dict[str, Any]]:
    """A row for each pair."""
    rows = []
    for ours, theirs in PAIRS.items():
        value, against = float(np.median(speeds[ours])), float(np.median(speeds[theirs]))
        ratio = float(np.median(np.divide(speeds[ours], speeds[theirs])))
        figure = f"{PREFIXES[ours]}_{lanes}{case.ending}"
        runs = len(speeds[ours])
        rows.append(dict(zip(FIELDS, (figure, value, "1/s", theirs, against, ratio, runs), strict=True)))
    return rows


def line(row: dict[str, Any]) -> str:
    """A row of the table."""
    return (
        f"{row['figure']:42}{row['value']:12,.0f}   {row['against']:14}{row['against_value']:12,.0f}"
        f"{row['ratio']:8.1f}x"
    )


def picture(rows: Sequence[dict[str, Any]], lanes: Sequence[int]) -> Figure:
    """Steps a second over lanes, a line for each environment."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    by_name = {row["figure"]: row for row in rows}
    for ours, theirs in PAIRS.items():
        of_lanes = [by_name[f"{PREFIXES[ours]}_{n}"] for n in lanes]
        axes.loglog(lanes, [row["value"] for row in of_lanes], "o-", label=ours)
        axes.loglog(lanes, [row["against_value"] for row in of_lanes], "o--", label=theirs)
    axes.set_xlabel("lanes")
    axes.set_ylabel("steps a second, without a policy")
    axes.legend()
    return figure


if __name__ == "__main__":
    run_command(main)
