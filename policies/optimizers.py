"""Optimizers for networks that hold a BERT: it learns at a share of the others' rate."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from qa_env.bert.reader import BertReader


def make_optimizer(
    module: nn.Module, rate: float, kind: type[torch.optim.Optimizer] = torch.optim.Adam, **settings: Any
) -> torch.optim.Optimizer:
    """An optimizer of all that is trained in a module.

    The parameters of a `BertReader` are a group of their own. Whoever sets a rate sets it for all groups
    alike, as Stable-Baselines3 does; a step takes the reader's share of it.

    Args:
        module: A network.
        rate: Learning rate.
        kind: Class of the optimizer.
        **settings: Others of the class.
    """
    readers = [part for part in module.modules() if isinstance(part, BertReader)]
    apart = {id(p) for reader in readers for p in reader.parameters()}
    groups: list[dict[str, Any]] = [{"params": [p for p in trained(module) if id(p) not in apart]}]
    groups += [{"params": trained(reader), "share": reader.rate} for reader in readers if trained(reader)]
    optimizer = kind(groups, lr=rate, **settings)  # type: ignore[call-arg]
    if len(groups) > 1:
        optimizer.register_step_pre_hook(_take_share)
        optimizer.register_step_post_hook(_give_back)
    return optimizer


def trained(module: nn.Module) -> list[nn.Parameter]:
    """The parameters of a module that gradients are taken of."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def _take_share(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    for group in optimizer.param_groups:
        group["rate"] = group["lr"]
        group["lr"] = group["lr"] * group.get("share", 1.0)


def _give_back(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group.pop("rate")
