"""The question-answering language model, in plain torch: encoder, attention, LSTM decoder, copying."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from policies.attention import ATTENTIONS, MASKED
from qa_env.encoders import Contextual, EncoderConfig, LSTMEncoder
from qa_env.errors import QAError
from qa_env.vocabulary import BOS, EOS, PAD

LONGEST_RUN = 3
"""Runs of copied tokens are told apart up to this length."""
SMALLEST = 1e-12
"""Least probability of a token: its logarithm stays finite."""


@dataclass(frozen=True)
class LMConfig:
    """Sizes and parts of an `LSTMAttentionLM`."""

    embedding: int = 128
    encoder_hidden: int = 128
    """Per direction: a memory vector has twice this width."""
    hidden: int = 256
    attention: str = "multiplicative"
    """One of additive, multiplicative, normalised."""
    copy: bool = True
    """Mix copying of source tokens into the output (pointer-generator)."""
    features: bool = True
    """Tell the encoder each source token's segment and how it occurs in the question."""
    bert: str = ""
    """A BERT model that the encoder reads with: a folder, or a name on the hub. It brings the vocabulary."""
    bert_rate: float = 0.0
    """BERT's learning rate as a share of that of all else, such as 0.03; 0 leaves BERT as it is, and what it
    says of each source is computed once and kept on disk."""


class Memory(NamedTuple):
    """What the decoder reads of a batch of questions.

    Attributes:
        source: Source ids, PAD behind, ``(batch, source)``.
        values: The encoder's outputs, ``(batch, source, 2 * encoder_hidden)``.
        keys: Their projection for the attention, ``(batch, source, hidden)``.
    """

    source: Tensor
    values: Tensor
    keys: Tensor

    def select(self, rows: Tensor) -> Memory:
        """The memory of some rows, ``rows (n,)``."""
        return Memory(*(part[rows] for part in self))


class DecoderState(NamedTuple):
    """What the decoder carries from one token to the next.

    Attributes:
        h: The LSTM's output, ``(batch, hidden)``.
        c: The LSTM's cell, ``(batch, hidden)``.
        run: How many source tokens just before each source position equal the last tokens of the
            answer, at most `LONGEST_RUN`, ``(batch, source)``.
    """

    h: Tensor
    c: Tensor
    run: Tensor


class Decoded(NamedTuple):
    """What the decoder knows at each position of an answer; from it follow the next token's chances.

    The leading axes are ``(batch, time)``, or ``(rows,)`` after `at`.

    Attributes:
        features: The attentional vectors ``o_t``, ``(..., hidden)``.
        embedded: The embedded token before, ``(..., embedding)``.
        attention: Weights over the source, ``(..., source)``.
        source: The source ids that the weights belong to, ``(..., source)``.
        first: Whether the answer is empty so far, ``(...)``.
    """

    features: Tensor
    embedded: Tensor
    attention: Tensor
    source: Tensor
    first: Tensor

    def at(self, answers: Tensor, times: Tensor) -> Decoded:
        """Some positions: ``answers (rows,)`` and ``times (rows,)`` index the two leading axes."""
        return Decoded(*(part[answers, times] for part in self))


