"""The language model as Stable-Baselines3 Q-networks: for DQN and QR-DQN."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from gymnasium import spaces
from sb3_contrib.qrdqn.policies import QRDQNPolicy
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from stable_baselines3.dqn.policies import DQNPolicy
from torch import Tensor, nn

from policies.language_model import LSTMAttentionLM
from policies.optimizers import make_optimizer
from policies.reading import AnswerBatch, Reader, check_fit, check_spaces, new_language_model
from policies.tokens import Sampling, draw
from qa_env.errors import QAError

UNMASKED = Sampling()


class LMQNetwork(BasePolicy):
    """``Q(s, a) = V(s) + scale * log pi(a | s)``, with ``pi`` the language model.

    The soft-Q view of a policy (Schulman, Chen, Abbeel 2017, "Equivalence Between Policy Gradients and Soft
    Q-Learning", section 2; Guo et al. 2021, "Text Generation with Efficient (Soft) Q-Learning", for
    language models): logits are values over a temperature, so a supervised model is at once a Q-function in
    which likely tokens are better. A dueling head (Wang et al. 2016) would have to learn the advantages of
    all tokens from nothing. ``V`` is a small head on the decoder's attentional vector, through which no
    gradient goes back, as in the actor-critic policy. Tokens that may not be chosen (PAD, BOS, SEP) have a
    value of about -1e8 * scale, in the choice of an action and in the target's maximum alike.

    With `n_quantiles` > 1 the head gives quantiles of the return (QR-DQN, Dabney et al. 2018); all are moved
    by the same advantage.

    Args:
        observation_space: That of `QAEnv`.
        action_space: That of `QAEnv`.
        lm: The language model to wrap.
        scale: Reward that a nat of log-probability stands for.
        n_quantiles: Quantiles of the return; 1 is its mean.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lm: LSTMAttentionLM,
        scale: float,
        n_quantiles: int = 1,
    ) -> None:
        super().__init__(observation_space, action_space)
        hidden = lm.config.hidden
        self.lm, self.scale, self.n_quantiles = lm, scale, n_quantiles
        self.value_net = nn.Sequential(nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, n_quantiles))
        self.reader = Reader(lm)

    def forward(self, obs: PyTorchObs | AnswerBatch) -> Tensor:
        """Q-values of every token, ``(rows, vocabulary)``; for QR-DQN ``(rows, n_quantiles, vocabulary)``."""
        values, log_probs = self.values(obs)
        if self.n_quantiles == 1:
            return values + self.scale * log_probs
        return values.unsqueeze(2) + self.scale * log_probs.unsqueeze(1)

    def values(self, obs: PyTorchObs | AnswerBatch) -> tuple[Tensor, Tensor]:
        """``V (rows, n_quantiles)`` and ``log pi (rows, vocabulary)``."""
        decoded = self.reader.decode(obs)
        log_probs = UNMASKED.log_probs(self.lm.log_probabilities(decoded))
        return self.value_net(decoded.features.detach()), log_probs

    def of_actions(self, obs: PyTorchObs | AnswerBatch, actions: Tensor) -> Tensor:
        """Q of the tokens ``(rows, 1)``: ``(rows, n_quantiles)``."""
        values, log_probs = self.values(obs)
        return values + self.scale * log_probs.gather(1, actions)

    def greedy(self, obs: PyTorchObs | AnswerBatch) -> Tensor:
        """The tokens of greatest value, ``(rows, 1)``: the likeliest, since V is the same for all."""
        return self.values(obs)[1].argmax(1, keepdim=True)

    def set_training_mode(self, mode: bool) -> None:
        """Training or evaluation."""
        self.train(mode)

    def _predict(self, observation: PyTorchObs, deterministic: bool = True) -> Tensor:
        return self.greedy(observation).squeeze(1)


class _LMQPolicy(BasePolicy):
    """Choice of tokens by a Q-network: greedy, or in a share of the rows by the language model's softmax.

    Uniform exploration over a vocabulary of thousands hardly ever finds a sentence. Each row tosses its own
    coin; stock DQN tosses one for the whole batch.

    Attributes:
        exploration_rate: Share of the rows that explore; set by the algorithm.
    """

    exploration_rate = 0.0
    scale: float
    sampling: Sampling
    online: LMQNetwork
    target: LMQNetwork

    @property
    def lm(self) -> LSTMAttentionLM:
        """The language model that is trained."""
        return self.online.lm

    def _build(self, lr_schedule: Schedule) -> None:
        """Nothing: networks and optimizer are made in `__init__`, once the language model is there."""

    def _get_constructor_parameters(self) -> dict[str, Any]:
        parameters = super()._get_constructor_parameters()
        parameters.update(lm=self.lm, scale=self.scale, **asdict(self.sampling))
        return parameters

    def forward(self, obs: PyTorchObs, deterministic: bool = True) -> Tensor:
        """Tokens, ``(rows,)``."""
        return self._predict(obs, deterministic)

    def _predict(self, obs: PyTorchObs, deterministic: bool = True) -> Tensor:
        assert isinstance(obs, Mapping)
        if torch.is_grad_enabled():
            return self._choose(self.lm.log_probabilities(self.online.reader.prefix(obs)), deterministic)
        reader = self.online.reader
        tokens = self._choose(self.lm.log_probabilities(reader.cached(obs)), deterministic)
        reader.cache.append(tokens)
        return tokens

    def _choose(self, log_probabilities: Tensor, deterministic: bool) -> Tensor:
        best = UNMASKED.log_probs(log_probabilities).argmax(1)
        if deterministic or self.exploration_rate == 0:
            return best
        drawn = draw(self.sampling.log_probs(log_probabilities))
        return torch.where(torch.rand(len(best), device=best.device) < self.exploration_rate, drawn, best)


