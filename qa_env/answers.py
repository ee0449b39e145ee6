"""The pure core of the MDP: a batch of answers under construction, as arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qa_env.vocabulary import EOS, PAD, SPECIAL_TOKENS

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


class Answers:
    """Answers that grow by one token a step; it knows nothing of questions, rewards or randomness.

    An answer ends with EOS or at the length limit. A token that may not stand in an answer (PAD, BOS,
    SEP) ends it as EOS would: agents that ignore the action mask stay inside the MDP.

    Attributes:
        tokens: The answers so far, PAD behind, shape ``(lanes, max_length)``. EOS is part of an answer.
        lengths: Tokens written so far, shape ``(lanes,)``.
    """

    def __init__(self, lanes: int, max_length: int) -> None:
        self.tokens: IntArray = np.full((lanes, max_length), PAD, dtype=np.int64)
        self.lengths: IntArray = np.zeros(lanes, dtype=np.int64)
        self._lanes = np.arange(lanes)

    def append(self, actions: IntArray) -> BoolArray:
        """Write one token to each answer and return which ones are now finished, shape ``(lanes,)``."""
        actions = np.where(actions < len(SPECIAL_TOKENS), EOS, actions)
        self.tokens[self._lanes, self.lengths] = actions
        self.lengths += 1
        finished: BoolArray = (actions == EOS) | (self.lengths == self.tokens.shape[1])
        return finished

    def reset(self, lanes: IntArray | BoolArray) -> None:
        """Empty the answers of `lanes`: their numbers, or a mask of shape ``(lanes,)``."""
        self.tokens[lanes] = PAD
        self.lengths[lanes] = 0
