"""The pure core of the MDP: a batch of answers under construction, as arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qa_env.vocabulary import EOS, PAD, SPECIAL_TOKENS

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


class Answers:
    """Answers that grow by one token a step; it knows nothing of questions, rewards or randomness.

    An answer ends with EOS, at the length limit, or with the abstain token as its only one. A token that may
    not stand where it is written ends it too: agents that ignore the action mask stay inside the MDP.

    Args:
        lanes: How many answers there are.
        max_length: Their greatest length.
        abstain: See `Vocabulary`.

    Attributes:
        tokens: The answers so far, PAD behind, shape ``(lanes, max_length)``. EOS is part of an answer.
        lengths: Tokens written so far, shape ``(lanes,)``.
    """

    def __init__(self, lanes: int, max_length: int, abstain: int = EOS) -> None:
        self.tokens: IntArray = np.full((lanes, max_length), PAD, dtype=np.int64)
        self.lengths: IntArray = np.zeros(lanes, dtype=np.int64)
        self.abstain = abstain
        self._lanes = np.arange(lanes)

    def append(self, actions: IntArray) -> BoolArray:
        """Write one token to each answer and return which ones are now finished, shape ``(lanes,)``."""
        ends = (actions < len(SPECIAL_TOKENS)) | (actions == self.abstain)
        actions = np.where(ends, np.where(self.lengths == 0, self.abstain, EOS), actions)
        self.tokens[self._lanes, self.lengths] = actions
        self.lengths += 1
        finished: BoolArray = ends | (self.lengths == self.tokens.shape[1])
        return finished

    def reset(self, lanes: IntArray | BoolArray) -> None:
        """Empty the answers of `lanes`: their numbers, or a mask of shape ``(lanes,)``."""
        self.tokens[lanes] = PAD
        self.lengths[lanes] = 0
