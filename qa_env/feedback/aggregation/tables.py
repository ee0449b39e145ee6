"""Judgements as arrays: one row for each thing that a label says."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from qa_env.feedback.aggregation.config import AggregationConfig, Roles
from qa_env.feedback.aggregation.forms import PERCENT, PERCENT_BINS, RATING, THUMB, OrdinalForm, paired
from qa_env.feedback.aggregation.likelihoods import IntArray, order_weights, random_order
from qa_env.feedback.base import FloatArray
from qa_env.feedback.labels import (
    Correction,
    Judgement,
    Pair,
    Percent,
    Ranking,
    Rating,
    Skip,
    Thumb,
    form,
)


@dataclass(frozen=True)
class Rows:
    """What grades and rankings have in common; each array has one entry a row.

    Attributes:
        rater: Whose, an index.
        answers: About which, indices of shape ``(rows, answers)``.
        uniform: The chance of the label if it were given at random.
        unsure: The share of random labels beyond lapses.
        weight: How many labels of a user it counts for.
    """

    rater: IntArray
    answers: IntArray
    uniform: FloatArray
    unsure: FloatArray
    weight: FloatArray


@dataclass(frozen=True)
class Grades:
    """Labels of one ordinal form: grades `low` to `high` - 1, from 0, of an answer or of a difference of two.

    Attributes:
        rows: Whose they are, and about what.
        form: Their form.
        low: Index of the cut point below, shape ``(rows,)``.
        high: Index of the cut point above.
    """

    rows: Rows
    form: OrdinalForm
    low: IntArray
    high: IntArray


@dataclass(frozen=True)
class Rankings:
    """Rankings of one number of answers.

    Attributes:
        rows: Whose they are, and about what.
        places: `order_weights` of their ranks, shape ``(answers, answers, rows)``.
    """

    rows: Rows
    places: FloatArray


@dataclass(frozen=True)
class Table:
    """All judgements.

    Attributes:
        answers: Ids, sorted; the rows speak of them by index.
        raters: Names, sorted.
        counts: How many judgements other than skips touched each answer, shape ``(answers,)``.
        labels: How many judgements other than skips each rater gave, shape ``(raters,)``.
        grades: For each ordinal form that occurs.
        rankings: For each number of answers that was ranked.
    """

    answers: tuple[str, ...]
    raters: tuple[str, ...]
    counts: IntArray
    labels: IntArray
    grades: tuple[Grades, ...]
    rankings: tuple[Rankings, ...]

    def links(self) -> IntArray:
        """Pairs of answers that a label names together, shape ``(links, 2)``."""
        pairs = [np.empty((0, 2), dtype=np.int64)]
        tables: tuple[Grades | Rankings, ...] = (*self.grades, *self.rankings)
        for answers in [table.rows.answers for table in tables]:
            pairs += [answers[:, at : at + 2] for at in range(answers.shape[1] - 1)]
        return np.concatenate(pairs)


class _Said(NamedTuple):
    """One thing that a judgement says: a grade between two cut points, or a ranking (both 0)."""

    judgement: Judgement
    form: str
    answers: tuple[str, ...]
    low: int = 0
    high: int = 0


def read(judgements: Sequence[Judgement], roles: Roles, config: AggregationConfig) -> Table:
    """Sort the judgements into tables; their order does not matter."""
    judgements = sorted(judgements, key=lambda j: (j.rater, j.answers, repr(j.label), j.unsure))
    answers = {a: at for at, a in enumerate(sorted({a for j in judgements for a in j.answers}))}
    raters = {r: at for at, r in enumerate(sorted({j.rater for j in judgements}))}
    opinions = [judgement for judgement in judgements if not isinstance(judgement.label, Skip)]
    counts = Counter(answer for judgement in opinions for answer in set(judgement.answers))
    labels = Counter(judgement.rater for judgement in opinions)
    pair = _pair_form(opinions)
    said: dict[tuple[str, int], list[_Said]] = defaultdict(list)
    for judgement in opinions:
        for part in _parts(judgement, pair):
            said[part.form, len(part.answers)].append(part)

    index = _Index(answers, raters, _weights(opinions, roles, config), config.unsure)
    grades, rankings = [], []
    for (name, number), parts in sorted(said.items()):
        if name == "ranking":
            places = order_weights(np.array([_ranks(part.judgement) for part in parts]).T)
            rankings.append(Rankings(index.rows(parts, np.full(len(parts), random_order(number))), places))
        else:
            ordinal = {"rating": RATING, "percent": PERCENT, "thumb": THUMB, "pair": pair}[name]
            low, high = np.array([(part.low, part.high) for part in parts]).T
            grades.append(Grades(index.rows(parts, (high - low) / ordinal.grades), ordinal, low, high))
    return Table(
        tuple(answers),
        tuple(raters),
        np.array([counts[answer] for answer in answers], dtype=np.int64),
        np.array([labels[rater] for rater in raters], dtype=np.int64),
        tuple(grades),
        tuple(rankings),
    )


class _Index(NamedTuple):
    answers: Mapping[str, int]
    raters: Mapping[str, int]
    weights: Mapping[Judgement, float]
    unsure: float

    def rows(self, parts: Sequence[_Said], uniform: FloatArray) -> Rows:
        return Rows(
            np.array([self.raters[part.judgement.rater] for part in parts]),
            np.array([[self.answers[answer] for answer in part.answers] for part in parts]),
            uniform,
            np.array([self.unsure * part.judgement.unsure for part in parts]),
            np.array([self.weights[part.judgement] for part in parts]),
        )


def _pair_form(judgements: Sequence[Judgement]) -> OrdinalForm:
    pairs = [judgement.label for judgement in judgements if isinstance(judgement.label, Pair)]
    return paired(any(pair.choice == "tie" for pair in pairs), any(pair.strength > 1 for pair in pairs))


def _weights(
    judgements: Sequence[Judgement], roles: Roles, config: AggregationConfig
) -> dict[Judgement, float]:
    """What each judgement weighs: repetitions as one, and one rater's of an answer at most the cap."""

    def query(judgement: Judgement) -> tuple[str, str, tuple[str, ...]]:
        return judgement.rater, form(judgement.label), tuple(sorted(judgement.answers))

    repeated = Counter(query(judgement) for judgement in judgements)
    total: dict[tuple[str, str], float] = defaultdict(float)
    for rater, _, answers in repeated:
        for answer in set(answers):
            total[rater, answer] += 1.0
    weights = {}
    for judgement in judgements:
        most = max(total[judgement.rater, answer] for answer in judgement.answers)
        role = config.expert_weight if roles.get(judgement.rater) == "expert" else 1.0
        weights[judgement] = role * min(1.0, config.rater_cap / most) / repeated[query(judgement)]
    return weights


