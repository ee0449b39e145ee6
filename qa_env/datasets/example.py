"""One question with what is known about it, and the splits that training works on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class QAExample:
    """A question, an optional context passage and the reference answers.

    Attributes:
        id: Unique within its data set.
        question: The question's text.
        context: The passage to read, or None (closed book).
        answers: Reference answers; the first is the main one. Empty: nobody has written one.
        metadata: Anything else. Two keys are read by this package: ``value``, the short value that a
            right answer must contain ("Tokyo"), and ``distractors``, a tuple of values of the same
            kind that a right answer must not contain.
    """

    id: str
    question: str
    context: str | None = None
    answers: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class QADataset:
    """The four splits of a data set, and the passages in which answers can be looked up.

    Attributes:
        labelled: Few questions whose reference answers supervised training may read.
        unlabelled: Many questions that are answered for feedback; training never reads their
            reference answers.
        validation: Questions on which choices are made (early stopping, best checkpoint).
        test: Questions for the report alone.
        collection: Passages for retrieval when a question comes without a context.
        notes: Lines that say what was left out of the splits, and why.
    """

    labelled: tuple[QAExample, ...]
    unlabelled: tuple[QAExample, ...]
    validation: tuple[QAExample, ...]
    test: tuple[QAExample, ...]
    collection: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
