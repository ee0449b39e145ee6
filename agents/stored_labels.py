"""From the feedback store to what can be learned from: preferences, and answers with how good they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from agents.decoding import Limits
from agents.preference_data import Preferences, RatedAnswers
from qa_env.datasets import QAExample
from qa_env.errors import QAError
from qa_env.feedback.aggregation import Aggregate
from qa_env.feedback.labels import Correction, Judgement
from qa_env.feedback.store import AnswerRecord, Store
from qa_env.vocabulary import Vocabulary


def stored_preferences(
    store: Store,
    judgements: Sequence[Judgement],
    known: Aggregate,
    vocabulary: Vocabulary,
    limits: Limits,
) -> Preferences:
    """All pairs of judged answers to the same question, and of a correction and what it corrects.

    Answers need not have been compared by anybody: ratings tell which is the better one too. The target is
    the posterior probability that the first is better. A correction is, unless its rater labels at random:
    ``1 - lapse / 2``.

    Args:
        store: Holds the answers' texts.
        judgements: What people said, from the store.
        known: The aggregate of the judgements.
        vocabulary: Of the language model that is to learn.
        limits: Longest source and answer.

    Raises:
        QAError: If there is no pair that can be learned from.
    """
    records = store.answers(known.quality)
    questions: dict[str, list[str]] = {}
    for answer, record in records.items():
        questions.setdefault(record.question_id, []).append(answer)
    pairs = [pair for answers in questions.values() for pair in combinations(answers, 2)]
    asked = [as_example(records[one]) for one, _ in pairs]
    first, second = ([records[pair[side]].text for pair in pairs] for side in (0, 1))
    target = [known.prefers(*pair) for pair in pairs]
    for record, text, lapse in corrections(judgements, known, records):
        asked.append(as_example(record))
        first.append(text)
        second.append(record.text)
        target.append(1 - lapse / 2)
    if not asked:
        raise QAError(
            f"no preference in the store: no two of its {len(records)} judged answers are to the same "
            "question and none was corrected; have several answers to a question judged"
        )
    return Preferences.from_answers(asked, first, second, target, vocabulary, limits)


def stored_answers(
    store: Store,
    judgements: Sequence[Judgement],
    known: Aggregate,
    vocabulary: Vocabulary,
    limits: Limits,
) -> RatedAnswers:
    """All judged answers with the share of average raters who are satisfied with them, and corrections.

    A correction is good unless its rater labels at random: ``1 - lapse``.

    Args:
        store: Holds the answers' texts.
        judgements: What people said, from the store.
        known: The aggregate of the judgements.
        vocabulary: Of the language model that is to learn.
        limits: Longest source and answer.

    Raises:
        QAError: If there is no answer that can be learned from.
    """
    records = store.answers(known.quality)
    asked = [as_example(record) for record in records.values()]
    texts = [record.text for record in records.values()]
    quality = [known.satisfaction(answer).mean for answer in records]
    for record, text, lapse in corrections(judgements, known, records):
        asked.append(as_example(record))
        texts.append(text)
        quality.append(1 - lapse)
    if not asked:
        raise QAError("no rated answer in the store: nobody has judged any yet")
    return RatedAnswers.from_answers(asked, texts, quality, vocabulary, limits)


def corrections(
    judgements: Sequence[Judgement], known: Aggregate, records: Mapping[str, AnswerRecord]
) -> Iterator[tuple[AnswerRecord, str, float]]:
    """The answer that was shown, how it should have read, and the share of random labels of who said so."""
    for judgement in judgements:
        if isinstance(judgement.label, Correction):
            yield (
                records[judgement.answers[0]],
                judgement.label.text,
                known.raters[judgement.rater].lapse,
            )


def as_example(record: AnswerRecord) -> QAExample:
    """The question of a stored answer, without references."""
    return QAExample(record.example_id or record.question_id, record.question, record.context)
