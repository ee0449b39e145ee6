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
        answers: Reference answers; the first is the main one. Empty: there is none, or nobody wrote it down.
        metadata: Anything else. Three keys are read by this package: ``value``, the short value that a
            right answer must contain ("Tokyo"); ``distractors``, a tuple of values of the same kind that
            a right answer must not contain; and ``unanswerable``, True if the context does not say.
    """

    id: str
    question: str
    context: str | None = None
    answers: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def unanswerable(self) -> bool:
        """Whether the right answer is to give none."""
        return self.metadata.get("unanswerable") is True

    @property
    def references(self) -> tuple[str, ...]:
        """The right answers; that to an unanswerable question is "" (Rajpurkar et al. 2018, SQuAD 2.0)."""
        return ("",) if self.unanswerable else self.answers


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
