"""Learning from stored labels without RL: DPO on preferences, filtered behaviour cloning on rated answers."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.type_aliases import GymEnv
from torch import Tensor, nn

from agents.offline import OfflineAlgorithm, OfflineConfig, Step
from agents.preference_data import Preferences, RatedAnswers
from agents.warm_start import Supervised, as_batch, bucketed
from policies.actor_critic import LMActorCriticPolicy
from policies.reading import AnswerBatch
from qa_env.errors import QAError


@dataclass(frozen=True)
class DPOConfig(OfflineConfig):
    """Settings of direct preference optimisation."""

    beta: float = 0.1
    """What a nat of an answer's log-likelihood against the reference counts for: with a greater one the
    policy stays nearer to the reference."""
    smoothing: float = 0.0
    """Share of the preferences that are taken to be the wrong way round; targets that are posterior
    probabilities say so themselves."""
    sft: float = 1.0
    """Weight of the preferred answers' negative log-likelihood, in nats a token; 0 is DPO as published."""

    def __post_init__(self) -> None:
        """Raise a QAError if a field is out of its range."""
        super().__post_init__()
        if not self.beta > 0:
            raise QAError(f"beta must be greater than 0, got {self.beta}")
        if not 0 <= self.smoothing < 0.5:
            raise QAError(f"smoothing must be 0 or more and less than 0.5, got {self.smoothing}")
        if not self.sft >= 0:
            raise QAError(f"sft must be 0 or more, got {self.sft}")


@dataclass(frozen=True)
class FilteredBCConfig(OfflineConfig):
    """Settings of filtered behaviour cloning."""

    epochs: int = 12
    learning_rate: float = 2e-3
    threshold: float = 0.5
    """Least probability of being good of an answer that is learned from."""

    def __post_init__(self) -> None:
        """Raise a QAError if a field is out of its range."""
        super().__post_init__()
        if not 0 < self.threshold <= 1:
            raise QAError(f"threshold must be greater than 0 and at most 1, got {self.threshold}")


class DPO(OfflineAlgorithm):
    """Direct preference optimisation (Rafailov et al. 2023, equation 7), on preferences that may be unsure.

    With ``h = log pi(first) / pi_ref(first) - log pi(second) / pi_ref(second)`` of whole answers, and p the
    probability that the first is the better one, the loss is
    ``-p log sigmoid(beta h) - (1 - p) log sigmoid(-beta h)``. So ``beta log pi / pi_ref`` is fitted as if it
    were a reward; the policy is then the best one for that reward less beta times the KL divergence from the
    reference, which is the policy as it was at first.

    DPO lowers the likelihood of both answers where that widens the gap; ``config.sft`` holds the preferred
    one up (Liu et al. 2024, "Provably Mitigating Overoptimization in RLHF: Your SFT Loss is Implicitly an
    Adversarial Regularizer"; a token's mean, as in Pang et al. 2024, "Iterative Reasoning Preference
    Optimization"). A pair counts there by ``|2 p - 1|``.

    Logs ``dpo/loss``, ``dpo/accuracy`` (the share of the decided pairs whose better answer has gained more),
    ``dpo/margin`` (by how much, times beta) and ``dpo/kl``: nats a token from reference to policy, right on
    average if the reference wrote the answers (Schulman 2020, "Approximating KL Divergence").

    Args:
        policy: `LMActorCriticPolicy`.
        env: See `OfflineAlgorithm`.
        data: The preferences.
        config: Settings.
        **kwargs: Those of `OfflineAlgorithm`.

    Attributes:
        reference: The frozen policy that is compared with.
    """

    data: Preferences | None
    config: DPOConfig

    def __init__(
        self,
        policy: type[LMActorCriticPolicy],
        env: GymEnv | None = None,
        data: Preferences | None = None,
        config: DPOConfig = DPOConfig(),
        **kwargs: Any,
    ) -> None:
        super().__init__(policy, env, data, config, **kwargs)

    def steps(self) -> Iterator[Step]:
        """One pass over the pairs."""
        assert self.data is not None
        for rows in bucketed(self.data.source, self.config.batch_size, self._rng):
            yield self.step(self.data.batch(rows, self.augmentation, self._rng))

    def pass_tokens(self) -> int:
        """Those of both answers of all pairs."""
        assert self.data is not None
        return self.data.tokens

    def step(self, pairs: Preferences) -> Step:
        """The loss of some pairs, all in one minibatch."""
        batch, tokens = pair_batch(pairs, self.policy.device)
        log_likelihood = self.policy.log_likelihood(batch, tokens)
        with torch.no_grad():
            reference = self.reference.log_likelihood(batch, tokens)
        target = torch.as_tensor(pairs.target, dtype=torch.float32, device=self.policy.device)
        gap = gaps(log_likelihood - reference, batch)
        loss = preference_loss(gap, target, self.config.beta, self.config.smoothing)
        if self.config.sft:
            loss = loss + self.config.sft * preferred_loss(log_likelihood, target, batch)
        margin = self.config.beta * gap.detach() * (2 * target - 1).sign()
        metrics = {
            "dpo/loss": loss.item(),
            "dpo/margin": margin.mean().item(),
            "dpo/kl": (reference - log_likelihood.detach()).mean().item(),
        }
        decided = target != 0.5
        if decided.any():
            metrics["dpo/accuracy"] = (margin[decided] > 0).float().mean().item()
        return Step(loss, len(tokens), metrics)

    def _setup_model(self) -> None:
        super()._setup_model()
        self.reference = copy.deepcopy(self.policy).requires_grad_(False)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "reference"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        names, variables = super()._get_torch_save_params()
        return [*names, "reference"], variables


