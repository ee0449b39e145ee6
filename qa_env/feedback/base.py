"""The protocol of everything that judges finished answers, and the checks on what it returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qa_env.datasets.example import QAExample
from qa_env.errors import QAError

FloatArray = NDArray[np.float64]
RewardFunction = Callable[[Sequence[QAExample], Sequence[str]], ArrayLike]


@dataclass(frozen=True)
class Score:
    """What a feedback source says about a batch of finished answers.

    Attributes:
        reward: One number an answer, shape ``(batch,)``.
        components: The named parts of the reward, each of shape ``(batch,)``, logged apart.
    """

    reward: FloatArray
    components: Mapping[str, FloatArray] = field(default_factory=dict)


class Feedback(Protocol):
    """A source of reward: asked once, in a batch, about finished answers.

    Attributes:
        name: A short name for logs, e.g. ``"f1"``.
    """

    name: str

    def score(
        self, examples: Sequence[QAExample], answers: Sequence[str], rngs: Sequence[np.random.Generator]
    ) -> Score:
        """Judge ``answers[i]``, given to ``examples[i]``.

        Args:
            examples: The questions, length ``batch``.
            answers: The answers' text, length ``batch``.
            rngs: One random generator an answer (the environment lane's own), length ``batch``; a
                stochastic source draws from ``rngs[i]`` alone, so that a lane's rewards do not
                depend on which other lanes finish in the same step.

        Returns:
            The reward and its components.
        """
        ...


class FunctionFeedback:
    """Any plain function ``(examples, answers) -> rewards (batch,)`` as a feedback source."""

    def __init__(self, function: RewardFunction, name: str | None = None) -> None:
        self.function = function
        self.name: str = str(name or getattr(function, "__name__", type(function).__name__))

    def score(
        self, examples: Sequence[QAExample], answers: Sequence[str], rngs: Sequence[np.random.Generator]
    ) -> Score:
        """Call the function; its result is also the single component."""
        reward = check_reward(self.function(examples, answers), len(answers), self.name)
        return Score(reward, {self.name: reward})


def check_reward(reward: ArrayLike, batch: int, name: str) -> FloatArray:
    """Return `reward` as a float array of shape ``(batch,)``.

    Raises:
        QAError: If it has another shape, is not numeric, or holds NaN or infinity.
    """
    try:
        array = np.asarray(reward, dtype=np.float64)
    except (TypeError, ValueError):
        raise QAError(f"feedback '{name}' must return {batch} numbers, got {reward!r:.80}") from None
    if array.shape != (batch,):
        raise QAError(
            f"feedback '{name}' must return shape ({batch},), one reward an answer; got {array.shape}"
        )
    if not np.isfinite(array).all():
        raise QAError(
            f"feedback '{name}' returned NaN or infinity for answer {int(np.argmin(np.isfinite(array)))}"
        )
    return array
