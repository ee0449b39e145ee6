"""Attention over the encoder's outputs, by name."""

from __future__ import annotations

import torch
from torch import Tensor, nn

MASKED = -1e8
"""Added to what must not be chosen. Finite: with -inf, entropy and KL gradients would be NaN."""


class AdditiveAttention(nn.Module):
    """Bahdanau et al. 2015: ``score(h, m) = v^T tanh(W h + U m)``.

    Bahdanau, Cho, Bengio, "Neural Machine Translation by Jointly Learning to Align and Translate",
    ICLR 2015, appendix A.1.2.
    """

    def __init__(self, query_width: int, memory_width: int, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(query_width, width, bias=False)
        self.keys = nn.Linear(memory_width, width)
        self.score = nn.Linear(width, 1, bias=False)

    def forward(self, query: Tensor, keys: Tensor) -> Tensor:
        """Scores ``(batch, time, source)`` of ``query (batch, time, q)`` and ``keys (batch, source, w)``."""
        summed = self.query(query).unsqueeze(2) + keys.unsqueeze(1)  # (batch, time, source, width)
        scores: Tensor = self.score(torch.tanh(summed)).squeeze(3)
        return scores


class MultiplicativeAttention(nn.Module):
    """Luong et al. 2015, "general": ``score(h, m) = h^T W m``.

    Luong, Pham, Manning, "Effective Approaches to Attention-based Neural Machine Translation", EMNLP
    2015, section 3.1; W is factored into a projection of the query and one of the memory.
    """

    def __init__(self, query_width: int, memory_width: int, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(query_width, width, bias=False)
        self.keys = nn.Linear(memory_width, width, bias=False)

    def forward(self, query: Tensor, keys: Tensor) -> Tensor:
        """Scores ``(batch, time, source)`` of ``query (batch, time, q)`` and ``keys (batch, source, w)``."""
        return torch.bmm(self.query(query), keys.transpose(1, 2))


class NormalisedAttention(MultiplicativeAttention):
    """Multiplicative scores divided by their L2 norm over the source: ``g * s / ||s||_2``.

    After the division no score exceeds 1, which would keep the softmax almost flat; the learned gain
    ``g`` gives the sharpness back, as in weight normalisation (Salimans & Kingma 2016).
    """

    def __init__(self, query_width: int, memory_width: int, width: int) -> None:
        super().__init__(query_width, memory_width, width)
        self.gain = nn.Parameter(torch.tensor(10.0))

    def forward(self, query: Tensor, keys: Tensor) -> Tensor:
        """Scores ``(batch, time, source)`` of ``query (batch, time, q)`` and ``keys (batch, source, w)``.

        Keys of padding are zero, so padding adds nothing to the norm.
        """
        return self.gain * nn.functional.normalize(super().forward(query, keys), dim=2)


ATTENTIONS: dict[str, type[AdditiveAttention] | type[MultiplicativeAttention]] = {
    "additive": AdditiveAttention,
    "multiplicative": MultiplicativeAttention,
    "normalised": NormalisedAttention,
}
