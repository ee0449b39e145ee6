"""What a person can say of answers, as data: one class for each form of label, checked when it is made.

A label is kept as it was given. What it means for the answers' quality is the business of
`qa_env.feedback.aggregation`; "precise" and "fuzzy" differ only in the label (a range in place of a number,
``unsure``), never in where it is kept.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from qa_env.errors import QAError

Kind = Literal["rating", "percent", "thumb", "pair", "ranking", "correction"]
"""What a query asks for. A rating is from 1 to 5; a percentage from 0 to 100."""
KINDS: tuple[Kind, ...] = get_args(Kind)
SCALES: dict[str, tuple[float, float]] = {"rating": (1, 5), "percent": (0, 100)}
"""Least and greatest value of the kinds that are numbers. A rating is whole, a percentage need not be."""
STRENGTHS = (1, 2, 3)
"""Slightly, clearly, far better."""
Choice = Literal["first", "second", "tie", "both_wrong"]


@dataclass(frozen=True)
class Rating:
    """From 1 to 5 stars; a range, such as 3 to 4, if the person could not decide."""

    low: int
    high: int

    def __post_init__(self) -> None:
        """Raise a QAError outside the scale."""
        _check_range("rating", self.low, self.high)
        if self.low != int(self.low) or self.high != int(self.high):
            raise QAError(f"a rating must be a whole number from 1 to 5, got {self.low} to {self.high}")
        # JSON may say 3.0, which must not be kept as another label than 3.
        object.__setattr__(self, "low", int(self.low))
        object.__setattr__(self, "high", int(self.high))


@dataclass(frozen=True)
class Percent:
    """Satisfaction from 0 to 100, or a range."""

    low: float
    high: float

    def __post_init__(self) -> None:
        """Raise a QAError outside the scale."""
        _check_range("percent", self.low, self.high)


@dataclass(frozen=True)
class Thumb:
    """Up or down."""

    up: bool

    def __post_init__(self) -> None:
        """Raise a QAError if it is neither."""
        if not isinstance(self.up, bool):
            raise QAError(f"a thumb must be true (up) or false (down), got {self.up!r:.40}")


@dataclass(frozen=True)
class Pair:
    """Which of two answers is better, and how much.

    ``first`` and ``second`` are places in the query, not on the screen. ``both_wrong`` says that neither
    will do, and nothing of which is better.
    """

    choice: Choice
    strength: int = 1

    def __post_init__(self) -> None:
        """Raise a QAError for another choice or strength."""
        if self.choice not in get_args(Choice):
            raise QAError(f"a choice must be one of {', '.join(get_args(Choice))}; got {self.choice!r:.40}")
        if not _is_whole(self.strength) or self.strength not in STRENGTHS:
            raise QAError(f"a strength must be 1, 2 or 3, got {self.strength!r:.40}")


@dataclass(frozen=True)
class Ranking:
    """A rank for each answer of the query, 1 the best; answers may share one."""

    ranks: tuple[int, ...]

    def __post_init__(self) -> None:
        """Raise a QAError unless there are at least two ranks, whole and from 1."""
        ranks = tuple(self.ranks) if isinstance(self.ranks, Sequence) else ()
        if len(ranks) < 2 or not all(_is_whole(r) and r >= 1 for r in ranks):
            raise QAError(f"a ranking needs two or more ranks from 1, got {self.ranks!r:.60}")
        object.__setattr__(self, "ranks", ranks)


@dataclass(frozen=True)
class Correction:
    """How the answer should have read: an example to learn, and better than the answer that was shown."""

    text: str

    def __post_init__(self) -> None:
        """Raise a QAError if there is no text."""
        if not isinstance(self.text, str) or not self.text.strip():
            raise QAError("a correction must be a text that is not blank")


@dataclass(frozen=True)
class Skip:
    """No opinion, and why; any kind of query may be skipped."""

    reason: str = ""

    def __post_init__(self) -> None:
        """Raise a QAError if the reason is no text."""
        if not isinstance(self.reason, str):
            raise QAError(f"the reason of a skip must be a text, got {self.reason!r:.40}")


Label = Rating | Percent | Thumb | Pair | Ranking | Correction | Skip
LABELS: dict[str, type[Any]] = {
    "rating": Rating,
    "percent": Percent,
    "thumb": Thumb,
    "pair": Pair,
    "ranking": Ranking,
    "correction": Correction,
    "skip": Skip,
}
"""The class of a label by its form's name: those of `KINDS`, and ``skip``."""
_FORMS = {label: form for form, label in LABELS.items()}


@dataclass(frozen=True)
class Judgement:
    """What one rater said of the answers of one query: all that aggregation and learning read.

    Attributes:
        rater: Whose it is.
        answers: The ids of the answers, in the query's order; as many as the label speaks of.
        label: What was said.
        unsure: The rater said that it may well be wrong.
    """

    rater: str
    answers: tuple[str, ...]
    label: Label
    unsure: bool = False

    def __post_init__(self) -> None:
        """Raise a QAError if the label does not fit the number of answers."""
        check_number(self.label, len(self.answers))


def form(label: Label) -> str:
    """The name of the label's form, a key of `LABELS`."""
    return _FORMS[type(label)]


def check_number(label: Label, answers: int) -> None:
    """Raise a QAError if a label cannot be about so many answers."""
    if isinstance(label, Skip):
        return
    wanted = 2 if isinstance(label, Pair) else len(label.ranks) if isinstance(label, Ranking) else 1
    if answers != wanted:
        raise QAError(f"a {form(label)} of {wanted} answers was given to a query of {answers}")


def to_json(label: Label) -> str:
    """The label as a JSON object with its form, e.g. ``{"form": "thumb", "up": true}``."""
    return json.dumps({"form": form(label), **dataclasses.asdict(label)}, ensure_ascii=False, sort_keys=True)


def from_json(text: str) -> Label:
    """The label that `to_json` wrote.

    Raises:
        QAError: If it is no such object, has an unknown form or field, or a value outside its scale.
    """
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise QAError(f"a label must be JSON, got {text!r:.60} ({error.msg})") from None
    if not isinstance(values, Mapping):
        raise QAError(f"a label must be a JSON object, got {text!r:.60}")
    fields = dict(values)
    name = fields.pop("form", None)
    if not isinstance(name, str) or name not in LABELS:
        raise QAError(f"a label's form must be one of {', '.join(LABELS)}; got {name!r:.40}")
    if isinstance(fields.get("ranks"), list):
        fields["ranks"] = tuple(fields["ranks"])
    try:
        label: Label = LABELS[name](**fields)
    except TypeError:
        wanted = ", ".join(field.name for field in dataclasses.fields(LABELS[name]))
        raise QAError(f"a {name} has the fields {wanted}; got {', '.join(fields) or 'none'}") from None
    return label


def question_id(question: str, context: str | None) -> str:
    """An id that the same question with the same context has everywhere."""
    return _hash("question", question, context or "")


def answer_id(question: str, context: str | None, answer: str) -> str:
    """An id that the same answer to the same question has everywhere: labels of it add up."""
    return _hash("answer", question_id(question, context), answer)


def _hash(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode()).hexdigest()[:32]


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_range(kind: str, low: float, high: float) -> None:
    least, greatest = SCALES[kind]
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (low, high))
    if not numbers or not all(math.isfinite(v) for v in (low, high)) or not least <= low <= high <= greatest:
        raise QAError(f"a {kind} must be from {least:g} to {greatest:g}, got {low!r:.20} to {high!r:.20}")
