"""From the language model's probabilities to the policy's: mask, temperature, top-k and top-p."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from policies.attention import MASKED
from policies.language_model import SMALLEST, Decoded, LSTMAttentionLM
from qa_env.errors import QAError
from qa_env.vocabulary import FORBIDDEN

LEAST_TEMPERATURE = 1e-4
"""Below it, the log-probability of an unlikely token would come near that of a masked one."""


@dataclass(frozen=True)
class Sampling:
    """How next tokens are drawn; the same in rollouts, updates, the reference policy and answering.

    Temperature comes first, then top-k, then the nucleus of what is left.

    Attributes:
        temperature: Divides the log-probabilities; below 1 is sharper.
        top_k: Keep the k likeliest tokens only; 0 keeps all.
        top_p: Keep the nucleus only: the fewest likeliest tokens whose probabilities add up to p or more
            (Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", section 3.1); 1 keeps all.

    Raises:
        QAError: If one is out of its range.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not LEAST_TEMPERATURE <= self.temperature < math.inf:
            raise QAError(f"temperature must be a number from {LEAST_TEMPERATURE}, got {self.temperature}")
        if self.top_k < 0:
            raise QAError(f"top_k must be 0 (all) or positive, got {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise QAError(f"top_p must be greater than 0 and at most 1 (all), got {self.top_p}")

    def log_probs(self, log_probabilities: Tensor, taken: Tensor | None = None) -> Tensor:
        """The policy's log-probabilities, ``(rows, vocabulary)``, from the language model's.

        Args:
            log_probabilities: Before any mask, ``(rows, vocabulary)``.
            taken: Tokens chosen earlier, ``(rows,)``: they stay among the tokens that are kept even if the
                weights have changed since, so that their ratio to the old policy stays finite.
        """
        logits = log_probabilities / self.temperature
        logits = logits.index_fill(-1, _forbidden(logits.device), MASKED)
        if self.top_k or self.top_p < 1:
            kept = self._kept(logits.detach())
            if taken is not None:
                kept.scatter_(-1, taken.unsqueeze(-1), True)
            logits = logits.masked_fill(~kept, MASKED)
        return logits.log_softmax(dim=-1)

    def _kept(self, logits: Tensor) -> Tensor:
        """Which tokens top-k and top-p leave, ``(rows, vocabulary)``."""
        kept = torch.ones_like(logits, dtype=torch.bool)
        if 0 < self.top_k < logits.shape[-1]:
            kept = torch.zeros_like(kept).scatter_(-1, logits.topk(self.top_k, dim=-1).indices, True)
        if self.top_p < 1:
            probs, order = logits.masked_fill(~kept, MASKED).softmax(-1).sort(dim=-1, descending=True)
            likelier = probs.cumsum(-1) - probs  # the mass of the tokens before each
            kept &= torch.zeros_like(kept).scatter_(-1, order, likelier < self.top_p)
        return kept


def log_likelihood(lm: LSTMAttentionLM, decoded: Decoded, tokens: Tensor) -> Tensor:
    """For teacher forcing: log-probabilities of tokens among those that may be chosen, ``(rows,)``.

    What `Sampling` without temperature, top-k and top-p gives of these tokens, at less cost.

    Args:
        lm: The language model.
        decoded: Positions, ``(rows, ...)``.
        tokens: The token that comes next at each, ``(rows,)``.
    """
    forbidden = _forbidden(tokens.device).expand(len(tokens), -1)
    asked = torch.cat((tokens.unsqueeze(1), forbidden, lm.out_of_place(decoded)), dim=1)
    chances = lm.probabilities_of(decoded, asked)
    allowed = 1 - chances[:, 1:].sum(1)
    return chances[:, 0].clamp(min=SMALLEST).log() - allowed.clamp(min=SMALLEST).log()


@lru_cache
def _forbidden(device: torch.device) -> Tensor:
    """The tokens that are never chosen, ``(n,)``; kept, since a copy to a GPU would wait for it each time."""
    return torch.tensor(FORBIDDEN, device=device)


def draw(log_probs: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """A token ``(rows,)`` drawn from each row's log-probabilities ``(rows, vocabulary)``.

    By inverting the cumulative distribution (Devroye 1986, "Non-Uniform Random Variate Generation", section
    II.2): a random number a row, where `torch.multinomial` draws one a token and waits for a GPU. The sums
    are of 64 bits, so that rare tokens keep their chance; a token of probability 0 is never drawn.
    """
    cumulative = log_probs.exp().cumsum(1, dtype=torch.float64)
    total = cumulative[:, -1:]
    chance = torch.rand(total.shape, dtype=total.dtype, device=total.device, generator=generator)
    return torch.searchsorted(cumulative, chance * total, right=True).squeeze(1)
