"""What the feedback store holds, as plain data: raters, answers, queries, events."""

from __future__ import annotations

import hashlib
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args
from uuid import uuid4

from qa_env.errors import QAError
from qa_env.feedback import labels
from qa_env.feedback.store.checks import (
    check_choice,
    check_number,
    check_order,
    check_text,
    check_uuid,
    check_whole,
)

Role = Literal["user", "expert"]
Purpose = Literal["train", "uniform", "probe", "repeat"]
"""What a query is for: learning; an unbiased sample; a probe of the reward model; agreement with oneself."""
LABEL_VERSION = 1
"""The version of the labels' JSON that events are written with."""


@dataclass(frozen=True)
class Rater:
    """Somebody who gives feedback.

    Attributes:
        name: Its name, the key.
        role: ``user`` or ``expert``.
        created: When it was added, in unix seconds; None: now.
        disabled: Since when it is asked no more, in unix seconds; None if it is not disabled.
    """

    name: str
    role: Role = "user"
    created: float | None = None
    disabled: float | None = None

    def __post_init__(self) -> None:
        """Raise a QAError for a blank name, another role or a time that is none."""
        check_text("a rater's name", self.name)
        if not self.name.strip():
            raise QAError("a rater's name must not be blank")
        check_choice("a rater's role", self.role, get_args(Role))
        if self.created is not None:
            check_number("created", self.created)
        if self.disabled is not None:
            check_number("disabled", self.disabled)


@dataclass(frozen=True)
class AnswerRecord:
    """An answer with its question.

    Attributes:
        question: The question.
        text: The answer.
        context: The passage that went with the question.
        example_id: The id of the example in its data set.
        step: The environment step of the policy that wrote it; None if no policy did.
    """

    question: str
    text: str
    context: str | None = None
    example_id: str = ""
    step: int | None = None

    def __post_init__(self) -> None:
        """Raise a QAError for a blank question, or a text that is none."""
        check_text("a question", self.question)
        check_text("an answer", self.text)
        check_text("an example's id", self.example_id)
        if self.context is not None:
            check_text("a context", self.context)
        if not self.question.strip():
            raise QAError("a question must not be blank")
        if self.step is not None:
            check_whole("an answer's step", self.step, 0)

    @property
    def question_id(self) -> str:
        """The id of the question, see `labels.question_id`."""
        return labels.question_id(self.question, self.context)

    @property
    def id(self) -> str:
        """The id of the answer, see `labels.answer_id`."""
        return labels.answer_id(self.question, self.context, self.text)


@dataclass(frozen=True)
class Query:
    """Something to ask people: the same kind, answers and purpose are the same query.

    Attributes:
        kind: What is asked for.
        answers: The answers to judge, all to one question.
        purpose: What the labels are for.
        selector: What chose the query, for the record.
        priority: The highest is asked first.
        needed: How many raters are to answer it.
        expires: When it is asked no more, in unix seconds.
    """

    kind: labels.Kind
    answers: tuple[AnswerRecord, ...]
    purpose: Purpose = "train"
    selector: str = ""
    priority: float = 0.0
    needed: int = 1
    expires: float | None = None

    def __post_init__(self) -> None:
        """Raise a QAError if the answers do not fit the kind, or a field is outside its range."""
        object.__setattr__(self, "answers", tuple(self.answers))
        check_choice("a query's kind", self.kind, labels.KINDS)
        check_choice("a query's purpose", self.purpose, get_args(Purpose))
        check_text("a query's selector", self.selector)
        check_number("a query's priority", self.priority)
        if self.expires is not None:
            check_number("expires", self.expires)
        check_whole("a query's needed", self.needed, 1)
        self._check_answers()

    def _check_answers(self) -> None:
        number = len(self.answers)
        if self.kind == "ranking":
            if number < 2:
                raise QAError(f"a ranking query needs two or more answers, got {number}")
        elif number != (2 if self.kind == "pair" else 1):
            wanted = "two answers" if self.kind == "pair" else "one answer"
            raise QAError(f"a {self.kind} query needs {wanted}, got {number}")
        if len({answer.id for answer in self.answers}) < number:
            raise QAError(f"the answers of a {self.kind} query must differ")
        if len({answer.question_id for answer in self.answers}) > 1:
            raise QAError(f"the answers of a {self.kind} query must be to one question")

    @property
    def id(self) -> str:
        """A hash of kind, answers and purpose."""
        parts = ["query", self.kind, [answer.id for answer in self.answers], self.purpose]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class LeasedQuery:
    """A query that a rater holds until it answers or the time is up.

    Attributes:
        id: The query's id.
        kind: What is asked for.
        answers: The answers to judge.
        purpose: What the label is for.
        until: When the lease ends, in unix seconds.
    """

    id: str
    kind: labels.Kind
    answers: tuple[AnswerRecord, ...]
    purpose: Purpose
    until: float


