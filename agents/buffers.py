"""A rollout buffer of whole answers, with a KL penalty to a reference policy."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from torch import Tensor

from policies.actor_critic import LMActorCriticPolicy
from policies.reading import AnswerBatch
from qa_env.errors import QAError
from qa_env.vocabulary import PAD

BASELINES = ("critic", "group", "leave_one_out", "group_normalised", "greedy")
REFERENCE_BATCH = 64
"""Answers a pass of the reference policy."""
LEAST_SPREAD = 1e-4
"""Added to a group's standard deviation."""


class AnswerRolloutBuffer(RolloutBuffer):
    """Rows are tokens as in SB3's own buffer; minibatches are whole answers.

    A question is kept once an answer, not once a token. `get` yields `AnswerBatch` observations, so stock
    `PPO.train` makes one teacher-forced pass an answer.

    Before returns are computed each token is charged ``kl_coef * (log pi - log pi_ref)`` (Ziegler et al.
    2019, "Fine-Tuning Language Models from Human Preferences", section 2).

    Args:
        kl_coef: Weight of the penalty.
        baseline: What an answer's return is compared with.
            ``"critic"``: the value head, by generalised advantage estimation, as in SB3.
            ``"group"``: the mean reward of the other answers to the same question in the rollout, which
            takes the question's difficulty out of the advantage; answers that are alone or unfinished
            keep the critic's.
            ``"leave_one_out"``: the same without a critic: the advantage of the others is 0.
            ``"group_normalised"``: as before, less the mean of all answers to the question, divided by their
            standard deviation.
            ``"greedy"``: what `compare_with` is given. (`agents.reinforce` names the papers.)

    Attributes:
        reference: The frozen policy of the KL penalty, or None for no penalty. Set after construction,
            so that it is not saved with the algorithm.
        keeps_memory: Keep the encoder's outputs once an answer: set it if the policy's encoder is frozen.
        kl_coef: Weight of the penalty; may be changed between rollouts.
        kl: Mean over the answers' tokens of ``log pi - log pi_ref`` in the last rollout.
        raw_rewards: The rewards without the penalty, ``(n_steps, n_envs)``.
    """

    def __init__(self, *args: Any, kl_coef: float = 0.0, baseline: str = "critic", **kwargs: Any) -> None:
        if baseline not in BASELINES:
            raise QAError(f"baseline must be one of {', '.join(BASELINES)}; got '{baseline}'")
        self.kl_coef = kl_coef
        self.baseline = baseline
        self.reference: LMActorCriticPolicy | None = None
        self.keeps_memory = False
        self.kl = 0.0
        super().__init__(*args, **kwargs)

    def reset(self) -> None:
        """Empty the buffer."""
        shape = (self.buffer_size, self.n_envs)
        self.actions = np.zeros((*shape, self.action_dim), dtype=np.int64)
        for name in ("rewards", "returns", "episode_starts", "values", "log_probs", "advantages"):
            setattr(self, name, np.zeros(shape, dtype=np.float32))
        self.generator_ready = False
        self._questions: dict[str, list[NDArray[Any]]] = {"source": [], "memory": [], "lane": [], "step": []}
        self._computed: list[Tensor] = []  # values and log-probabilities of each step, ``(2, n_envs)``
        self.pos, self.full = 0, False

    def add(  # type: ignore[override]
        self,
        obs: dict[str, NDArray[Any]],
        action: NDArray[Any],
        reward: NDArray[Any],
        episode_start: NDArray[Any],
        value: Tensor,
        log_prob: Tensor,
    ) -> None:
        """Add a token of every lane."""
        begun = np.flatnonzero(episode_start) if self.pos else np.arange(self.n_envs)
        if self.pos == 0:
            self._prefixes = obs["answer"].copy()  # of answers begun in the rollout before
        self._questions["source"].append(obs["source"][begun])
        self._questions["lane"].append(begun)
        self._questions["step"].append(np.full(len(begun), self.pos))
        if "memory" in obs and self.keeps_memory:
            self._questions["memory"].append(obs["memory"][begun])
        self.actions[self.pos] = action.reshape(self.n_envs, self.action_dim)
        self.rewards[self.pos] = reward
        self.episode_starts[self.pos] = episode_start
        self._computed.append(torch.stack((value.flatten(), log_prob)))  # a GPU is not waited for here
        self.pos += 1
        self.full = self.pos == self.buffer_size

    def compute_returns_and_advantage(self, last_values: Tensor, dones: NDArray[Any]) -> None:
        """Group the rows into answers, charge the KL penalty, then compute returns as SB3 does."""
        self.values, self.log_probs = torch.stack(self._computed, dim=1).float().cpu().numpy()
        self._group()
        self.raw_rewards = self.rewards.copy()
        self._penalty = np.zeros_like(self.rewards)
        if self.reference is not None:
            penalty = self._log_ratio()
            self.kl = float(penalty.mean())
            self._penalty = self.kl_coef * penalty
        self._compute(last_values, dones)

    def regrade(
        self,
        steps: NDArray[np.int64],
        lanes: NDArray[np.int64],
        rewards: NDArray[np.float64],
        last_values: Tensor,
        dones: NDArray[Any],
    ) -> None:
        """Put in other rewards of finished answers, and compute returns and advantages anew.

        Args:
            steps: The answers' last rows, ``(answers,)``.
            lanes: Their lanes, ``(answers,)``.
            rewards: Their rewards, without the penalty, ``(answers,)``.
            last_values: As for `compute_returns_and_advantage`.
            dones: Likewise.
        """
        self.raw_rewards[steps, lanes] = rewards
        self._compute(last_values, dones)

    def surprise(self, steps: NDArray[np.int64], lanes: NDArray[np.int64]) -> NDArray[np.float64]:
        """Mean of minus the log-probabilities of answers' tokens in the rollout, ``(answers,)``.

        Args:
            steps: The answers' last rows, ``(answers,)``.
            lanes: Their lanes, ``(answers,)``.
        """
        log_probs = self.log_probs.swapaxes(0, 1).reshape(-1).astype(np.float64)
        means = np.add.reduceat(log_probs, self._first_row) / self._counts
        found = np.searchsorted(self._first_row, lanes * self.buffer_size + steps, side="right") - 1
        surprise: NDArray[np.float64] = -means[found]
        return surprise

    def _compute(self, last_values: Tensor, dones: NDArray[Any]) -> None:
        """Returns and advantages, from the rewards less the penalty."""
        self.rewards = self.raw_rewards - self._penalty
        super().compute_returns_and_advantage(last_values, dones)
        self._end_answers(dones)
        if self.baseline not in ("critic", "group"):
            self.advantages[:] = 0
        if self.baseline not in ("critic", "greedy"):
            self._compare_with_group()

    def get(self, batch_size: int | None = None) -> Generator[RolloutBufferSamples, None, None]:
        """Yield minibatches of about `batch_size` tokens: whole answers, those to a question together."""
        order = np.argsort(np.random.permutation(self._question.max() + 1)[self._question], kind="stable")
        ends = np.cumsum(self._counts[order])
        total = int(ends[-1])
        parts = max(round(total / (batch_size or total)), 1)
        cuts = np.searchsorted(ends, np.arange(1, parts) * total / parts)
        for answers in np.split(order, cuts):
            if len(answers):
                yield self._samples(answers)

    def _samples(self, answers: NDArray[np.int64]) -> RolloutBufferSamples:
        batch, rows = self.batch(answers)

        def flat(values: NDArray[Any]) -> Tensor:
            return self.to_torch(values.swapaxes(0, 1).reshape(-1)[rows])

        return RolloutBufferSamples(
            batch,  # type: ignore[arg-type]
            flat(self.actions),
            flat(self.values),
            flat(self.log_probs),
            flat(self.advantages),
            flat(self.returns),
        )

    def batch(self, answers: NDArray[np.int64]) -> tuple[AnswerBatch, NDArray[np.int64]]:
        """Some answers, and the places of their tokens in the buffer flattened lane by lane, ``(rows,)``."""
        counts = self._counts[answers]
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        rows = np.repeat(self._first_row[answers], counts) + within
        time = np.repeat(self._offset[answers], counts) + within
        owner = np.repeat(np.arange(len(answers)), counts)
        _, first, question = np.unique(self._question[answers], return_index=True, return_inverse=True)
        asked = answers[first]  # an answer to each question
        memory = self.to_torch(self._memory[asked]) if self._memory is not None else None
        batch = AnswerBatch(
            self.to_torch(self._source[asked]),
            self.to_torch(question),
            self.to_torch(self._tokens[answers]),
            self.to_torch(owner),
            self.to_torch(time),
            memory,
        )
        return batch, rows

    def _group(self) -> None:
        """Find the answers: a row each of source, tokens, first row, number of rows, tokens before."""
        lane, step = (np.concatenate(self._questions[key]) for key in ("lane", "step"))
        first_row = lane * self.buffer_size + step
        order = np.argsort(first_row)
        self._first_row = first_row[order]
        self._counts = np.diff(np.append(self._first_row, self.n_envs * self.buffer_size))
        self._source = np.concatenate(self._questions["source"])[order]
        memory = self._questions["memory"]
        self._memory = np.concatenate(memory)[order] if memory else None
        straddles = step[order] == 0
        prefixes = np.where(straddles[:, None], self._prefixes[lane[order]], PAD)
        self._offset = (prefixes != PAD).sum(1)
        self._tokens = prefixes
        batch_rows = np.arange(self.n_envs * self.buffer_size)
        owner = np.repeat(np.arange(len(order)), self._counts)
        time = batch_rows - np.repeat(self._first_row - self._offset, self._counts)
        self._tokens[owner, time] = self.actions[:, :, 0].swapaxes(0, 1).reshape(-1)
        _, self._question = np.unique(self._source, axis=0, return_inverse=True)

    def finished(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], float]]:
        """Source ids, answer ids and final reward of every answer that ended in the rollout."""
        for answer in np.flatnonzero(self._finished):
            yield self._source[answer], self._tokens[answer], float(self._final[answer])

    def _end_answers(self, dones: NDArray[Any]) -> None:
        """Find which answers are finished, and their final rewards without the penalty, ``(answers,)``."""
        steps = self.buffer_size
        ends = self._first_row + self._counts  # one behind an answer's last row
        self._finished = (ends % steps != 0) | np.asarray(dones, dtype=bool)[(ends - 1) // steps]
        self._final = self.raw_rewards.swapaxes(0, 1).reshape(-1)[ends - 1] * self._finished

    def sources(self) -> NDArray[np.int64]:
        """Source ids of the rollout's questions, each once, ``(questions, source)``."""
        _, first = np.unique(self._question, return_index=True)
        return self._source[first]

    def compare_with(self, rewards: NDArray[np.float64]) -> None:
        """Advantages of finished answers: return minus the `rewards (questions,)` of `sources`."""
        self._compare(rewards[self._question], self._finished, np.ones(len(self._question)))

    def _compare_with_group(self) -> None:
        """Advantages of finished answers: return minus what the answers to the question have earned."""

        def of_question(values: NDArray[Any]) -> NDArray[np.float64]:
            return np.bincount(self._question, values).astype(np.float64)[self._question]

        final, number = self._final.astype(np.float64), of_question(self._finished)
        compared = self._finished & (number > 1)
        mean = of_question(final) / np.maximum(number, 1)
        if self.baseline == "group_normalised":
            variance = of_question(self._finished * (final - mean) ** 2) / np.maximum(number, 1)
            self._compare(mean, compared, np.sqrt(variance) + LEAST_SPREAD)
        else:
            others = (of_question(final) - final) / np.maximum(number - 1, 1)
            self._compare(others, compared, np.ones(len(others)))

    def _compare(
        self, baseline: NDArray[np.float64], compared: NDArray[np.bool_], scale: NDArray[np.float64]
    ) -> None:
        """Advantages ``(return - baseline) / scale`` where an answer is `compared`; each ``(answers,)``."""
        rewards = self.rewards.swapaxes(0, 1).reshape(-1).astype(np.float64)
        ends = self._first_row + self._counts
        owner = np.repeat(np.arange(len(ends)), self._counts)
        # Rewards from a token to its answer's end: a cumulative sum from the back, restarted at each answer.
        behind = np.append(np.cumsum(rewards[::-1])[::-1], 0.0)
        to_go = behind[:-1] - behind[ends[owner]]
        advantages = self.advantages.swapaxes(0, 1).reshape(-1)
        advantages = np.where(compared[owner], (to_go - baseline[owner]) / scale[owner], advantages)
        self.advantages = advantages.reshape(self.n_envs, self.buffer_size).T.astype(np.float32)

    @torch.no_grad()
    def _log_ratio(self) -> NDArray[np.float32]:
        """``log pi - log pi_ref`` of every token, ``(n_steps, n_envs)``."""
        assert self.reference is not None
        actions = self.actions[:, :, 0].swapaxes(0, 1).reshape(-1)
        reference = np.zeros(len(actions), dtype=np.float32)
        order = np.argsort((self._source != PAD).sum(1), kind="stable")  # a batch is as wide as its widest
        for answers in np.split(order, np.arange(REFERENCE_BATCH, len(order), REFERENCE_BATCH)):
            batch, rows = self.batch(answers)
            _, log_prob, _ = self.reference.evaluate_actions(batch, self.to_torch(actions[rows]))
            reference[rows] = log_prob.cpu().numpy()
        ratio: NDArray[np.float32] = self.log_probs - reference.reshape(self.n_envs, self.buffer_size).T
        return ratio
