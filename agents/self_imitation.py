"""Self-imitation: learn again, as from labels, the answers that were rated well."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback

from agents.augmentation import Augmentation
from agents.buffers import AnswerRolloutBuffer
from agents.warm_start import Supervised, as_batch, bucketed
from policies.actor_critic import LMActorCriticPolicy
from policies.optimizers import make_optimizer
from qa_env.errors import QAError

LEAST_SURPRISE = 0.05
"""Added to every priority, so that no good answer is never drawn."""


@dataclass(frozen=True)
class ImitationConfig:
    """Settings of self-imitation."""

    batches: int | None = None
    """Gradient steps between two rollouts; 0 leaves them out. None: 8, or 0 where a reward model pays: RL
    then begins at the mean of several networks, and such steps soon undo what that is good for."""
    batch_size: int = 32
    """Answers a gradient step."""
    epochs: int = 4
    """Passes over all the good answers behind the last rollout; 0 leaves them out."""
    threshold: float | None = None
    """Least reward of an answer that is imitated; 0.5 is a mean rating of 4, 0.83 one of 4.67. None: 0.8, or
    0.4 where a reward model pays, which is never as sure."""
    robustness: float = 0.3
    """How little a token counts that the model finds unlikely, from 0 (as much as any) to 1."""
    learning_rate: float = 1.5e-3
    """In the passes behind the last rollout it falls linearly to zero."""
    labelled: float = 0.25
    """Share of labelled questions among the examples between two rollouts."""
    dropout: float = 0.0
    """Share of what the model reads that is left out, as in the warm start."""

    def __post_init__(self) -> None:
        """Raise a QAError if a field is out of its range."""
        least = {"batches": 0, "batch_size": 1, "epochs": 0}
        for name, value in least.items():
            if getattr(self, name) is not None and getattr(self, name) < value:
                raise QAError(f"imitation.{name} must be {value} or more, got {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise QAError(f"imitation.learning_rate must be greater than 0, got {self.learning_rate}")
        if not 0 <= self.robustness <= 1:
            raise QAError(f"imitation.robustness must be from 0 to 1, got {self.robustness}")
        for name in ("labelled", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise QAError(
                    f"imitation.{name} must be 0 or more and less than 1, got {getattr(self, name)}"
                )

    def batches_and_threshold(self, modelled: bool) -> tuple[int, float]:
        """The two fields whose default depends on whether a reward model pays."""
        batches, threshold = (0, 0.4) if modelled else (8, 0.8)
        return (
            batches if self.batches is None else self.batches,
            threshold if self.threshold is None else self.threshold,
        )


@dataclass(frozen=True)
class _Good:
    """The best answer to a question so far: reward, source ids ``(source,)`` and answer ids ``(time,)``."""

    reward: float
    source: NDArray[np.int64]
    tokens: NDArray[np.int64]


class SelfImitation(BaseCallback):
    """Supervised steps on the best answer to each question so far (Oh et al. 2018).

    "Self-Imitation Learning" keeps past decisions whose return R exceeded the expectation V and learns
    them again, drawn in proportion to ``R - V``. Here a decision is a whole answer, R its rating, V the mean
    rating of all answers to its question (so what is always answered well is hardly drawn), and the data
    augmentation of the warm start applies. It reuses each rating many times, where PPO uses it for one
    update only; PPO in turn learns from bad ratings, which imitation cannot. That goes on between rollouts;
    behind the last one `consolidate` goes over all the good answers, each as often as the others.

    A well-rated answer may still say a wrong word: raters look at what matters to them. So the loss is one
    for noisy labels (`robust_loss`), in which a token that the model finds unlikely counts less.

    Args:
        config: Settings.
        labelled: The labelled questions, mixed in so that their wording is not forgotten.
        augmentation: Changes the examples anew in each minibatch.
        seed: Of the choice of examples.
        modelled: Whether a reward model pays, which sets some defaults.
    """

    def __init__(
        self,
        config: ImitationConfig,
        labelled: Supervised,
        augmentation: Augmentation,
        seed: int,
        modelled: bool = False,
    ) -> None:
        super().__init__()
        self.config, self.labelled, self.augmentation = config, labelled, augmentation
        self.batches, self.threshold = config.batches_and_threshold(modelled)
        self.best: dict[bytes, _Good] = {}
        self._heard: dict[bytes, tuple[int, float]] = {}  # ratings a question: their number and sum
        self._rng = np.random.default_rng(seed)
        self._made: Imitator | None = None

    @property
    def _imitator(self) -> Imitator:
        """One for all of training, since its optimizer remembers; learning may begin more than once."""
        if self._made is None:
            policy = self.model.policy
            assert isinstance(policy, LMActorCriticPolicy)
            self._made = Imitator(policy, self.config, self.augmentation, self._rng)
        return self._made

    def state(self) -> dict[str, Any]:
        """All that was heard so far, and where the generator and the optimizer are, for a checkpoint."""
        good = list(self.best.values())
        width = self.labelled.source.shape[1]
        heard = b"".join(self._heard)
        return {
            "reward": np.array([g.reward for g in good]),
            "source": np.array([g.source for g in good], dtype=np.int64).reshape(len(good), width),
            "tokens": np.array([g.tokens for g in good], dtype=np.int64).reshape(
                len(good), self.labelled.tokens.shape[1]
            ),
            "heard_source": np.frombuffer(heard, dtype=np.int64).reshape(-1, width),
            "heard": np.array(list(self._heard.values()), dtype=np.float64).reshape(-1, 2),
            "rng": self._rng.bit_generator.state,
            "optimizer": self._imitator.optimizer.state_dict(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave; the callback must know its model."""
        keys = [row.tobytes() for row in state["heard_source"]]
        self._heard = {
            key: (int(number), float(total))
            for key, (number, total) in zip(keys, state["heard"], strict=True)
        }
        self.best = {
            source.tobytes(): _Good(float(reward), source, tokens)
            for reward, source, tokens in zip(state["reward"], state["source"], state["tokens"], strict=True)
        }
        self._rng.bit_generator.state = state["rng"]
        self._imitator.optimizer.load_state_dict(state["optimizer"])

    def hear(self, source: NDArray[np.int64], tokens: NDArray[np.int64], reward: float) -> None:
        """Note what an answer ``(time,)`` to a source ``(source,)`` earned."""
        key = source.tobytes()
        number, total = self._heard.get(key, (0, 0.0))
        self._heard[key] = (number + 1, total + reward)
        known = self.best.get(key)
        if reward >= self.threshold and (known is None or reward >= known.reward):
            self.best[key] = _Good(reward, source, tokens)

    def consolidate(self) -> None:
        """Passes over all good answers and labelled questions, while the learning rate falls to zero.

        Between rollouts the latest answers have been seen a few times only, at a learning rate that is
        right for a changing collection. There must be a good answer. (Filtered behaviour cloning, as in the
        expert iteration of Anthony et al. 2017 and the "Improve" step of Gulcehre et al. 2023, "Reinforced
        Self-Training (ReST)".)
        """
        good = list(self.best.values())
        source = np.concatenate([self.labelled.source, np.stack([g.source for g in good])])
        tokens = np.concatenate([self.labelled.tokens, np.stack([g.tokens for g in good])])
        self._imitator.passes(source, tokens, self.config.epochs)

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        buffer = self.locals["rollout_buffer"]
        assert isinstance(buffer, AnswerRolloutBuffer)
        for source, tokens, reward in buffer.finished():
            self.hear(source, tokens, reward)
        self.logger.record("imitation/answers", len(self.best))

    def _on_rollout_start(self) -> None:
        # Behind PPO's update, not before it: the rollout's log-probabilities must be those of the policy
        # that PPO starts from.
        if self.batches and self.best:
            rate = self.config.learning_rate
            losses = [self._imitator.step(source, tokens, rate) for source, tokens in self._minibatches()]
            self.logger.record("imitation/loss", float(np.mean(losses)))

    def _minibatches(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Sources and answers of each minibatch: good answers and labelled ones, augmented."""
        rng, number = self._rng, self.batches * self.config.batch_size
        known = rng.integers(
            len(self.labelled.source), size=min(round(self.config.labelled * number), number - 1)
        )
        good = list(self.best.values())
        heard = [self._heard[key] for key in self.best]
        surprise = np.array([g.reward - total / n for g, (n, total) in zip(good, heard, strict=True)])
        weight = surprise + LEAST_SURPRISE
        drawn = rng.choice(len(good), size=number - len(known), p=weight / weight.sum())
        source = np.concatenate([self.labelled.source[known], np.stack([good[i].source for i in drawn])])
        tokens = np.concatenate([self.labelled.tokens[known], np.stack([good[i].tokens for i in drawn])])
        for rows in bucketed(source, self.config.batch_size, rng):
            yield source[rows], tokens[rows]


class Imitator:
    """Gradient steps towards answers, some tokens of which may be wrong.

    Args:
        policy: Its language model is trained in place.
        config: Settings.
        augmentation: Changes the examples anew in each minibatch.
        rng: Draws the changes, and the order of `passes`.
    """

    def __init__(
        self,
        policy: LMActorCriticPolicy,
        config: ImitationConfig,
        augmentation: Augmentation,
        rng: np.random.Generator,
    ) -> None:
        self.policy, self.config, self.augmentation = policy, config, augmentation
        self.optimizer = make_optimizer(policy.lm, config.learning_rate)
        self._rng = rng

    def passes(self, source: NDArray[np.int64], tokens: NDArray[np.int64], number: int) -> None:
        """So many passes over the examples, while the learning rate falls to zero.

        Args:
            source: Source ids, ``(examples, source)``.
            tokens: The ids of the answers, ``(examples, time)``.
            number: How often each example is learned.
        """
        batches = [
            rows for _ in range(number) for rows in bucketed(source, self.config.batch_size, self._rng)
        ]
        for done, rows in enumerate(batches):
            self.step(source[rows], tokens[rows], self.config.learning_rate * (1 - done / len(batches)))

    def step(self, source: NDArray[np.int64], tokens: NDArray[np.int64], rate: float) -> float:
        """A step on ``source (batch, source)`` and ``tokens (batch, time)`` at a learning rate; its loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        lm = self.policy.lm
        examples = self.augmentation(source, tokens, self._rng)
        self.policy.set_training_mode(True)
        with lm.dropping(self.config.dropout):
            log_likelihood = self.policy.log_likelihood(*as_batch(*examples, self.policy.device))
        self.policy.set_training_mode(False)
        loss = robust_loss(log_likelihood, self.config.robustness)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(lm.parameters(), 1.0)
        self.optimizer.step()
        return float(loss.item())


def robust_loss(log_likelihood: torch.Tensor, robustness: float) -> torch.Tensor:
    """``mean (1 - p^q) / q`` over tokens of log-likelihoods ``log p (rows,)``, with q the `robustness`.

    The generalised cross entropy of Zhang & Sabuncu 2018 ("Generalized Cross Entropy Loss for Training Deep
    Neural Networks with Noisy Labels", equation 6). Its gradient is that of ``-log p`` times ``p^q``.
    """
    if robustness == 0:  # the limit
        return -log_likelihood.mean()
    return ((1 - torch.exp(robustness * log_likelihood)) / robustness).mean()