@dataclass(frozen=True)
class FeedbackEvent:
    """One thing that a rater said; made once, never changed.

    Attributes:
        uuid: Made by whoever made the event, so that sending it again is no second label.
        query: The query's id.
        rater: The rater's name.
        label: What was said.
        created: When it was said, in unix seconds.
        unsure: The rater said that it may well be wrong.
        shown_order: The places of the query's answers in the order they were shown; empty if not known.
        latency: Seconds from showing to answering, if known.
        supersedes: The uuid of the rater's own event on the same query that this one replaces.
    """

    uuid: str
    query: str
    rater: str
    label: labels.Label
    created: float
    unsure: bool = False
    shown_order: tuple[int, ...] = ()
    latency: float | None = None
    supersedes: str | None = None

    def __post_init__(self) -> None:
        """Raise a QAError for a malformed field; uuids are brought to their usual form."""
        object.__setattr__(self, "uuid", check_uuid(self.uuid))
        if self.supersedes is not None:
            object.__setattr__(self, "supersedes", check_uuid(self.supersedes))
        check_text("a query's id", self.query)
        check_text("a rater's name", self.rater)
        if type(self.label) not in labels.LABELS.values():
            raise QAError(
                f"an event needs a label, one of {', '.join(labels.LABELS)}; got {self.label!r:.60}"
            )
        check_text("a label", labels.to_json(self.label))
        if not isinstance(self.unsure, bool):
            raise QAError(f"unsure must be true or false, got {self.unsure!r:.40}")
        object.__setattr__(self, "shown_order", check_order("shown_order", self.shown_order))
        check_number("created", self.created)
        if self.latency is not None:
            check_number("a latency", self.latency)
            if self.latency < 0:
                raise QAError(f"a latency must be 0 s or more, got {self.latency}")

    @classmethod
    def new(
        cls,
        query: str,
        rater: str,
        label: labels.Label,
        *,
        unsure: bool = False,
        shown_order: Sequence[int] = (),
        latency: float | None = None,
        supersedes: str | None = None,
        created: float | None = None,
        uuid: str | None = None,
    ) -> FeedbackEvent:
        """An event with a new uuid and of this moment, where they are left out."""
        now = time.time() if created is None else created
        key = str(uuid4()) if uuid is None else uuid
        return cls(key, query, rater, label, now, unsure, tuple(shown_order), latency, supersedes)


@dataclass(frozen=True)
class StoredEvent:
    """An event as the store keeps it.

    Attributes:
        seq: Its place in the order of commits, from 1, with gaps: the cursor of `Store.events`.
        event: The event.
        kind: The kind of its query.
        answers: The ids of its query's answers.
        purpose: The purpose of its query.
    """

    seq: int
    event: FeedbackEvent
    kind: labels.Kind
    answers: tuple[str, ...]
    purpose: Purpose

    @property
    def judgement(self) -> labels.Judgement:
        """What aggregation reads of it."""
        return labels.Judgement(self.event.rater, self.answers, self.event.label, self.event.unsure)


@dataclass(frozen=True)
class Stats:
    """The contents of a store in numbers.

    Attributes:
        raters: The raters.
        questions: How many questions there are.
        answers: How many answers.
        queries: How many queries were ever asked.
        open: How many of them still wait for labels.
        labels: How many labels stand, by form; superseded ones and skips are left out.
        skips: How many skips stand.
        superseded: How many events were replaced by later ones.
        latencies: The known latencies of the labels, in seconds.
    """

    raters: tuple[Rater, ...]
    questions: int
    answers: int
    queries: int
    open: int
    labels: Mapping[str, int]
    skips: int
    superseded: int
    latencies: tuple[float, ...] = field(repr=False)

    @property
    def latency_median(self) -> float | None:
        """The median latency of a label in seconds; None if none is known."""
        return statistics.median(self.latencies) if self.latencies else None
