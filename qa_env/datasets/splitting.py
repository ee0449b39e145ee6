"""Splits a list of questions by passage, and keeps splits apart that were given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from qa_env.datasets.example import QADataset, QAExample
from qa_env.errors import QAError


def split_dataset(
    examples: Sequence[QAExample],
    *,
    labelled: int,
    validation: float = 0.1,
    test: float = 0.2,
    seed: int,
    abstain: bool = False,
) -> QADataset:
    """Splits examples by passage.

    All questions with answers that share a context lie in one split (without a context: those with the
    same text); case and blanks make no difference. Test and validation are filled first, by whole passages,
    until they have their share of the questions with answers; then exactly ``labelled`` questions are taken;
    the rest is unlabelled. Where the last labelled passage has more questions than are needed, the surplus
    is left out.

    Questions without answers are unlabelled, unless their passage lies in validation or test; then they are
    left out. So are unanswerable questions, unless abstaining is to be learned: then they count as answered.

    Args:
        examples: What ``load_examples`` gave.
        labelled: How many questions supervised training gets.
        validation: The share of the questions with answers for validation.
        test: The share of the questions with answers for the test.
        seed: The same seed gives the same splits.
        abstain: Whether unanswerable questions are kept.

    Returns:
        The splits, and as collection the distinct contexts.

    Raises:
        QAError: A number is out of range, no question has an answer, or there are too few.
    """
    _check_shares(labelled, validation, test)
    usable = [example for example in examples if abstain or not example.unanswerable]
    passages = _with_answers(usable, len(examples))
    answered = sum(len(group) for group in passages)
    shuffled = [passages[index] for index in np.random.default_rng(seed).permutation(len(passages))]
    in_test = _take(shuffled, round(test * answered))
    in_validation = _take(shuffled, round(validation * answered))
    in_labelled = _take(shuffled, labelled)[:labelled]
    _check_enough(
        {
            "test": (len(in_test), 1 if test else 0),
            "validation": (len(in_validation), 1 if validation else 0),
            "labelled": (len(in_labelled), labelled),
        },
        f"{answered} in all, in {len(passages)} passages",
    )
    evaluated = {_passage(example) for example in (*in_test, *in_validation)}
    unanswered = [e for e in usable if not e.references and _passage(e) not in evaluated]
    return QADataset(
        labelled=tuple(in_labelled),
        unlabelled=(*(example for group in shuffled for example in group), *unanswered),
        validation=tuple(in_validation),
        test=tuple(in_test),
        collection=tuple(dict.fromkeys(example.context for example in examples if example.context)),
    )


def _with_answers(examples: Sequence[QAExample], given: int) -> list[list[QAExample]]:
    """The examples that have references, those of a passage together; `given` is how many came in all."""
    passages: dict[tuple[bool, str], list[QAExample]] = {}
    for example in examples:
        if example.references:
            passages.setdefault(_passage(example), []).append(example)
    if not passages:
        raise QAError(
            f"no labelled question: expected at least one of the {given} questions to have answers, "
            "got none; write answers for some of them"
        )
    return list(passages.values())


def set_apart(
    splits: Mapping[str, Sequence[QAExample]],
) -> tuple[dict[str, list[QAExample]], list[str]]:
    """Takes care that no passage lies in two splits that were given.

    Args:
        splits: Questions by the split's name, those first that must stay whole.

    Returns:
        The splits without the questions whose passage lies in an earlier one, and a line for each split that
        lost some.
    """
    apart: dict[str, list[QAExample]] = {}
    lines = []
    where: dict[tuple[bool, str], str] = {}  # in which split a passage lies
    for name, examples in splits.items():
        apart[name] = [example for example in examples if _passage(example) not in where]
        lost = len(examples) - len(apart[name])
        if lost:
            others = " and ".join(dict.fromkeys(where[_passage(e)] for e in examples if _passage(e) in where))
            lines.append(
                f"{lost} of {len(examples)} {name} questions are on passages of the {others} data: left out"
            )
        where |= {_passage(example): name for example in apart[name]}
    return apart, lines


def _passage(example: QAExample) -> tuple[bool, str]:
    """What keeps questions together; the first part tells a context from a question of the same text."""
    text = example.question if example.context is None else example.context
    return example.context is not None, " ".join(text.casefold().split())


def _take(passages: list[list[QAExample]], count: int) -> list[QAExample]:
    """Takes whole passages off the list until there are ``count`` questions or none is left."""
    taken: list[QAExample] = []
    while passages and len(taken) < count:
        taken.extend(passages.pop())
    return taken


def _check_enough(splits: dict[str, tuple[int, int]], there_are: str) -> None:
    """Compares how many questions each split got with how many it needs."""
    for split, (found, wanted) in splits.items():
        if found < wanted:
            raise QAError(
                f"too few questions with answers: expected {wanted} or more for the {split} split, "
                f"got {found} ({there_are}); add some or ask for less"
            )


def _check_shares(labelled: int, validation: float, test: float) -> None:
    if labelled < 1:
        raise QAError(f"expected labelled to be 1 or more, got {labelled}; supervised training needs some")
    if not (0 <= validation < 1 and 0 <= test < 1 and validation + test < 1):
        raise QAError(
            f"expected validation and test to be shares from 0 to 1 with a sum below 1, got {validation} "
            f"and {test}; try 0.1 and 0.2"
        )
