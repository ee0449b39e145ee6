"""A first fit of the value head, before the policy changes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from sb3_contrib.common.utils import quantile_huber_loss
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from torch import Tensor, nn

from agents.q_learning import AnswerDQN, AnswerQRDQN
from policies.actor_critic import LMActorCriticPolicy
from policies.reading import AnswerBatch

STEPS, BATCH, LEARNING_RATE = 300, 512, 1e-3
ANSWERS = 256
"""Answers of the replay buffer that are read at once."""


def warm_up_critic(model: OnPolicyAlgorithm, rollouts: int, log: BaseCallback) -> None:
    """Fit the value head to the returns of the warm-started policy, which itself does not change.

    Without it the first advantages come from a random critic and undo part of the warm start.

    Args:
        model: Stock PPO, A2C or TRPO with an `AnswerRolloutBuffer`.
        rollouts: How many rollouts to fit on; their answers are rated like any other.
        log: Hears of every step.
    """
    _, callback = model._setup_learn(model.n_steps * model.n_envs * rollouts, log)
    policy = model.policy
    assert model.env is not None and isinstance(policy, LMActorCriticPolicy)
    parts: list[tuple[Tensor, Tensor]] = []
    for _ in range(rollouts):
        model.collect_rollouts(model.env, callback, model.rollout_buffer, model.n_steps)
        with torch.no_grad():
            for minibatch in model.rollout_buffer.get(BATCH):
                assert isinstance(minibatch.observations, AnswerBatch)
                parts.append((policy.features(minibatch.observations), minibatch.returns.unsqueeze(1)))
    _fit(policy.value_net, parts, nn.functional.mse_loss)


def warm_up_q(model: AnswerDQN | AnswerQRDQN, rollouts: int, log: BaseCallback) -> None:
    """Fit ``V`` of `LMQNetwork` to the targets of the warm-started model, which itself does not change.

    Args:
        model: Its replay buffer may hold demonstrations already.
        rollouts: How many rollouts to write and fit on; their answers are rated like any other.
        log: Hears of every step.
    """
    steps = model.train_freq.frequency  # type: ignore[union-attr]
    _, callback = model._setup_learn(steps * model.n_envs * rollouts, log)
    assert model.env is not None
    for _ in range(rollouts):
        model.collect_rollouts(model.env, callback, model.train_freq, model.replay_buffer)  # type: ignore[arg-type]
    online, replay = model.policy.online, model.replay_buffer
    parts: list[tuple[Tensor, Tensor]] = []
    with torch.no_grad():
        for first in range(0, replay.answers, ANSWERS):
            samples = replay.of_answers(np.arange(first, min(first + ANSWERS, replay.answers)))
            decoded = online.reader.decode(samples.observations)
            advantages = online.of_actions(samples.observations, samples.actions) - online.value_net(
                decoded.features
            )
            parts.append((decoded.features, model.targets(samples) - advantages))
    _fit(online.value_net, parts, quantile_huber_loss if online.n_quantiles > 1 else nn.functional.mse_loss)
    model.policy.target.load_state_dict(online.state_dict())


def _fit(
    head: nn.Module, parts: list[tuple[Tensor, Tensor]], loss_function: Callable[[Tensor, Tensor], Tensor]
) -> None:
    """Fit a head to pairs of features ``(rows, hidden)`` and targets ``(rows, outputs)``."""
    features, targets = (torch.cat(column) for column in zip(*parts, strict=True))
    optimizer = torch.optim.Adam(head.parameters(), lr=LEARNING_RATE)
    for _ in range(STEPS):
        rows = torch.randint(len(targets), (BATCH,), device=targets.device)
        loss = loss_function(head(features[rows]), targets[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
