"""Measure a finished run on any data: `python -m agents.evaluate RUN --data FILE`."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from rich.console import Console
from tyro.conf import Positional, UseAppendAction, arg

from agents.breakdown import by_type, check_field, error_lines, types_of, types_table, wrong_answers
from agents.commands import parse, run_command
from agents.data import left_out
from agents.decoding import SETTINGS_OF, DecodingConfig
from agents.evaluation import METRICS, OF_ABSTAINING, fitting_tables, report
from agents.held_out import OPTIONS, TEST, Setting, named, with_references
from agents.loading import BEST, LoadedRun, load_policy
from agents.passages import PassageIndex, collection_of
from agents.runs import Run
from qa_env.datasets import QAExample
from qa_env.errors import QAError
from qa_env.task import encode_examples

Files = Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="[NAME=]FILE")]


@dataclass(frozen=True)
class EvaluateCommand:
    """Measure the policy of a run, a column of the table for each setting."""

    run: Annotated[Positional[str], arg(metavar="RUN")]
    """The run's folder."""
    data: Files = ()
    """A .jsonl, .csv or SQuAD .json file (or .gz of it), or what else ``train.py --data`` takes, or "test",
    the run's own test questions; if you like with a name for the column, other-domain=FILE. May be given
    several times. If no option names any questions: test."""
    closed_book: Files = ()
    """As --data, but the questions' contexts are withheld."""
    look_up: Files = ()
    """As --data, but instead of their contexts passages are looked up in the run's collection."""
    passages: int = 6
    """With --look-up, how many passages for a question."""
    by: Annotated[str | None, arg(metavar="FIELD")] = None
    """The field of the data that holds a question's type. Default: its interrogative word."""
    errors: int = 0
    """How many wrong answers of each setting are shown, spread over the types."""
    checkpoint: str = BEST
    """Which weights of the run: model.safetensors, or warm_start.safetensors for before RL."""
    out: str | None = None
    """Also write everything to this JSON file; a name that ends in .csv: the numbers alone."""
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    feedback: str | None = None
    """With --decoding.method best-of-n, who chooses: a built-in reward (f1, value, ...), "simulated" (the
    run's users) or module:attr. One that reads reference answers chooses by what the table measures."""


@dataclass(frozen=True)
class Outcome:
    """What one setting has given.

    Attributes:
        report: The metrics.
        types: The metrics by type of question.
        errors: Examples of wrong answers.
    """

    report: dict[str, float]
    types: dict[str, dict[str, float]]
    errors: list[dict[str, Any]]


def main(arguments: Sequence[str]) -> None:
    """Print the tables, and what of the data could not be measured."""
    command = parse(EvaluateCommand, arguments, prog="python -m agents.evaluate")
    settings = check(command)
    run = Run.open(command.run)
    loaded = load_policy(run, command.checkpoint)
    console = Console()
    settings = named(settings, loaded.config)
    questions = {setting.name: setting.questions(loaded.config) for setting in settings}
    check_field(command.by, [example for examples in questions.values() for example in examples])
    index = collection_of(run, "leave out --look-up") if command.look_up else None
    outcomes = {
        setting.name: measure(setting, questions[setting.name], command, loaded, index, console)
        for setting in settings
    }
    show(outcomes, command, run, console)
    if command.out is not None:
        write(command.out, command, run, settings, outcomes)


def check(command: EvaluateCommand) -> list[Setting]:
    """The settings that a command asks for.

    Raises:
        QAError: If one is malformed, a number is out of range, or there is no folder for the file.
    """
    if command.out is not None and not Path(command.out).parent.is_dir():
        raise QAError(f"cannot write {command.out}: there is no folder {Path(command.out).parent}")
    if command.passages < 1:
        raise QAError(f"--passages must be 1 or more, got {command.passages}; --closed-book is without any")
    if command.errors < 0:
        raise QAError(f"--errors must be 0 or more, got {command.errors}")
    asked = (command.data, command.closed_book, command.look_up)
    settings = [
        Setting.parse(text, reads) for texts, reads in zip(asked, OPTIONS, strict=True) for text in texts
    ]
    return settings or [Setting("", TEST, "contexts")]


