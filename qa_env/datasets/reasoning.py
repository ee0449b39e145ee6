"""Questions made by the task generators of `reasoning-gym`, which check answers themselves."""

from __future__ import annotations

import difflib
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

from qa_env.datasets.example import QAExample
from qa_env.errors import QAError

REASONING = "reasoning-gym:"
"""What the names of these tasks begin with."""
SIZE = 1000
"""Questions that are made if no number is given."""
SPREAD = 1_000_000
"""Between the generator's seeds of two seeds in succession: it makes question i from its seed plus i, so that
seeds next to each other would share questions."""
ENTRY = "reasoning_gym"
"""Under this key the metadata hold the entry from which a question was made, as its scorer needs it."""


class TaskName(NamedTuple):
    """A name in its parts: the task, how many questions, and the seed of their making."""

    task: str
    size: int
    seed: int

    @classmethod
    def parse(cls, text: str) -> TaskName:
        """Takes ``reasoning-gym:TASK[:SIZE[:SEED]]`` apart.

        Raises:
            QAError: It is of another form.
        """
        task, *numbers = text.removeprefix(REASONING).split(":")
        if not task or len(numbers) > 2 or not all(number.isdecimal() for number in numbers):
            raise QAError(
                f"expected {REASONING}TASK[:SIZE[:SEED]], such as {REASONING}leg_counting:500, got '{text}'"
            )
        size, seed = [int(number) for number in numbers] + [SIZE, 0][len(numbers) :]
        if size < 1:
            raise QAError(f"{text}: expected a size of 1 or more, got {size}")
        return cls(task, size, seed)


def check_reasoning(text: str) -> None:
    """Raise a QAError if there is no such task, or the library is missing."""
    _find(TaskName.parse(text).task)


def load_reasoning(text: str) -> list[QAExample]:
    """Makes the questions of a task; the same name makes the same ones.

    Args:
        text: See `TaskName.parse`.

    Returns:
        The questions, without contexts. The generator's own answer is the reference, unless it has none.

    Raises:
        QAError: There is no such task, or the library is missing.
    """
    task, size, seed = TaskName.parse(text)
    _find(task)
    made = library().create_dataset(task, size=size, seed=SPREAD * seed)
    return [_example(made[place], f"{task}-{seed}-{place}") for place in range(size)]


def library() -> ModuleType:
    """The package itself.

    Raises:
        QAError: If it is not installed.
    """
    try:
        return import_module("reasoning_gym")
    except ImportError:
        raise QAError('reasoning-gym is not installed: pip install "qa-env-rl[reasoning]"') from None


def _find(task: str) -> None:
    """Raise a QAError if there is no such task; it suggests the nearest name."""
    known = library().factory.DATASETS
    if task not in known:
        near = difflib.get_close_matches(task, known, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else f": it has {', '.join(sorted(known)[:5])}, ..."
        raise QAError(f"reasoning-gym has no task '{task}'{hint}")


def _example(entry: dict[str, Any], made_id: str) -> QAExample:
    answer = entry["answer"]
    answers = (str(answer).strip(),) if answer is not None and str(answer).strip() else ()
    return QAExample(made_id, entry["question"].strip(), None, answers, {ENTRY: entry})
