"""Train a question-answering model from feedback: `python train.py --help` lists every setting."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console

from agents.bert import check_bert
from agents.checkpoints import CHECKPOINT
from agents.checks import check_names
from agents.commands import parse, run_command
from agents.config import TrainConfig, load_config, to_dict
from agents.plain_text import check_texts
from agents.runs import Run
from agents.training import Trainer
from agents.transfer import check_transfer
from qa_env.errors import QAError

KEPT = (
    *("data", "facts", "split", "abstain", "limits", "vocabulary", "lm", "encoder"),
    *("vectors", "init_from", "init", "pretrain", "pretraining"),
)
"""Settings that what a run has already made goes with."""


def main(arguments: Sequence[str]) -> None:
    """Run or resume a training; settings come from ``--config``, the resumed run, and the options."""
    files, rest = take_options(arguments, ("--config", "--resume"))
    default = load_config(files["--config"]) if "--config" in files else TrainConfig()
    if len(files) == 2:
        raise QAError("--resume takes the settings of the run itself: leave out --config")
    if "--resume" in files:
        run = Run.open(files["--resume"])
        run.mend(CHECKPOINT)
        if run.has("results.json"):
            raise QAError(f"{run.folder} is finished; see its results.json")
        default = run.config()
    description = "Train a question-answering model from feedback. --config FILE.yaml; --resume RUN"
    config = parse(TrainConfig, rest, default, description=description)
    check_names(config)
    if "--resume" in files:
        check_resumable(default, config)
        run.write_json("config.json", to_dict(config))
    else:
        check_bert(config)
        check_texts(config)
        check_transfer(config)
        run = Run.create(config)
    console = Console()
    console.print(f"run folder: {run.folder}", markup=False, soft_wrap=True)
    try:
        Trainer(config, run, console).train()
    except KeyboardInterrupt:
        print(f"interrupted; go on with: python train.py --resume {run.folder}", file=sys.stderr)
        sys.exit(130)
    except QAError:
        if "--resume" not in files:
            run.remove_if_bare()
        raise


def check_resumable(before: TrainConfig, after: TrainConfig) -> None:
    """Refuse changes that what the run has already made would not fit.

    Raises:
        QAError: If the data, its limits, the network or what it starts from were changed.
    """
    for name in KEPT:
        if getattr(before, name) != getattr(after, name):
            raise QAError(f"--resume cannot change {name}: start a new run for that")


def take_options(arguments: Sequence[str], names: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Split off options that must be known before the others are parsed.

    Raises:
        QAError: If one of them has no value.
    """
    found: dict[str, str] = {}
    rest: list[str] = []
    items = iter(arguments)
    for item in items:
        name, equals, value = item.partition("=")
        if name not in names:
            rest.append(item)
            continue
        found[name] = value if equals else next(items, "")
        if not found[name]:
            raise QAError(f"{name} needs a value")
    return found, rest


if __name__ == "__main__":
    run_command(main)
