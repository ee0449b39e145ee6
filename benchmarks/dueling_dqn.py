"""DQN with a dueling head over the language model's logits, to compare with the soft-Q view of `policies`.

Both read ``Q(s, a) = V(s) + A(s, a)`` off the same network. With the dueling head (Wang et al. 2016,
"Dueling Network Architectures for Deep Reinforcement Learning", equation 9) the mean advantage of all tokens
is nought, in the soft-Q view ``logsumexp A / scale`` is; all else is the same.
"""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from agents.algorithms import make_dqn
from agents.config import RLConfig
from agents.q_learning import AnswerDQN
from policies.q_network import UNMASKED, LMQNetwork
from policies.reading import Reader
from qa_env.vocabulary import FORBIDDEN


class DuelingNetwork(LMQNetwork):
    """An `LMQNetwork` whose advantages have a mean of nought over the tokens that may be chosen."""

    def values(self, obs: Any) -> tuple[Tensor, Tensor]:
        """``V (rows, 1)`` and the advantages over the scale, ``(rows, vocabulary)``."""
        values, log_probs = super().values(obs)
        return values, centred(log_probs)


class DuelingDQN(AnswerDQN):
    """`AnswerDQN` on a `DuelingNetwork`."""

    @torch.no_grad()
    def _reference_log_probs(self, samples: ReplayBufferSamples) -> Tensor:
        assert self.reference is not None
        decoded = Reader(self.reference).decode(samples.observations)
        log_probs = centred(UNMASKED.log_probs(self.reference.log_probabilities(decoded)))
        return log_probs.gather(1, samples.actions)


def centred(log_probs: Tensor) -> Tensor:
    """Log-probabilities ``(rows, vocabulary)`` less their mean over the tokens that may be chosen."""
    total = log_probs.sum(1, keepdim=True) - log_probs[:, list(FORBIDDEN)].sum(1, keepdim=True)
    return log_probs - total / (log_probs.shape[1] - len(FORBIDDEN))


def make(env: VecEnv, config: RLConfig, common: dict[str, Any]) -> AnswerDQN:
    """As `agents.algorithms.make_dqn`, with the other head."""
    model = make_dqn(env, config, common)
    model.__class__ = DuelingDQN  # type: ignore[assignment]
    for network in (model.policy.q_net, model.policy.q_net_target):
        network.__class__ = DuelingNetwork
    return model
