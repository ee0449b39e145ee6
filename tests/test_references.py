"""Questions with several right answers, short or long, in the text or not: in rewards and in training."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from agents.augmentation import Augmentation, AugmentationConfig
from agents.decoding import Limits, decode
from agents.warm_start import Supervised, WarmStartConfig, negative_log_likelihood, warm_start
from policies import LMActorCriticPolicy, LMConfig, LSTMAttentionLM
from qa_env.datasets import QAExample
from qa_env.env import QAEnv
from qa_env.errors import QAError
from qa_env.feedback import BUILT_IN, SimulatedUsers, SimulatedUsersConfig, as_feedback
from qa_env.feedback.fluency import FluencyModel
from qa_env.feedback.text import exact_match, token_f1, value_accuracy
from qa_env.vocabulary import PAD, Vocabulary

LONG = " ".join(["She signed it at the river because her brother wanted her to"] * 4)
EXAMPLE = QAExample("many", "Why?", "Ada signed.", ("Because she did", LONG, "gold"))
OF_REFERENCES = sorted(BUILT_IN.keys() - {"repetition", "reasoning-gym"})


@pytest.fixture(scope="module")
def users(facts: tuple[QAExample, ...], vocabulary: Vocabulary) -> SimulatedUsers:
    fluency = FluencyModel.fit([e.answers[0] for e in facts], vocabulary, epochs=1)
    return SimulatedUsers(SimulatedUsersConfig(), fluency)


@pytest.mark.parametrize("place", range(3))
def test_every_reference_is_right_whichever_is_the_main_one(place: int, users: SimulatedUsers) -> None:
    said = EXAMPLE.answers[place]
    assert exact_match(said, EXAMPLE.answers) == token_f1(said, EXAMPLE.answers) == 1.0
    assert value_accuracy(EXAMPLE, said) == users.correctness(EXAMPLE, said) == 1.0
    rngs = np.random.default_rng(0).spawn(1)
    for name in OF_REFERENCES:
        assert as_feedback(name).score([EXAMPLE], [said], rngs).reward.tolist() == [1.0], name


def test_the_best_reference_counts_in_whatever_order_they_stand(users: SimulatedUsers) -> None:
    turned = replace(EXAMPLE, answers=EXAMPLE.answers[::-1])
    for said in (*EXAMPLE.answers, "Because she wanted", "gold river", LONG[:80]):
        assert token_f1(said, EXAMPLE.answers) == max(token_f1(said, [one]) for one in EXAMPLE.answers)
        assert users.utility([EXAMPLE], [said]) == users.utility([turned], [said])
        rngs = np.random.default_rng(0).spawn(2)
        for name in OF_REFERENCES:
            first, second = as_feedback(name).score([EXAMPLE, turned], [said] * 2, rngs).reward
            assert first == second, name


def test_a_marked_value_needs_no_reference_and_takes_the_best_of_those_there_are(
    users: SimulatedUsers,
) -> None:
    marked = replace(EXAMPLE, answers=("It is made of gold", "gold"), metadata={"value": "gold"})
    assert users.correctness(marked, "gold") == users.correctness(marked, "It is made of gold") == 1.0
    assert 0.5 < users.correctness(marked, "gold it may be") < 1.0
    assert users.correctness(replace(marked, answers=()), "gold") == 1.0


def test_an_answer_longer_than_the_usual_is_fit_if_a_reference_is(users: SimulatedUsers) -> None:
    assert len(LONG.split()) > users.config.max_words
    assert as_feedback("length").score([EXAMPLE], [LONG], np.random.default_rng(0).spawn(1)).reward == [1.0]


# Training


def test_the_main_answer_is_the_first_that_fits_the_limits(vocabulary: Vocabulary) -> None:
    turned = replace(EXAMPLE, answers=(LONG, *EXAMPLE.answers))
    only = replace(EXAMPLE, answers=(LONG,))
    data = Supervised.from_examples([EXAMPLE, turned, only], vocabulary, Limits(40, 20))
    assert data.examples == (EXAMPLE, turned) and data.cut == 1
    assert [vocabulary.decode(row) for row in data.tokens] == ["Because she did"] * 2
    assert [vocabulary.decode(row) for row in data.references] == ["Because she did", "gold"] * 2
    assert data.number.tolist() == [2, 2]
    with pytest.raises(
        QAError, match="reference answers of at most 20 tokens, and none of 1 examples has one"
    ):
        Supervised.from_examples([only], vocabulary, Limits(40, 20))


def test_an_epoch_teaches_the_main_answers_or_any(vocabulary: Vocabulary) -> None:
    other = QAExample("one", "Who?", "Ada signed.", ("Ada",))
    data = Supervised.from_examples([EXAMPLE, other], vocabulary, Limits(40, 400))
    plain = Augmentation(vocabulary, AugmentationConfig(0, 0))
    rng = np.random.default_rng(0)
    taught: dict[str, Counter[str]] = {"main": Counter(), "all": Counter()}
    for references, texts in taught.items():
        for _ in range(90):
            for batch, _ in data.shuffled(2, plain, rng, references=references):
                texts.update(vocabulary.decode(row) for row in batch.tokens.tolist())
    assert taught["main"] == {EXAMPLE.answers[0]: 90, "Ada": 90}
    assert set(taught["all"]) == {*EXAMPLE.answers, "Ada"} and taught["all"]["Ada"] == 90
    assert min(taught["all"].values()) > 15


@pytest.mark.parametrize("references", ["main", "all"])
def test_answers_that_stand_nowhere_in_the_text_are_learned(references: str, vocabulary: Vocabulary) -> None:
    examples = [
        QAExample("1", "Why is it long?", "The river of Asia.", ("because of snow", "it is so")),
        QAExample("2", "What is gold?", "Ada has gold.", ("a metal", "some metal")),
    ]
    limits = Limits(40, 24)
    task = {"data": examples, "vocabulary": vocabulary, "encoder": None}
    env = QAEnv(max_source=limits.max_source, max_answer=limits.max_answer, **task)
    lm = LSTMAttentionLM(LMConfig(32, 16, 48), len(vocabulary), vocabulary.kinds)
    policy = LMActorCriticPolicy(env.observation_space, env.action_space, lambda _: 0.0, lm=lm)
    data = Supervised.from_examples(examples, vocabulary, limits)
    plain = Augmentation(vocabulary, AugmentationConfig(0, 0))
    settings = WarmStartConfig(epochs=150, learning_rate=1e-2, references=references, patience=150)  # type: ignore[arg-type]
    warm_start(policy, data, lambda: negative_log_likelihood(policy, data), plain, settings, 0)
    written = decode(policy, env.task.sources, limits.max_answer)[:, 0]
    for example, row in zip(examples, written, strict=True):
        assert row[-1] == PAD
        said = vocabulary.decode(row)
        assert said == example.answers[0] if references == "main" else said in example.answers
