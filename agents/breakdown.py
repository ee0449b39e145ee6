"""Where answers go wrong: the metrics by type of question, and examples of errors."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agents.config import suggest
from agents.evaluation import GAPS, FloatArray, add_numbers, cell, fits, summary
from agents.question_types import interrogative
from qa_env.datasets import QAExample
from qa_env.errors import QAError

SHOWN = 20
"""Types of a setting in the printed table; the most frequent ones."""
MAIN = ("accuracy", "exact_match", "f1")
"""The metrics of the printed table."""
FEW = 10
"""Below so many questions of a type there is no interval: resamples of so few are too much alike."""
REFERENCES = 3
"""Of a question that are printed."""
ByType = dict[str, dict[str, float]]


def check_field(by: str | None, examples: Sequence[QAExample]) -> None:
    """Check that some example has the field.

    Raises:
        QAError: If none has; it names the fields that there are.
    """
    known = sorted({key for example in examples for key in example.metadata})
    if by is not None and by not in known:
        there = suggest(by, known) if known else "; the data has no fields but question, context and answers"
        raise QAError(f"--by {by}: no question has this field{there}")


def types_of(examples: Sequence[QAExample], by: str | None) -> list[str]:
    """The type of each question: its metadata field `by`, else its interrogative word."""
    if by is None:
        return [interrogative(example.question) for example in examples]
    return [_written(example.metadata.get(by), by) for example in examples]


def _written(value: Any, by: str) -> str:
    if value is None:
        return f"(no {by})"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def by_type(types: Sequence[str], measured: Mapping[str, FloatArray]) -> ByType:
    """Means and intervals of each type's answers, the most frequent type first.

    Types that are as frequent as each other stand in the order of their names, numbers by their size.
    """
    counts, array = Counter(types), np.array(types)
    result: ByType = {}
    for kind in sorted(counts, key=lambda kind: (-counts[kind], *_by_number(kind))):
        numbers = summary({name: values[array == kind] for name, values in measured.items()})
        if counts[kind] < FEW:
            numbers = {name: numbers[name] for name in measured}
        result[kind] = {"examples": counts[kind], **numbers}
    return result


def _by_number(name: str) -> tuple[str, int]:
    """A key that sorts "qa9" before "qa10"."""
    letters, digits, _ = re.split(r"(\d+|$)", name, maxsplit=1)
    return letters, int(digits or 0)


def types_table(settings: Mapping[str, ByType], title: str, console: Console) -> Table:
    """A table with a row a type, the settings one below the other."""
    one_line, two_lines = (_types_table(settings, title, gap) for gap in GAPS)
    return one_line if fits(one_line, console) else two_lines


def _types_table(settings: Mapping[str, ByType], title: str, gap: str) -> Table:
    table = Table(title=title)
    table.add_column("type", overflow="fold")
    table.add_column("questions", justify="right")
    reports = [report for kinds in settings.values() for report in kinds.values()]
    for metric in MAIN:
        add_numbers(table, metric, [cell(report, metric, gap) for report in reports])
    for name, kinds in settings.items():
        table.add_section()
        if len(settings) > 1:
            table.add_row(Text(name, "bold"))
        for kind, report in list(kinds.items())[:SHOWN]:
            numbers = (cell(report, metric, gap) for metric in MAIN)
            table.add_row(Text(kind), f"{report['examples']:,}", *numbers)
        rest = [report["examples"] for report in list(kinds.values())[SHOWN:]]
        if rest:
            table.add_row(f"({len(rest)} more types)", f"{sum(rest):,}")
    return table


def wrong_answers(
    examples: Sequence[QAExample],
    answers: Sequence[str],
    types: Sequence[str],
    measured: Mapping[str, FloatArray],
    count: int,
) -> list[dict[str, Any]]:
    """Some of the wrong answers, always the same ones: the types take turns, each with its worst F1 first.

    Wrong is what is neither accurate nor an exact match. Among answers with the same F1 a fixed draw decides
    which comes first, since neighbours in a file ask about the same passage.

    Args:
        examples: The questions.
        answers: Their answers.
        types: Their types.
        measured: What `Judge.measure` gave.
        count: How many, at most.
    """
    wrong = (measured["accuracy"] == 0) & (measured["exact_match"] == 0)
    drawn = np.random.default_rng(0).permutation(len(examples))
    worst = drawn[np.argsort(measured["f1"][drawn], kind="stable")]
    turns: Counter[str] = Counter()
    turn = {}
    for row in worst[wrong[worst]].tolist():
        turn[row] = turns[types[row]]
        turns[types[row]] += 1
    often = {kind: place for place, (kind, _) in enumerate(Counter(types).most_common())}
    rows = sorted(turn, key=lambda row: (turn[row], often[types[row]]))[:count]
    return [
        {
            "id": examples[row].id,
            "type": types[row],
            "question": examples[row].question,
            "answer": answers[row],
            "references": list(examples[row].references),
            "f1": float(measured["f1"][row]),
        }
        for row in rows
    ]


def error_lines(error: Mapping[str, Any]) -> str:
    """An error as it is printed."""
    every = error["references"]
    references = " | ".join(text or "(unanswerable)" for text in every[:REFERENCES])
    if len(every) > REFERENCES:
        references += f" | … {len(every) - REFERENCES} more"
    return (
        f"Q [{error['type']}]: {error['question']}\n"
        f"   answer:    {error['answer'] or '(none)'}\n"
        f"   reference: {references}\n"
        f"   F1:        {error['f1']:.3f}"
    )
