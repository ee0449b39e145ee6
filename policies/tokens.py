"""From the language model's probabilities to the policy's: mask, temperature and top-k, in one place."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from policies.attention import MASKED
from qa_env.errors import QAError
from qa_env.vocabulary import FORBIDDEN


@dataclass(frozen=True)
class Sampling:
    """How next tokens are drawn; the same in rollouts, updates and the reference policy.

    Attributes:
        temperature: Divides the log-probabilities; below 1 is sharper.
        top_k: Keep the k likeliest tokens only; 0 keeps all.
    """

    temperature: float = 1.0
    top_k: int = 0

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise QAError(f"temperature must be positive, got {self.temperature}")
        if self.top_k < 0:
            raise QAError(f"top_k must be 0 (all) or positive, got {self.top_k}")

    def log_probs(self, log_probabilities: Tensor, taken: Tensor | None = None) -> Tensor:
        """The policy's log-probabilities, ``(rows, vocabulary)``, from the language model's.

        Args:
            log_probabilities: Before any mask, ``(rows, vocabulary)``.
            taken: Tokens chosen earlier, ``(rows,)``: they stay in the top-k set even if the weights have
                changed since, so that their ratio to the old policy stays finite.
        """
        logits = log_probabilities / self.temperature
        logits = logits.index_fill(-1, torch.tensor(FORBIDDEN, device=logits.device), MASKED)
        if 0 < self.top_k < logits.shape[-1]:
            kept = torch.zeros_like(logits, dtype=torch.bool)
            kept.scatter_(-1, logits.topk(self.top_k, dim=-1).indices, True)
            if taken is not None:
                kept.scatter_(-1, taken.unsqueeze(-1), True)
            logits = logits.masked_fill(~kept, MASKED)
        return logits.log_softmax(dim=-1)
