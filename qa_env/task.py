"""What single and vector environment share: questions as arrays, spaces, and the grading of answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from qa_env.answers import BoolArray, IntArray
from qa_env.datasets import QAExample
from qa_env.encoders import ASSETS, Encoder, LSTMEncoder
from qa_env.errors import QAError
from qa_env.feedback import as_feedback, score_checked
from qa_env.feedback.base import Feedback, FloatArray, Score
from qa_env.feedback.text import exact_match
from qa_env.layout import encode_sources
from qa_env.sources import load_data
from qa_env.vocabulary import EOS, FORBIDDEN, Vocabulary


@dataclass(frozen=True)
class Graded:
    """Feedback on finished answers.

    Attributes:
        reward: One number an answer, shape ``(batch,)``.
        info: What is told of each answer, by name, each of shape ``(batch,)``; see `QAEnv`.
    """

    reward: FloatArray
    info: dict[str, NDArray[Any]]


class QATask:
    """The immutable part of the MDP: examples, vocabulary, encoder, feedback and limits.

    Args:
        data: What `load_data` takes: ``"facts"`` (the built-in questions), a path to a data file,
            ``"module:attr"`` naming a function that returns examples, or the examples themselves.
        vocabulary: A `Vocabulary`, a path to a saved one, or None for the one in the package.
        encoder: ``"default"`` (the small trained one in the package, which goes with the package's
            vocabulary), any `Encoder`, or None: observations hold token ids only.
        feedback: A `Feedback`, a function ``(examples, answers) -> rewards (batch,)``, a built-in name
            or ``"module:attr"``.
        max_source: Longest ``question SEP context`` in tokens; of a longer context some sentences are left
            out (`qa_env.layout`).
        max_answer: Longest answer in tokens, EOS included.

    Attributes:
        graded: How many answers feedback was asked about.

    Raises:
        QAError: If the data is empty or malformed, or the parts do not fit each other.
    """

    def __init__(
        self,
        data: str | Path | Sequence[QAExample] = "facts",
        vocabulary: Vocabulary | str | Path | None = None,
        encoder: Encoder | str | None = "default",
        feedback: Feedback | Callable[..., Any] | str = "f1",
        max_source: int = 144,
        max_answer: int = 32,
    ) -> None:
        if max_source < 1 or max_answer < 1:
            raise QAError(f"max_source and max_answer must be positive, got {max_source} and {max_answer}")
        self.examples = load_data(data)
        self.vocabulary = load_vocabulary(vocabulary)
        self.encoder = load_encoder(encoder, len(self.vocabulary))
        self.feedback = as_feedback(feedback)
        self.max_answer = max_answer
        self.sources, self.cut_sources = encode_examples(self.examples, self.vocabulary, max_source)
        self.graded = 0
        self._index: dict[bytes, int] = {}

    @property
    def observation_space(self) -> spaces.Dict:
        """One observation: ``source`` and ``answer`` ids, and ``memory`` if there is an encoder."""
        top = len(self.vocabulary) - 1
        length = self.sources.shape[1]
        parts: dict[str, spaces.Space[Any]] = {
            "source": spaces.Box(0, top, (length,), np.int64),
            "answer": spaces.Box(0, top, (self.max_answer,), np.int64),
        }
        if self.encoder is not None:
            parts["memory"] = spaces.Box(-np.inf, np.inf, (length, self.encoder.width), np.float32)
        return spaces.Dict(parts)

    @property
    def action_space(self) -> spaces.Discrete:
        """A token of the vocabulary."""
        return spaces.Discrete(len(self.vocabulary))

    def action_masks(self, lengths: IntArray) -> BoolArray:
        """Which tokens may come next in answers of these lengths, ``(batch, vocabulary)``."""
        masks = np.ones((len(lengths), len(self.vocabulary)), dtype=np.bool_)
        masks[:, list(FORBIDDEN)] = False
        if self.vocabulary.abstain != EOS:
            masks[lengths == 0, EOS] = False
            masks[lengths > 0, self.vocabulary.abstain] = False
        return masks

    def indices_of(self, source: IntArray) -> IntArray:
        """The ids of the examples with these source ids, ``(batch,)`` from ``(batch, max_source)``."""
        if not self._index:
            self._index = {row.tobytes(): index for index, row in enumerate(self.sources)}
        return np.array([self._index[row.tobytes()] for row in source], dtype=np.int64)

    def texts(self, tokens: IntArray) -> list[str]:
        """The texts of answers' ids, shape ``(batch, time)``, without EOS and PAD, which stand behind."""
        return self.vocabulary.decode_batch(tokens)

    def judge(
        self, examples: Sequence[QAExample], answers: Sequence[str], rngs: Sequence[np.random.Generator]
    ) -> Score:
        """Ask for feedback on answers to any examples, and count them."""
        self.graded += len(answers)
        return score_checked(self.feedback, examples, answers, rngs)

    def grade(self, indices: IntArray, tokens: IntArray, rngs: Sequence[np.random.Generator]) -> Graded:
        """Ask for feedback on finished answers, all in one batch.

        Args:
            indices: Which examples were answered, shape ``(batch,)``.
            tokens: Their answers' ids, shape ``(batch, max_answer)``.
            rngs: The lanes' random generators, length ``batch``.
        """
        examples = [self.examples[i] for i in indices.tolist()]
        answers = self.texts(tokens)
        score = self.judge(examples, answers, rngs)
        exact = [exact_match(a, e.references) > 0 for a, e in zip(answers, examples, strict=True)]
        info = {
            "index": indices,
            "question": np.array([e.question for e in examples], dtype=object),
            "answer": np.array(answers, dtype=object),
            "is_success": np.array(exact),
        }
        parts = {f"feedback/{name}": values for name, values in score.components.items()}
        return Graded(score.reward, info | parts)


def encode_examples(
    examples: Sequence[QAExample], vocabulary: Vocabulary, max_source: int
) -> tuple[IntArray, int]:
    """Source ids of the examples, ``(examples, max_source)``, and how many lack something."""
    questions = vocabulary.encode_batch([e.question for e in examples])
    contexts = vocabulary.encode_batch([e.context or "" for e in examples])
    kept = [ids if e.context is not None else None for ids, e in zip(contexts, examples, strict=True)]
    return encode_sources(questions, kept, max_source, vocabulary.kinds)


def load_vocabulary(vocabulary: Vocabulary | str | Path | None) -> Vocabulary:
    """The vocabulary itself, read from a path, or the package's own."""
    if isinstance(vocabulary, Vocabulary):
        return vocabulary
    return Vocabulary.load(vocabulary or ASSETS / "vocabulary.json")


def load_encoder(encoder: Encoder | str | None, vocabulary_size: int) -> Encoder | None:
    """The encoder itself, or the package's own for ``"default"``, if it fits the vocabulary."""
    if encoder != "default":
        if isinstance(encoder, str):
            raise QAError(f"encoder must be 'default', None or an Encoder object; got '{encoder}'")
        return encoder
    default = LSTMEncoder.load(ASSETS / "encoder.safetensors")
    if default.config.vocabulary != vocabulary_size:
        raise QAError(
            f"the default encoder reads a vocabulary of {default.config.vocabulary} tokens, this one has "
            f"{vocabulary_size}: leave out vocabulary=, or pass an encoder of your own or encoder=None"
        )
    return default
