"""Rewards computed from the finished answer: agreement with references, length, repetition, wording."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

import numpy as np

from qa_env.datasets.example import QAExample
from qa_env.errors import QAError
from qa_env.feedback.base import Feedback, FloatArray, Score
from qa_env.feedback.overlap import chrf, rouge_l
from qa_env.feedback.text import abstains_rightly, exact_match, token_f1, value_accuracy, words


class FluencyJudge(Protocol):
    """Anything that judges wording alone, e.g. `qa_env.feedback.fluency.FluencyModel`."""

    def score(self, texts: Sequence[str]) -> FloatArray:
        """Return the fluency of each text in [0, 1], shape ``(batch,)``."""
        ...


class AnswerMetric(ABC):
    """A feedback source that judges each answer by itself with one number in [0, 1].

    Attributes:
        name: The name in logs.
    """

    name: str

    @abstractmethod
    def measure(self, example: QAExample, answer: str) -> float:
        """Return the number for one answer."""

    def score(
        self, examples: Sequence[QAExample], answers: Sequence[str], rngs: Sequence[np.random.Generator]
    ) -> Score:
        """Judge ``answers[i]``, given to ``examples[i]``; shape ``(batch,)``, no randomness."""
        pairs = zip(examples, answers, strict=True)
        reward = np.array([self.measure(example, answer) for example, answer in pairs], dtype=np.float64)
        return Score(reward, {self.name: reward})


def require_reference(example: QAExample, name: str, *, value_will_do: bool = False) -> None:
    """Raise a `QAError` if `example` has nothing to compare an answer with.

    A silent 0 would look like a wrong answer and teach the policy nothing.
    """
    if not example.references and not (value_will_do and example.metadata.get("value") is not None):
        wanted = "reference answer or marked value" if value_will_do else "reference answer"
        raise QAError(f"'{name}' needs a {wanted}, and example '{example.id}' has none; use other feedback")


class ExactMatch(AnswerMetric):
    """1 if the answer is a reference up to normalisation, else 0 (Rajpurkar et al. 2016)."""

    name = "exact_match"

    def measure(self, example: QAExample, answer: str) -> float:
        """Return 0.0 or 1.0."""
        require_reference(example, self.name)
        return exact_match(answer, example.references)


class TokenF1(AnswerMetric):
    """Word overlap with the best reference (Rajpurkar et al. 2016)."""

    name = "f1"

    def measure(self, example: QAExample, answer: str) -> float:
        """Return the F1 in [0, 1]."""
        require_reference(example, self.name)
        return token_f1(answer, example.references)


class RougeL(AnswerMetric):
    """Longest common subsequence with the best reference (Lin 2004): for answers in free wording."""

    name = "rouge_l"

    def measure(self, example: QAExample, answer: str) -> float:
        """Return the F-measure in [0, 1]."""
        require_reference(example, self.name)
        return rouge_l(answer, example.references)


class ChrF(AnswerMetric):
    """Character n-grams shared with the best reference (Popović 2015)."""

    name = "chrf"

    def measure(self, example: QAExample, answer: str) -> float:
        """Return the F2 in [0, 1]."""
        require_reference(example, self.name)
        return chrf(answer, example.references)


class ValueAccuracy(AnswerMetric):
    """1 if the answer says the right value and no wrong candidate; see `text.value_accuracy`."""

    name = "value"

    def measure(self, example: QAExample, answer: str) -> float:
        """Return 0.0 or 1.0."""
        require_reference(example, self.name, value_will_do=True)
        return value_accuracy(example, answer)


class Length(AnswerMetric):
    """1 for an answer of a fit length, falling linearly to 0 on both sides.

    Fit is within `factor` of a reference's length, whichever suits the answer best; where there is no
    reference, from 1 to `max_words` words. A shorter answer earns its share of the least fit length; one
    twice as long as the greatest fit length, or empty, earns 0. Linear, not a step, so that a policy that
    rambles is told that a little less is a little better. To an unanswerable question the fit length is 0.
    """

    name = "length"

    def __init__(self, max_words: int = 40, factor: float = 2.0) -> None:
        if max_words < 1:
            raise QAError(f"max_words must be at least 1, got {max_words}")
        if not (math.isfinite(factor) and factor >= 1.0):
            raise QAError(f"factor must be a finite number of at least 1, got {factor}")
        self.max_words = max_words
        self.factor = factor

    def measure(self, example: QAExample, answer: str) -> float:
        """Return the fitness of the length in [0, 1]."""
        length = len(words(answer))
        if example.unanswerable:
            return float(length == 0)
        references = [max(1, len(words(reference))) for reference in example.answers]
        fit = [(max(1.0, number / self.factor), number * self.factor) for number in references]
        return max(_fitness(length, *bounds) for bounds in fit or [(1.0, float(self.max_words))])


def _fitness(length: int, least: float, most: float) -> float:
    """Return how fit a length is of which those from `least` to `most` are."""
    return length / least if length < least else max(0.0, 1.0 - max(0.0, length - most) / most)


class Repetition(AnswerMetric):
    """How little the answer repeats itself: 1 without repetition, 0 for one word over and over.

    The share of distinct n-grams, distinct-n of Li et al. (2016, "A Diversity-Promoting Objective
    Function for Neural Conversation Models"), which is 1 - seq-rep-n of Welleck et al. (2020, "Neural
    Text Generation with Unlikelihood Training"), times the share of words that differ from the word
    before. The second factor is needed for short answers: "Tokyo Tokyo" has a single bigram. An
    answer of fewer than n words has no n-gram to repeat; an empty answer scores 0. To an unanswerable
    question an empty answer scores 1, and any other 0.
    """

    name = "repetition"

    def __init__(self, n: int = 2) -> None:
        if n < 1:
            raise QAError(f"n must be at least 1, got {n}")
        self.n = n

    def measure(self, example: QAExample, answer: str) -> float:
        """Return the share in [0, 1]."""
        said = words(answer)
        if example.unanswerable:
            return float(not said)
        if len(said) < 2:
            return float(len(said))
        grams = list(zip(*(said[start:] for start in range(self.n)), strict=False))
        distinct = len(set(grams)) / len(grams) if grams else 1.0
        changes = sum(one != other for one, other in pairwise(said))
        return distinct * changes / (len(said) - 1)


class Fluency:
    """The wording alone, judged by a frozen language model in one batch."""

    name = "fluency"

    def __init__(self, model: FluencyJudge) -> None:
        self.model = model

    def score(
        self, examples: Sequence[QAExample], answers: Sequence[str], rngs: Sequence[np.random.Generator]
    ) -> Score:
        """Judge the answers' texts; shape ``(batch,)`` in [0, 1]. To say nothing where that is right is 1."""
        reward = np.where(
            [abstains_rightly(*pair) for pair in zip(examples, answers, strict=True)],
            1.0,
            self.model.score(answers),
        )
        return Score(reward, {self.name: reward})


class WeightedSum:
    """A weighted sum of feedback sources; the components of all of them are logged unweighted.

    Raises:
        QAError: If there are no parts, a weight is not finite, or two parts share a name.
    """

    def __init__(self, parts: Sequence[tuple[float, Feedback]], name: str = "sum") -> None:
        if not parts:
            raise QAError("a weighted sum needs at least one (weight, feedback) pair")
        names = [feedback.name for _, feedback in parts]
        for (weight, _), part in zip(parts, names, strict=True):
            if not math.isfinite(weight):
                raise QAError(f"the weight of feedback '{part}' must be finite, got {weight}")
            if names.count(part) > 1:
                raise QAError(f"two parts of feedback '{name}' are named '{part}'; give one another name")
        self.parts = tuple(parts)
        self.name = name

    def score(
        self, examples: Sequence[QAExample], answers: Sequence[str], rngs: Sequence[np.random.Generator]
    ) -> Score:
        """Return the weighted sum, shape ``(batch,)``, and every part's components."""
        reward = np.zeros(len(answers))
        components: dict[str, FloatArray] = {}
        for weight, feedback in self.parts:
            part = feedback.score(examples, answers, rngs)
            if np.shape(part.reward) != reward.shape:  # broadcasting would hide it from the sum's check
                got = np.shape(part.reward)
                raise QAError(f"feedback '{feedback.name}' must return shape {reward.shape}, got {got}")
            reward += weight * part.reward
            named = part.components or {feedback.name: part.reward}
            if clash := sorted(components.keys() & named.keys()):
                raise QAError(f"two parts of feedback '{self.name}' have a component named '{clash[0]}'")
            components.update(named)
        return Score(reward, components)
