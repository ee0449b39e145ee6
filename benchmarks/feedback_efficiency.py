"""How much of the true reward's gain a few hundred labels are worth: simulated annotators on the facts.

    python benchmarks/feedback_efficiency.py

Every variant goes on from the same warm start of its seed, with the same number of tokens in RL, a quarter of
the default job's, and half of its last passes over the good answers. ``true`` learns from the noise-free wish
of the average simulated user of every answer. The others see labels of some answers alone, by SIMULATED
annotators through the feedback store, and a reward model learns from those; ``filtered_bc_700`` and
``dpo_700`` learn without RL from the labels that ``oracle_700`` and ``pairs_700`` have left in their stores.
``averaged`` has neither labels nor RL: the reward model's networks learn the warm start's questions again,
and their weights are averaged: so much of a gain is no merit of labels. ``true_averaged`` begins there,
with the settings of the runs with labels.
Judged is accuracy on test questions, by references that no reward sees. (As in every run, the checkpoint is
chosen by greedy answers to 256 validation questions, and the warm start is a candidate: in all alike.)
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from algorithms import warm_started
from feedback_figures import figures, write
from main_job import RESULTS, job, machine
from rich.console import Console
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor

from agents.algorithms import begin_at
from agents.augmentation import Augmentation
from agents.commands import parse, run_command
from agents.config import TrainConfig, from_dict, suggest, to_dict
from agents.data import load_dataset
from agents.loading import WARM_START, load_policy
from agents.preference_learning import DPO, FilteredBC
from agents.reward_data import RewardData
from agents.reward_fitting import fit_reward_model
from agents.runs import Run
from agents.stored_labels import StoredLabels
from agents.training import Trainer
from agents.warm_start import Supervised
from policies.actor_critic import LMActorCriticPolicy
from policies.language_model import LSTMAttentionLM
from qa_env.datasets import QAExample
from qa_env.errors import QAError
from qa_env.feedback.aggregation import Terms
from qa_env.feedback.base import Feedback, Score
from qa_env.feedback.store import Store
from qa_env.vocabulary import Vocabulary

Settings = Mapping[str, Any]
LABELLED: Settings = {
    "feedback": "reward-model",
    "labels": 700,
    "budget": {"schedule": "front-loaded"},
    "ask": {"refits": 0},
    "rl": {"learning_rate": 3e-4},  # as for PPO without imitation in algorithms.py
}
VARIANTS: dict[str, Settings] = {
    "true": {"feedback": "reference"},
    "averaged": {},
    "true_averaged": {
        "feedback": "reference",
        "imitation": {"batches": 0},
        "rl": {"learning_rate": 3e-4},
    },
    "oracle_700": {},
    "mistake10_700": {"ask": {"annotators": "flip10"}},
    "crowd13_flip25": {"ask": {"annotators": "flip25", "crowd": 13}},
    "shuffled": {},
    "oracle_200": {"labels": 200},
    "active_700": {"ask": {"selector": "disagreement"}},
    "pairs_700": {"ask": {"kind": "pair"}},
    "both_700": {"ask": {"kind": "ratings-and-pairs"}},
    "one_member_700": {"reward_model": {"members": 1, "pessimism": 0.0}},
}
"""What differs from the default run, and, but for `TRUE`, from `LABELLED`."""
TRUE = ("true", "true_averaged")
"""Variants without labels: every answer is paid what it is worth."""
OFFLINE = {"filtered_bc_700": "oracle_700", "dpo_700": "pairs_700"}
"""Learning without RL, and the variant whose labels it learns from."""


@dataclass(frozen=True)
class EfficiencyCommand:
    """Measure what labels are worth."""

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Each is the seed of the run and of the data."""
    only: tuple[str, ...] = tuple(VARIANTS)
    """Which variants."""
    timesteps: int = 40_000
    """Tokens that each writes in RL."""
    out: str = str(RESULTS / "feedback_efficiency.csv")
    """The CSV file of the figures; the runs and the picture lie beside it."""
    log_dir: str = "runs/feedback_efficiency"
    """Folder in which the runs' folders are made."""
    jobs: int = 2
    """Runs side by side, each with one thread."""

    def __post_init__(self) -> None:
        """Raise a QAError for an unknown variant, or if there is nothing to do."""
        for name in self.only:
            if name not in VARIANTS:
                raise QAError(f"unknown variant '{name}'{suggest(name, list(VARIANTS))}")
        if not self.seeds or self.jobs < 1:
            raise QAError("--seeds needs a seed and --jobs must be 1 or more")


