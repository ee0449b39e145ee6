"""Accuracy over wall-clock on the built-in facts: our algorithms, stock Stable-Baselines3, TRL.

    python benchmarks/time_to_quality.py --algorithms ppo
    python benchmarks/time_to_quality.py --algorithms rloo dqn --add

Each job starts from nothing: data, tokenizer, warm start and RL are all in its time. Imports are not, nor is
measuring the points of the curve, which is done alike for all, by greedy answers to the test questions. (Our
own validation, which chooses the checkpoint, is a part of the job and counts.) No job sees the test questions
otherwise. TRL takes part if it is installed (`benchmarks/requirements-trl.txt`); it stops as soon as it
reaches the target, or at ten times our time to it, and then the ratio is a lower bound.

With `--add` the curves of an earlier run are read from its file and kept; only jobs that it lacks are run.
"""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from learning_curve import CountedFeedback, LearningCurve, Point, seconds_to
from main_job import RESULTS, job, machine, write_csv
from matplotlib.figure import Figure
from rich.console import Console
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecMonitor

from agents.algorithms import find_algorithm
from agents.commands import parse, run_command
from agents.config import TrainConfig
from agents.data import fluency_sentences, load_dataset, training_texts
from agents.runs import Run
from agents.training import Trainer
from agents.vec_env import QAVecEnv
from qa_env.errors import QAError
from qa_env.feedback import SimulatedUsers
from qa_env.feedback.base import Feedback
from qa_env.feedback.fluency import FluencyModel
from qa_env.vector_env import QAVectorEnv
from qa_env.vocabulary_making import make_vocabulary

FIELDS = ("figure", "value", "unit", "against", "against_value", "ratio", "lower_bound", "runs")
CURVE_FIELDS = ("job", *Point._fields)
STOCK, TRL = "stock", "trl"


class Curve(NamedTuple):
    """What a job came to, and where."""

    points: list[Point]
    machine: str


Curves = dict[str, Curve]
"""By the job's name; the first is one of our algorithms, with which the others are compared."""


@dataclass(frozen=True)
class TimeToQualityCommand:
    """Measure accuracy over wall-clock."""

    algorithms: tuple[str, ...] = ("ppo",)
    """Ours, names in `agents.algorithms.ALGORITHMS`; the others are compared with the first."""
    add: bool = False
    """Keep the curves in the file of an earlier run, and run only the jobs that it lacks."""
    target: float = 0.8
    """The accuracy to which the time is taken."""
    patience: float = 10.0
    """TRL may take so many times our time to the target."""
    measure_every: float = 100.0
    """Seconds between two points of the curves that are not ours; ours have one at each validation."""
    seed: int = 0
    """Of the runs and of the data."""
    timesteps: int | None = None
    """Tokens that ours write during RL; the default job's number if left out."""
    out: str = str(RESULTS / "time_to_quality.csv")
    """The CSV file of the figures; the curves and the picture lie beside it."""
    log_dir: str = "runs"
    """Folder in which our runs' folders are made."""

    def __post_init__(self) -> None:
        """Raise a QAError if there is no algorithm to measure."""
        if not self.algorithms:
            raise QAError("--algorithms needs at least one name")
        for name in self.algorithms:
            find_algorithm(name)


def main(arguments: Sequence[str]) -> None:
    """Run every job; the files are written anew after each."""
    command = parse(TimeToQualityCommand, arguments, prog="python benchmarks/time_to_quality.py")
    curves = read(command) if command.add else {}

    def run(name: str, job: Callable[[], list[Point]]) -> None:
        if name not in curves:
            print(f"--- {name}")
            curves[name] = Curve(job(), machine())
            write(command, curves)

    for name in command.algorithms:
        run(name, partial(ours, command, name))
    first = next(iter(curves.values())).points
    whole = first[-1].seconds
    run(STOCK, lambda: stock(command, whole))
    if TRL not in curves and find_spec(TRL) is None:
        print("TRL is not installed (benchmarks/requirements-trl.txt): left out")
    else:
        run(TRL, lambda: trl(command, command.patience * (seconds_to(first, command.target) or whole)))
    for row in figures(command, curves):
        print(", ".join(f"{key} {value}" for key, value in row.items()))
    print(f"\n{machine()}; every number is in {command.out}")


class CurveTrainer(Trainer):
    """A training run that adds a point to a learning curve at each validation."""

    def __init__(self, config: TrainConfig, run: Run, console: Console) -> None:
        super().__init__(config, run, console)
        self.curve = LearningCurve()

    def _feedback(self) -> Feedback:
        self.users = CountedFeedback(super()._feedback())
        return self.users

    def _validate(self, policy: Any) -> dict[str, float]:
        metrics = super()._validate(policy)
        self.curve.measure(self.data.test, lambda: self._answers(policy, self.data.test), self.users.rated)
        return metrics


def ours(command: TimeToQualityCommand, algorithm: str) -> list[Point]:
    """The curve of the default job with one of our algorithms."""
    config = job(command.seed, command.log_dir, timesteps=command.timesteps)
    config = dataclasses.replace(config, rl=dataclasses.replace(config.rl, algorithm=algorithm))
    trainer = CurveTrainer(config, Run.create(config), Console())
    trainer.train()
    return trainer.curve.points