def _parts(judgement: Judgement, pair: OrdinalForm) -> Iterator[_Said]:
    """All that one judgement says."""
    label, answers = judgement.label, judgement.answers
    match label:
        case Rating():
            yield _Said(judgement, "rating", answers, int(label.low) - 1, int(label.high))
        case Percent():
            yield _Said(judgement, "percent", answers, _tens(label.low), _tens(label.high) + 1)
        case Thumb():
            yield _Said(judgement, "thumb", answers, int(label.up), int(label.up) + 1)
        case Correction():
            yield _Said(judgement, "thumb", answers, 0, 1)
        case Pair(choice="both_wrong"):
            for answer in answers:
                yield _Said(judgement, "thumb", (answer,), 0, 1)
        case Pair():
            grade = _place(label, pair.grades)
            yield _Said(judgement, "pair", answers, grade, grade + 1)
        case Ranking():
            yield _Said(judgement, "ranking", answers)


def _ranks(judgement: Judgement) -> tuple[int, ...]:
    assert isinstance(judgement.label, Ranking)
    return judgement.label.ranks


def _tens(value: float) -> int:
    return min(int(value * PERCENT_BINS / 100), PERCENT_BINS - 1)


def _place(pair: Pair, grades: int) -> int:
    """The grade of a choice among those from "second is far better" to "first is far better"."""
    steps, ties = divmod(grades, 2)
    if pair.choice == "second":
        return steps - pair.strength
    return steps if pair.choice == "tie" else steps + ties + pair.strength - 1
