"""Long sources in parts that a model with few positions can read."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qa_env.vocabulary import SEP

IntArray = NDArray[np.int64]


class Window(NamedTuple):
    """What is read at once of a source.

    Attributes:
        places: Places in the source, ``(tokens,)``.
        kept: Those whose vectors are taken from this window, ``(tokens,)``.
    """

    places: IntArray
    kept: NDArray[np.bool_]


def windows(source: IntArray, positions: int) -> list[Window]:
    """A source without padding, ``(source,)``, as windows that a model with so many positions can read.

    A long context is cut into parts that overlap by half, and the question stands in front of each (Devlin et
    al. 2019 in their code for SQuAD); a token's vector comes from the window in which it has most on either
    side. Where the question itself is long, the source is cut as a whole.
    """
    room = positions - 2  # [CLS] and [SEP]
    length = len(source)
    if length <= room:
        return [Window(np.arange(length), np.ones(length, dtype=np.bool_))]
    separators = np.flatnonzero(source == SEP)
    front = int(separators[0]) + 1 if len(separators) and separators[0] < room // 2 else 0
    size = room - front
    starts = [*range(front, length - size, max(size // 2, 1)), length - size]
    # Two windows part in the middle of what they share.
    cuts = [front, *((a + size + b) // 2 for a, b in pairwise(starts)), length]
    question = np.arange(front)
    result = []
    for number, start in enumerate(starts):
        body = np.arange(start, start + size)
        kept = (body >= cuts[number]) & (body < cuts[number + 1])
        asked = np.full(front, number == 0)
        result.append(Window(np.concatenate((question, body)), np.concatenate((asked, kept))))
    return result
