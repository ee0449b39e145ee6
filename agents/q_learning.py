"""Q-learning on whole answers: DQN and QR-DQN with double Q, n-step returns, the model's own exploration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sb3_contrib import QRDQN
from sb3_contrib.common.utils import quantile_huber_loss
from stable_baselines3 import DQN
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch import Tensor, nn

from agents.decoding import Limits
from agents.replay import AnswerReplayBuffer
from agents.warm_start import Supervised
from policies.language_model import LSTMAttentionLM
from policies.q_network import UNMASKED, LMDQNPolicy, LMQRDQNPolicy
from policies.reading import Reader
from qa_env.datasets import QAExample
from qa_env.errors import QAError
from qa_env.task import QATask
from qa_env.vocabulary import PAD


class _AnswerQLearning(OffPolicyAlgorithm):
    """What differs from SB3's off-policy algorithms, for DQN and QR-DQN alike.

    - Rows explore by the language model's softmax, each by its own coin (`LMDQNPolicy`).
    - An update samples whole answers from an `AnswerReplayBuffer` and unrolls each once.
    - With a `reference`, the advantage of a token is ``scale * (log pi - log pi_ref)``: the reference is a
      prior policy (Psi-learning, Jaques et al. 2017, "Sequence Tutor"). Without it, tokens that are equally
      good become equally likely, and wording decays.
    - Double Q (van Hasselt et al. 2016): the online network chooses the next token, the target network
      rates it. Only rows that bootstrap are looked at; with Monte-Carlo returns there is none.
    """

    reference: LSTMAttentionLM | None = None  # frozen; set after construction, and not saved
    hysteresis = 1.0  # weight of errors that lower an advantage
    policy: Any  # LMDQNPolicy or LMQRDQNPolicy
    replay_buffer: AnswerReplayBuffer
    exploration_rate: float
    max_grad_norm: Any  # a float, or None with QR-DQN

    def _setup_model(self) -> None:
        super()._setup_model()
        if self.env is not None and "memory" in self.observation_space.spaces:  # type: ignore[attr-defined]
            # The replay buffer keeps no encoder outputs: updates encode again, and must give the same.
            if self.env.get_attr("task", indices=0)[0].encoder is not self.policy.lm.encoder:
                raise QAError(
                    "the environment's encoder is not the language model's: give policy_kwargs={'lm': lm} "
                    "and the environment encoder=lm.encoder, or encoder=None"
                )

    def predict(
        self,
        observation: NDArray[Any] | dict[str, NDArray[Any]],
        state: tuple[NDArray[Any], ...] | None = None,
        episode_start: NDArray[Any] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], tuple[NDArray[Any], ...] | None]:
        """Choose tokens; unless `deterministic`, a share of the rows explores."""
        chosen: tuple[NDArray[Any], tuple[NDArray[Any], ...] | None]
        chosen = self.policy.predict(observation, state, episode_start, deterministic)
        return chosen

    def train(self, gradient_steps: int, batch_size: int = 768) -> None:
        """Gradient steps on minibatches of whole answers, each of about `batch_size` tokens."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        losses = []
        for _ in range(gradient_steps):
            loss = self.loss(self.replay_buffer.sample(batch_size))
            losses.append(loss.item())
            self.policy.optimizer.zero_grad()
            loss.backward()
            if self.max_grad_norm is not None:
                nn.utils.clip_grad_norm_(self.policy.online.parameters(), self.max_grad_norm)
            self.policy.optimizer.step()
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/loss", float(np.mean(losses)))

    def loss(self, samples: ReplayBufferSamples) -> Tensor:
        """The loss of the Q-values of the tokens written, against their targets.

        ``V`` is fitted to the targets less the advantages: by Huber loss (DQN, Mnih et al. 2015) or quantile
        Huber loss (QR-DQN, Dabney et al. 2018). The advantages are fitted by Huber loss to the targets'
        mean less ``V``; errors that would lower one count `hysteresis` times (Matignon et al. 2007,
        "Hysteretic Q-Learning"): most tokens of a bad answer are not what is wrong with it.
        """
        targets = self.targets(samples)
        values, log_probs = self.policy.online.values(samples.observations)
        log_probs = log_probs.gather(1, samples.actions)
        if self.reference is not None:
            log_probs = log_probs - self._reference_log_probs(samples)
        advantages = self.policy.scale * log_probs
        left = targets - advantages.detach()
        if values.shape[1] == 1:
            value_loss = nn.functional.smooth_l1_loss(values, left)
        else:
            value_loss = quantile_huber_loss(values, left, sum_over_quantiles=True)
        wanted = targets.mean(1, keepdim=True) - values.detach().mean(1, keepdim=True)
        errors = nn.functional.smooth_l1_loss(advantages, wanted, reduction="none")
        weights = torch.where(advantages.detach() > wanted, self.hysteresis, 1.0)
        return value_loss + (weights * errors).mean()

    @torch.no_grad()
    def targets(self, samples: ReplayBufferSamples) -> Tensor:
        """Returns, plus what the target network expects behind them: ``(rows, n_quantiles)``."""
        targets = samples.rewards.repeat(1, self.policy.online.n_quantiles)
        going_on = samples.dones.squeeze(1) == 0
        if going_on.any():
            batch = samples.next_observations
            batch = batch._replace(answer=batch.answer[going_on], time=batch.time[going_on])  # type: ignore[attr-defined]
            best = self.policy.online.greedy(batch)
            discounts = samples.discounts[going_on]  # type: ignore[index]
            targets[going_on] += discounts * self.policy.target.of_actions(batch, best)
        return targets

    @torch.no_grad()
    def _reference_log_probs(self, samples: ReplayBufferSamples) -> Tensor:
        """``log pi_ref`` of the tokens written, ``(rows, 1)``."""
        assert self.reference is not None
        decoded = Reader(self.reference).decode(samples.observations)
        return UNMASKED.log_probs(self.reference.log_probabilities(decoded)).gather(1, samples.actions)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "reference"]

    def _on_step(self) -> None:
        super()._on_step()  # updates target network and exploration rate
        self.policy.exploration_rate = self.exploration_rate

    def _store_transition(
        self,
        replay_buffer: ReplayBuffer,
        buffer_action: NDArray[Any],
        new_obs: Any,
        reward: NDArray[Any],
        dones: NDArray[Any],
        infos: list[dict[str, Any]],
    ) -> None:
        # SB3 copies the next observation, encoder outputs and all; the buffer needs none of it.
        assert self._last_obs is not None
        replay_buffer.add(self._last_obs, new_obs, buffer_action, reward, dones, infos)  # type: ignore[arg-type]
        self._last_obs = new_obs


