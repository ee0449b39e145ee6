"""Real questions: a warm start on some of the references, then RL on the other questions from ratings.

    python benchmarks/real_data_text.py FOLDER --out TEXT.txt
    python -m agents.pretrain lm TEXT.txt --out PRETRAINED --vectors VECTORS.txt --vocabulary.kind words \
        --vocabulary.size 20000 --lm.embedding 50 --limits.max-source 64 --limits.max-answer 24 \
        --steps 4000 --check-every 500 --patience 4
    python benchmarks/real_data_bert.py RUN --out FINE_TUNED_BERT
    python benchmarks/real_data.py FOLDER --vectors VECTORS.txt --bert MODEL --pretrained PRETRAINED \
        --fine-tuned RUN --fine-tuned-bert FINE_TUNED_BERT --reader READER

`FOLDER` has a folder for each data set, with ``train.jsonl.gz``, ``dev.jsonl.gz`` and perhaps
``test.jsonl.gz``: a question a line, as `train.py --data` reads them. Of each data set a part of the training
questions is labelled; RL gets the rest, without their references, and the ratings of SIMULATED users, who go
by the references (`SimulatedUsers.correctness`). The checkpoint is chosen on validation questions. Reported
are the questions of a file of their own. The settings are in `real_data_settings.py`. Runs that are made side
by side, each with an ``--out`` of its own, are put together by `real_data_report.py`.

Beside ``warm`` (before RL) and ``rl`` (after) stand ``ceiling``, the same network with all training questions
labelled and no RL; ``control``, the warm start after the passes that end RL, but over the labelled questions
alone, so without a rating; and ``trivial``, the better of two answers that need no reading: the most frequent
one of the labelled questions, and the whole context.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from curves import scalars
from main_job import RESULTS, machine
from real_data_report import Results, Row, markdown
from real_data_settings import DATA, Files, settings_of
from rich.console import Console

from agents.augmentation import Augmentation
from agents.bert import freeze
from agents.commands import parse, run_command
from agents.config import TrainConfig, suggest
from agents.data import load_dataset
from agents.evaluation import checkpoint_score
from agents.loading import WARM_START, LoadedRun, load_policy
from agents.runs import Run
from agents.self_imitation import Imitator
from agents.training import OUTPUTS, Trainer
from agents.warm_start import Supervised
from qa_env.datasets import QADataset, QAExample
from qa_env.errors import QAError

METRICS = ("accuracy", "exact_match", "f1", "rouge_l", "satisfaction")
LEFT = 40
"""Training questions that the ceiling leaves unlabelled, since a run needs some."""


@dataclass(frozen=True)
class RealDataCommand:
    """Train on real questions, and measure."""

    folder: Annotated[str, tyro.conf.Positional]
    """Where the folders of the data sets are."""
    vectors: str = ""
    """A file of word vectors with at most 50 dimensions, for the data sets that use some."""
    bert: str = ""
    """A BERT model, for those that read with one."""
    pretrained: str = ""
    """What `python -m agents.pretrain lm` made, for those that begin with it."""
    fine_tuned: str = ""
    """A run of `qamr_bert`, or one of its files of weights, for squad, squad_fine_tuned and fairytaleqa,
    which begin with it."""
    fine_tuned_bert: str = ""
    """What `real_data_bert.py` made of that run, for squad and fairytaleqa."""
    reader: str = ""
    """A run on SQuAD's questions, supervised, for qamr_more, which begins with it (docs/results.md)."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Each is the seed of the run and of the choice of what is labelled."""
    only: tuple[str, ...] = tuple(DATA)
    """Which data sets and variants."""
    ceiling: bool = True
    """Whether to train with all labels too."""
    device: str = "cpu"
    out: str = str(RESULTS / "real_data.csv")
    """The CSV file of the figures; runs, curves and picture lie beside it. What is there of other data sets
    and seeds is kept."""
    log_dir: str = "runs/real_data"
    """Folder in which the runs' folders are made."""

    def __post_init__(self) -> None:
        """Raise a QAError for an unknown data set, or if there is nothing to do."""
        for name in self.only:
            if name not in DATA:
                raise QAError(f"unknown data set '{name}'{suggest(name, list(DATA))}")
        if not self.seeds:
            raise QAError("--seeds needs a seed")
        if not Path(self.folder).is_dir():
            raise QAError(f"no folder {self.folder} with data sets")


def main(arguments: Sequence[str]) -> None:
    """Run everything, seed by seed; the files are written anew after each run."""
    command = parse(RealDataCommand, arguments, prog="python benchmarks/real_data.py")
    files = Files(
        Path(command.folder),
        command.vectors,
        command.bert,
        command.pretrained,
        command.fine_tuned,
        command.fine_tuned_bert,
        command.reader,
    )
    results = Results.read(command.out)
    for seed in command.seeds:
        for name in command.only:
            config = settings_of(name, files, seed, command.device, command.log_dir)
            results.replace(*learn(name, config))
            if command.ceiling:
                results.add(all_labelled(name, config))
            results.write()
    print(markdown(results.runs))
    print(f"\n{machine()}; every number is in {command.out}")


