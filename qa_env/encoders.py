"""What turns a question (and its context) into the encoder's outputs that the environment shows.

The environment needs only the `Encoder` protocol. `LSTMEncoder` is the one in this package: the
language model of `policies` owns one, and a small trained one ships as the environment's default.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from qa_env.errors import QAError
from qa_env.vocabulary import PAD, SEP, Kind

ASSETS = Path(__file__).parent / "assets"
"""The default encoder and its vocabulary."""


LONGEST_PHRASE = 4
"""Shared phrases of this length and longer are the same to the features."""
FEATURES = 5 + LONGEST_PHRASE + 2 * len(Kind)


class Contextual(Protocol):
    """A model that has read much text and gives each source token a vector that depends on all the others.

    Attributes:
        width: Size of a vector.
    """

    width: int

    def __call__(self, source: Tensor) -> Tensor:
        """Vectors ``(batch, source, width)`` of ids ``(batch, source)``, zero where PAD stands."""
        ...


class Encoder(Protocol):
    """Source ids in, one vector a source token out.

    Attributes:
        width: Size of a vector.
    """

    width: int

    def encode(self, source: NDArray[np.int64]) -> NDArray[np.float32]:
        """Encode a batch.

        Args:
            source: ``question SEP context`` ids, PAD behind, shape ``(batch, source)``.

        Returns:
            The outputs, zero where PAD stands, shape ``(batch, source, width)``.
        """
        ...


@dataclass(frozen=True)
class EncoderConfig:
    """Sizes of an `LSTMEncoder`."""

    vocabulary: int = 2048
    embedding: int = 128
    hidden: int = 128
    """Per direction: an output has twice this width."""
    features: bool = True
    """Tell each source token its kind, its segment and how it occurs in the question (`source_features`)."""


class SentencePool(nn.Module):
    """Adds to each token what stands anywhere in its sentence: ``x + W max_sentence relu(U x + b)``.

    The maximum over a sentence (Collobert et al. 2011, "Natural Language Processing (Almost) from Scratch",
    section 3.3.2) is large if any of its words shows a feature, wherever it stands. The decoder's attention,
    linear in the encoder's outputs, so gets a score for the sentence next to one for the token, as in the
    hierarchical attention of Nallapati et al. 2016 (section 2.3).

    Args:
        width: Size of a token's vector.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.feature = nn.Linear(width, width)
        self.output = nn.Linear(width, width, bias=False)

    def forward(self, values: Tensor, sentence: Tensor, valid: Tensor) -> Tensor:
        """The new values ``(batch, source, width)``.

        Args:
            values: One vector a token, ``(batch, source, width)``.
            sentence: The number of each token's sentence, ``(batch, source)``.
            valid: False at padding, ``(batch, source)``.
        """
        features = torch.relu(self.feature(values)) * valid.unsqueeze(2)
        pooled = features.new_zeros(len(values), int(sentence.max()) + 1, values.shape[2])
        pooled = pooled.scatter_reduce(1, sentence.unsqueeze(2).expand_as(features), features, "amax")
        return values + take_rows(self.output(pooled), sentence)


