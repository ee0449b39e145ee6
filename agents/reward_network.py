"""The networks of a reward model: language models that read question and answer, each with a head."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from policies.language_model import LSTMAttentionLM
from policies.reading import AnswerBatch, Reader
from policies.tokens import log_likelihood

HEAD = 64
"""Width of a head's hidden layer."""


class RewardNetwork(nn.Module):
    """Says how good an answer is.

    The trunk is a copy of the language model that reads the answer under teacher forcing. The head sees, of
    each answer, the mean and the greatest value of the decoder's attentional vectors, and how likely the
    trunk finds the tokens: the sum, the mean and the least of their log-probabilities. (A language model that
    finds an answer unlikely says something about it that its features alone do not.)

    Args:
        lm: Copied, so that the policy and the reward model never share a weight.
        dropout: Share of the attentional vectors' numbers that are left out in training.
    """

    def __init__(self, lm: LSTMAttentionLM, dropout: float = 0.0) -> None:
        super().__init__()
        self.lm = copy.deepcopy(lm).requires_grad_(True)
        self.reader = Reader(self.lm)
        self.dropout = nn.Dropout(dropout)
        width = 2 * lm.config.hidden + 3
        self.head = nn.Sequential(nn.Linear(width, HEAD), nn.Tanh(), nn.Linear(HEAD, 1))

    def forward(self, batch: AnswerBatch, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Qualities ``(answers,)``, and log-probabilities of the tokens ``(rows,)``.

        Args:
            batch: Whole answers, all their tokens among its rows.
            tokens: The rows' tokens, ``(rows,)``.
        """
        pooled, likelihood = self.read(batch, tokens)
        return self.head(pooled).squeeze(1), likelihood

    def read(self, batch: AnswerBatch, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """What the head sees of each answer, ``(answers, features)``, and the tokens' log-probabilities."""
        decoded = self.reader.unroll(batch)
        log_probs = log_likelihood(self.lm, decoded, tokens)
        pooled = self._pool(self.dropout(decoded.features), log_probs, batch.answer, len(batch.tokens))
        return pooled, log_probs

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


class RewardEnsemble(nn.Module):
    """Several networks, each with a trunk of its own: where they disagree, the reward model does not know.

    (Lakshminarayanan et al. 2017, "Simple and Scalable Predictive Uncertainty Estimation using Deep
    Ensembles". Heads on a shared trunk are cheaper, but agree on what the trunk has learnt by heart.)

    Args:
        lm: Copied by each.
        members: How many networks.
        dropout: See `RewardNetwork`.
    """

    def __init__(self, lm: LSTMAttentionLM, members: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.members = nn.ModuleList(RewardNetwork(lm, dropout) for _ in range(members))

    @property
    def networks(self) -> list[RewardNetwork]:
        """The members."""
        return list(self.members)  # type: ignore[arg-type]  # a ModuleList does not say of what

    def forward(self, batch: AnswerBatch, tokens: Tensor) -> Tensor:
        """Qualities ``(answers, members)``; see `RewardNetwork`."""
        return torch.stack([network(batch, tokens)[0] for network in self.networks], dim=1)

    def average(self) -> dict[str, Tensor]:
        """The mean of the trunks' weights, which a language model can be given.

        Networks that were fine-tuned from the same weights lie in one basin; their mean is better than each
        of them (Wortsman et al. 2022, "Model soups").
        """
        trunks = [network.lm.state_dict() for network in self.networks]
        return {
            name: torch.stack([trunk[name] for trunk in trunks]).mean(0)
            if value.is_floating_point()
            else value
            for name, value in trunks[0].items()
        }