def _networks(
    policy: BasePolicy, lm: LSTMAttentionLM | None, scale: float, n_quantiles: int
) -> tuple[LMQNetwork, LMQNetwork]:
    """The online network and its frozen copy, the target."""
    if not scale > 0:
        raise QAError(f"scale must be greater than 0, got {scale}")
    observations, actions = policy.observation_space, policy.action_space
    lm = lm if lm is not None else new_language_model(observations, actions)
    check_fit(lm, observations, actions)
    online = LMQNetwork(observations, actions, lm, scale, n_quantiles)
    target = copy.deepcopy(online)
    target.set_training_mode(False)
    return online, target


class LMDQNPolicy(_LMQPolicy, DQNPolicy):
    """The language model as DQN's Q-network and target network; see `LMQNetwork`.

    For stock `DQN` on the observations of `QAEnv`, and for `agents.q_learning.AnswerDQN`, which learns from
    whole answers.

    Args:
        observation_space: That of `QAEnv`.
        action_space: That of `QAEnv`.
        lr_schedule: Learning rate over the remaining progress.
        lm: The language model to wrap; None makes a new one that fits the spaces.
        scale: Reward that a nat of log-probability stands for.
        temperature: Of exploration.
        top_k: Explore among the k likeliest tokens; 0 is off.
        top_p: Explore in the nucleus of this probability; 1 is off.
        **kwargs: Those of SB3's `DQNPolicy`.

    Raises:
        QAError: If the spaces are not those of a `QAEnv`, or the model does not fit them.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        lm: LSTMAttentionLM | None = None,
        scale: float = 0.1,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        **kwargs: Any,
    ) -> None:
        check_spaces(observation_space, action_space)
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)
        self.scale, self.sampling = scale, Sampling(temperature, top_k, top_p)
        self.q_net, self.q_net_target = _networks(self, lm, scale, 1)  # type: ignore[assignment]
        self.optimizer = _optimizer(self, lr_schedule)

    @property
    def online(self) -> LMQNetwork:  # type: ignore[override]
        """The network that is trained."""
        return self.q_net  # type: ignore[return-value]

    @property
    def target(self) -> LMQNetwork:  # type: ignore[override]
        """The network of the targets."""
        return self.q_net_target  # type: ignore[return-value]


class LMQRDQNPolicy(_LMQPolicy, QRDQNPolicy):
    """The language model as QR-DQN's quantile network and target network; see `LMQNetwork`.

    Args:
        observation_space: That of `QAEnv`.
        action_space: That of `QAEnv`.
        lr_schedule: Learning rate over the remaining progress.
        lm: The language model to wrap; None makes a new one that fits the spaces.
        scale: Reward that a nat of log-probability stands for.
        temperature: Of exploration.
        top_k: Explore among the k likeliest tokens; 0 is off.
        top_p: Explore in the nucleus of this probability; 1 is off.
        n_quantiles: Quantiles of the return, 2 or more.
        **kwargs: Those of sb3-contrib's `QRDQNPolicy`.

    Raises:
        QAError: If the spaces are not those of a `QAEnv`, or the model does not fit them.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        lm: LSTMAttentionLM | None = None,
        scale: float = 0.1,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        n_quantiles: int = 8,
        **kwargs: Any,
    ) -> None:
        check_spaces(observation_space, action_space)
        if n_quantiles < 2:
            raise QAError(f"n_quantiles must be 2 or more, got {n_quantiles}; 1 is DQN's LMDQNPolicy")
        super().__init__(observation_space, action_space, lr_schedule, n_quantiles, **kwargs)
        self.scale, self.sampling = scale, Sampling(temperature, top_k, top_p)
        self.quantile_net, self.quantile_net_target = _networks(self, lm, scale, n_quantiles)  # type: ignore[assignment]
        self.optimizer = _optimizer(self, lr_schedule)

    @property
    def online(self) -> LMQNetwork:  # type: ignore[override]
        """The network that is trained."""
        return self.quantile_net  # type: ignore[return-value]

    @property
    def target(self) -> LMQNetwork:  # type: ignore[override]
        """The network of the targets."""
        return self.quantile_net_target  # type: ignore[return-value]


def _optimizer(policy: LMDQNPolicy | LMQRDQNPolicy, lr_schedule: Schedule) -> torch.optim.Optimizer:
    rate = lr_schedule(1)
    return make_optimizer(policy.online, rate, policy.optimizer_class, **policy.optimizer_kwargs)