class LSTMAttentionLM(nn.Module):
    """Reads ``question SEP context`` and writes an answer token by token.

    With ``x_t`` the embedding of the token before, ``m_s`` the encoder's outputs:

    - ``h_t = LSTM(x_t, h_{t-1})``; the first state is ``tanh(W_0 [m_last; m_first])``, the ends of both
      directions of the encoder (Cho et al. 2014).
    - ``a_t = softmax_s score(h_t, m_s)``, with one of the scores of `policies.attention`.
    - To ``score`` is added ``(W_r h_t)_n`` at source positions right behind ``n`` tokens that the answer has
      just repeated: having copied the start of a name, the decoder finds the rest (the idea of CopyNet's
      selective read, Gu et al. 2016, section 3.3, computed from the ids).
    - ``o_t = tanh(W_c [h_t; sum_s a_ts m_s])`` (Luong et al. 2015, equation 5). The context does not feed
      back into the LSTM, so a known answer unrolls in a single LSTM call.
    - ``p_vocab = softmax(E W_o o_t + b)``, with the embedding ``E`` tied (Press & Wolf 2017).
    - ``p = g_t p_vocab + (1 - g_t) sum_{s: source_s = token} a_ts`` with ``g_t = sigmoid(w^T [o_t; x_t])``
      (pointer-generator, See et al. 2017, equations 8 and 9).

    The model holds weights and no state of any episode. `unroll` and `step` give the same numbers.

    Args:
        config: Sizes and parts.
        vocabulary: How many tokens there are.
        kinds: The kind of each token (`Vocabulary.kinds`), ``(vocabulary,)``, for the encoder's features.
        contextual: A BERT model that the encoder reads with; see `LSTMEncoder`.
        abstain: The token that an answer without words consists of (`Vocabulary.abstain`).
    """

    def __init__(
        self,
        config: LMConfig,
        vocabulary: int,
        kinds: NDArray[np.int64] | None = None,
        contextual: Contextual | None = None,
        abstain: int = EOS,
    ) -> None:
        super().__init__()
        if config.attention not in ATTENTIONS:
            raise QAError(f"attention must be one of {', '.join(ATTENTIONS)}; got '{config.attention}'")
        self.config, self.vocabulary, self.abstain = config, vocabulary, abstain
        sizes = EncoderConfig(vocabulary, config.embedding, config.encoder_hidden, config.features)
        self.encoder = LSTMEncoder(sizes, kinds, contextual)
        self.embedding = self.encoder.embedding  # shared by encoder, decoder and output
        width = self.encoder.width
        self.first_state = nn.Linear(width, 2 * config.hidden)
        self.decoder = nn.LSTM(config.embedding, config.hidden, batch_first=True)
        self.attention = ATTENTIONS[config.attention](config.hidden, width, config.hidden)
        self.run_gain = nn.Linear(config.hidden, LONGEST_RUN)
        with torch.no_grad():  # a copy goes on where it is, until training knows better
            self.run_gain.bias.copy_(torch.arange(1.0, LONGEST_RUN + 1))
        self.combine = nn.Linear(config.hidden + width, config.hidden)
        self.output = nn.Linear(config.hidden, config.embedding)
        self.output_bias = nn.Parameter(torch.zeros(vocabulary))
        if config.copy:
            self.generate_gate = nn.Linear(config.hidden + config.embedding, 1)

    @contextmanager
    def dropping(self, share: float) -> Iterator[None]:
        """Within it, a model in training mode leaves out that share of what it reads.

        Left out are parts of the embeddings of the source, of the encoder's outputs and of the attentional
        vectors (Srivastava et al. 2014, "Dropout: A Simple Way to Prevent Neural Networks from Overfitting").
        """
        self.encoder.dropout.p = share
        try:
            yield
        finally:
            self.encoder.dropout.p = 0.0

    def freeze_encoder(self) -> None:
        """Cut the encoder off from training: a frozen copy of it that no longer shares the embedding."""
        embedding: nn.Embedding = nn.Embedding.from_pretrained(
            self.embedding.weight.detach().clone(), freeze=False, padding_idx=PAD
        )
        self.encoder.requires_grad_(False)
        self.encoder.zero_grad()  # what the warm start left would count whenever gradients are clipped
        self.embedding = embedding

    def encode(self, source: Tensor) -> Memory:
        """Encode source ids of shape ``(batch, source)``."""
        return self.memory(source, self.encoder(source))

    def memory(self, source: Tensor, values: Tensor) -> Memory:
        """Make the decoder's memory of encoder outputs that are already there.

        Args:
            source: Source ids, ``(batch, source)``; columns that are padding in every row are cut off.
            values: The encoder's outputs, ``(batch, source, 2 * encoder_hidden)``.
        """
        longest = max(int((source != PAD).sum(1).max()), 1)
        source, values = source[:, :longest], values[:, :longest]
        return Memory(source, values, self.attention.keys(values))

    def start(self, memory: Memory) -> DecoderState:
        """The decoder's state before the first token."""
        half = memory.values.shape[2] // 2
        last = ((memory.source != PAD).sum(1) - 1).clamp(min=0)
        rows = torch.arange(len(last), device=last.device)
        ends = torch.cat((memory.values[rows, last, :half], memory.values[:, 0, half:]), dim=1)
        h, c = torch.tanh(self.first_state(ends)).chunk(2, dim=1)
        return DecoderState(h, c, torch.zeros_like(memory.source))

    def step(self, token: Tensor, state: DecoderState, memory: Memory) -> tuple[Decoded, DecoderState]:
        """Read one token ``(batch,)`` and say what comes next; the time axis has length 1."""
        return self._decode(token.unsqueeze(1), state, memory)

    def unroll(self, answer: Tensor, memory: Memory) -> Decoded:
        """Teacher forcing: position ``t`` predicts token ``t`` of ``answer (batch, time)``."""
        start = torch.full_like(answer[:, :1], BOS)
        decoded, _ = self._decode(torch.cat((start, answer[:, :-1]), dim=1), self.start(memory), memory)
        return decoded

    def _decode(self, tokens: Tensor, state: DecoderState, memory: Memory) -> tuple[Decoded, DecoderState]:
        """Run the decoder over input ``tokens (batch, time)``."""
        embedded = self.embedding(tokens)
        h, last_h, last_c = self._advance(embedded, state)
        run = copied_runs(tokens, memory.source, state.run)
        scores = self.attention(h, memory.keys) + (memory.source == PAD).unsqueeze(1) * MASKED
        gains = nn.functional.pad(self.run_gain(h), (1, 0))  # no gain for a run of length 0
        scores = scores + gains.gather(2, run)
        weights = torch.softmax(scores, dim=2)
        context = torch.bmm(weights, memory.values)
        features = self.encoder.dropout(torch.tanh(self.combine(torch.cat((h, context), dim=2))))
        source = memory.source.unsqueeze(1).expand(-1, tokens.shape[1], -1)
        return Decoded(features, embedded, weights, source, tokens == BOS), DecoderState(
            last_h, last_c, run[:, -1]
        )

    def _advance(self, embedded: Tensor, state: DecoderState) -> tuple[Tensor, Tensor, Tensor]:
        """The LSTM over ``embedded (batch, time, embedding)``: all its outputs, the last output and cell."""
        if embedded.shape[1] == 1:  # the same sums, without what a call for many steps sets up
            h, c = torch.lstm_cell(embedded[:, 0], (state.h, state.c), *self.decoder.all_weights[0])
            return h.unsqueeze(1), h, c
        before = (state.h.unsqueeze(0).contiguous(), state.c.unsqueeze(0).contiguous())  # cuDNN wants that
        outputs, (h, c) = self.decoder(embedded, before)
        return outputs, h[0], c[0]

    def log_probabilities(self, decoded: Decoded) -> Tensor:
        """Log-probability of every next token, generated or copied, ``(..., vocabulary)``."""
        logits = nn.functional.linear(self.output(decoded.features), self.embedding.weight, self.output_bias)
        if not self.config.copy:
            return self._in_place(logits.log_softmax(dim=-1), decoded)
        generate = torch.sigmoid(self.generate_gate(torch.cat((decoded.features, decoded.embedded), dim=-1)))
        mixed = generate * logits.softmax(dim=-1)
        mixed = mixed.scatter_add(-1, decoded.source, (1 - generate) * decoded.attention)
        return self._in_place(mixed.clamp(min=SMALLEST).log(), decoded)

    def _in_place(self, log_probs: Tensor, decoded: Decoded) -> Tensor:
        """The log-probabilities, `MASKED` for the tokens that may not stand at this place."""
        if self.abstain == EOS:
            return log_probs
        return log_probs.scatter(-1, self.out_of_place(decoded), MASKED)

    def out_of_place(self, decoded: Decoded) -> Tensor:
        """The tokens that may not come next by their place in the answer, ``(..., n)``.

        With an abstain token this is EOS at the first place and the abstain token at all others; else n is 0.
        """
        if self.abstain == EOS:
            return torch.empty((*decoded.first.shape, 0), dtype=torch.long, device=decoded.first.device)
        return torch.where(decoded.first, EOS, self.abstain).unsqueeze(-1)

    def probabilities_of(self, decoded: Decoded, tokens: Tensor) -> Tensor:
        """Probabilities of some next tokens, ``(rows, n)`` from ``tokens (rows, n)``.

        The same numbers as in `log_probabilities`, without tables of all tokens beside the logits.

        Args:
            decoded: Positions, ``(rows, ...)``.
            tokens: What is asked about at each of them.
        """
        logits = nn.functional.linear(self.output(decoded.features), self.embedding.weight, self.output_bias)
        generated = (logits.gather(1, tokens) - logits.logsumexp(1, keepdim=True)).exp()
        if not self.config.copy:
            return generated
        generate = torch.sigmoid(self.generate_gate(torch.cat((decoded.features, decoded.embedded), dim=-1)))
        same = tokens.unsqueeze(2) == decoded.source.unsqueeze(1)  # (rows, n, source)
        copied = (same * decoded.attention.unsqueeze(1)).sum(2)
        return generate * generated + (1 - generate) * copied


def copied_runs(tokens: Tensor, source: Tensor, before: Tensor) -> Tensor:
    """Lengths of the runs that answer and source share, ``(batch, time, source)``.

    ``run[t, s] = 0`` if the token at ``t`` differs from the source token before ``s``, else
    ``1 + run[t-1, s-1]``, at most `LONGEST_RUN`.

    Args:
        tokens: Tokens read, ``(batch, time)``.
        source: Source ids, ``(batch, source)``.
        before: The runs one token earlier, ``(batch, source)``.
    """
    same = tokens.unsqueeze(2) == nn.functional.pad(source[:, :-1], (1, 0), value=PAD).unsqueeze(1)
    runs = []
    for equal in same.unbind(1):
        before = equal * (nn.functional.pad(before[:, :-1], (1, 0)) + 1).clamp(max=LONGEST_RUN)
        runs.append(before)
    return torch.stack(runs, dim=1)
