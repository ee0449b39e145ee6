from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from conftest import MAX_ANSWER, MAX_SOURCE
from numpy.typing import NDArray

import agents.decoding
from agents.decoding import DecodingConfig, Limits, answer_all, decode, greedy
from agents.warm_start import as_batch
from policies import LMActorCriticPolicy
from qa_env.datasets import QAExample
from qa_env.env import QAEnv
from qa_env.errors import QAError
from qa_env.feedback import Score
from qa_env.vocabulary import EOS, FORBIDDEN, PAD, Vocabulary

LIMITS = Limits(MAX_SOURCE, MAX_ANSWER)
METHODS = [
    DecodingConfig(),
    DecodingConfig("sample"),
    DecodingConfig("sample", temperature=1.5, top_k=20, top_p=0.95),
    DecodingConfig("beam"),
    DecodingConfig("beam", beams=7, length_penalty=0),
    DecodingConfig("best-of-n", n=5),
]
method = pytest.mark.parametrize("config", METHODS, ids=lambda config: config.method)


@pytest.fixture
def toy(new_task: Callable[..., Any]) -> tuple[LMActorCriticPolicy, NDArray[np.int64]]:
    """A policy whose answers are of all lengths, and the sources of its questions."""
    lm, task = new_task("tokens", seed=1)
    env = QAEnv(**task)
    policy = LMActorCriticPolicy(env.observation_space, env.action_space, lambda _: 0.0, lm=lm)
    with torch.no_grad():
        lm.generate_gate.weight.zero_()
        lm.generate_gate.bias.fill_(1.0)
        lm.output_bias[list(FORBIDDEN)] += 2  # it likes what it must not write
        for _ in range(80):  # until some answers end early and others do not
            lm.output_bias[EOS] += 0.1
            lengths = (greedy(policy, env.task.sources, MAX_ANSWER) != PAD).sum(1)
            if lengths.min() < MAX_ANSWER - 1:
                break
    assert lengths.min() < lengths.max() == MAX_ANSWER
    return policy, env.task.sources


