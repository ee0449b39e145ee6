"""TRPO whose gradients are taken together."""

from __future__ import annotations

import torch
from sb3_contrib import TRPO
from torch import Tensor, nn


class AnswerTRPO(TRPO):
    """sb3-contrib's TRPO (Schulman et al. 2015), a pass for all parameters where it makes one for each.

    The numbers are the same. A trust-region step needs second derivatives, which cuDNN's LSTM has not: on a
    GPU the plain one is used while it trains.
    """

    def train(self) -> None:
        """A natural-gradient step within the trust region, then the critic."""
        with torch.backends.cudnn.flags(enabled=False):
            super().train()

    def _compute_actor_grad(
        self, kl_div: Tensor, policy_objective: Tensor
    ) -> tuple[list[nn.Parameter], Tensor, Tensor, list[tuple[int, ...]]]:
        """Actor parameters, gradients of objective and KL divergence, flat, and the parameters' shapes."""
        actor = [p for name, p in self.policy.named_parameters() if p.requires_grad and "value" not in name]
        kl_gradients = torch.autograd.grad(kl_div, actor, create_graph=True, allow_unused=True)
        used = [(p, g) for p, g in zip(actor, kl_gradients, strict=True) if g is not None]
        parameters = [p for p, _ in used]
        objective = torch.autograd.grad(policy_objective, parameters, retain_graph=True)
        return (
            parameters,
            torch.cat([g.reshape(-1) for g in objective]),
            torch.cat([g.reshape(-1) for _, g in used]),
            [tuple(p.shape) for p in parameters],
        )
