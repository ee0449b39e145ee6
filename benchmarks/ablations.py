"""What each part is good for: the default job, and the same without the part.

    python benchmarks/ablations.py

Within a seed all of them see the same data and, but for "no copying", start RL from the same warm start: the
same seed gives the same one. All write the same number of tokens during RL. The checkpoint is chosen on
validation questions, and the warm start is among the candidates: a useless reward should leave the figures
where they were, and need not make them worse.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from main_job import RESULTS, SIDES, job, machine, spread, train, write_csv

from agents.commands import parse, run_command
from agents.config import TrainConfig, suggest
from agents.training import Trainer
from qa_env.datasets import QAExample
from qa_env.errors import QAError
from qa_env.feedback.base import Feedback, Score

SHOWN = ("accuracy", "exact_match", "satisfaction")
FIELDS = ("ablation", "seed", "figure", *SIDES)
POOL = 512
"""How many of the latest rewards an answer's reward is drawn from."""


class ShuffledReward:
    """Feedback that pays each answer what some earlier answer earned.

    Only the few answers that end in one step are graded together, too few to shuffle among themselves. So a
    pool keeps the latest `POOL` rewards, and each answer is paid one drawn from it at random: the rewards
    have the same distribution as before and say nothing about the answer. The first answers of all, which
    have no earlier ones, earn 0. The components stay those of the answer itself, so the logs tell the truth.
    """

    def __init__(self, feedback: Feedback) -> None:
        self.feedback = feedback
        self.name = f"shuffled_{feedback.name}"
        self._pool: deque[float] = deque(maxlen=POOL)

    def score(
        self, examples: Sequence[QAExample], answers: Sequence[str], rngs: Sequence[np.random.Generator]
    ) -> Score:
        """Judge the answers, and pay them the rewards of others."""
        true = self.feedback.score(examples, answers, rngs)
        paid = np.zeros(len(answers))
        if self._pool:
            paid = np.array([self._pool[int(rng.integers(len(self._pool)))] for rng in rngs])
        self._pool.extend(true.reward.tolist())
        return Score(paid, true.components)


class ShuffledTrainer(Trainer):
    """A training run in which the reward is shuffled among the answers."""

    def _feedback(self) -> Feedback:
        return ShuffledReward(super()._feedback())


def without_copying(config: TrainConfig) -> TrainConfig:
    """The language model generates every token; nothing is copied from the source."""
    return dataclasses.replace(config, lm=dataclasses.replace(config.lm, copy=False))


def without_kl(config: TrainConfig) -> TrainConfig:
    """No charge for moving from the warm start; backing off at ``max_kl`` stays."""
    return dataclasses.replace(config, rl=dataclasses.replace(config.rl, kl_coef=0.0))


def with_frozen_encoder(config: TrainConfig) -> TrainConfig:
    """The encoder stays as the warm start left it."""
    return dataclasses.replace(config, encoder="frozen")


def without_imitation(config: TrainConfig) -> TrainConfig:
    """No self-imitation: PPO alone learns from the ratings."""
    return dataclasses.replace(config, imitation=dataclasses.replace(config.imitation, batches=0, epochs=0))


def without_last_passes(config: TrainConfig) -> TrainConfig:
    """Self-imitation between rollouts only."""
    return dataclasses.replace(config, imitation=dataclasses.replace(config.imitation, epochs=0))


def unchanged(config: TrainConfig) -> TrainConfig:
    """The settings as they are."""
    return config


ABLATIONS: dict[str, tuple[str, Callable[[TrainConfig], TrainConfig], type[Trainer]]] = {
    "full": ("the default job", unchanged, Trainer),
    "shuffled": ("reward shuffled among the answers", unchanged, ShuffledTrainer),
    "no-copy": ("no copying", without_copying, Trainer),
    "no-kl": ("no KL penalty", without_kl, Trainer),
    "frozen": ("encoder frozen in RL", with_frozen_encoder, Trainer),
    "no-last-passes": ("self-imitation between rollouts only", without_last_passes, Trainer),
    "no-imitation": ("no self-imitation", without_imitation, Trainer),
}
"""What the table says of it, how it changes the config, and who trains it."""


@dataclass(frozen=True)
class AblationsCommand:
    """Run the default job, and the same without its parts."""

    seeds: tuple[int, ...] = (0,)
    """Each is the seed of the run and of the data."""
    only: tuple[str, ...] = tuple(ABLATIONS)
    """Which ones to run."""
    timesteps: int | None = None
    """Tokens to write during RL; the default job's number if left out."""
    n_envs: int | None = None
    """Questions answered side by side; as in the default job if left out."""
    n_steps: int | None = None
    """Tokens a lane writes between two updates; as in the default job if left out."""
    out: str = str(RESULTS / "ablations.csv")
    """The CSV file."""
    log_dir: str = "runs"
    """Folder in which the runs' folders are made."""


def main(arguments: Sequence[str]) -> None:
    """Run every ablation with every seed; the CSV is written anew after each run."""
    command = parse(AblationsCommand, arguments, prog="python benchmarks/ablations.py")
    for name in command.only:
        if name not in ABLATIONS:
            raise QAError(f"unknown ablation '{name}'{suggest(name, list(ABLATIONS))}")
    rows: list[dict[str, Any]] = []
    for seed in command.seeds:
        for name in command.only:
            title, change, trainer = ABLATIONS[name]
            print(f"--- {title}, seed {seed}")
            config = job(seed, command.log_dir, timesteps=command.timesteps)
            rl = dataclasses.replace(
                config.rl,
                n_envs=command.n_envs or config.rl.n_envs,
                n_steps=command.n_steps or config.rl.n_steps,
            )
            results = train(change(dataclasses.replace(config, rl=rl)), trainer)
            rows += figures(name, seed, results)
            write_csv(command.out, FIELDS, rows)
    print(markdown(rows))
    print(f"\nseeds {', '.join(map(str, command.seeds))}; {machine()}; every number is in {command.out}")


def figures(name: str, seed: int, results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of one run."""
    rows = [{"figure": f, **{side: results[side][f] for side in SIDES}} for f in SHOWN]
    rows += [
        {"figure": "rated answers", "after": results["episodes"]},
        {"figure": "seconds", "after": results["seconds"]["total"]},
    ]
    return [{"ablation": name, "seed": seed, **row} for row in rows]


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table, a line an ablation: each figure before → after, means over the seeds."""
    lines = ["| | " + " | ".join(f.replace("_", " ") for f in SHOWN) + " |", "|---" * (len(SHOWN) + 1) + "|"]
    for name in dict.fromkeys(row["ablation"] for row in rows):
        cells = [ABLATIONS[name][0]]
        for figure in SHOWN:
            found = [row for row in rows if (row["ablation"], row["figure"]) == (name, figure)]
            cells.append(" → ".join(spread([row[side] for row in found], 3) for side in SIDES))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(main)
