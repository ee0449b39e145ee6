"""The networks of a reward model: a language model that reads question and answer, and several heads."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from policies.language_model import LSTMAttentionLM
from policies.reading import AnswerBatch, Reader
from policies.tokens import Sampling

HEAD = 64
"""Width of a head's hidden layer."""


class RewardNetwork(nn.Module):
    """Says how good an answer is, once by each head.

    The trunk is a copy of the language model that reads the answer under teacher forcing. A head sees, of
    each answer, the mean and the greatest value of the decoder's attentional vectors, and how likely the
    trunk finds the tokens: the sum, the mean and the least of their log-probabilities. (A language model that
    finds an answer unlikely says something about it that its features alone do not.)

    The heads are small and differ by their first weights and by the questions that they are fitted on; the
    trunk is shared, since the encoder is most of the cost and whole networks would multiply it (Osband et al.
    2016, "Deep Exploration via Bootstrapped DQN", share it in the same way).

    Args:
        lm: Copied, so that the policy and the reward model never share a weight.
        members: How many heads.
        dropout: Share of the attentional vectors' numbers that are left out in training.
    """

    def __init__(self, lm: LSTMAttentionLM, members: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.lm = copy.deepcopy(lm).requires_grad_(True)
        self.reader = Reader(self.lm)
        self.dropout = nn.Dropout(dropout)
        width = 2 * lm.config.hidden + 3
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(width, HEAD), nn.Tanh(), nn.Linear(HEAD, 1)) for _ in range(members)
        )

    def forward(self, batch: AnswerBatch, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Qualities ``(answers, members)``, and log-probabilities of the tokens ``(rows,)``.

        Args:
            batch: Whole answers, all their tokens among its rows.
            tokens: The rows' tokens, ``(rows,)``.
        """
        pooled, likelihood = self.read(batch, tokens)
        return torch.cat([head(pooled) for head in self.heads], dim=1), likelihood

    def read(self, batch: AnswerBatch, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """What the heads see of each answer, ``(answers, features)``, and the tokens' log-probabilities."""
        decoded = self.reader.unroll(batch)
        log_probs = Sampling().log_probs(self.lm.log_probabilities(decoded))
        likelihood = log_probs.gather(1, tokens.unsqueeze(1)).squeeze(1)
        return self._pool(
            self.dropout(decoded.features), likelihood, batch.answer, len(batch.tokens)
        ), likelihood

    def _pool(self, features: Tensor, likelihood: Tensor, answer: Tensor, answers: int) -> Tensor:
        """One row an answer of what its tokens' rows hold, ``(answers, 2 * hidden + 3)``."""
        number = features.new_zeros(answers).index_add(0, answer, torch.ones_like(likelihood)).clamp(min=1)
        owner = answer.unsqueeze(1).expand_as(features)
        mean = features.new_zeros(answers, features.shape[1]).scatter_add(0, owner, features)
        most = features.new_full((answers, features.shape[1]), -1.0).scatter_reduce(
            0, owner, features, "amax"
        )
        total = likelihood.new_zeros(answers).index_add(0, answer, likelihood)
        least = likelihood.new_zeros(answers).scatter_reduce(0, answer, likelihood, "amin")
        scalars = torch.stack((total / 10, total / number, least), dim=1)  # of like size
        return torch.cat((mean / number.unsqueeze(1), most, scalars), dim=1)
