"""What the policies have in common: how observations and whole answers reach the language model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from gymnasium import spaces
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor, nn

from policies.language_model import Decoded, LMConfig, LSTMAttentionLM, Memory
from policies.rollout_cache import RolloutCache
from qa_env.errors import QAError
from qa_env.vocabulary import PAD


class AnswerBatch(NamedTuple):
    """Whole answers, and which of their tokens a minibatch is about.

    Attributes:
        source: Source ids of the questions, each once, ``(questions, source)``.
        question: Which question each answer belongs to, ``(answers,)``.
        tokens: The answers' ids, PAD behind, ``(answers, max_answer)``.
        answer: Which answer each row belongs to, ``(rows,)``.
        time: Which token of it the row is, ``(rows,)``.
        memory: The encoder's outputs, ``(questions, source, width)``, if the encoder is frozen.
    """

    source: Tensor
    question: Tensor
    tokens: Tensor
    answer: Tensor
    time: Tensor
    memory: Tensor | None


class Reader:
    """Has the language model read observations: the decoder's position before each row's next token.

    Holds no weights of its own; a policy that trains the model owns it.

    Args:
        lm: The language model.

    Attributes:
        trains_encoder: Whether the model's encoder is trained. Then the ``memory`` of an observation may
            be older than the weights, and updates encode the source again.
    """

    def __init__(self, lm: LSTMAttentionLM) -> None:
        self.lm = lm
        self.cache = RolloutCache(lm)
        self.trains_encoder = any(p.requires_grad for p in lm.encoder.parameters())

    def decode(self, obs: PyTorchObs | AnswerBatch) -> Decoded:
        """What the decoder knows before each row's token, ``(rows, ...)``."""
        return self.unroll(obs) if isinstance(obs, AnswerBatch) else self.prefix(obs)

    def cached(self, obs: PyTorchObs) -> Decoded:
        """The same as `prefix` without a gradient, from what the rollout has computed before."""
        assert isinstance(obs, Mapping)
        answer = obs["answer"].long()
        decoded = self.cache.decode(
            obs["source"].long(), answer, lambda rows, fresh: self._read_memory(obs, rows, fresh)
        )
        return decoded.at(torch.arange(len(answer), device=answer.device), torch.zeros_like(answer[:, 0]))

    def prefix(self, obs: PyTorchObs) -> Decoded:
        """The prefix pass: what the decoder knows behind each row's answer so far, ``(rows, ...)``."""
        assert isinstance(obs, Mapping)
        answer = obs["answer"].long()
        rows = torch.arange(len(answer), device=answer.device)
        lengths = (answer != PAD).sum(1)
        answer = nn.functional.pad(answer, (0, 1), value=PAD)[:, : int(lengths.max()) + 1]
        return self.lm.unroll(answer, self._read_memory(obs, rows, fresh=False)).at(rows, lengths)

    def unroll(self, batch: AnswerBatch) -> Decoded:
        """One teacher-forced pass over whole answers; the wanted positions, ``(rows, ...)``."""
        if batch.memory is None:
            memory = self.lm.encode(batch.source)
        else:
            memory = self.lm.memory(batch.source, batch.memory)
        tokens = batch.tokens[:, : int(batch.time.max()) + 1]
        return self.lm.unroll(tokens, memory.select(batch.question)).at(batch.answer, batch.time)

    def _read_memory(self, obs: Mapping[str, Tensor], rows: Tensor, fresh: bool) -> Memory:
        """The decoder's memory of some rows.

        The observation's memory was made when the question was asked. If the encoder is trained, that
        may have been before the last update: then (`fresh` is false) the source is encoded again.
        """
        source = obs["source"][rows].long()
        if "memory" not in obs or (self.trains_encoder and not fresh):
            questions, inverse = torch.unique(
                source, dim=0, return_inverse=True
            )  # several lanes may have one
            return self.lm.encode(questions).select(inverse)
        return self.lm.memory(source, obs["memory"][rows])


def check_spaces(observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> None:
    """Raise a QAError if the spaces are not those of a `QAEnv`."""
    parts = observation_space.spaces if isinstance(observation_space, spaces.Dict) else {}
    if not {"source", "answer"} <= set(parts) or not isinstance(action_space, spaces.Discrete):
        raise QAError(f"the policy needs the spaces of QAEnv, got {observation_space} and {action_space}")


def new_language_model(
    observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
) -> LSTMAttentionLM:
    """An untrained language model that fits the spaces; it reads ``memory`` where there is one."""
    assert isinstance(observation_space, spaces.Dict) and isinstance(action_space, spaces.Discrete)
    config, vocabulary = LMConfig(), int(action_space.n)
    if "memory" not in observation_space.spaces:
        return LSTMAttentionLM(config, vocabulary)
    width = observation_space["memory"].shape[1]  # type: ignore[index]
    lm = LSTMAttentionLM(replace(config, encoder_hidden=width // 2), vocabulary)
    lm.freeze_encoder()  # the outputs come from the environment's own encoder
    return lm


def check_fit(
    lm: LSTMAttentionLM, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
) -> None:
    """Raise a QAError if the model has another vocabulary or memory width than the environment."""
    assert isinstance(observation_space, spaces.Dict) and isinstance(action_space, spaces.Discrete)
    if lm.vocabulary != action_space.n:
        raise QAError(
            f"the language model has {lm.vocabulary} tokens, the environment {action_space.n}: "
            "give both the same vocabulary"
        )
    if "memory" in observation_space.spaces:
        width = observation_space["memory"].shape[1]  # type: ignore[index]
        if width != lm.encoder.width:
            raise QAError(
                f"the environment's encoder gives vectors of {width}, the language model reads "
                f"{lm.encoder.width}: give the environment encoder=lm.encoder"
            )
