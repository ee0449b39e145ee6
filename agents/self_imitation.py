"""Self-imitation: learn again, as from labels, the answers that were rated well."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback

from agents.buffers import AnswerRolloutBuffer
from agents.renaming import Renaming
from agents.warm_start import Supervised, as_batch
from policies.actor_critic import LMActorCriticPolicy
from qa_env.errors import QAError

LEAST_SURPRISE = 0.05
"""Added to every priority, so that no good answer is never drawn."""


@dataclass(frozen=True)
class ImitationConfig:
    """Settings of self-imitation."""

    batches: int = 12
    """Gradient steps between two rollouts; 0 switches it off."""
    batch_size: int = 32
    """Answers a gradient step."""
    threshold: float = 0.8
    """Least reward of an answer that is imitated; 0.5 is a mean rating of 4, 0.83 one of 4.67."""
    learning_rate: float = 1e-3
    """At the start; it falls linearly to a tenth."""
    labelled: float = 0.25
    """Share of labelled questions in a minibatch."""
    renamed: float = 0.5
    """Share of the examples whose names and numbers are spelled differently."""

    def __post_init__(self) -> None:
        """Raise a QAError if a field is out of its range."""
        if self.batches < 0 or self.batch_size < 1 or not self.learning_rate > 0:
            raise QAError("imitation needs batches >= 0, batch_size >= 1 and a positive learning_rate")
        if not (0 <= self.labelled < 1 and 0 <= self.renamed <= 1):
            raise QAError(
                f"imitation.labelled must be in [0, 1) and imitation.renamed in [0, 1], "
                f"got {self.labelled} and {self.renamed}"
            )


@dataclass(frozen=True)
class _Good:
    """The best answer to a question so far: reward, source ids ``(source,)`` and answer ids ``(time,)``."""

    reward: float
    source: NDArray[np.int64]
    tokens: NDArray[np.int64]


class SelfImitation(BaseCallback):
    """Between rollouts: supervised steps on the best answer to each question so far (Oh et al. 2018).

    "Self-Imitation Learning" keeps past decisions whose return R exceeded the expectation V and learns
    them again, drawn in proportion to ``R - V``. Here a decision is a whole answer, R its rating, V the mean
    rating of all answers to its question (so what is always answered well is hardly drawn), and the data
    augmentation of the warm start applies. It reuses each rating many times, where PPO uses it for one
    update only; PPO in turn learns from bad ratings, which imitation cannot. The answers are not part of a
    checkpoint: a resumed run gathers them anew.

    Args:
        config: Settings.
        labelled: The labelled questions, mixed in so that their wording is not forgotten.
        renaming: The data augmentation.
        seed: Of the choice of examples.
    """

    def __init__(self, config: ImitationConfig, labelled: Supervised, renaming: Renaming, seed: int) -> None:
        super().__init__()
        self.config, self.labelled, self.renaming = config, labelled, renaming
        self.best: dict[bytes, _Good] = {}
        self._heard: dict[bytes, tuple[int, float]] = {}  # ratings a question: their number and sum
        self._rng = np.random.default_rng(seed)
        self._optimizer: torch.optim.Adam | None = None

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        buffer = self.locals["rollout_buffer"]
        assert isinstance(buffer, AnswerRolloutBuffer)
        for source, tokens, reward in buffer.finished():
            key = source.tobytes()
            number, total = self._heard.get(key, (0, 0.0))
            self._heard[key] = (number + 1, total + reward)
            known = self.best.get(key)
            if reward >= self.config.threshold and (known is None or reward >= known.reward):
                self.best[key] = _Good(reward, source, tokens)
        self.logger.record("imitation/answers", len(self.best))

    def _on_rollout_start(self) -> None:
        # Behind PPO's update, not before it: the rollout's log-probabilities must be those of the policy
        # that PPO starts from.
        if self.config.batches and self.best:
            self._good = list(self.best.values())
            heard = [self._heard[key] for key in self.best]
            surprise = np.array([g.reward - t / n for g, (n, t) in zip(self._good, heard, strict=True)])
            weight = surprise + LEAST_SURPRISE
            self._chance = weight / weight.sum()
            losses = [self._step() for _ in range(self.config.batches)]
            self.logger.record("imitation/loss", float(np.mean(losses)))

    def _step(self) -> float:
        """One gradient step on a minibatch of good and labelled answers; returns its loss."""
        policy = self.model.policy
        assert isinstance(policy, LMActorCriticPolicy)
        trained = [p for p in policy.lm.parameters() if p.requires_grad]
        if self._optimizer is None:
            self._optimizer = torch.optim.Adam(trained)
        for group in self._optimizer.param_groups:
            left = self.model._current_progress_remaining
            group["lr"] = self.config.learning_rate * (0.1 + 0.9 * left)
        batch, tokens = as_batch(*self._examples())
        _, log_prob, _ = policy.evaluate_actions(batch, tokens)
        loss = -log_prob.mean()
        self._optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        self._optimizer.step()
        return float(loss.item())

    def _examples(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Sources and answers of a minibatch, some of them renamed."""
        size, rng = self.config.batch_size, self._rng
        known = min(round(self.config.labelled * size), size - 1)
        rows = rng.integers(len(self.labelled.source), size=known)
        drawn = rng.choice(len(self._good), size=size - known, p=self._chance)
        source = np.concatenate([self.labelled.source[rows], np.stack([self._good[i].source for i in drawn])])
        tokens = np.concatenate([self.labelled.tokens[rows], np.stack([self._good[i].tokens for i in drawn])])
        renamed = rng.random(size) < self.config.renamed
        source[renamed], tokens[renamed] = self.renaming(source[renamed], tokens[renamed], rng)
        return source, tokens