class LSTMEncoder(nn.Module):
    """Embedding, source-token features, a bidirectional LSTM, and a residual connection around it.

    Two things of Chen et al. 2017 ("Reading Wikipedia to Answer Open-Domain Questions", section 3.2) are
    added to a token's embedding ``e_i``: its `source_features`, embedded, and, in the context, the aligned
    question embedding ``A sum_j a_ij e_j`` over the question's tokens ``j``, with
    ``a_ij = softmax_j relu(B e_i)^T relu(B e_j)``: a soft match of "protons" with "atomic number" where the
    features see equal tokens only. Both come from the ids, so the observation needs no more than the ids.

    Before and behind the LSTM a `SentencePool` tells each token what its sentence is about, so that the
    attention can choose a sentence by its words, whatever their order.

    The vectors of a BERT model, if there is one, are projected and added to the embeddings (as those of ELMo
    are set beside them, Peters et al. 2018, "Deep Contextualized Word Representations", section 3.3).

    Args:
        config: Sizes.
        kinds: The kind of each token of the vocabulary (`Vocabulary.kinds`), ``(vocabulary,)``, for the
            features; saved with the weights. None: all of them `Kind.OTHER`.
        contextual: Gives further vectors of the source tokens; a module is trained and saved along.
    """

    def __init__(
        self,
        config: EncoderConfig,
        kinds: NDArray[np.int64] | None = None,
        contextual: Contextual | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.width = 2 * config.hidden
        self.embedding = nn.Embedding(config.vocabulary, config.embedding, padding_idx=PAD)
        nn.init.normal_(self.embedding.weight, std=0.3)
        with torch.no_grad():
            self.embedding.weight[PAD].zero_()
        self.kinds: Tensor
        self.register_buffer("kinds", torch.zeros(config.vocabulary, dtype=torch.long))
        if kinds is not None:
            self.kinds.copy_(torch.from_numpy(kinds))
        self.contextual = contextual
        if contextual is not None:
            self.contextual_norm = nn.LayerNorm(contextual.width)
            self.contextual_projection = nn.Linear(contextual.width, config.embedding)
        if config.features:
            self.feature_embedding = nn.Linear(FEATURES, config.embedding, bias=False)
            self.alignment = nn.Linear(config.embedding, config.embedding)
            self.aligned = nn.Linear(config.embedding, config.embedding, bias=False)
        self.pool_words = SentencePool(config.embedding)
        self.pool_outputs = SentencePool(self.width)
        # Two one-directional LSTMs over the left-aligned source, the second over each row's reversed
        # tokens: padding stays at the end in both, so an output does not depend on the batch's padding.
        self.forward_lstm = nn.LSTM(config.embedding, config.hidden, batch_first=True)
        self.backward_lstm = nn.LSTM(config.embedding, config.hidden, batch_first=True)
        self.residual = nn.Linear(config.embedding, self.width, bias=False)
        self.dropout = nn.Dropout(0.0)  # a warm start turns it on

    def forward(self, source: Tensor) -> Tensor:
        """Encode ids of shape ``(batch, source)`` to outputs of shape ``(batch, source, width)``."""
        mask = source != PAD
        longest = max(int(mask.sum(1).max()), 1)  # the columns behind it are padding in every row
        ids, valid = source[:, :longest], mask[:, :longest]
        embedded = self.embedding(ids)
        if self.contextual is not None:
            embedded = embedded + self.contextual_projection(self.contextual_norm(self.contextual(ids)))
        if self.config.features:
            features = self.feature_embedding(source_features(ids, self.kinds))
            embedded = embedded + features + self._align(embedded, ids)
        sentence = sentences(ids, self.kinds)
        embedded = self.pool_words(self.dropout(embedded), sentence, valid)
        flip = reversal(valid)
        ahead, _ = self.forward_lstm(embedded)
        backwards, _ = self.backward_lstm(take_rows(embedded, flip))
        outputs = torch.cat((ahead, take_rows(backwards, flip)), dim=2) + self.residual(embedded)
        outputs = self.dropout(self.pool_outputs(outputs, sentence, valid)) * valid.unsqueeze(2)
        return nn.functional.pad(outputs, (0, 0, 0, source.shape[1] - longest))

    def _align(self, embedded: Tensor, ids: Tensor) -> Tensor:
        """Each context token's aligned question embedding, zero elsewhere: ``(batch, source, embedding)``."""
        in_question, in_context = segments(ids)
        width = max(int(in_question.sum(1).max()), 1)
        projected = torch.relu(self.alignment(embedded))
        scores = torch.bmm(projected, projected[:, :width].transpose(1, 2))
        scores = scores.masked_fill(~in_question[:, None, :width], -1e8)
        aligned = torch.bmm(torch.softmax(scores, dim=2), embedded[:, :width])
        asked = in_context & in_question.any(1, keepdim=True)
        result: Tensor = self.aligned(aligned) * asked.unsqueeze(2)
        return result

    @torch.no_grad()
    def encode(self, source: NDArray[np.int64]) -> NDArray[np.float32]:
        """The `Encoder` protocol: NumPy in and out, no gradient."""
        ids = torch.as_tensor(source, device=self.embedding.weight.device)
        outputs: NDArray[np.float32] = self(ids).cpu().numpy()
        return outputs

    def save(self, path: str | Path) -> None:
        """Write weights and sizes to a safetensors file."""
        metadata = {"encoder_config": json.dumps(asdict(self.config))}
        # Copies: on a GPU the weights of an LSTM share one piece of memory, which safetensors refuses.
        weights = {name: tensor.cpu().clone() for name, tensor in self.state_dict().items()}
        save_file(weights, str(path), metadata=metadata)

    @classmethod
    def load(cls, path: str | Path) -> LSTMEncoder:
        """Read an encoder that `save` wrote, frozen; loading runs no code from the file.

        Raises:
            QAError: If there is no such file or it holds no encoder.
        """
        if not Path(path).is_file():
            raise QAError(f"no encoder file {path}")
        try:
            with safe_open(str(path), framework="pt") as file:
                config = EncoderConfig(**json.loads(file.metadata()["encoder_config"]))
            encoder = cls(config)
            encoder.load_state_dict(load_file(str(path)))
        except (SafetensorError, KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
            raise QAError(f"{path} is no encoder file: {error!s:.100}") from None
        return encoder.requires_grad_(False).eval()


def segments(source: Tensor) -> tuple[Tensor, Tensor]:
    """Which tokens are in the question and which in the context (SEP included), each ``(batch, source)``."""
    in_context = ((source == SEP).cumsum(1) > 0) & (source != PAD)
    return ~in_context & (source != PAD), in_context


def sentences(source: Tensor, kinds: Tensor) -> Tensor:
    """The number of each token's sentence, the question's is 0: ``(batch, source)``, from ids of that shape.

    A sentence ends behind a token of `Kind.END`; SEP begins one.
    """
    ended = nn.functional.pad((kinds[source] == Kind.END)[:, :-1], (1, 0)) | (source == SEP)
    return ended.cumsum(1)


def source_features(source: Tensor, kinds: Tensor) -> Tensor:
    """Features of every source token, shape ``(batch, source, FEATURES)``, from ids ``(batch, source)``.

    0. In the question. 1. In the context. 2. A token of either that stands in both: one over how often it
    occurs in the context, since a name that is said once tells more than "the". 3. A context token: how much
    of the question its sentence says, as a share of the sentence that says most, and 4. whether it is that
    one. 5. to 8. A context token that stands in the question too: how long the phrase is that the two
    share there, one of 1, 2, 3, or `LONGEST_PHRASE` tokens and more. Then the token's kind, and the kind
    of the token behind it: whether a word goes on says whether a copy is complete.

    Args:
        source: Source ids, ``(batch, source)``.
        kinds: The kind of every token of the vocabulary, ``(vocabulary,)``.
    """
    in_question, in_context = segments(source)
    kind = kinds[source]
    width = max(int(in_question.sum(1).max()), 1)
    question = torch.where(in_question, source, PAD)[:, :width]
    same = ((source.unsqueeze(2) == question.unsqueeze(1)) & in_context.unsqueeze(2)).to(torch.uint8)
    shared = nn.functional.one_hot(_phrase_lengths(same), LONGEST_PHRASE + 1)[:, :, 1:].float()
    counts = same.sum(1, dtype=torch.float32)  # (batch, question): how often the context says it
    rarity = torch.where(counts > 0, 1 / counts.clamp(min=1), 0.0)
    in_both = (same * rarity.unsqueeze(1)).amax(2)  # (batch, source)
    share = _shares(same, sentences(source, kinds))
    in_both = in_both + nn.functional.pad(rarity, (0, source.shape[1] - width))
    columns = (in_question, in_context, in_both, share * in_context, (share == 1) & in_context)
    kind_now = nn.functional.one_hot(kind, len(Kind)).float()
    behind = nn.functional.pad(kind[:, 1:], (0, 1), value=Kind.OTHER)  # the kind of padding too
    kind_next = nn.functional.one_hot(behind, len(Kind)).float()
    return torch.cat((torch.stack([c.float() for c in columns], dim=2), shared, kind_now, kind_next), dim=2)


def _shares(same: Tensor, sentence: Tensor) -> Tensor:
    """How much of the question each token's sentence says, over the most that one says, ``(batch, source)``.

    A question token counts once in each sentence that has it, one over the number of those sentences: as in
    a search engine, "people" in one sentence tells more than a name in three.

    Args:
        same: 1 where a context token equals a question token, ``(batch, source, question)``.
        sentence: The number of each token's sentence, ``(batch, source)``.
    """
    said = same.new_zeros(len(same), int(sentence.max()) + 1, same.shape[2])
    said = said.scatter_reduce(1, sentence.unsqueeze(2).expand_as(same), same, "amax").float()
    overlap = (said / said.sum(1, keepdim=True).clamp(min=1)).sum(2)  # (batch, sentences)
    return (overlap / overlap.amax(1, keepdim=True).clamp(min=1e-6)).gather(1, sentence)


def _phrase_lengths(same: Tensor) -> Tensor:
    """Length of the longest shared phrase around each source token, at most `LONGEST_PHRASE`.

    `same[b, s, q]` says that source token ``s`` equals question token ``q``; 0 where nothing is shared.
    """
    before, behind = same, same  # (batch, source, question): shared tokens up to and from this pair
    for _ in range(LONGEST_PHRASE - 1):
        before = same * (1 + nn.functional.pad(before[:, :-1, :-1], (1, 0, 1, 0)))
        behind = same * (1 + nn.functional.pad(behind[:, 1:, 1:], (0, 1, 0, 1)))
    return ((before + behind).amax(2).long() - 1).clamp(0, LONGEST_PHRASE)


def reversal(valid: Tensor) -> Tensor:
    """Index that reverses the first ``n`` columns of each row and leaves its padding in place.

    `valid`, shape ``(batch, source)``, is true in the first ``n`` columns. Its own inverse.
    """
    position = torch.arange(valid.shape[1], device=valid.device).expand_as(valid)
    return torch.where(valid, valid.sum(1, keepdim=True) - 1 - position, position)


def take_rows(values: Tensor, index: Tensor) -> Tensor:
    """Pick ``values[b, index[b, s]]``: shapes ``(batch, rows, width)`` and ``(batch, source)``."""
    return values.gather(1, index.unsqueeze(2).expand(-1, -1, values.shape[2]))
