"""Measure a finished run on any data: `python -m agents.evaluate RUN --data FILE`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from rich.console import Console
from tyro.conf import Positional, UseAppendAction, arg

from agents.commands import parse, run_command
from agents.data import left_out, load_dataset, usable
from agents.decoding import SETTINGS_OF, DecodingConfig
from agents.evaluation import results_table
from agents.loading import BEST, LoadedRun, load_policy
from agents.runs import Run
from qa_env.datasets import QAExample
from qa_env.errors import QAError
from qa_env.sources import load_data
from qa_env.task import encode_examples


@dataclass(frozen=True)
class EvaluateCommand:
    """Measure the policy of a run, a column of the table for each data file."""

    run: Annotated[Positional[str], arg(metavar="RUN")]
    """The run's folder."""
    data: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="FILE")] = ()
    """A .jsonl, .csv or SQuAD .json file (or .gz of it), or what else ``train.py --data`` takes; may be given
    several times. Default: the run's own test split."""
    checkpoint: str = BEST
    """Which weights of the run: model.safetensors, or warm_start.safetensors for before RL."""
    out: str | None = None
    """Also write the numbers to this JSON file."""
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    feedback: str | None = None
    """With --decoding.method best-of-n, who chooses: a built-in reward (f1, value, ...), "simulated" (the
    run's users) or module:attr. One that reads reference answers chooses by what the table measures."""


def main(arguments: Sequence[str]) -> None:
    """Print the table, and what of the data could not be measured."""
    command = parse(EvaluateCommand, arguments, prog="python -m agents.evaluate")
    if command.out is not None and not Path(command.out).parent.is_dir():
        raise QAError(f"cannot write {command.out}: there is no folder {Path(command.out).parent}")
    run = Run.open(command.run)
    loaded = load_policy(run, command.checkpoint)
    console = Console()
    reports: dict[str, dict[str, float]] = {}
    for name, examples in columns(command, loaded).items():
        referenced = with_references(name, examples, loaded.config.abstain, console)
        _tell_cut(name, referenced, loaded, console)
        answers = loaded.answers(referenced, command.decoding, command.feedback)
        report = loaded.judge.report(referenced, answers)
        reports[name] = {**report, "examples": len(referenced)}
    console.print(results_table(reports, title(command, run)))
    if command.out is not None:
        how = {"decoding": asdict(command.decoding), "feedback": command.feedback}
        head = {"run": str(run.folder), "checkpoint": command.checkpoint, **how}
        write(command.out, {**head, "reports": reports})


def title(command: EvaluateCommand, run: Run) -> str:
    """What was measured: the run, its weights and, if not greedily, how the answers were written."""
    decoding = command.decoding
    settings = [f"{name} {getattr(decoding, name)}" for name in SETTINGS_OF[decoding.method]]
    chooser = [] if command.feedback is None else [f"chosen by {command.feedback}"]
    how = [] if decoding.method == "greedy" else [" ".join((decoding.method, *chooser)), *settings]
    return ", ".join([run.folder.name, command.checkpoint, *how])


def columns(command: EvaluateCommand, loaded: LoadedRun) -> dict[str, Sequence[QAExample]]:
    """The examples of every column, by its name.

    Raises:
        QAError: If a file is missing, empty or malformed.
    """
    if not command.data:
        return {f"{loaded.config.data}:test": load_dataset(loaded.config).test}
    paths = list(dict.fromkeys(command.data))
    short = [Path(path).name for path in paths]
    names = short if len(set(short)) == len(short) else paths
    abstain = loaded.config.abstain
    return {name: load_data(path, abstain) for name, path in zip(names, paths, strict=True)}


def with_references(
    name: str, examples: Sequence[QAExample], abstain: bool, console: Console
) -> Sequence[QAExample]:
    """The examples that can be measured by: unanswerable ones if the run abstains. It tells how many cannot.

    Raises:
        QAError: If none has.
    """
    referenced = usable(examples, abstain, measured=True)
    if not referenced:
        raise QAError(f"{name}: none of its {len(examples)} questions has a reference answer to measure by")
    for line in left_out(examples, referenced, "questions"):
        _tell(console, f"{name}: {line}")
    return referenced


def write(path: str, content: dict[str, Any]) -> None:
    """Write a JSON file.

    Raises:
        QAError: If it cannot be written.
    """
    try:
        Path(path).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise QAError(f"cannot write {path}: {error.strerror}") from None


def _tell_cut(name: str, examples: Sequence[QAExample], loaded: LoadedRun, console: Console) -> None:
    limit = loaded.config.limits.max_source
    _, cut = encode_examples(examples, loaded.vocabulary, limit)
    if cut:
        _tell(
            console, f"{name}: {cut} of {len(examples)} sources are longer than {limit} tokens and were cut"
        )


def _tell(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    run_command(main)