def main(arguments: Sequence[str]) -> None:
    """Run everything, seed by seed; the files are written anew after each run."""
    command = parse(EfficiencyCommand, arguments, prog="python benchmarks/feedback_efficiency.py")
    rows: list[dict[str, Any]] = []
    with ProcessPoolExecutor(command.jobs, get_context("spawn"), one_thread) as pool:
        configs = [job(seed, command.log_dir) for seed in command.seeds]
        warm = {
            seed: pool.submit(warm_started, config)
            for seed, config in zip(command.seeds, configs, strict=True)
        }
        runs = [
            (name, seed, pool.submit(learn, warm[seed].result(), name, command.timesteps))
            for seed in command.seeds
            for name in command.only
        ]
        for name, seed, run in runs:
            rows.append(row_of(name, seed, run.result()))
            write(Path(command.out), rows)
        for method, source in OFFLINE.items():
            if source in command.only:
                tasks = [(warm[seed].result(), method, source) for seed in command.seeds]
                rows += pool.map(learn_offline, *zip(*tasks, strict=True))
                write(Path(command.out), rows)
    for figure in figures(rows):
        print("{figure:32} {value:7.3f}  [{low:.3f}, {high:.3f}]  {unit}, {runs} runs".format(**figure))
    print(f"\n{machine()}; every number is in {command.out}")


def one_thread() -> None:
    """Of a process that runs beside others."""
    torch.set_num_threads(1)


class Shuffled:
    """A true score that has gone astray: that of some answer heard of before, whichever it is.

    Labels by it have the same distribution, and say nothing of the answer that they are given.
    """

    name = "shuffled"

    def __init__(self, truth: Feedback, seed: int) -> None:
        self.truth, self.heard = truth, list[float]()
        self.rng = np.random.default_rng(seed)

    def score(
        self, examples: Sequence[QAExample], answers: Sequence[str], rngs: Sequence[np.random.Generator]
    ) -> Score:
        """Scores drawn from all those heard so far."""
        self.heard += self.truth.score(examples, answers, rngs).reward.tolist()
        return Score(self.rng.choice(self.heard, len(answers)))


class ShuffledTrainer(Trainer):
    """A training run whose simulated annotators go by shuffled scores."""

    def _truth(self) -> Feedback:
        return Shuffled(super()._truth(), self.config.seed)


class AveragedTrainer(Trainer):
    """A training run whose RL begins at the mean of networks that have seen no label."""

    def _make_model(self, lm: LSTMAttentionLM) -> BaseAlgorithm:
        model = super()._make_model(lm)
        begin_at(model, averaged(self.config, self.vocabulary, lm, self.data.labelled))
        return model


def learn(warm: Run, variant: str, timesteps: int) -> dict[str, Any]:
    """Learn as a variant does from a copy of the warm start; the content of ``results.json``."""
    if variant == "averaged":
        return learn_averaged(warm)
    run = copied(warm, variant)
    config = variant_config(run.config(), variant, timesteps)
    run.write_json("config.json", to_dict(config))
    trainers = {"shuffled": ShuffledTrainer, "true_averaged": AveragedTrainer}
    trainer = trainers.get(variant, Trainer)
    return trainer(config, run, Console()).train()


def learn_averaged(warm: Run) -> dict[str, Any]:
    """Average networks that have learned the labelled questions again; results as of a run."""
    start = time.perf_counter()
    loaded = load_policy(warm, WARM_START)
    data, lm = load_dataset(loaded.config), loaded.policy.lm
    lm.load_state_dict(averaged(loaded.config, loaded.vocabulary, lm, data.labelled))
    after = loaded.judge.report(data.test, loaded.answers(data.test))
    seconds = {"total": time.perf_counter() - start}
    return {"before": warm.read_json("before.json"), "after": after, "seconds": seconds}