def learn(name: str, config: TrainConfig) -> tuple[list[Row], list[Row]]:
    """Warm start and RL; rows of the measurements and of the learning curve."""
    run = Run.create(config)
    results = Trainer(config, run, Console()).train()
    data = load_dataset(config)
    seconds = results["seconds"]
    before = seconds["data"] + seconds["warm_start"]
    rows = measured(name, config.seed, "warm", run, WARM_START, data.test, before)
    rows += measured(name, config.seed, "rl", run, "model.safetensors", data.test, seconds["total"])
    rows += without_ratings(name, config, run, data, before)
    rows += trivial(name, config.seed, run, data.labelled, data.test)
    curve = [
        {"data": name, "seed": config.seed, "tokens": step, "metric": metric, "value": value}
        for metric in METRICS
        for step, value in scalars(run, f"eval/{metric}").items()
    ]
    return rows, curve


def without_ratings(name: str, config: TrainConfig, run: Run, data: QADataset, seconds: float) -> list[Row]:
    """The warm start after the passes that end RL, over the labelled questions alone; rows.

    As many gradient steps as with the answers that were rated well, at the same rates. As in RL, the warm
    start stays if it is better on validation questions.
    """
    outputs = run.folder.parent / OUTPUTS
    loaded = load_policy(run, WARM_START, outputs)
    validation = data.validation[: config.rl.eval_questions]
    before = score(loaded, validation)
    policy = loaded.policy
    freeze(policy.lm, config, outputs)
    labelled = Supervised.from_examples(data.labelled, loaded.vocabulary, config.limits)
    rated_well = max(scalars(run, "imitation/answers").values())
    passes = round(config.imitation.epochs * (1 + rated_well / len(labelled.source)))
    rng = np.random.default_rng(config.seed)
    augmentation = Augmentation(loaded.vocabulary, config.changes())
    imitator = Imitator(policy, config.imitation, augmentation, rng)
    imitator.passes(labelled.source, labelled.tokens, passes)
    if score(loaded, validation) <= before:
        loaded = load_policy(run, WARM_START, outputs)
    values = loaded.judge.measure(data.test, loaded.answers(data.test))
    return rows_of(name, config.seed, "control", values, data.test, seconds)


def score(loaded: LoadedRun, validation: Sequence[QAExample]) -> float:
    """How good a policy is on validation questions, as checkpoints are chosen."""
    measured = loaded.judge.measure(validation, loaded.answers(validation))
    metrics = {metric: float(values.mean()) for metric, values in measured.items()}
    return checkpoint_score(metrics, validation)


def all_labelled(name: str, config: TrainConfig) -> list[Row]:
    """The network with nearly all training questions labelled; rows of the measurements."""
    data = load_dataset(config)
    labelled = len(data.labelled) + len(data.unlabelled) - LEFT
    most = dataclasses.replace(
        config,
        split=dataclasses.replace(config.split, labelled=labelled),
        rl=dataclasses.replace(config.rl, timesteps=0),
        imitation=dataclasses.replace(config.imitation, batches=0, epochs=0),
    )
    run = Run.create(most)
    results = Trainer(most, run, Console()).train()
    return measured(name, config.seed, "ceiling", run, WARM_START, data.test, results["seconds"]["total"])


def measured(
    name: str, seed: int, side: str, run: Run, weights: str, test: Sequence[QAExample], seconds: float
) -> list[Row]:
    """A row for each metric, over all test questions and for each task if the questions name one."""
    loaded = load_policy(run, weights, run.folder.parent / OUTPUTS)
    return rows_of(name, seed, side, loaded.judge.measure(test, loaded.answers(test)), test, seconds)


def trivial(
    name: str, seed: int, run: Run, labelled: Sequence[QAExample], test: Sequence[QAExample]
) -> list[Row]:
    """Rows as of `measured` for the better of the two answers that need no reading, metric by metric."""
    judge = load_policy(run, WARM_START).judge
    common = Counter(e.answers[0] for e in labelled).most_common(1)[0][0]
    kinds = [[common] * len(test), [e.context or common for e in test]]
    tried = [rows_of(name, seed, "trivial", judge.measure(test, answers), test, 0.0) for answers in kinds]
    return [max(pair, key=lambda row: row["value"]) for pair in zip(*tried, strict=True)]


def rows_of(
    name: str,
    seed: int,
    side: str,
    values: Mapping[str, np.ndarray[Any, np.dtype[np.float64]]],
    test: Sequence[QAExample],
    seconds: float,
) -> list[Row]:
    """Means of the metrics ``(questions,)``."""
    tasks = np.array([str(e.metadata.get("task", "")) for e in test])
    parts = {"": np.ones(len(test), dtype=bool)} | {t: tasks == t for t in sorted(set(tasks)) if t}
    return [
        {
            "data": name,
            "seed": seed,
            "side": side,
            "task": task,
            "metric": metric,
            "value": float(values[metric][chosen].mean()),
            "questions": int(chosen.sum()),
            "seconds": seconds,
        }
        for task, chosen in parts.items()
        for metric in METRICS
    ]


if __name__ == "__main__":
    run_command(main)