class FilteredBC(OfflineAlgorithm):
    """Filtered behaviour cloning: the likelihood of good answers and of labelled ones is made greater.

    As the "Improve" step of Gulcehre et al. 2023, "Reinforced Self-Training (ReST) for Language Modeling",
    but an answer counts by its probability of being good, and labelled questions (which count 1) are mixed
    in, so that their wording is not forgotten. Bad answers teach nothing here; `DPO` learns from them too.

    Logs ``bc/loss`` and ``bc/answers``, the number of answers in a pass, labelled ones included.

    Args:
        policy: `LMActorCriticPolicy`.
        env: See `OfflineAlgorithm`.
        data: The rated answers, good and bad.
        config: Settings.
        labelled: Labelled questions, or None.
        **kwargs: Those of `OfflineAlgorithm`.
    """

    data: RatedAnswers | None
    config: FilteredBCConfig

    def __init__(
        self,
        policy: type[LMActorCriticPolicy],
        env: GymEnv | None = None,
        data: RatedAnswers | None = None,
        config: FilteredBCConfig = FilteredBCConfig(),
        labelled: Supervised | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(policy, env, data, config, **kwargs)
        self.labelled = labelled

    def examples(self) -> RatedAnswers:
        """The good answers and the labelled ones.

        Raises:
            QAError: If there is no good answer.
        """
        assert self.data is not None
        good = self.data.good(self.config.threshold)
        return good if self.labelled is None else good.with_labelled(self.labelled)

    def steps(self) -> Iterator[Step]:
        """One pass over the examples."""
        examples = self.examples()
        self.logger.record("bc/answers", len(examples.source))
        for rows in bucketed(examples.source, self.config.batch_size, self._rng):
            yield self.step(examples.batch(rows, self.augmentation, self._rng))

    def pass_tokens(self) -> int:
        """Those of the examples."""
        return self.examples().tokens

    def step(self, answers: RatedAnswers) -> Step:
        """The loss of some answers, all in one minibatch."""
        batch, tokens = as_batch(answers.source, answers.answer, self.policy.device)
        log_likelihood = self.policy.log_likelihood(batch, tokens)
        weight = torch.as_tensor(answers.quality, dtype=torch.float32, device=self.policy.device)[
            batch.answer
        ]
        loss = -(weight * log_likelihood).sum() / weight.sum()
        return Step(loss, len(tokens), {"bc/loss": loss.item()})

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "labelled"]


def pair_batch(pairs: Preferences, device: torch.device | str = "cpu") -> tuple[AnswerBatch, Tensor]:
    """Both answers of each pair, the first ones before all second ones, and their tokens ``(rows,)``.

    Each question is there, and read, once.
    """
    batch, tokens = as_batch(pairs.source, np.concatenate([pairs.first, pairs.second]), device)
    return batch._replace(question=torch.arange(len(pairs.source), device=device).repeat(2)), tokens


def gaps(log_ratio: Tensor, batch: AnswerBatch) -> Tensor:
    """How much more the first answer of each pair has gained than the second, ``(pairs,)``.

    Args:
        log_ratio: ``log pi - log pi_ref`` of the tokens of a `pair_batch`, ``(rows,)``.
        batch: The batch.
    """
    answers = log_ratio.new_zeros(len(batch.tokens)).index_add(0, batch.answer, log_ratio)
    first, second = answers.chunk(2)
    return first - second


def preference_loss(gap: Tensor, target: Tensor, beta: float, smoothing: float = 0.0) -> Tensor:
    """The loss of DPO for gaps and probabilities that the first is better, each ``(pairs,)``.

    Args:
        gap: See `gaps`.
        target: The probabilities.
        beta: Weight of the gap.
        smoothing: Share of the preferences that are taken to be the wrong way round (Mitchell 2023, "A note
            on DPO with noisy preferences & relationship to IPO").
    """
    p = target + smoothing * (1 - 2 * target)
    log_sigmoid = nn.functional.logsigmoid
    return -(p * log_sigmoid(beta * gap) + (1 - p) * log_sigmoid(-beta * gap)).mean()


def preferred_loss(log_likelihood: Tensor, target: Tensor, batch: AnswerBatch) -> Tensor:
    """Mean over the preferred answers' tokens of ``-|2 p - 1| log pi``; 0 if no pair is decided.

    Args:
        log_likelihood: ``log pi`` of the tokens of a `pair_batch`, ``(rows,)``.
        target: Probability that the first is better, ``(pairs,)``.
        batch: The batch.
    """
    lead = 2 * target - 1
    weight = torch.cat([lead, -lead]).clamp(min=0)[batch.answer]
    return -(weight * log_likelihood).sum() / (weight > 0).sum().clamp(min=1)