def measure(
    setting: Setting,
    questions: Sequence[QAExample],
    command: EvaluateCommand,
    loaded: LoadedRun,
    index: PassageIndex | None,
    console: Console,
) -> Outcome:
    """Answer the questions of a setting, and judge the answers."""
    referenced = with_references(setting.name, questions)
    examples = setting.sources(referenced, index, command.passages)
    for line in left_out(questions, referenced, "questions"):
        _tell(console, f"{setting.name}: {line}")
    _tell_without(setting, examples, console)
    _tell_cut(setting.name, examples, loaded, console)
    answers = loaded.answers(examples, command.decoding, command.feedback)
    measured = loaded.judge.measure(examples, answers)
    types = types_of(examples, command.by)
    return Outcome(
        {**report(measured, examples, answers), "examples": len(examples)},
        by_type(types, measured),
        wrong_answers(examples, answers, types, measured, command.errors),
    )


def title(command: EvaluateCommand, run: Run) -> str:
    """What was measured: the run, its weights and, if not greedily, how the answers were written."""
    decoding = command.decoding
    settings = [f"{name} {getattr(decoding, name)}" for name in SETTINGS_OF[decoding.method]]
    chooser = [] if command.feedback is None else [f"chosen by {command.feedback}"]
    how = [] if decoding.method == "greedy" else [" ".join((decoding.method, *chooser)), *settings]
    return ", ".join([run.folder.name, command.checkpoint, *how])


def show(outcomes: Mapping[str, Outcome], command: EvaluateCommand, run: Run, console: Console) -> None:
    """Print the tables and the errors."""
    reports = {name: outcome.report for name, outcome in outcomes.items()}
    for table in fitting_tables(reports, title(command, run), console):
        console.print(table)
    kinds = {name: outcome.types for name, outcome in outcomes.items()}
    console.print(types_table(kinds, f"by {command.by or 'interrogative word'}", console))
    for name, outcome in outcomes.items():
        if command.errors:
            _tell(console, f"\nwrong answers, {name}:")
        for error in outcome.errors:
            _tell(console, error_lines(error))


def write(
    path: str,
    command: EvaluateCommand,
    run: Run,
    settings: Sequence[Setting],
    outcomes: Mapping[str, Outcome],
) -> None:
    """Write a file: the numbers as CSV, or everything as JSON.

    Raises:
        QAError: If it cannot be written.
    """
    content = {
        "run": str(run.folder),
        "checkpoint": command.checkpoint,
        "decoding": asdict(command.decoding),
        "feedback": command.feedback,
        "by": command.by,
        "settings": {setting.name: {"data": setting.data, "reads": setting.reads} for setting in settings},
        "reports": {name: outcome.report for name, outcome in outcomes.items()},
        "types": {name: outcome.types for name, outcome in outcomes.items()},
        "errors": {name: outcome.errors for name, outcome in outcomes.items()},
    }
    try:
        with open(path, "w", newline="", encoding="utf-8") as file:
            if path.lower().endswith(".csv"):
                csv.writer(file, lineterminator="\n").writerows(figures(outcomes))
            else:
                file.write(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    except OSError as error:
        raise QAError(f"cannot write {path}: {error.strerror}") from None


def figures(outcomes: Mapping[str, Outcome]) -> list[tuple[object, ...]]:
    """The rows of a CSV file: ``setting/metric`` and ``setting/type/metric`` with their intervals."""
    rows: list[tuple[object, ...]] = [("figure", "value", "low", "high", "unit", "runs")]
    for name, outcome in outcomes.items():
        types = {f"{name}/{kind}": numbers for kind, numbers in outcome.types.items()}
        for place, numbers in {name: outcome.report, **types}.items():
            for metric in ("examples", *METRICS, *OF_ABSTAINING):
                if metric in numbers:
                    unit = {"examples": "questions", "length": "words"}.get(metric, "share")
                    ends = (numbers.get(f"{metric}_{end}", "") for end in ("low", "high"))
                    rows.append((f"{place}/{metric}", numbers[metric], *ends, unit, 1))
    return rows


def _tell_without(setting: Setting, examples: Sequence[QAExample], console: Console) -> None:
    """Tell how many questions have nothing to read."""
    without = sum(example.context is None for example in examples)
    if without and setting.reads != "nothing":
        why = "no context" if setting.reads == "contexts" else "no word in common with any passage"
        told = f"{without} of {len(examples)} questions have {why}: asked closed book"
        _tell(console, f"{setting.name}: {told}")


def _tell_cut(name: str, examples: Sequence[QAExample], loaded: LoadedRun, console: Console) -> None:
    limit = loaded.config.limits.max_source
    _, cut = encode_examples(examples, loaded.vocabulary, limit)
    if cut:
        told = f"{cut} of {len(examples)} sources are longer than {limit} tokens: some sentences are left out"
        _tell(console, f"{name}: {told}")


def _tell(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)


if __name__ == "__main__":
    run_command(main)
