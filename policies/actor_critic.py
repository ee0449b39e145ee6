"""The language model as a Stable-Baselines3 actor-critic policy: for PPO, A2C and TRPO."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import CategoricalDistribution, Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import Tensor, nn

from policies.language_model import LSTMAttentionLM
from policies.optimizers import make_optimizer
from policies.reading import AnswerBatch, Reader, check_fit, check_spaces, new_language_model
from policies.tokens import Sampling, draw, log_likelihood


class LMActorCriticPolicy(ActorCriticPolicy):
    """The actor is the language model, the critic a small head on the decoder's attentional vector.

    The critic's gradient stops at that vector: the squared error of noisy ratings is far larger than the
    policy gradient, and would overwrite what the language model knows.

    Works on the observations of `QAEnv`. An observation is Markov (it carries the answer so far), so
    every method is right on any rows in any order; during rollouts the decoder's state is kept
    between steps, which changes nothing but the time.

    - `lm` with trainable encoder: the environment should hold ``lm.encoder``. Rollouts read its outputs
      from the observation, updates encode the sources again so that gradients reach the encoder.
    - `lm` with frozen encoder (`LSTMAttentionLM.freeze_encoder`), or none given: the outputs are read
      from the observation always.
    - observations without ``memory``: the policy encodes.

    Args:
        observation_space: That of `QAEnv`.
        action_space: That of `QAEnv`.
        lr_schedule: Learning rate over the remaining progress.
        lm: The language model to wrap; None makes a new one that fits the spaces.
        temperature: Of sampling, in rollouts and updates alike.
        top_k: Sample from the k likeliest tokens; 0 is off.
        top_p: Sample from the fewest likeliest tokens of this probability together; 1 is off.
        entropy: Whether `evaluate_actions` tells entropies. Without them (a loss with ``ent_coef=0`` has no
            use for them) a pass over the vocabulary is saved; SB3 then logs an estimate.
        **kwargs: Those of SB3's `ActorCriticPolicy`.

    Raises:
        QAError: If the spaces are not those of a `QAEnv`, or the model does not fit them.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        lm: LSTMAttentionLM | None = None,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        entropy: bool = True,
        **kwargs: Any,
    ) -> None:
        check_spaces(observation_space, action_space)
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)
        self.sampling = Sampling(temperature, top_k, top_p)
        self.entropy = entropy
        self.lm = lm if lm is not None else new_language_model(observation_space, action_space)
        check_fit(self.lm, observation_space, action_space)
        self.value_net: nn.Module = nn.Sequential(  # type: ignore[assignment]
            nn.Linear(self.lm.config.hidden, self.lm.config.hidden),
            nn.Tanh(),
            nn.Linear(self.lm.config.hidden, 1),
        )
        self.reader = Reader(self.lm)
        rate = lr_schedule(1)
        self.optimizer = make_optimizer(self, rate, self.optimizer_class, **self.optimizer_kwargs)

    def _build(self, lr_schedule: Schedule) -> None:
        """Nothing: networks and optimizer are made in `__init__`, once the language model is there."""

    def forward(self, obs: PyTorchObs, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Choose the next token of every lane.

        Returns:
            Tokens ``(lanes,)``, values ``(lanes, 1)`` and log-probabilities ``(lanes,)``.
        """
        assert isinstance(obs, Mapping)
        cached = not torch.is_grad_enabled()
        decoded = self.reader.cached(obs) if cached else self.reader.prefix(obs)
        log_probs = self.sampling.log_probs(self.lm.log_probabilities(decoded))
        tokens = log_probs.argmax(1) if deterministic else draw(log_probs)
        if cached:
            self.reader.cache.append(tokens)
        return (
            tokens,
            self.value_net(decoded.features.detach()),
            log_probs.gather(1, tokens.unsqueeze(1)).squeeze(1),
        )

    def evaluate_actions(
        self, obs: PyTorchObs | AnswerBatch, actions: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Values ``(rows, 1)``, log-probabilities and entropies, each ``(rows,)``, of tokens ``(rows,)``.

        `obs` is a dict of observations, one a row, or an `AnswerBatch`: then each answer is unrolled once.
        """
        decoded = self.reader.decode(obs)
        actions = actions.long().flatten()
        log_probs = self.sampling.log_probs(self.lm.log_probabilities(decoded), taken=actions)
        entropy = -(log_probs.exp() * log_probs).sum(1) if self.entropy else None
        return (
            self.value_net(decoded.features.detach()),
            log_probs.gather(1, actions.unsqueeze(1)).squeeze(1),
            entropy,
        )

    def log_likelihood(self, batch: AnswerBatch, tokens: Tensor) -> Tensor:
        """For teacher forcing: the language model's own log-probabilities ``(rows,)`` of tokens ``(rows,)``.

        Temperature, top-k and top-p belong to sampling and are left out.
        """
        return log_likelihood(self.lm, self.reader.unroll(batch), tokens)

    def get_distribution(self, obs: PyTorchObs | AnswerBatch) -> Distribution:
        """The distribution over the next token, one a row."""
        log_probs = self.sampling.log_probs(self.lm.log_probabilities(self.reader.decode(obs)))
        return CategoricalDistribution(log_probs.shape[1]).proba_distribution(log_probs)

    def predict_values(self, obs: PyTorchObs | AnswerBatch) -> Tensor:
        """The critic's values, ``(rows, 1)``."""
        if isinstance(obs, AnswerBatch) or torch.is_grad_enabled():
            decoded = self.reader.decode(obs)
        else:
            decoded = self.reader.cached(obs)
        values: Tensor = self.value_net(decoded.features.detach())
        return values

    def features(self, batch: AnswerBatch) -> Tensor:
        """What the critic sees of the tokens of whole answers, ``(rows, hidden)``."""
        return self.reader.unroll(batch).features

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> Tensor:
        return self.get_distribution(observation).get_actions(deterministic=deterministic)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        parameters = super()._get_constructor_parameters()
        parameters.update(lm=self.lm, entropy=self.entropy, **asdict(self.sampling))
        return parameters
