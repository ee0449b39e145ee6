"""From the feedback store to what can be learned from: preferences, and answers with how good they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from agents.decoding import Limits
from agents.preference_data import Preferences, RatedAnswers
from qa_env.datasets import QAExample
from qa_env.errors import QAError
from qa_env.feedback.aggregation import Aggregate, aggregate
from qa_env.feedback.labels import Correction, Judgement, Skip
from qa_env.feedback.store import AnswerRecord, Store
from qa_env.vocabulary import Vocabulary

LEARNING = ("train", "uniform")
"""Purposes of the queries whose labels are learned from."""


@dataclass(frozen=True)
class StoredLabels:
    """What people said, and what it says of the answers.

    Attributes:
        judgements: All that was said, without skips.
        known: Their aggregate.
        records: The judged answers by id.
    """

    judgements: Sequence[Judgement]
    known: Aggregate
    records: Mapping[str, AnswerRecord]

    @classmethod
    def read(cls, store: Store) -> StoredLabels:
        """All labels of a store that are there to be learned from.

        Raises:
            QAError: If there is none.
        """
        said = [j for j in store.judgements(purposes=LEARNING) if not isinstance(j.label, Skip)]
        if not said:
            raise QAError(
                f"the feedback store {store.database.name} holds no label to learn from: collect some by "
                "--feedback reward-model, or import them"
            )
        known = aggregate(said, store.roles())
        return cls(said, known, store.answers(known.quality))

    def corrections(self) -> Iterator[tuple[AnswerRecord, str, float]]:
        """What was shown, how it should have read, and the share of random labels of who said so."""
        for judgement in self.judgements:
            if isinstance(judgement.label, Correction):
                lapse = self.known.raters[judgement.rater].lapse
                yield self.records[judgement.answers[0]], judgement.label.text, lapse

    def preferences(self, vocabulary: Vocabulary, limits: Limits) -> Preferences:
        """All pairs of judged answers to the same question, and of a correction and what it corrects.

        Answers need not have been compared by anybody: ratings tell which is the better one too. The target
        is the posterior probability that the first is better. A correction is, unless its rater labels at
        random: ``1 - lapse / 2``.

        Args:
            vocabulary: Of the language model that is to learn.
            limits: Longest source and answer.

        Raises:
            QAError: If there is no pair that can be learned from.
        """
        questions: dict[str, list[str]] = {}
        for answer, record in self.records.items():
            questions.setdefault(record.question_id, []).append(answer)
        pairs = [pair for answers in questions.values() for pair in combinations(answers, 2)]
        asked = [as_example(self.records[one]) for one, _ in pairs]
        first, second = ([self.records[pair[side]].text for pair in pairs] for side in (0, 1))
        target = [self.known.prefers(*pair) for pair in pairs]
        for record, text, lapse in self.corrections():
            asked.append(as_example(record))
            first.append(text)
            second.append(record.text)
            target.append(1 - lapse / 2)
        if not asked:
            raise QAError(
                f"no preference in the store: no two of its {len(self.records)} judged answers are to the "
                "same question and none was corrected; have several answers to a question judged"
            )
        return Preferences.from_answers(asked, first, second, target, vocabulary, limits)

    def answers(self, vocabulary: Vocabulary, limits: Limits) -> RatedAnswers:
        """All judged answers with the share of average raters who are satisfied with them, and corrections.

        A correction is good unless its rater labels at random: ``1 - lapse``.

        Args:
            vocabulary: Of the language model that is to learn.
            limits: Longest source and answer.

        Raises:
            QAError: If there is no answer that can be learned from.
        """
        asked = [as_example(record) for record in self.records.values()]
        texts = [record.text for record in self.records.values()]
        quality = [self.known.satisfaction(answer).mean for answer in self.records]
        for record, text, lapse in self.corrections():
            asked.append(as_example(record))
            texts.append(text)
            quality.append(1 - lapse)
        return RatedAnswers.from_answers(asked, texts, quality, vocabulary, limits)


def as_example(record: AnswerRecord) -> QAExample:
    """The question of a stored answer, without references."""
    return QAExample(record.example_id or record.question_id, record.question, record.context)