def log_likelihood(
    policy: LMActorCriticPolicy, source: NDArray[np.int64], tokens: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Of each answer ``(batch, time)`` as a whole, by teacher forcing."""
    rows = np.nonzero(tokens != PAD)[0]
    with torch.no_grad():
        of_tokens = policy.log_likelihood(*as_batch(source, tokens)).numpy()
    return np.bincount(rows, weights=of_tokens, minlength=len(tokens))


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@method
def test_answers_hold_allowed_tokens_up_to_their_end(
    toy: tuple[LMActorCriticPolicy, Any], config: DecodingConfig
) -> None:
    policy, source = toy
    answers = decode(policy, source, MAX_ANSWER, config, chance())
    assert answers.shape == (len(source), config.lanes, MAX_ANSWER) and answers.dtype == np.int64
    for tokens in answers.reshape(-1, MAX_ANSWER).tolist():
        length = tokens.index(EOS) + 1 if EOS in tokens else MAX_ANSWER
        assert not set(tokens[:length]) & set(FORBIDDEN) and set(tokens[length:]) <= {PAD}


@pytest.mark.parametrize("config", [METHODS[0], *METHODS[3:5]], ids=["greedy", "beam", "wide beam"])
def test_an_answer_does_not_depend_on_the_others_of_its_batch(
    toy: tuple[LMActorCriticPolicy, Any], config: DecodingConfig
) -> None:
    policy, source = toy
    together = decode(policy, source, MAX_ANSWER, config)[:, 0]
    alone = [decode(policy, source[[i]], MAX_ANSWER, config)[0, 0] for i in range(len(source))]
    np.testing.assert_array_equal(together, alone)


@method
def test_decoding_stops_when_all_are_finished(
    toy: tuple[LMActorCriticPolicy, Any], config: DecodingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, source = toy
    step, steps = policy.lm.step, itertools.count()
    monkeypatch.setattr(policy.lm, "step", lambda *parts: (next(steps), step(*parts))[1])
    with torch.no_grad():
        policy.lm.output_bias[EOS] += 50
    answers = decode(policy, source, 500, config, chance())
    assert next(steps) == (answers != PAD).sum(2).max() < 500


def test_sampling_almost_without_temperature_is_greedy(toy: tuple[LMActorCriticPolicy, Any]) -> None:
    policy, source = toy
    expected = greedy(policy, source, MAX_ANSWER)
    for config in (DecodingConfig("sample", temperature=1e-4), DecodingConfig("sample", top_k=1)):
        np.testing.assert_array_equal(decode(policy, source, MAX_ANSWER, config)[:, 0], expected)


def test_the_same_seed_samples_the_same(
    toy: tuple[LMActorCriticPolicy, Any], vocabulary: Vocabulary, examples: tuple[QAExample, ...]
) -> None:
    seeds = (0, 0, 1)
    answers = [
        answer_all(toy[0], vocabulary, examples, LIMITS, DecodingConfig("sample", seed=seed))
        for seed in seeds
    ]
    assert answers[0] == answers[1] != answers[2]


def test_samples_follow_the_policy_of_rollouts(toy: tuple[LMActorCriticPolicy, Any]) -> None:
    policy, source = toy
    config = DecodingConfig("best-of-n", n=20_000, temperature=0.7, top_k=9, top_p=0.9)
    policy.sampling = config.sampling()
    first = decode(policy, source[:1], 1, config, chance())[0, :, 0]
    obs = {"source": torch.as_tensor(source[:1]), "answer": torch.full((1, MAX_ANSWER), PAD)}
    expected = policy.get_distribution(obs).distribution.probs[0].detach().numpy()
    shares = np.bincount(first, minlength=len(expected)) / len(first)
    np.testing.assert_allclose(shares, expected, atol=0.02)
    assert not shares[expected == 0].any()


# Beam search


@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 2.0])
def test_one_beam_is_greedy(toy: tuple[LMActorCriticPolicy, Any], length_penalty: float) -> None:
    policy, source = toy
    one = DecodingConfig("beam", beams=1, length_penalty=length_penalty)
    expected = greedy(policy, source, MAX_ANSWER)
    np.testing.assert_array_equal(decode(policy, source, MAX_ANSWER, one)[:, 0], expected)


def test_beam_search_finds_likelier_answers_than_greedy(toy: tuple[LMActorCriticPolicy, Any]) -> None:
    policy, source = toy
    of_greedy = log_likelihood(policy, source, greedy(policy, source, MAX_ANSWER))
    before = of_greedy
    for beams in (2, 4, 16):
        config = DecodingConfig("beam", beams=beams, length_penalty=0)
        found = log_likelihood(policy, source, decode(policy, source, MAX_ANSWER, config)[:, 0])
        assert (found >= of_greedy - 1e-4).all()
        assert found.mean() >= before.mean() - 1e-4
        before = found
    assert (before > of_greedy + 0.01).sum() >= 3


@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 2.0])
def test_a_beam_as_wide_as_the_vocabulary_finds_the_best_answer_of_two_tokens(
    toy: tuple[LMActorCriticPolicy, Any], length_penalty: float
) -> None:
    policy, source = toy
    source = source[:3]
    letters = [i for i in range(policy.lm.vocabulary) if i not in FORBIDDEN]
    config = DecodingConfig("beam", beams=len(letters), length_penalty=length_penalty)
    found = decode(policy, source, 2, config)[:, 0]
    for row, tokens in zip(source, found, strict=True):
        any_second = np.array([(letter, EOS) for letter in letters])
        batch, _ = as_batch(np.repeat(row[None], len(letters), 0), any_second)
        with torch.no_grad():
            of_tokens = policy.get_distribution(batch).distribution.logits.double()
        start = of_tokens[::2][0]  # the first token's chances, and the second's behind each first one
        quality = {(EOS, PAD): float(start[EOS])}
        for letter, behind in zip(letters, of_tokens[1::2], strict=True):
            if letter != EOS:
                total = (start[letter] + behind) / (7 / 6) ** length_penalty
                quality[letter, int(total.argmax())] = float(total.max())
        assert tuple(tokens) == max(quality, key=quality.__getitem__)


def test_the_length_penalty_favours_longer_answers(toy: tuple[LMActorCriticPolicy, Any]) -> None:
    policy, source = toy
    lengths = [
        (
            decode(policy, source, MAX_ANSWER, DecodingConfig("beam", length_penalty=penalty))[:, 0] != PAD
        ).sum()
        for penalty in (0.0, 1.0, 5.0)
    ]
    assert lengths == sorted(lengths) and lengths[0] < lengths[2]


def test_more_beams_than_tokens_are_refused(toy: tuple[LMActorCriticPolicy, Any]) -> None:
    policy, source = toy
    most = policy.lm.vocabulary - len(FORBIDDEN)
    with pytest.raises(QAError, match=f"beams must be at most {most}, .* got {most + 1}"):
        decode(policy, source, MAX_ANSWER, DecodingConfig("beam", beams=most + 1))


# The best of n


class Noted:
    """Rewards an answer by a number of its own, and notes what it was asked."""

    name = "noted"

    def __init__(self) -> None:
        self.asked: list[tuple[list[QAExample], list[str], NDArray[np.float64]]] = []

    def score(
        self, examples: Sequence[QAExample], answers: Sequence[str], rngs: Sequence[np.random.Generator]
    ) -> Score:
        reward = np.array([rng.random() for rng in rngs])
        self.asked.append((list(examples), list(answers), reward))
        return Score(reward)


def test_the_feedback_chooses_the_best_of_n(
    toy: tuple[LMActorCriticPolicy, Any],
    vocabulary: Vocabulary,
    examples: tuple[QAExample, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(agents.decoding, "BATCH", 12)
    feedback = Noted()
    config = DecodingConfig("best-of-n", n=5)
    answers = answer_all(toy[0], vocabulary, examples, LIMITS, config, feedback)
    ((asked, given, reward),) = feedback.asked  # once, with all the answers
    assert asked == [example for example in examples for _ in range(5)]
    best = reward.reshape(-1, 5).argmax(1)
    assert answers == [given[5 * row + i] for row, i in enumerate(best)]
    assert len(set(best.tolist())) > 1
    assert answers == answer_all(toy[0], vocabulary, examples, LIMITS, config, Noted())


@pytest.mark.parametrize("feedback", ["length", lambda examples, answers: [len(a) for a in answers]])
def test_more_samples_please_the_feedback_more(
    toy: tuple[LMActorCriticPolicy, Any],
    vocabulary: Vocabulary,
    examples: tuple[QAExample, ...],
    feedback: Any,
) -> None:
    answers = {
        n: answer_all(toy[0], vocabulary, examples, LIMITS, DecodingConfig("best-of-n", n=n), feedback)
        for n in (1, 16)
    }
    lengths = {n: np.mean([len(a.split()) for a in given]) for n, given in answers.items()}
    assert lengths[16] > lengths[1]


def test_a_feedback_without_a_choice_and_a_choice_without_a_feedback_are_refused(
    toy: tuple[LMActorCriticPolicy, Any], vocabulary: Vocabulary, examples: tuple[QAExample, ...]
) -> None:
    with pytest.raises(QAError, match="greedy takes no feedback"):
        answer_all(toy[0], vocabulary, examples, LIMITS, feedback="f1")
    with pytest.raises(QAError, match="best-of-n needs a feedback"):
        answer_all(toy[0], vocabulary, examples, LIMITS, DecodingConfig("best-of-n"))


def test_a_function_that_fails_without_references_is_refused_and_another_mistake_is_shown(
    toy: tuple[LMActorCriticPolicy, Any], vocabulary: Vocabulary
) -> None:
    def first_reference(examples: Sequence[QAExample], answers: Sequence[str]) -> list[float]:
        return [float(len(example.answers[0])) for example in examples]

    def mistaken(examples: Sequence[QAExample], answers: Sequence[str]) -> list[float]:
        raise ZeroDivisionError

    config = DecodingConfig("best-of-n", n=2)
    unanswered = [QAExample("q", "Where?")]
    for feedback, why in ((first_reference, "IndexError"), ("f1", "needs a reference answer")):
        with pytest.raises(QAError, match=why):
            answer_all(toy[0], vocabulary, unanswered, LIMITS, config, feedback)
    with pytest.raises(ZeroDivisionError):
        answer_all(
            toy[0], vocabulary, [QAExample("q", "Where?", answers=("here",))], LIMITS, config, mistaken
        )


# Settings


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"method": "gredy"}, "method must be one of greedy, sample, beam, best-of-n; got 'gredy'"),
        ({"beams": 3}, "decoding.beams is for decoding.method beam, not for greedy"),
        ({"method": "beam", "top_p": 0.5}, "top_p is for decoding.method sample or best-of-n, not for beam"),
        ({"method": "sample", "n": 3}, "decoding.n is for decoding.method best-of-n, not for sample"),
        ({"method": "beam", "beams": 0}, "decoding.beams must be 1 or more, got 0"),
        ({"method": "best-of-n", "n": 0}, "decoding.n must be 1 or more, got 0"),
        ({"method": "beam", "length_penalty": -1}, "length_penalty must be from 0 to 10, got -1"),
        ({"method": "beam", "length_penalty": float("nan")}, "length_penalty must be from 0 to 10"),
        ({"method": "sample", "seed": -1}, "decoding.seed must be 0 or more"),
        ({"method": "sample", "temperature": 0.0}, "decoding.temperature must be"),
        ({"method": "sample", "top_k": -1}, "decoding.top_k must be"),
        ({"method": "best-of-n", "top_p": 0.0}, "decoding.top_p must be"),
    ],
    ids=str,
)
def test_senseless_settings_are_refused(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(QAError) as error:
        DecodingConfig(**settings)
    assert reason in str(error.value)