class AnswerDQN(_AnswerQLearning, DQN):
    """DQN (Mnih et al. 2015) on whole answers; takes `LMDQNPolicy` and an `AnswerReplayBuffer`."""

    policy: LMDQNPolicy


class AnswerQRDQN(_AnswerQLearning, QRDQN):
    """QR-DQN (Dabney et al. 2018) on whole answers; takes `LMQRDQNPolicy` and an `AnswerReplayBuffer`."""

    policy: LMQRDQNPolicy


def demonstrate(model: AnswerDQN | AnswerQRDQN, labelled: Sequence[QAExample]) -> None:
    """Put reference answers into the replay buffer, rated like any other answer (Hester et al. 2018)."""
    assert model.env is not None
    task: QATask = model.env.get_attr("task", indices=0)[0]
    data = Supervised.from_examples(labelled, task.vocabulary, Limits(task.sources.shape[1], task.max_answer))
    rngs = np.random.default_rng(model.seed).spawn(len(data.examples))
    score = task.judge(data.examples, task.texts(data.tokens), rngs)
    for source, tokens, reward in zip(data.source, data.tokens, score.reward, strict=True):
        answer = tokens[tokens != PAD]
        earned = np.zeros(len(answer))
        earned[-1] = reward
        model.replay_buffer.add_answer(source, answer, earned)
