"""The decoder's state between the steps of a rollout: one LSTM step a token instead of one prefix."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from policies.language_model import Decoded, DecoderState, LSTMAttentionLM, Memory
from qa_env.vocabulary import BOS, PAD

ReadMemory = Callable[[Tensor, bool], Memory]
"""``(rows (n,), fresh) -> Memory`` of some lanes; `fresh`: the observations' memory is up to date."""


class RolloutCache:
    """Decoder states of lanes whose answers grow by one token a call; only ever an optimisation.

    A lane's state is used if the observation shows exactly the question and the answer that the state
    was made for, and if no weight has changed since. Everything else is computed anew, so the result
    equals the prefix pass for any sequence of observations.
    """

    source: Tensor
    answer: Tensor
    values: Tensor
    keys: Tensor
    state: DecoderState
    next_state: DecoderState
    token: Tensor

    def __init__(self, lm: LSTMAttentionLM) -> None:
        self.lm = lm
        self.version: tuple[tuple[int, int], ...] = ()
        self.weights: list[Tensor] = []

    @torch.no_grad()
    def decode(self, source: Tensor, answer: Tensor, read_memory: ReadMemory) -> Decoded:
        """The next token's `Decoded` of every lane, ``(lanes, 1, ...)``.

        Args:
            source: Source ids, ``(lanes, source)``.
            answer: Answers so far, ``(lanes, max_answer)``.
            read_memory: Gives the memory of lanes that show a new question. It is called fresh if the
                questions have just been asked: no weight changed since the last call, no token written.
        """
        # In-place changes by an optimizer or a load raise a tensor's version counter. TRPO sets `.data` to
        # new memory; the old is held on to here, so that it cannot be given out again.
        weights = [parameter.detach() for parameter in self.lm.parameters()]
        version = tuple((tensor._version, tensor.data_ptr()) for tensor in weights)
        if version != self.version or source.shape != self.source.shape:
            new = torch.ones(len(source), dtype=torch.bool, device=source.device)
            self._allocate(source, answer)
            fresh = False
        else:
            new = (source != self.source).any(1) | (answer != self.answer).any(1)
            fresh = True
        self.version, self.weights = version, weights
        begun = (answer != PAD).any(1)
        lengths = (source != PAD).sum(1)
        told = torch.stack((new, new & begun, lengths)).cpu()  # together: a GPU is waited for once a step
        rows = told[0].nonzero().squeeze(1).to(source.device)
        if len(rows):
            self._begin(rows, source, answer, read_memory(rows, fresh and not bool(told[1].any())))
        longest = max(int(told[2].max()), 1)
        memory = Memory(self.source[:, :longest], self.values[:, :longest], self.keys[:, :longest])
        state = self.state._replace(run=self.state.run[:, :longest])
        decoded, state = self.lm.step(self.token, state, memory)
        self.next_state = state._replace(run=_widen(state.run, source.shape[1]))
        return decoded

    def append(self, tokens: Tensor) -> None:
        """Note the tokens ``(lanes,)`` chosen after `decode`; the environment will append them too."""
        self.state = self.next_state
        lengths = (self.answer != PAD).sum(1, keepdim=True).clamp(max=self.answer.shape[1] - 1)
        self.answer = self.answer.scatter(1, lengths, tokens.unsqueeze(1))
        self.token = tokens

    def _allocate(self, source: Tensor, answer: Tensor) -> None:
        lanes, length = source.shape
        sizes = self.lm.config
        like = self.lm.output_bias
        self.source, self.answer = source.clone(), answer.clone()
        self.values = like.new_zeros(lanes, length, 2 * sizes.encoder_hidden)
        self.keys = like.new_zeros(lanes, length, sizes.hidden)
        zeros = like.new_zeros(lanes, sizes.hidden)
        self.state = DecoderState(zeros, zeros, torch.zeros_like(source))
        self.token = torch.full((lanes,), BOS, device=source.device)

    def _begin(self, rows: Tensor, source: Tensor, answer: Tensor, memory: Memory) -> None:
        """Take in lanes with a question or an answer that the cache does not know."""
        self.source[rows], self.answer = source[rows], self.answer.index_copy(0, rows, answer[rows])
        # Zero behind: normalised attention would see what a longer question left there.
        padding = (0, 0, 0, source.shape[1] - memory.source.shape[1])
        self.values[rows] = torch.nn.functional.pad(memory.values, padding)
        self.keys[rows] = torch.nn.functional.pad(memory.keys, padding)
        state, token = self._read_prefix(answer[rows], memory)
        state = state._replace(run=_widen(state.run, source.shape[1]))
        self.state = DecoderState(
            *(old.index_copy(0, rows, s) for old, s in zip(self.state, state, strict=True))
        )
        self.token = self.token.index_copy(0, rows, token)

    def _read_prefix(self, answer: Tensor, memory: Memory) -> tuple[DecoderState, Tensor]:
        """The decoder's state before the last token of each answer, and that token (BOS if empty)."""
        state = self.lm.start(memory)
        token = torch.full_like(answer[:, 0], BOS)
        lengths = (answer != PAD).sum(1)
        for time in range(int(lengths.max())):
            _, after = self.lm.step(token, state, memory)
            longer = (lengths > time).unsqueeze(1)
            state = DecoderState(*(torch.where(longer, b, a) for a, b in zip(state, after, strict=True)))
            token = torch.where(longer.squeeze(1), answer[:, time], token)
        return state, token


def _widen(run: Tensor, width: int) -> Tensor:
    """Runs over a source without its last padding, ``(rows, n)``, as runs over it all, ``(rows, width)``."""
    return torch.nn.functional.pad(run, (0, width - run.shape[1]))
