"""A replay buffer of whole answers: token ids and the number of the question, nothing once a token more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.buffers import BaseBuffer, ReplayBuffer
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize

from policies.reading import AnswerBatch
from qa_env.errors import QAError
from qa_env.vocabulary import PAD


class AnswerReplayBuffer(ReplayBuffer):
    """Keeps the last finished answers of about `buffer_size` tokens in all.

    Stock buffers keep observation and next observation of every step, encoder outputs included: hundreds of
    kilobytes. Here a token takes 8 bytes (id and reward), an answer 16, and a question's source ids are kept
    once however often it is asked; updates encode them again.

    Samples are whole answers, all their tokens. The reward of a sample is the sum of the next `n_steps`
    rewards, ``R = sum_{i<n} gamma^i r_{t+i}``, cut at the answer's end, and its next observation is ``n``
    tokens on (Sutton & Barto 2018, section 7.1). From ``n_steps >= max_answer`` on that is the Monte-Carlo
    return, and nothing is bootstrapped.

    Args:
        buffer_size: Tokens to keep; the oldest answers go first.
        observation_space: That of `QAEnv`.
        action_space: That of `QAEnv`.
        device: Where samples go.
        n_envs: Lanes.
        optimize_memory_usage: Must be False: it is a trick of the stock buffer.
        n_steps: Rewards summed before the target bootstraps.
        gamma: Discount.

    Raises:
        QAError: If a number is out of its range.
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        device: torch.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        n_steps: int = 1,
        gamma: float = 1.0,
    ) -> None:
        assert isinstance(observation_space, spaces.Dict)
        longest = int(observation_space["answer"].shape[0])  # type: ignore[index]
        if optimize_memory_usage:
            raise QAError("AnswerReplayBuffer needs optimize_memory_usage=False")
        if n_steps < 1 or not 0 < gamma <= 1:
            raise QAError(f"n_steps must be 1 or more and gamma in (0, 1], got {n_steps} and {gamma}")
        if buffer_size < longest:
            raise QAError(f"buffer_size must hold an answer of {longest} tokens, got {buffer_size}")
        BaseBuffer.__init__(self, buffer_size, observation_space, action_space, device, n_envs)
        self.n_steps, self.gamma, self.longest = n_steps, gamma, longest
        self._questions: dict[bytes, int] = {}
        self._sources: list[NDArray[np.int32]] = []
        self._pending_tokens = np.full((n_envs, longest), PAD, dtype=np.int32)
        self._pending_rewards = np.zeros((n_envs, longest), dtype=np.float32)
        self._pending = np.zeros(n_envs, dtype=np.int64)
        self.reset()

    def reset(self) -> None:
        """Empty the buffer."""
        # Rings: of tokens, and of the answers that they make up. Memory is taken as it is written.
        self._tokens = np.zeros(self.buffer_size, dtype=np.int32)
        self._rewards = np.zeros(self.buffer_size, dtype=np.float32)
        self._starts = np.zeros(self.buffer_size, dtype=np.int64)
        self._lengths = np.zeros(self.buffer_size, dtype=np.int32)
        self._asked = np.zeros(self.buffer_size, dtype=np.int32)
        self._first, self.answers, self._held, self._next = 0, 0, 0, 0
        self._pending[:] = 0
        self.full = False

    def size(self) -> int:
        """Tokens held."""
        return self._held

    def add(  # type: ignore[override]
        self,
        obs: Mapping[str, NDArray[Any]],
        next_obs: Any,
        action: NDArray[Any],
        reward: NDArray[Any],
        done: NDArray[Any],
        infos: list[dict[str, Any]],
    ) -> None:
        """Add a token of every lane; an answer counts once it is finished. `next_obs` is not needed."""
        lanes = np.arange(self.n_envs)
        self._pending_tokens[lanes, self._pending] = action.reshape(-1)
        self._pending_rewards[lanes, self._pending] = reward
        self._pending += 1
        for lane in np.flatnonzero(done):
            length = self._pending[lane]
            self.add_answer(
                obs["source"][lane],
                self._pending_tokens[lane, :length],
                self._pending_rewards[lane, :length],
            )
            self._pending[lane] = 0

    def add_answer(self, source: NDArray[Any], tokens: NDArray[Any], rewards: NDArray[Any]) -> None:
        """Add a finished answer: source ids ``(max_source,)``, answer ids and rewards, each ``(time,)``."""
        length = len(tokens)
        while self._held + length > self.buffer_size:
            self._held -= int(self._lengths[self._first])
            self._first = (self._first + 1) % self.buffer_size
            self.answers, self.full = self.answers - 1, True
        places = (self._next + np.arange(length)) % self.buffer_size
        self._tokens[places], self._rewards[places] = tokens, rewards
        answer = (self._first + self.answers) % self.buffer_size
        self._starts[answer], self._lengths[answer] = self._next, length
        self._asked[answer] = self._number(source)
        self._next = (self._next + length) % self.buffer_size
        self.answers, self._held = self.answers + 1, self._held + length

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> ReplayBufferSamples:
        """Answers drawn at random, of about `batch_size` tokens in all; every token of them is a row.

        Raises:
            QAError: If no answer is finished yet.
        """
        if not self.answers:
            raise QAError("the replay buffer holds no finished answer yet: write answers before training")
        number = max(round(batch_size * self.answers / self._held), 1)
        return self.of_answers(np.random.randint(self.answers, size=number))

    def of_answers(self, answers: NDArray[np.int64]) -> ReplayBufferSamples:
        """Samples of some answers, the oldest is number 0. Rows: all their tokens in order."""
        rows = (self._first + answers) % self.buffer_size
        counts = self._lengths[rows].astype(np.int64)
        owner = np.repeat(np.arange(len(rows)), counts)
        time = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
        places = (self._starts[rows][owner] + time) % self.buffer_size
        shape = (len(rows), int(counts.max()))
        tokens, rewards = np.full(shape, PAD, dtype=np.int64), np.zeros(shape, dtype=np.float64)
        tokens[owner, time], rewards[owner, time] = self._tokens[places], self._rewards[places]
        returns = self._returns(rewards)[owner, time].astype(np.float32)
        later = time + self.n_steps
        done = later >= counts[owner]
        asked, question = np.unique(self._asked[rows], return_inverse=True)
        source = np.stack([self._sources[i] for i in asked]).astype(np.int64)
        parts = [self.to_torch(part) for part in (source, question, tokens, owner, time)]
        batch = AnswerBatch(parts[0], parts[1], parts[2], parts[3], parts[4], None)
        column = (-1, 1)
        return ReplayBufferSamples(
            batch,  # type: ignore[arg-type]
            self.to_torch(tokens[owner, time].reshape(column)),
            # Behind the end there is no observation: the last token's stands in, and does not count.
            batch._replace(time=self.to_torch(np.where(done, time, later))),  # type: ignore[arg-type]
            self.to_torch(done.astype(np.float32).reshape(column)),
            self.to_torch(returns.reshape(column)),
            self.to_torch(np.full((len(owner), 1), self.gamma**self.n_steps, dtype=np.float32)),
        )

    def state(self) -> dict[str, NDArray[Any]]:
        """All answers, for a checkpoint."""
        order = (self._first + np.arange(self.answers)) % self.buffer_size
        first = int(self._starts[self._first]) if self.answers else 0
        places = (first + np.arange(self._held)) % self.buffer_size
        width = self.observation_space["source"].shape[0]  # type: ignore[index]
        return {
            "sources": np.array(self._sources, dtype=np.int32).reshape(-1, width),
            "asked": self._asked[order],
            "lengths": self._lengths[order],
            "tokens": self._tokens[places],
            "rewards": self._rewards[places],
            "pending": self._pending,
            "pending_tokens": self._pending_tokens,
            "pending_rewards": self._pending_rewards,
        }

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from what `state` gave."""
        self.reset()
        for source in state["sources"]:  # in their order: updates read questions in that of their numbers
            self._number(source)
        self._pending = state["pending"].copy()
        self._pending_tokens = state["pending_tokens"].copy()
        self._pending_rewards = state["pending_rewards"].copy()
        ends = np.cumsum(state["lengths"])
        for asked, end, length in zip(state["asked"], ends, state["lengths"], strict=True):
            part = slice(end - length, end)
            self.add_answer(state["sources"][asked], state["tokens"][part], state["rewards"][part])

    def _returns(self, rewards: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sums of the next `n_steps` rewards, discounted: ``(answers, time)`` from rewards of that shape."""
        total, ahead = np.zeros_like(rewards), rewards
        for step in range(min(self.n_steps, rewards.shape[1])):
            total += self.gamma**step * ahead
            ahead = np.pad(ahead[:, 1:], ((0, 0), (0, 1)))
        return total

    def _number(self, source: NDArray[Any]) -> int:
        """The question's number; a new question's source ids are kept."""
        ids = source.astype(np.int32)
        number = self._questions.setdefault(ids.tobytes(), len(self._sources))
        if number == len(self._sources):
            self._sources.append(ids)
        return number
