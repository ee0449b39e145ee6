"""A reward model: learns from people's labels, knows how sure it is, and answers when nobody is asked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from agents.calibration import Calibration
from agents.decoding import Limits
from agents.reward_data import FloatArray, IntArray, render
from agents.reward_network import RewardEnsemble
from policies.language_model import LSTMAttentionLM
from policies.reading import AnswerBatch
from qa_env.datasets import QAExample
from qa_env.errors import QAError
from qa_env.feedback.base import Score
from qa_env.vocabulary import PAD, Vocabulary

BATCH = 128
"""Answers read at once when serving."""
FORMAT = "qa_env.reward_model/1"
KEPT = ("version", "scale", "good_enough", "temperature")
"""What a file holds beside the weights."""


@dataclass(frozen=True)
class RewardModelConfig:
    """Settings of the reward model."""

    folds: int = 4
    """Parts of the labelled questions."""
    members: int = 4
    """Networks, at most one a part. Each learns from all parts but its own, by which it is tested; their
    disagreement is what the model does not know."""
    epochs: int = 8
    """Passes over the labels of the first fit."""
    refit_epochs: int = 4
    """Passes of a later fit, which goes on from the model before."""
    batch_size: int = 16
    """Questions a gradient step."""
    learning_rate: float = 1.5e-3
    """At the start of a fit; it falls linearly to zero."""
    dropout: float = 0.3
    """Share of what a head sees that is left out while it is fitted."""
    renamed: float = 0.9
    """Share of the questions in which names and numbers are spelled differently while fitting: with few
    labels the model must not learn by heart which answers were good."""
    imitation: float = 1.0
    """Weight of the likelihood of good answers beside the labels: the trunk stays a language model, and a
    better one."""
    pessimism: float = 1.0
    """How many variances of the members are taken off their mean."""
    least_labels: int = 40
    """With fewer the model is not trusted, however well it does."""

    def __post_init__(self) -> None:
        """Raise a QAError if a field is out of its range."""
        for name in ("members", "epochs", "refit_epochs", "batch_size", "least_labels"):
            if getattr(self, name) < 1:
                raise QAError(f"reward_model.{name} must be 1 or more, got {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise QAError(f"reward_model.learning_rate must be greater than 0, got {self.learning_rate}")
        if not 2 <= self.folds >= self.members:
            raise QAError(
                f"reward_model.folds must be 2 or more and at least reward_model.members={self.members}, "
                f"got {self.folds}"
            )
        for name in ("dropout", "renamed"):
            if not 0 <= getattr(self, name) <= 1:
                raise QAError(f"reward_model.{name} must be from 0 to 1, got {getattr(self, name)}")
        for name in ("imitation", "pessimism"):
            if not getattr(self, name) >= 0:
                raise QAError(f"reward_model.{name} must be 0 or more, got {getattr(self, name)}")


class Judged(NamedTuple):
    """What the members say of a batch of answers.

    Attributes:
        mean: The mean of the members' chances that the answer satisfies, ``(batch,)``.
        sd: Their standard deviation, ``(batch,)``.
    """

    mean: FloatArray
    sd: FloatArray


class RewardModel:
    """An ensemble that scores answers, with what is needed to trust it and to keep it.

    Attributes:
        version: Counts the fits, from 1.
        calibration: How it does on held-out labels.
        scale: How steeply the average rater's rating depends on the quality.
        good_enough: The quality at which half of the average rater's ratings are 4 or 5.
        temperature: Divides the qualities' distance from there (Guo et al. 2017, "On Calibration of Modern
            Neural Networks").
    """

    name = "reward_model"

    def __init__(
        self,
        network: RewardEnsemble,
        config: RewardModelConfig,
        vocabulary: Vocabulary,
        limits: Limits,
        version: int,
    ) -> None:
        self.network, self.config, self.vocabulary, self.limits = network.eval(), config, vocabulary, limits
        self.version, self.temperature = version, 1.0
        self.scale, self.good_enough = 1.0, 0.0
        self.calibration = Calibration.unknown()

    @property
    def trusted(self) -> bool:
        """Whether it beats a constant on held-out labels, from enough labels: else it must not serve.

        By more than a standard error (Breiman et al. 1984): by less, a model of random labels often does.
        """
        return self.calibration.log_loss + self.calibration.margin < self.calibration.constant

    @torch.no_grad()
    def qualities(self, source: IntArray, tokens: IntArray) -> FloatArray:
        """What each member makes of answers ``(batch, time)`` to sources, ``(batch, members)``."""
        device = next(self.network.parameters()).device
        parts = []
        for first in range(0, len(source), BATCH):
            rows = slice(first, first + BATCH)
            batch, ids = answer_batch(source[rows], np.arange(len(source[rows])), tokens[rows], device)
            parts.append(self.network(batch, ids).double().cpu().numpy())
        return np.concatenate(parts)

    def tempered(self, quality: FloatArray, temperature: float) -> FloatArray:
        """Qualities brought nearer to the one that is just good enough, or farther from it."""
        return self.good_enough + (quality - self.good_enough) / temperature

    @torch.no_grad()
    def features(self, source: IntArray, tokens: IntArray) -> FloatArray:
        """What the first head sees of answers, ``(batch, features)``: close together for answers alike."""
        device = next(self.network.parameters()).device
        parts = []
        for first in range(0, len(source), BATCH):
            rows = slice(first, first + BATCH)
            batch, ids = answer_batch(source[rows], np.arange(len(source[rows])), tokens[rows], device)
            parts.append(self.network.networks[0].read(batch, ids)[0].double().cpu().numpy())
        return np.concatenate(parts)

    def members(self, source: IntArray, tokens: IntArray) -> FloatArray:
        """The calibrated qualities that the members see, ``(batch, members)``."""
        return self.tempered(self.qualities(source, tokens), self.temperature)

    def judged(self, quality: FloatArray) -> Judged:
        """From qualities ``(batch, members)`` to chances that the answer satisfies."""
        chances = 1 / (1 + np.exp(-self.scale * (quality - self.good_enough)))
        return Judged(chances.mean(1), chances.std(1))

    def judge(self, source: IntArray, tokens: IntArray) -> Judged:
        """Judge answers ``(batch, time)`` to sources ``(batch, source)``."""
        return self.judged(self.members(source, tokens))

    def reward(self, judged: Judged) -> FloatArray:
        """The rewards ``(batch,)``: mean less `pessimism` variances, moved from 0...1 to -1...1.

        A reward means the same in every version of the model, and as much as a rating on that scale. (Coste
        et al. 2023, "Reward Model Ensembles Help Mitigate Overoptimization", uncertainty-weighted.)
        """
        reward: FloatArray = 2 * (judged.mean - self.config.pessimism * judged.sd**2) - 1
        return reward

    def score(
        self, examples: Sequence[QAExample], answers: Sequence[str], rngs: Sequence[np.random.Generator]
    ) -> Score:
        """Judge texts: a `Feedback`.

        Raises:
            QAError: If the model does not beat a constant.
        """
        if not self.trusted:
            raise QAError(
                f"reward model {self.version} is no better than a constant on {self.calibration.labels} "
                "held-out labels and does not serve: collect more labels"
            )
        judged = self.judge(*render(examples, answers, self.vocabulary, self.limits))
        return Score(self.reward(judged), {"model_mean": judged.mean, "model_sd": judged.sd})

    def save(self, path: str | Path) -> None:
        """Write weights and what goes with them as safetensors."""
        told = {name: getattr(self, name) for name in KEPT}
        told |= {"config": asdict(self.config), "figures": self.calibration.figures()}
        told["vocabulary"] = self.vocabulary.fingerprint
        weights = {name: value.clone().contiguous() for name, value in self.network.state_dict().items()}
        save_file(weights, path, {"format": FORMAT, "told": json.dumps(told)})

    @classmethod
    def load(
        cls, path: str | Path, lm: LSTMAttentionLM, vocabulary: Vocabulary, limits: Limits
    ) -> RewardModel:
        """Read what `save` wrote; `lm` gives the shape of the trunk.

        Raises:
            QAError: If the file is missing or no reward model, or of another vocabulary or network.
        """
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                weights = {name: file.get_tensor(name) for name in file.keys()}
            if metadata.get("format") != FORMAT:
                raise QAError(f"{path} is no reward model")
            told = json.loads(metadata["told"])
        except (OSError, SafetensorError) as error:
            raise QAError(f"cannot read the reward model {path}: {error!s:.100}") from None
        if told["vocabulary"] != vocabulary.fingerprint:
            raise QAError(f"{path} belongs to vocabulary {told['vocabulary']}, not {vocabulary.fingerprint}")
        config = RewardModelConfig(**told["config"])
        network = RewardEnsemble(lm, config.members, config.dropout)
        try:
            network.load_state_dict(weights)
        except RuntimeError:
            raise QAError(f"{path} was made with a language model of other sizes") from None
        model = cls(network, config, vocabulary, limits, told["version"])
        for name in KEPT:
            setattr(model, name, told[name])
        nothing = np.zeros(0)
        model.calibration = Calibration(**told["figures"], predicted=nothing, said=nothing)
        return model


def answer_batch(
    source: IntArray, question: IntArray, tokens: IntArray, device: torch.device | str
) -> tuple[AnswerBatch, Tensor]:
    """Whole answers ``(answers, time)``, to sources ``(questions, source)``, and their tokens ``(rows,)``."""
    ids = torch.as_tensor(tokens, device=device)
    answer, time = (ids != PAD).nonzero(as_tuple=True)
    asked = torch.as_tensor(question, device=device)
    batch = AnswerBatch(torch.as_tensor(source, device=device), asked, ids, answer, time, None)
    return batch, ids[answer, time]
