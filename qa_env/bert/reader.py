"""Models of the BERT family as readers of sources: our ids in, one contextual vector a source token out."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from qa_env.bert.windows import IntArray, Window, windows
from qa_env.vocabulary import BOS, PAD, SEP

WINDOWS = 32
"""Windows read at once."""


class BertReader(nn.Module):
    """A model of the BERT family (Devlin et al. 2019) that reads sources of our vocabulary.

    A source ``question SEP context`` is read as ``[CLS] question [SEP] context [SEP]``, the context as the
    second segment if the model knows segments. One that is longer than the model's positions is read in
    overlapping `windows`. Dropout is off: a policy's probabilities must not differ between a rollout and
    the update that follows.

    Args:
        model: A model of `FAMILY` from transformers.
        pretrained_ids: The model's own id of each token of the vocabulary, ``(vocabulary,)``; those of its
            [PAD], [CLS] and [SEP] for PAD, for BOS, and for EOS and SEP.
        rate: Learning rate as a share of that of other parameters (discriminative fine-tuning, Howard & Ruder
            2018, "Universal Language Model Fine-tuning for Text Classification", section 3.2).

    Attributes:
        width: Size of a vector.
        positions: How many tokens the model can read at once.
    """

    pretrained_ids: Tensor

    def __init__(self, model: Any, pretrained_ids: IntArray, rate: float = 0.0) -> None:
        super().__init__()
        if "pooler" in dict(model.named_children()):
            model.pooler = None  # it makes one vector of a whole text
        self.model, self.rate = model.eval(), rate
        self.register_buffer("pretrained_ids", torch.from_numpy(pretrained_ids))
        self.width = int(model.config.hidden_size)
        self.positions = count_positions(model)
        self.has_segments = getattr(model.config, "type_vocab_size", 1) > 1

    def train(self, mode: bool = True) -> BertReader:
        """Nothing: dropout stays off."""
        return self

    def forward(self, source: Tensor) -> Tensor:
        """Outputs ``(batch, source, width)`` of ids ``(batch, source)``, zero where PAD stands."""
        rows = source.cpu().numpy()
        parts = [
            (row, window)
            for row, ids in enumerate(rows)
            for window in windows(ids[ids != PAD], self.positions)
        ]
        parts.sort(key=lambda part: len(part[1].places))  # like lengths together: less padding
        outputs = torch.zeros(*source.shape, self.width, device=source.device)
        for start in range(0, len(parts), WINDOWS):
            chunk = parts[start : start + WINDOWS]
            hidden = self._read(rows, chunk, source.device)
            kept = [np.flatnonzero(window.kept) for _, window in chunk]
            line = np.repeat(np.arange(len(chunk)), [len(k) for k in kept])
            row = np.array([row for row, _ in chunk])[line]
            column = np.concatenate([window.places[k] for (_, window), k in zip(chunk, kept, strict=True)])
            place = np.concatenate(kept) + 1  # [CLS] stands in front
            outputs[row, column] = hidden[line, place]
        return outputs

    def _read(self, rows: IntArray, parts: list[tuple[int, Window]], device: torch.device) -> Tensor:
        """The model's last hidden states of windows, ``(windows, tokens, width)``."""
        longest = max(len(window.places) for _, window in parts) + 2
        ids = np.full((len(parts), longest), PAD)
        segment, mask = np.zeros_like(ids), np.zeros_like(ids)
        for line, (row, window) in enumerate(parts):
            end = len(window.places) + 1
            ids[line, 0], ids[line, 1:end], ids[line, end] = BOS, rows[row][window.places], SEP
            separators = np.flatnonzero(rows[row] == SEP)
            question = separators[0] if len(separators) else rows.shape[1]
            segment[line, 1:end] = window.places > question
            segment[line, end] = len(separators) > 0
            mask[line, : end + 1] = 1
        inputs = {
            "input_ids": self.pretrained_ids[torch.as_tensor(ids, device=device)],
            "attention_mask": torch.as_tensor(mask, device=device),
        }
        if self.has_segments:
            inputs["token_type_ids"] = torch.as_tensor(segment, device=device)
        hidden: Tensor = self.model(**inputs).last_hidden_state
        return hidden

    def word_embeddings(self, width: int) -> Tensor:
        """The model's embedding of each token of the vocabulary, in `width` numbers, ``(vocabulary, width)``.

        They are projected on the directions in which they differ most (principal components), and scaled to
        a mean of 0 and a standard deviation of 1.
        """
        weight = self.model.get_input_embeddings().weight.detach()[self.pretrained_ids]
        centred = weight - weight.mean(0)
        _, vectors = torch.linalg.eigh(centred.T @ centred)
        projected = centred @ vectors[:, -width:]
        scaled: Tensor = projected / projected.std()
        return nn.functional.pad(scaled, (0, width - scaled.shape[1]))  # if the model has fewer numbers

    @property
    def fingerprint(self) -> str:
        """A short hash of everything that an output depends on besides the source."""
        digest = hashlib.sha256()
        for name, tensor in self.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def describe(self) -> dict[str, Any]:
        """The model's kind and sizes, fit for JSON."""
        description: dict[str, Any] = self.model.config.to_dict()
        return description


def count_positions(model: Any) -> int:
    """How many tokens a model reads at once; RoBERTa's kind numbers them from behind the padding's id."""
    tables = [module for name, module in model.named_modules() if name.endswith("position_embeddings")]
    unused = [0 if table.padding_idx is None else table.padding_idx + 1 for table in tables]
    return int(model.config.max_position_embeddings) - max(unused, default=0)