def stock(command: TimeToQualityCommand, seconds: float) -> list[Point]:
    """The curve of SB3's PPO with its own policy and defaults in the same environment, for so long."""
    curve = LearningCurve(seconds)
    config = job(command.seed, command.log_dir)
    data = load_dataset(config)
    vocabulary = make_vocabulary(training_texts(data), config.vocabulary)
    fluency = FluencyModel.fit(fluency_sentences(data), vocabulary, seed=config.seed)
    users = CountedFeedback(SimulatedUsers(config.users, fluency))
    # Without an encoder: with its outputs an observation has 37,000 numbers, and an update takes a minute.
    task = {"vocabulary": vocabulary, "encoder": None, **dataclasses.asdict(config.limits)}
    env = VecMonitor(QAVecEnv(QAVectorEnv(config.rl.n_envs, data=data.unlabelled, feedback=users, **task)))
    model = PPO("MultiInputPolicy", env, n_steps=config.rl.n_steps, gamma=1.0, seed=config.seed)
    test = QAVectorEnv(len(data.test), data=data.test, **task)
    model.learn(10**9, callback=_Measure(curve, test, users, command.measure_every))
    return curve.points


def trl(command: TimeToQualityCommand, seconds: float) -> list[Point]:
    """The curve of TRL's SFT and GRPO, for so long at most."""
    from trl_baseline import TRLCommand, learn  # not everybody has TRL

    return learn(TRLCommand(command.seed, seconds, command.target, command.measure_every))


class _Measure(BaseCallback):
    """Adds a point to the curve now and then, and stops the training when it is over.

    Args:
        curve: Takes the time and the points.
        test: Has a lane for each test question.
        users: Who rate, and are counted.
        every: Seconds between two points.
    """

    def __init__(self, curve: LearningCurve, test: QAVectorEnv, users: CountedFeedback, every: float) -> None:
        super().__init__()
        self.curve, self.test, self.users, self.every = curve, test, users, every
        self.next = curve.seconds

    def _on_step(self) -> bool:
        return not self.curve.over

    def _on_rollout_start(self) -> None:
        if self.curve.seconds >= self.next:
            self._measure()
            self.next = self.curve.seconds + self.every

    def _on_training_end(self) -> None:
        self._measure()

    def _measure(self) -> None:
        self.curve.measure(self.test.task.examples, self._answers, self.users.rated)

    def _answers(self) -> list[str]:
        """The likeliest token at every step."""
        lanes = np.arange(self.test.num_envs)
        observation, _ = self.test.reset(seed=0, options={"index": lanes})
        answers: list[str | None] = [None] * len(lanes)
        while None in answers:
            actions, _ = self.model.predict(observation, deterministic=True)
            observation, _, done, _, info = self.test.step(actions)
            for lane in np.flatnonzero(done):
                if answers[lane] is None:
                    answers[lane] = info["final_info"]["answer"][lane]
        return [str(answer) for answer in answers]


def figures(command: TimeToQualityCommand, curves: Curves) -> list[dict[str, Any]]:
    """A row for each job's time to the target and best accuracy, then TRL's time over ours."""
    target = f"seconds_to_{100 * command.target:.0f}"
    rows: list[dict[str, Any]] = []
    for name, (points, where) in curves.items():
        best, common = max(point.accuracy for point in points), {"runs": 1, "machine": where}
        rows.append({"figure": f"{name}_best_accuracy", "value": best, "unit": "share", **common})
        rows.append({"figure": f"{name}_{target}", **_time(points, command.target), "unit": "s", **common})
    first = next(iter(curves))
    own = seconds_to(curves[first].points, command.target)
    if TRL in curves and own is not None:
        time, common = _time(curves[TRL].points, command.target), {"runs": 1, "machine": curves[TRL].machine}
        against = {"against": first, "against_value": own, "ratio": time["value"] / own}
        rows.append({"figure": f"trl_over_ours_{target}", **time, "unit": "s", **against, **common})
    return rows


def _time(points: Sequence[Point], target: float) -> dict[str, Any]:
    """Seconds to the target; the job's whole time, as a lower bound, if it did not get there."""
    seconds = seconds_to(points, target)
    return {"value": points[-1].seconds if seconds is None else seconds, "lower_bound": seconds is None}


def write(command: TimeToQualityCommand, curves: Curves) -> None:
    """Write figures, curves and picture."""
    write_csv(command.out, FIELDS, figures(command, curves))
    rows = [
        {"job": name, **point._asdict(), "machine": where}
        for name, (points, where) in curves.items()
        for point in points
    ]
    write_csv(str(curves_file(command)), CURVE_FIELDS, rows)
    picture(command, curves).savefig(Path(command.out).with_suffix(".png"), dpi=120)


def read(command: TimeToQualityCommand) -> Curves:
    """The curves that `write` wrote.

    Raises:
        QAError: If there is no such file.
    """
    path, curves = curves_file(command), Curves()
    if not path.is_file():
        raise QAError(f"--add found no {path}: run the first algorithm without it")
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            point = Point(float(row["seconds"]), float(row["accuracy"]), int(row["rated"]))
            curves.setdefault(row["job"], Curve([], row["machine"])).points.append(point)
    return curves


def curves_file(command: TimeToQualityCommand) -> Path:
    """Where the points of the curves are."""
    out = Path(command.out)
    return out.with_name(f"{out.stem}_curves.csv")


def picture(command: TimeToQualityCommand, curves: Curves) -> Figure:
    """Accuracy over seconds, a line a job."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, (points, _) in curves.items():
        label = f"{name} ({points[-1].rated:,} rated answers)"
        axes.plot([p.seconds for p in points], [p.accuracy for p in points], marker=".", label=label)
    axes.axhline(command.target, color="grey", linewidth=0.8, linestyle=":")
    axes.set(xlabel="seconds", ylabel="accuracy on the test questions", xscale="log", ylim=(0, 1))
    machines = dict.fromkeys(curve.machine for curve in curves.values())
    axes.set_title("\n".join(("Time to quality", *machines)), fontsize=9)
    axes.legend()
    return figure


if __name__ == "__main__":
    run_command(main)
