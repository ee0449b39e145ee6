"""Data augmentation for few labels: spell the names and numbers of an example differently."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qa_env.vocabulary import Vocabulary

IntArray = NDArray[np.int64]


class Renaming:
    """Replaces the pieces of rare words, and digits, by others: the same way in source and answer.

    A few hundred labelled questions name a few dozen things, and a network learns those by heart. With
    "Estonia" spelled "Obrundu" wherever it stands, the answer can only be copied from the right place.
    Words that are a single token stay as they are, so the question keeps its meaning.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        starts, digit, piece = vocabulary.starts_word, vocabulary.is_digit, vocabulary.is_word_piece
        self._digit = digit
        self._inside = piece & ~starts  # continues a word that has begun before
        self._piece = piece
        self._classes = [np.flatnonzero(c) for c in (piece & starts, piece & ~starts, digit & starts, digit & ~starts)]

    def __call__(self, source: IntArray, answer: IntArray, rng: np.random.Generator) -> tuple[IntArray, IntArray]:
        """Rename in each example anew: ``source (batch, source)`` and ``answer (batch, time)``."""
        size = len(self._digit)
        mapping = np.tile(np.arange(size), (len(source), 1))
        for members in self._classes:
            mapping[:, members] = rng.permuted(np.tile(members, (len(source), 1)), axis=1)
        return self._apply(source, mapping), self._apply(answer, mapping)

    def _apply(self, ids: IntArray, mapping: IntArray) -> IntArray:
        inside = self._inside[ids]
        followed = np.pad(inside[:, 1:], ((0, 0), (0, 1))) & self._piece[ids]
        renamed = inside | followed | self._digit[ids]
        return np.where(renamed, np.take_along_axis(mapping, ids, axis=1), ids)
