"""TRPO whose gradients are taken together, and whose curvature is that of a part of the rollout."""

from __future__ import annotations

from typing import Any

import torch
from sb3_contrib import TRPO
from stable_baselines3.common.distributions import kl_divergence
from torch import Tensor, nn

from agents.buffers import AnswerRolloutBuffer
from policies.actor_critic import LMActorCriticPolicy


class AnswerTRPO(TRPO):
    """sb3-contrib's TRPO (Schulman et al. 2015), a pass for all parameters where it makes one for each.

    The numbers are the same, but for `curvature_batch`: the products with the Fisher matrix, each a second
    derivative and so the larger part of the work, need not see the whole rollout (appendix C of that paper
    takes a tenth). Gradient and line search do. cuDNN's LSTM has no second derivatives: on a GPU the plain
    one is used while TRPO trains.

    Args:
        *args: Those of sb3-contrib's `TRPO`, with an `LMActorCriticPolicy`.
        curvature_batch: Tokens, in whole answers, that the curvature is taken of; None takes all.
        **kwargs: Those of `TRPO`, with an `AnswerRolloutBuffer` as ``rollout_buffer_class``.
    """

    policy: LMActorCriticPolicy
    rollout_buffer: AnswerRolloutBuffer

    def __init__(self, *args: Any, curvature_batch: int | None = None, **kwargs: Any) -> None:
        self.curvature_batch = curvature_batch
        super().__init__(*args, **kwargs)

    def train(self) -> None:
        """A natural-gradient step within the trust region, then the critic."""
        with torch.backends.cudnn.flags(enabled=False):
            super().train()

    def _compute_actor_grad(
        self, kl_div: Tensor, policy_objective: Tensor
    ) -> tuple[list[nn.Parameter], Tensor, Tensor, list[tuple[int, ...]]]:
        """Actor parameters, gradients of objective and KL divergence, flat, and the parameters' shapes."""
        actor = [p for name, p in self.policy.named_parameters() if p.requires_grad and "value" not in name]
        if self.curvature_batch is not None:
            kl_div = self._kl_of_part(self.curvature_batch)
        kl_gradients = torch.autograd.grad(kl_div, actor, create_graph=True, allow_unused=True)
        used = [(p, g) for p, g in zip(actor, kl_gradients, strict=True) if g is not None]
        parameters = [p for p, _ in used]
        objective = torch.autograd.grad(
            policy_objective, parameters, retain_graph=self.curvature_batch is None
        )
        return (
            parameters,
            torch.cat([g.reshape(-1) for g in objective]),
            torch.cat([g.reshape(-1) for _, g in used]),
            [tuple(p.shape) for p in parameters],
        )

    def _kl_of_part(self, tokens: int) -> Tensor:
        """The KL divergence from the policy to itself on some answers: nought, but not so its curvature."""
        part = next(self.rollout_buffer.get(tokens)).observations
        with torch.no_grad():
            before = self.policy.get_distribution(part)
        return kl_divergence(self.policy.get_distribution(part), before).mean()
