"""Writing answers with the policy outside the environment: greedy, a batch of questions at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from policies.actor_critic import LMActorCriticPolicy
from qa_env.datasets import QAExample
from qa_env.task import encode_examples
from qa_env.vocabulary import BOS, EOS, PAD, Vocabulary

BATCH = 256
"""Questions decoded side by side."""


@dataclass(frozen=True)
class Limits:
    """Longest source and answer, in tokens."""

    max_source: int = 144
    max_answer: int = 32


@dataclass(frozen=True)
class Generated:
    """Answers to a batch of questions.

    Attributes:
        tokens: Ids with EOS, PAD behind, ``(batch, max_answer)``.
        attention: Weights over the source at each token, ``(batch, max_answer, max_source)``.
    """

    tokens: NDArray[np.int64]
    attention: NDArray[np.float32]


@torch.no_grad()
def greedy(policy: LMActorCriticPolicy, source: NDArray[np.int64], max_answer: int) -> Generated:
    """The likeliest token at every step, as `policy.predict(..., deterministic=True)` in the environment.

    Args:
        policy: Whose language model writes.
        source: Source ids, ``(batch, source)``.
        max_answer: Longest answer, EOS included.
    """
    lm = policy.lm
    memory = lm.encode(torch.as_tensor(source, device=policy.device))
    state = lm.start(memory)
    token = torch.full((len(source),), BOS, device=policy.device)
    finished = torch.zeros_like(token, dtype=torch.bool)
    tokens = np.full((len(source), max_answer), PAD, dtype=np.int64)
    attention = np.zeros((len(source), max_answer, source.shape[1]), dtype=np.float32)
    for time in range(max_answer):
        decoded, state = lm.step(token, state, memory)
        token = policy.sampling.log_probs(lm.log_probabilities(decoded)[:, 0]).argmax(1)
        token = torch.where(finished, PAD, token)
        tokens[:, time] = token.cpu().numpy()
        weights = decoded.attention[:, 0].cpu().numpy()
        attention[:, time, : weights.shape[1]] = weights
        finished |= token == EOS
        if bool(finished.all()):
            break
        token = torch.where(finished, EOS, token)
    return Generated(tokens, attention)


def answer_all(
    policy: LMActorCriticPolicy, vocabulary: Vocabulary, examples: Sequence[QAExample], limits: Limits
) -> list[str]:
    """Greedy answers to all the examples, as text."""
    source, _ = encode_examples(examples, vocabulary, limits.max_source)
    answers: list[str] = []
    for start in range(0, len(source), BATCH):
        tokens = greedy(policy, source[start : start + BATCH], limits.max_answer).tokens
        answers += [vocabulary.decode(row) for row in tokens]
    return answers
