"""What a reward model learns from: answers with what people's labels say of them, grouped by question."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agents.augmentation import Augmentation
from agents.decoding import Limits
from qa_env.datasets import QAExample
from qa_env.errors import QAError
from qa_env.feedback.aggregation import Roles, Terms
from qa_env.feedback.aggregation import aggregate as fit_aggregate
from qa_env.feedback.labels import Correction, Judgement, Pair
from qa_env.feedback.store import AnswerRecord
from qa_env.task import encode_examples
from qa_env.vocabulary import PAD, Vocabulary

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


def render(
    examples: Sequence[QAExample], answers: Sequence[str], vocabulary: Vocabulary, limits: Limits
) -> tuple[IntArray, IntArray]:
    """Questions and answers as a reward model reads them, when it is fitted and when it serves alike.

    Returns:
        Source ids ``(batch, max_source)``, and answer ids with EOS, ``(batch, max_answer)``; what is longer
        is cut.
    """
    source, _ = encode_examples(examples, vocabulary, limits.max_source)
    tokens = np.full((len(answers), limits.max_answer), PAD, dtype=np.int64)
    for row, ids in zip(tokens, vocabulary.encode_answers(answers), strict=True):
        kept = ids[: limits.max_answer]
        row[: len(kept)] = kept
    return source, tokens


@dataclass(frozen=True)
class RewardData:
    """Labelled answers as arrays.

    Attributes:
        source: Source ids of the questions, each once, ``(questions, source)``.
        question: Which question each answer belongs to, ``(answers,)``.
        tokens: The answers' ids, ``(answers, time)``.
        good: The posterior probability that the answer satisfies, ``(answers,)``.
        rows: What the labels say; `first` and `second` index the answers.
        scale: How steeply the average rater's rating depends on the quality.
        good_enough: The quality at which half of the average rater's ratings are 4 or 5.
    """

    source: IntArray
    question: IntArray
    tokens: IntArray
    good: FloatArray
    rows: Terms
    scale: float
    good_enough: float

    def __len__(self) -> int:
        return len(self.source)

    @classmethod
    def from_judgements(
        cls,
        judgements: Sequence[Judgement],
        records: Mapping[str, AnswerRecord],
        vocabulary: Vocabulary,
        limits: Limits,
        roles: Roles | None = None,
    ) -> RewardData:
        """What the labels of a feedback store say, given their raters' habits.

        Args:
            judgements: All that was said.
            records: The answers by id.
            vocabulary: Of the language model.
            limits: Longest source and answer.
            roles: Who is an expert.

        Raises:
            QAError: If no label says anything.
        """
        aggregate = fit_aggregate(judgements, roles)
        if not len(aggregate.terms.first):
            raise QAError("there is no label to learn from: every query was skipped, or none was answered")
        found = [records[answer] for answer in aggregate.quality]
        examples = [QAExample(r.question_id, r.question, r.context, ()) for r in found]
        source, tokens = render(examples, [r.text for r in found], vocabulary, limits)
        _, first, question = np.unique([e.id for e in examples], return_index=True, return_inverse=True)
        return cls(
            source[first],
            question.astype(np.int64),
            tokens,
            np.array([aggregate.satisfies(answer) for answer in aggregate.quality]),
            aggregate.terms,
            aggregate.average["rating"].scale,
            aggregate.good_enough,
        )

    def folds(self, number: int, seed: int) -> IntArray:
        """Which of so many parts each question is in, ``(questions,)``: parts of about the same size.

        A question stays in its part when others come: a fit that goes on from an earlier one is tested on
        questions that neither has learnt from.
        """
        drawn = np.array([zlib.crc32(row.tobytes(), seed) for row in self.source], dtype=np.int64)
        fold: IntArray = drawn * number // 2**32
        return fold

    def of(self, questions: IntArray) -> RewardData:
        """The answers to some questions, and what is said of them."""
        new_question = np.full(len(self), -1)
        new_question[questions] = np.arange(len(questions))
        answers = np.flatnonzero(new_question[self.question] >= 0)
        new_answer = np.full(len(self.question) + 1, -1)  # the last for a second answer that there is not
        new_answer[answers] = np.arange(len(answers))
        rows = self.rows.select(new_answer[self.rows.first] >= 0)
        return dataclasses.replace(
            self,
            source=self.source[questions],
            question=new_question[self.question[answers]],
            tokens=self.tokens[answers],
            good=self.good[answers],
            rows=rows._replace(first=new_answer[rows.first], second=new_answer[rows.second]),
        )

    def with_demonstrations(self, source: IntArray, tokens: IntArray) -> RewardData:
        """The same, and answers ``(batch, time)`` that are known to be good, of which no label speaks."""
        return dataclasses.replace(
            self,
            source=np.concatenate([self.source, source]),
            question=np.concatenate([self.question, np.arange(len(source)) + len(self)]),
            tokens=np.concatenate([self.tokens, tokens]),
            good=np.concatenate([self.good, np.ones(len(source))]),
        )

    def augmented(self, augmentation: Augmentation, rng: np.random.Generator) -> RewardData:
        """What is said of changed questions: all answers to a question are changed in the same way."""
        order = np.argsort(self.question, kind="stable")
        number = np.bincount(self.question, minlength=len(self))
        within = np.empty(len(order), dtype=np.int64)
        within[order] = np.arange(len(order)) - np.repeat(np.cumsum(number) - number, number)
        grid = np.full((len(self), int(number.max()), self.tokens.shape[1]), PAD, dtype=np.int64)
        grid[self.question, within] = self.tokens
        source, changed = augmentation(self.source, grid.reshape(len(self), -1), rng)
        tokens = changed.reshape(grid.shape)[self.question, within]
        return dataclasses.replace(self, source=source, tokens=tokens)


def with_corrections(
    judgements: Sequence[Judgement], records: Mapping[str, AnswerRecord]
) -> tuple[list[Judgement], dict[str, AnswerRecord], list[AnswerRecord]]:
    """Spell out what corrections say: the corrected answer is better than the one that was shown.

    Returns:
        The judgements with a pair for each correction, the answers by id with the corrected ones, and the
        corrected ones alone: examples to learn from.
    """
    said, known, examples = list(judgements), dict(records), []
    for judgement in judgements:
        if not isinstance(judgement.label, Correction):
            continue
        shown = records[judgement.answers[0]]
        record = AnswerRecord(shown.question, judgement.label.text, shown.context, shown.example_id)
        examples.append(record)
        if record.id != shown.id:
            known[record.id] = record
            better = Pair("first", 2)
            said.append(Judgement(judgement.rater, (record.id, shown.id), better, judgement.unsure))
    return said, known, examples
