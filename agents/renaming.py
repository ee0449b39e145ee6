"""Data augmentation for few labels: spell the names and numbers of an example differently."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qa_env.vocabulary import Kind, Vocabulary

IntArray = NDArray[np.int64]


class Renaming:
    """Replaces the pieces of rare words, and digits, by others: the same way in source and answer.

    A few hundred labelled questions name a few dozen things, and a network learns those by heart. With
    "Estonia" spelled "Obrundu" wherever it stands, the answer can only be copied from the right place.
    Words that are a single token stay as they are, so the question keeps its meaning.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._kinds = vocabulary.kinds
        numeric = (Kind.NUMBER, Kind.DIGIT, Kind.DECIMAL)
        self._digit = np.isin(self._kinds, numeric)
        self._classes = [np.flatnonzero(self._kinds == kind) for kind in (Kind.WORD, Kind.INSIDE, *numeric)]

    def __call__(
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
