"""A block-diagonal symmetric matrix over answers, one block for all answers that labels link."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from qa_env.feedback.aggregation.likelihoods import IntArray
from qa_env.feedback.base import FloatArray


class Blocks:
    """Where the entries of such a matrix lie in one flat array.

    Comparisons and rankings link the answers to one question and seldom more, so the blocks are small
    and an exact inverse costs little. A block of ``m`` answers takes ``m ** 2`` numbers and ``m ** 3`` time.

    Attributes:
        size: Length of the flat array.
    """

    def __init__(self, answers: int, links: IntArray) -> None:
        """Find the blocks of `answers` answers from pairs of linked ones, shape ``(links, 2)``."""
        component = _components(answers, links)
        _, component, sizes = np.unique(component, return_inverse=True, return_counts=True)
        by_size = np.argsort(sizes, kind="stable")
        starts = np.empty(len(sizes), dtype=np.int64)
        starts[by_size] = np.cumsum(sizes[by_size] ** 2) - sizes[by_size] ** 2
        # Answers in the order of the blocks, so that blocks of one size lie together.
        place = np.empty(len(sizes), dtype=np.int64)
        place[by_size] = np.arange(len(sizes))
        self._order = np.argsort(place[component], kind="stable")
        first = np.concatenate([[0], np.cumsum(sizes[by_size])])[:-1]
        position = np.empty(answers, dtype=np.int64)
        position[self._order] = np.arange(answers) - np.repeat(first, sizes[by_size])
        self._component, self._position = component, position
        self._start, self._width = starts[component], sizes[component]
        self._sizes, self._counts = np.unique(sizes, return_counts=True)
        self.size = int((sizes**2).sum())

    def index(self, row: IntArray, column: IntArray) -> IntArray:
        """Where the entries of linked answers lie."""
        at: IntArray = self._start[row] + self._position[row] * self._width[row] + self._position[column]
        return at

    def linked(self, one: int, other: int) -> bool:
        """Whether two answers are in the same block."""
        return bool(self._component[one] == self._component[other])

    def diagonal(self, matrix: FloatArray) -> FloatArray:
        """The diagonal entries, shape ``(answers,)``."""
        every = np.arange(len(self._order))
        return matrix[self.index(every, every)]

    def inverse(self, matrix: FloatArray) -> FloatArray:
        """The inverse of a positive definite matrix."""
        return np.concatenate(
            [np.empty(0)] + [np.linalg.inv(block).ravel() for block, _ in self._blocks(matrix)]
        )

    def multiply(self, matrix: FloatArray, vector: FloatArray) -> FloatArray:
        """The matrix times a vector of shape ``(answers,)``."""
        product = np.empty_like(vector)
        for block, rows in self._blocks(matrix):
            product[rows] = np.einsum("bij,bj->bi", block, vector[rows])
        return product

    def _blocks(self, matrix: FloatArray) -> Iterator[tuple[FloatArray, IntArray]]:
        """For each size, its blocks ``(count, size, size)`` and their answers ``(count, size)``."""
        entry = row = 0
        for size, count in zip(self._sizes.tolist(), self._counts.tolist(), strict=True):
            end, last = entry + count * size * size, row + count * size
            yield matrix[entry:end].reshape(count, size, size), self._order[row:last].reshape(count, size)
            entry, row = end, last


def _components(answers: int, links: IntArray) -> IntArray:
    """The least answer that each answer is linked with, directly or through others."""
    least = np.arange(answers)
    while True:
        before = least.copy()
        lower = np.minimum(least[links[:, 0]], least[links[:, 1]])
        # To the representatives as well, so that whole trees join at once.
        for side in (0, 1):
            np.minimum.at(least, before[links[:, side]], lower)
            np.minimum.at(least, links[:, side], lower)
        least = least[least]
        if (least == before).all():
            return least
