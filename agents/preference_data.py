"""Judged answers as ids: pairs of which one is preferred, and answers that are good with some probability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from agents.augmentation import Augmentation
from agents.decoding import Limits
from agents.warm_start import Supervised
from qa_env.datasets import QAExample
from qa_env.errors import QAError
from qa_env.task import encode_examples
from qa_env.vocabulary import PAD, Vocabulary

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Preferences:
    """Pairs of answers to the same question.

    Attributes:
        source: Source ids of the questions, ``(pairs, source)``.
        first: Ids of one answer with EOS, PAD behind, ``(pairs, time)``.
        second: Ids of the other, ``(pairs, time)``.
        target: Probability that the first is the better one, ``(pairs,)``.
        left_out: How many pairs were given that cannot be learned from: one of the answers is too long, or
            both are the same.
    """

    source: IntArray
    first: IntArray
    second: IntArray
    target: FloatArray
    left_out: int = 0

    def __post_init__(self) -> None:
        """Raise a QAError if the shapes do not fit each other, or a target is no probability."""
        _check_rows("preferences", self.source, {"first": self.first, "second": self.second})
        _check_probabilities("preferences", "target", self.target, len(self.source))

    @classmethod
    def from_answers(
        cls,
        examples: Sequence[QAExample],
        first: Sequence[str],
        second: Sequence[str],
        target: ArrayLike,
        vocabulary: Vocabulary,
        limits: Limits,
    ) -> Preferences:
        """Encode pairs of answers' texts.

        Args:
            examples: The questions, length ``pairs``; their references are not read.
            first: One answer to each.
            second: The other answer to each.
            target: Probability that the first is the better one, ``(pairs,)``.
            vocabulary: Of the language model that is to learn.
            limits: Longest source, which is cut, and answer; pairs with a longer one are left out.

        Raises:
            QAError: If the lengths differ, a target is no probability or no pair is left.
        """
        _check_lengths("preferences", len(examples), first=len(first), second=len(second))
        wanted = _check_probabilities("preferences", "target", target, len(examples))
        one, other = (encode_answers(texts, vocabulary, limits.max_answer) for texts in (first, second))
        kept = np.flatnonzero((one != PAD).any(1) & (other != PAD).any(1) & (one != other).any(1))
        if not len(kept):
            raise QAError(
                f"no preference to learn from: of {len(examples)} pairs none has two different answers of at "
                f"most {limits.max_answer} tokens; give more pairs or raise limits.max_answer"
            )
        source, _ = encode_examples([examples[i] for i in kept.tolist()], vocabulary, limits.max_source)
        return cls(source, one[kept], other[kept], wanted[kept], len(examples) - len(kept))

    @property
    def longest(self) -> int:
        """The most tokens that an answer may have, EOS included."""
        return int(self.first.shape[1])

    @property
    def tokens(self) -> int:
        """How many tokens all the answers have."""
        return int((self.first != PAD).sum() + (self.second != PAD).sum())

    def batch(
        self, rows: IntArray, augmentation: Augmentation | None, rng: np.random.Generator
    ) -> Preferences:
        """Some of the pairs, changed by the augmentation, which renames both answers alike."""
        source, first, second = self.source[rows], self.first[rows], self.second[rows]
        if augmentation is not None:
            # A word is renamed or not by the token behind it: the column keeps the two answers apart.
            gap = np.full((len(rows), 1), PAD)
            source, both = augmentation(source, np.concatenate([first, gap, second], axis=1), rng)
            first, second = both[:, : self.longest], both[:, self.longest + 1 :]
        return Preferences(source, first, second, self.target[rows])


@dataclass(frozen=True)
class RatedAnswers:
    """Answers, and how probably each of them is good.

    Attributes:
        source: Source ids of the questions, ``(answers, source)``.
        answer: Ids of the answers with EOS, PAD behind, ``(answers, time)``.
        quality: Probability that the answer is good, ``(answers,)``.
        left_out: How many answers were given that are too long.
    """

    source: IntArray
    answer: IntArray
    quality: FloatArray
    left_out: int = 0

    def __post_init__(self) -> None:
        """Raise a QAError if the shapes do not fit each other, or a quality is no probability."""
        _check_rows("rated answers", self.source, {"answer": self.answer})
        _check_probabilities("rated answers", "quality", self.quality, len(self.source))

    @classmethod
    def from_answers(
        cls,
        examples: Sequence[QAExample],
        answers: Sequence[str],
        quality: ArrayLike,
        vocabulary: Vocabulary,
        limits: Limits,
    ) -> RatedAnswers:
        """Encode answers' texts.

        Args:
            examples: The questions, length ``answers``; their references are not read.
            answers: An answer to each.
            quality: Probability that it is good, ``(answers,)``.
            vocabulary: Of the language model that is to learn.
            limits: Longest source, which is cut, and answer; longer ones are left out.

        Raises:
            QAError: If the lengths differ, a quality is no probability or no answer is left.
        """
        _check_lengths("rated answers", len(examples), answers=len(answers))
        good = _check_probabilities("rated answers", "quality", quality, len(examples))
        ids = encode_answers(answers, vocabulary, limits.max_answer)
        kept = np.flatnonzero((ids != PAD).any(1))
        if not len(kept):
            raise QAError(
                f"no rated answer to learn from: none of {len(examples)} has at most {limits.max_answer} "
                "tokens; give more answers or raise limits.max_answer"
            )
        source, _ = encode_examples([examples[i] for i in kept.tolist()], vocabulary, limits.max_source)
        return cls(source, ids[kept], good[kept], len(examples) - len(kept))

    @property
    def longest(self) -> int:
        """The most tokens that an answer may have, EOS included."""
        return int(self.answer.shape[1])

    @property
    def tokens(self) -> int:
        """How many tokens all the answers have."""
        return int((self.answer != PAD).sum())

    def batch(
        self, rows: IntArray, augmentation: Augmentation | None, rng: np.random.Generator
    ) -> RatedAnswers:
        """Some of the answers, changed by the augmentation."""
        source, answer = self.source[rows], self.answer[rows]
        if augmentation is not None:
            source, answer = augmentation(source, answer, rng)
        return RatedAnswers(source, answer, self.quality[rows])

    def with_labelled(self, labelled: Supervised) -> RatedAnswers:
        """These and labelled questions with their reference answers, which are good for certain."""
        return RatedAnswers(
            np.concatenate([self.source, labelled.source]),
            np.concatenate([self.answer, labelled.tokens]),
            np.concatenate([self.quality, np.ones(len(labelled.source))]),
        )

    def good(self, threshold: float) -> RatedAnswers:
        """Those whose quality is at least the threshold.

        Raises:
            QAError: If there is none.
        """
        kept = self.quality >= threshold
        if not kept.any():
            raise QAError(
                f"no good answer to learn from: the best of {len(kept)} is good with probability "
                f"{self.quality.max():.2f}, the threshold is {threshold}; lower it or collect more labels"
            )
        return RatedAnswers(self.source[kept], self.answer[kept], self.quality[kept])


def encode_answers(texts: Sequence[str], vocabulary: Vocabulary, max_answer: int) -> IntArray:
    """Ids with EOS, PAD behind, ``(answers, max_answer)``; the row of a longer answer is PAD throughout."""
    ids = np.full((len(texts), max_answer), PAD, dtype=np.int64)
    for row, tokens in zip(ids, vocabulary.encode_answers(texts), strict=True):
        if len(tokens) <= max_answer:
            row[: len(tokens)] = tokens
    return ids


def _check_lengths(what: str, wanted: int, **lengths: int) -> None:
    for name, length in lengths.items():
        if length != wanted:
            raise QAError(f"{what} need one of '{name}' to each of {wanted} examples, got {length}")


def _check_rows(what: str, source: IntArray, answers: dict[str, IntArray]) -> None:
    if source.ndim != 2 or not len(source):
        raise QAError(f"{what} need source ids of shape (n, source) with n from 1, got {source.shape}")
    time = next(iter(answers.values())).shape[-1]
    for name, ids in answers.items():
        if ids.shape != (len(source), time):
            raise QAError(f"{what} need '{name}' of shape ({len(source)}, {time}), got {ids.shape}")
        if not (ids[:, :1] != PAD).all():
            raise QAError(f"{what}: '{name}' has an answer without a token; an empty text is one token too")


def _check_probabilities(what: str, name: str, values: ArrayLike, number: int) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (number,) or not ((array >= 0) & (array <= 1)).all():
        raise QAError(
            f"{what} need '{name}' as {number} probabilities from 0 to 1, got shape {array.shape}"
            + (f" from {array.min()} to {array.max()}" if array.size else "")
        )
    return array
