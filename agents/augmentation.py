"""Data augmentation for few labels: other names, other numbers, words that are not what they seem."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qa_env.errors import QAError
from qa_env.vocabulary import Kind, Vocabulary

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class AugmentationConfig:
    """Settings of data augmentation, for the warm start and for self-imitation."""

    renamed: float = 0.5
    """Share of the examples whose names and numbers are spelled differently."""
    replaced: float = 0.1
    """Share of the words in a question and its context that another token stands in for."""

    def __post_init__(self) -> None:
        """Raise a QAError if a share is not from 0 to 1."""
        if not (0 <= self.renamed <= 1 and 0 <= self.replaced <= 1):
            raise QAError(
                "augmentation.renamed and augmentation.replaced must be shares from 0 to 1, "
                f"got {self.renamed} and {self.replaced}"
            )


class Augmentation:
    """Changes examples so that a network cannot learn by heart what it should read.

    - Some examples are renamed: the pieces of rare words, and digits, are replaced by others, the same way in
      source and answer. A few hundred labelled questions name a few dozen things; with "Estonia" spelled
      "Obrundu" wherever it stands, the answer can only be copied from the right place. Words that are a
      single token stay as they are, so the question keeps its meaning.
    - Some words of the source are replaced by any token (word dropout, Iyyer et al. 2015), so that a
      phrasing is recognised by more than one of its words, and an unknown one by those that are known.

    Args:
        vocabulary: Of the examples.
        config: How often.
    """

    def __init__(self, vocabulary: Vocabulary, config: AugmentationConfig) -> None:
        self.config = config
        self._kinds, self._spelling = vocabulary.kinds, vocabulary.spelling_tokens
        numeric = (Kind.NUMBER, Kind.DIGIT, Kind.DECIMAL)
        self._digit = np.isin(self._kinds, numeric)
        self._classes = [np.flatnonzero(self._kinds == kind) for kind in (Kind.WORD, Kind.INSIDE, *numeric)]

    def __call__(
        self, source: IntArray, answer: IntArray, rng: np.random.Generator
    ) -> tuple[IntArray, IntArray]:
        """Change each example anew: ``source (batch, source)`` and ``answer (batch, time)``, both copied."""
        source, answer = source.copy(), answer.copy()
        chosen = rng.random(len(source)) < self.config.renamed
        source[chosen], answer[chosen] = self.rename(source[chosen], answer[chosen], rng)
        replaced = (self._kinds[source] == Kind.WORD) & (rng.random(source.shape) < self.config.replaced)
        source[replaced] = rng.integers(self._spelling.start, self._spelling.stop, replaced.sum())
        return source, answer

    def rename(
        self, source: IntArray, answer: IntArray, rng: np.random.Generator
    ) -> tuple[IntArray, IntArray]:
        """Rename in each example anew: ``source (batch, source)`` and ``answer (batch, time)``."""
        size = len(self._kinds)
        mapping = np.tile(np.arange(size), (len(source), 1))
        for members in self._classes:
            mapping[:, members] = rng.permuted(np.tile(members, (len(source), 1)), axis=1)
        return self._apply(source, mapping), self._apply(answer, mapping)

    def _apply(self, ids: IntArray, mapping: IntArray) -> IntArray:
        kinds = self._kinds[ids]
        inside = kinds == Kind.INSIDE
        begins = (kinds == Kind.WORD) & np.pad(inside[:, 1:], ((0, 0), (0, 1)))
        renamed = inside | begins | self._digit[ids]
        return np.where(renamed, np.take_along_axis(mapping, ids, axis=1), ids)
