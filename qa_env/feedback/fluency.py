"""A small frozen language model as a judge of wording, and of nothing else.

It is apart from the policy, so that training cannot move the yardstick it is measured by.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from qa_env.errors import QAError
from qa_env.feedback.base import FloatArray
from qa_env.vocabulary import BOS, EOS, PAD, Vocabulary

EMBEDDING, HIDDEN, DROPOUT = 64, 128, 0.2
BATCH, LEARNING_RATE = 64, 4e-3
HELD_OUT = 10  # one text in so many is kept from training, to calibrate the score
FULL_SCORE_PERCENTILE = 10.0
LARGEST_SURPRISE = 5.0  # nats a token, in the score
SMALLEST_SPAN = 0.1  # nats a token; keeps the score finite if a tiny corpus separates nothing
_IGNORE = -100  # cross_entropy's own mark for targets that do not count
_FORMAT = "qa_env.fluency/1"


class _Network(nn.Module):
    """An LSTM that predicts each next token: ids ``(batch, time)`` -> logits ``(batch, time, vocab)``."""

    def __init__(self, vocabulary_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, EMBEDDING)
        self.lstm = nn.LSTM(EMBEDDING, HIDDEN, batch_first=True)
        self.dropout = nn.Dropout(DROPOUT)
        self.output = nn.Linear(HIDDEN, vocabulary_size)

    def forward(self, ids: Tensor) -> Tensor:
        hidden, _ = self.lstm(self.dropout(self.embedding(ids)))
        logits: Tensor = self.output(self.dropout(hidden))
        return logits


class FluencyModel:
    """A frozen LSTM language model whose likelihoods are scaled to [0, 1].

    Length-normalised log-likelihood as a measure of fluency or acceptability: Lau et al. (2017,
    "Grammaticality, Acceptability, and Probability"), Kann et al. (2018, "Sentence-Level Fluency
    Evaluation: References Help, But Can Be Spared!").

    How likely an unseen sentence is depends first of all on how rare the names in it are, which is
    no matter of wording. Two things keep names from dominating the score. No token counts as more
    surprising than 5 nats. And the scale, set on texts that the model was not trained on, is wide:
    0 is the mean of those texts with their words shuffled (which keeps the names), 1 is the 10th
    percentile of the texts as they are, so that nine unseen sentences in ten score a full 1.
    """

    def __init__(self, network: nn.Module, vocabulary: Vocabulary, zero: float, one: float) -> None:
        self._network = network.eval().requires_grad_(False)
        self.vocabulary = vocabulary
        self.zero = zero
        self.one = one

    @classmethod
    def fit(
        cls, texts: Sequence[str], vocabulary: Vocabulary, *, seed: int = 0, epochs: int = 5
    ) -> FluencyModel:
        """Train on `texts` and calibrate on one in ten of them; the global RNG stays untouched.

        Args:
            texts: Well-worded sentences of the kind that answers should be; doubles are dropped.
            vocabulary: The tokenizer; a loaded model needs the same one.
            seed: Decides initial weights, order and dropout. Same seed, same model.
            epochs: Passes over the training texts; many make the model prefer known phrasings more sharply.

        Raises:
            QAError: If there are fewer than 10 different texts, or no epoch.
        """
        texts = list(dict.fromkeys(text.strip() for text in texts if text.strip()))
        if len(texts) < HELD_OUT:
            raise QAError(f"a fluency model needs at least {HELD_OUT} different texts, got {len(texts)}")
        if epochs < 1:
            raise QAError(f"epochs must be at least 1, got {epochs}")
        rng = np.random.default_rng(seed)
        texts = [texts[index] for index in rng.permutation(len(texts))]
        held_out, training = texts[: len(texts) // HELD_OUT], texts[len(texts) // HELD_OUT :]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = _Network(len(vocabulary))
            _train(network, vocabulary.encode_batch(training), epochs, rng)
        model = cls(network, vocabulary, 0.0, 1.0)
        model.zero = float(model._capped([_shuffled(text, rng) for text in held_out]).mean())
        real = float(np.percentile(model._capped(held_out), FULL_SCORE_PERCENTILE))
        model.one = max(real, model.zero + SMALLEST_SPAN)
        return model

    def log_likelihood(self, texts: Sequence[str]) -> FloatArray:
        """Return the mean log-probability of a token, the end of the text included, ``(batch,)``."""
        return self._mean(texts, float("inf"))

    def _capped(self, texts: Sequence[str]) -> FloatArray:
        """Return `log_likelihood` with no token more surprising than `LARGEST_SURPRISE`."""
        return self._mean(texts, LARGEST_SURPRISE)

    def _mean(self, texts: Sequence[str], cap: float) -> FloatArray:
        result = np.zeros(len(texts))
        with torch.no_grad():
            for rows, inputs, targets in _batches(self.vocabulary.encode_batch(texts)):
                losses = _token_losses(self._network, inputs, targets).clamp(max=cap).sum(dim=1)
                result[rows] = -(losses / (targets != _IGNORE).sum(dim=1)).double().numpy()
        return result

    def score(self, texts: Sequence[str]) -> FloatArray:
        """Return the fluency in [0, 1], shape ``(batch,)``; an empty text scores 0."""
        scaled = (self._capped(texts) - self.zero) / (self.one - self.zero)
        written = np.array([bool(text.strip()) for text in texts], dtype=bool)
        return np.asarray(np.where(written, np.clip(scaled, 0.0, 1.0), 0.0), dtype=np.float64)

    def save(self, path: str | Path) -> None:
        """Write weights and calibration as safetensors."""
        tensors = {name: tensor.contiguous() for name, tensor in self._network.state_dict().items()}
        tensors["calibration"] = torch.tensor([self.zero, self.one], dtype=torch.float64)
        save_file(tensors, path, {"format": _FORMAT, "vocabulary": self.vocabulary.fingerprint})

    @classmethod
    def load(cls, path: str | Path, vocabulary: Vocabulary) -> FluencyModel:
        """Read what `save` wrote; safetensors hold numbers only, so that loading runs no code.

        Raises:
            QAError: If the file is missing, is something else, or belongs to another vocabulary.
        """
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}
        except (OSError, SafetensorError) as error:
            raise QAError(f"cannot read a fluency model from {path}: {error}") from error
        if metadata.get("format") != _FORMAT:
            raise QAError(
                f"{path} is no fluency model: expected format {_FORMAT}, got {metadata.get('format')}"
            )
        if metadata.get("vocabulary") != vocabulary.fingerprint:
            raise QAError(f"the fluency model in {path} was fitted with another vocabulary; fit it again")
        try:
            zero, one = tensors.pop("calibration").tolist()
            with torch.random.fork_rng(devices=[]):  # the weights that are drawn here are overwritten
                network = _Network(len(vocabulary))
            network.load_state_dict(tensors)
        except (KeyError, ValueError, RuntimeError) as error:
            raise QAError(f"the fluency model in {path} is damaged: {str(error).splitlines()[0]}") from error
        return cls(network, vocabulary, zero, one)


def _train(
    network: _Network, encoded: Sequence[Sequence[int]], epochs: int, rng: np.random.Generator
) -> None:
    """Fit `network` with Adam; the order of batches is drawn anew each epoch."""
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    batches = list(_batches(encoded))
    network.train()
    for _ in range(epochs):
        for index in rng.permutation(len(batches)):
            _, inputs, targets = batches[index]
            loss = _token_losses(network, inputs, targets).sum() / (targets != _IGNORE).sum()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()


def _token_losses(network: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """Return the negative log-probability of each target, 0 where ignored, ``(batch, time)``."""
    logits = network(inputs).flatten(0, 1)  # classes last: much faster on a CPU than classes second
    losses = nn.functional.cross_entropy(logits, targets.flatten(), ignore_index=_IGNORE, reduction="none")
    return losses.view_as(targets)


def _batches(encoded: Sequence[Sequence[int]]) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Yield (rows, inputs, targets), texts of like length together, ids ``(batch, time)``.

    Inputs are BOS and the text, targets are the text and EOS.
    """
    order = sorted(range(len(encoded)), key=lambda row: len(encoded[row]))
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        width = len(encoded[rows[-1]]) + 1
        inputs = torch.full((len(rows), width), PAD)
        targets = torch.full((len(rows), width), _IGNORE)
        for line, row in enumerate(rows):
            ids = torch.tensor(encoded[row], dtype=torch.long)
            inputs[line, 0] = BOS
            inputs[line, 1 : len(ids) + 1] = ids
            targets[line, : len(ids)] = ids
            targets[line, len(ids)] = EOS
        yield rows, inputs, targets


def _shuffled(text: str, rng: np.random.Generator) -> str:
    """Return `text` with its words in random order; its characters if it is written without blanks."""
    parts = text.split()
    pieces, gap = (parts, " ") if len(parts) > 1 else (list(text), "")
    return gap.join(pieces[index] for index in rng.permutation(len(pieces)))