def averaged(
    config: TrainConfig, vocabulary: Vocabulary, lm: LSTMAttentionLM, labelled: Sequence[QAExample]
) -> dict[str, Tensor]:
    """The mean of the weights of networks that were fitted as a reward model's are, but to no label."""
    known = Supervised.from_examples(labelled, vocabulary, config.limits)
    number = len(known.source)
    unsaid = Terms(*(np.zeros(0, np.int64) for _ in range(2)), *(np.zeros(0) for _ in range(6)))
    data = RewardData(known.source, np.arange(number), known.tokens, np.ones(number), unsaid, 1.0, 0.0)
    settings = TrainConfig().reward_model
    changes = Augmentation(vocabulary, config.changes(settings.renamed))
    demonstrations = (known.source, known.tokens)
    model = fit_reward_model(
        data, demonstrations, lm, changes, settings, vocabulary, config.limits, config.seed
    )
    return model.network.average()


def learn_offline(warm: Run, method: str, source: str) -> dict[str, Any]:
    """Learn from the labels that another variant's run has left in its store; a row of the CSV."""
    start = time.perf_counter()
    loaded, store = load_policy(warm, WARM_START), Store(copy_of(warm, source) / "feedback.db")
    config, vocabulary, lm = loaded.config, loaded.vocabulary, loaded.policy.lm
    data, labels = load_dataset(config), StoredLabels.read(store)
    common = {
        "augmentation": Augmentation(vocabulary, config.augmentation),
        "seed": config.seed,
        "policy_kwargs": {"lm": lm},
        "device": "cpu",
    }
    if method.startswith("dpo"):
        DPO(LMActorCriticPolicy, None, labels.preferences(vocabulary, config.limits), **common).learn()
    else:
        labelled = Supervised.from_examples(data.labelled, vocabulary, config.limits)
        answers = labels.answers(vocabulary, config.limits)
        FilteredBC(LMActorCriticPolicy, None, answers, labelled=labelled, **common).learn()
    after = loaded.judge.report(data.test, loaded.answers(data.test))
    seconds = time.perf_counter() - start
    results = {"before": warm.read_json("before.json"), "after": after, "seconds": {"total": seconds}}
    return row_of(method, config.seed, {**results, "labels": len(labels.judgements)})


def copy_of(warm: Run, name: str) -> Path:
    """The folder of the copy that goes on as `name`."""
    return warm.folder.with_name(f"{warm.folder.name}-{name}")


def copied(warm: Run, name: str) -> Run:
    """A copy of a run that has done its warm start, to go on from."""
    folder = copy_of(warm, name)
    shutil.rmtree(folder, ignore_errors=True)
    left_out = shutil.ignore_patterns("checkpoint", "model.safetensors", "results.json", "events*")
    return Run(shutil.copytree(warm.folder, folder, ignore=left_out))


def variant_config(warm: TrainConfig, variant: str, timesteps: int) -> TrainConfig:
    """The settings of a variant."""
    values = to_dict(
        dataclasses.replace(TrainConfig(), seed=warm.seed, facts=warm.facts, log_dir=warm.log_dir)
    )
    parts = [{"rl": {"timesteps": timesteps, "eval_every": 6}, "imitation": {"epochs": 2}}, VARIANTS[variant]]
    if variant not in TRUE:
        parts.insert(1, LABELLED)
    for part in parts:
        merge(values, part)
    config: TrainConfig = from_dict(TrainConfig, values)
    return config


def merge(values: dict[str, Any], more: Settings) -> None:
    """Set nested values in place."""
    for name, value in more.items():
        if isinstance(value, Mapping):
            merge(values[name], value)
        else:
            values[name] = value


def row_of(variant: str, seed: int, results: Mapping[str, Any]) -> dict[str, Any]:
    """A run as a row of the CSV."""
    row: dict[str, Any] = {"variant": variant, "seed": seed}
    for side in ("before", "after"):
        row[side] = results[side]["accuracy"]
        row[f"satisfaction_{side}"] = results[side]["satisfaction"]
    row["labels"] = results.get("labels", 0)
    row["seconds"] = results["seconds"]["total"]
    return row


if __name__ == "__main__":
    run_command(main)
