"""Small things to test on: a vocabulary, a few questions, and networks of a few thousand weights."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from policies.language_model import LMConfig, LSTMAttentionLM
from qa_env.datasets import FactsConfig, QAExample, make_facts
from qa_env.vocabulary import Vocabulary

torch.set_num_threads(1)

MAX_SOURCE = 40
MAX_ANSWER = 6


@pytest.fixture(autouse=True)
def seeded() -> None:
    """The same chance in every test, whichever others ran before it in this process."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def facts() -> tuple[QAExample, ...]:
    config = FactsConfig(labelled=60, unlabelled=0, validation=0, test=0, max_statements=2)
    return make_facts(config).labelled


@pytest.fixture(scope="session")
def vocabulary(facts: tuple[QAExample, ...]) -> Vocabulary:
    return Vocabulary.train([text for e in facts for text in (e.question, e.context or "", *e.answers)], 330)


@pytest.fixture(scope="session")
def examples(facts: tuple[QAExample, ...]) -> tuple[QAExample, ...]:
    """Questions of very different lengths, some without a context, some too long for `MAX_SOURCE`."""
    cut = [
        replace(e, context=None if i % 3 == 0 else " ".join((e.context or "").split()[: 2 * (i % 7) + 1]))
        for i, e in enumerate(facts[:20])
    ]
    words = [QAExample(f"word-{w}", w, answers=(w,)) for w in ("gold", "Asia", "the river")]
    return (*cut, *words)


@pytest.fixture(scope="session")
def new_lm(vocabulary: Vocabulary) -> Callable[..., LSTMAttentionLM]:
    """Makes a tiny language model with rough weights: no two tokens are about equally likely."""

    def new(seed: int = 0, tokens: int = len(vocabulary), **changes: object) -> LSTMAttentionLM:
        sizes = {"embedding": 16, "encoder_hidden": 12, "hidden": 20}
        config = LMConfig(**{**sizes, **changes})  # type: ignore[arg-type]
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            lm = LSTMAttentionLM(config, tokens, vocabulary.kinds[:tokens])
            with torch.no_grad():
                for parameter in lm.parameters():
                    parameter.add_(0.3 * torch.randn_like(parameter))
                for pool in (lm.encoder.pool_words, lm.encoder.pool_outputs):
                    pool.output.weight.mul_(0.2)  # a maximum over rough features is large
        return lm

    return new


SETTINGS = ("trained", "frozen", "tokens")


@pytest.fixture
def new_task(
    examples: tuple[QAExample, ...], vocabulary: Vocabulary, new_lm: Callable[..., LSTMAttentionLM]
) -> Callable[..., tuple[LSTMAttentionLM, dict[str, Any]]]:
    """Makes a language model, and the arguments of an environment that it goes with.

    The settings: the environment holds the model's trained encoder, or its frozen one, or none.
    """

    def new(setting: str = "trained", **changes: object) -> tuple[LSTMAttentionLM, dict[str, Any]]:
        lm = new_lm(**changes)
        if setting == "frozen":
            lm.freeze_encoder()
        task = {
            "data": examples,
            "vocabulary": vocabulary,
            "encoder": None if setting == "tokens" else lm.encoder,
            "max_source": MAX_SOURCE,
            "max_answer": MAX_ANSWER,
        }
        return lm, task

    return new
