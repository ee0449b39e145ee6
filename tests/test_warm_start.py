"""The supervised warm start: what it leaves out while it learns, and how its learning rate falls."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from agents.augmentation import Augmentation, AugmentationConfig
from agents.decoding import Limits
from agents.warm_start import Supervised, WarmStartConfig, negative_log_likelihood, warm_start
from policies import LMActorCriticPolicy, LMConfig, LSTMAttentionLM
from qa_env.datasets import QAExample
from qa_env.errors import QAError
from qa_env.task import QATask
from qa_env.vocabulary import Vocabulary

LIMITS = Limits(16, 6)
EXAMPLES = [
    QAExample(str(i), f"Who is {name}?", f"{name} is a {job}.", (job,))
    for i, (name, job) in enumerate([("Ada", "poet"), ("Ben", "cook"), ("Cleo", "king"), ("Dan", "monk")])
]
VOCABULARY = Vocabulary.train([text for e in EXAMPLES for text in (e.question, e.context or "")], 300)


def policy() -> LMActorCriticPolicy:
    torch.manual_seed(0)
    lm = LSTMAttentionLM(LMConfig(8, 8, 16), len(VOCABULARY), VOCABULARY.kinds)
    task = QATask(EXAMPLES, VOCABULARY, lm.encoder, "f1", max_source=16, max_answer=6)
    return LMActorCriticPolicy(task.observation_space, task.action_space, lambda _: 0.0, lm=lm)


def learned(config: WarmStartConfig) -> tuple[LMActorCriticPolicy, list[tuple[float, float]]]:
    """A policy after its warm start, and the losses of each epoch."""
    made, losses = policy(), list[tuple[float, float]]()
    known = Supervised.from_examples(EXAMPLES, VOCABULARY, LIMITS)
    nothing = Augmentation(VOCABULARY, AugmentationConfig(0.0, 0.0))
    validate = lambda: negative_log_likelihood(made, known)  # noqa: E731
    warm_start(made, known, validate, nothing, config, 0, lambda _, *both: losses.append(both))
    return made, losses


def test_dropout_makes_learning_harder_and_is_gone_behind_it() -> None:
    _, losses = learned(WarmStartConfig(epochs=3))
    dropped, harder = learned(WarmStartConfig(epochs=3, dropout=0.5))
    assert harder[0][0] > losses[0][0]  # in training; validation leaves nothing out
    source = torch.as_tensor(Supervised.from_examples(EXAMPLES, VOCABULARY, LIMITS).source)
    dropped.set_training_mode(True)
    torch.testing.assert_close(dropped.lm.encode(source).values, dropped.lm.encode(source).values)


def test_dropout_ends_with_its_block_even_if_that_fails() -> None:
    lm = policy().lm
    with pytest.raises(KeyError), lm.dropping(0.5):
        assert lm.encoder.dropout.p == 0.5
        raise KeyError
    assert lm.encoder.dropout.p == 0.0


def test_the_learning_rate_falls_after_an_epoch_that_is_no_better() -> None:
    """With next to no rate behind the first failure, hardly anything changes any more."""
    _, steady = learned(WarmStartConfig(epochs=12, learning_rate=0.1, patience=12))
    _, falling = learned(WarmStartConfig(epochs=12, learning_rate=0.1, patience=12, rate_decay=1e-6))
    first = next(i for i in range(1, 11) if steady[i][1] >= min(v for _, v in steady[:i]))
    np.testing.assert_array_equal(steady[: first + 1], falling[: first + 1])
    assert np.ptp([v for _, v in falling[first:]]) < 0.01 < np.ptp([v for _, v in steady[first:]])


@pytest.mark.parametrize(("field", "value"), [("dropout", 1.0), ("dropout", -0.1), ("rate_decay", 0.0)])
def test_shares_out_of_range_are_refused(field: str, value: float) -> None:
    with pytest.raises(QAError, match=field):
        WarmStartConfig(**{field: value})
