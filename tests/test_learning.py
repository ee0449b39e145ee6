"""Stock PPO learns to answer from nothing but feedback."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import SETTINGS
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecMonitor
from torch.nn.utils import parameters_to_vector

from agents.algorithms import begin_at, set_reference
from agents.buffers import AnswerRolloutBuffer
from agents.decoding import Limits, answer_all
from agents.vec_env import QAVecEnv
from policies import LMActorCriticPolicy, LMConfig, LSTMAttentionLM
from qa_env.datasets import QAExample
from qa_env.feedback.text import token_f1
from qa_env.vector_env import QAVectorEnv
from qa_env.vocabulary import Vocabulary

WORDS = ("red", "green", "blue", "white", "black", "yellow", "brown", "grey")
ECHO = [QAExample(word, word, answers=(word,)) for word in WORDS]
LIMITS = Limits(max_source=2, max_answer=3)


@pytest.fixture(scope="module")
def words() -> Vocabulary:
    vocabulary = Vocabulary.train([*WORDS, *WORDS], 400)
    assert all(len(vocabulary.encode(word)) == 1 for word in WORDS)
    return vocabulary


def echo_model(vocabulary: Vocabulary, setting: str, seed: int = 0) -> PPO:
    torch.manual_seed(seed)
    lm = LSTMAttentionLM(LMConfig(embedding=32, encoder_hidden=16, hidden=32), len(vocabulary))
    if setting == "frozen":
        lm.freeze_encoder()
    env = QAVectorEnv(
        64,
        data=ECHO,
        vocabulary=vocabulary,
        encoder=None if setting == "tokens" else lm.encoder,
        feedback="f1",
        max_source=LIMITS.max_source,
        max_answer=LIMITS.max_answer,
    )
    model = PPO(
        LMActorCriticPolicy,
        VecMonitor(QAVecEnv(env), info_keywords=("is_success",)),
        learning_rate=5e-3,
        n_steps=8,
        batch_size=128,
        n_epochs=3,
        gamma=1.0,
        ent_coef=0.003,
        policy_kwargs={"lm": lm},
        rollout_buffer_class=AnswerRolloutBuffer,
        seed=seed,
    )
    model.rollout_buffer.keeps_memory = setting == "frozen"
    return model


def sampled_reward(model: PPO) -> float:
    """Mean reward of the last hundred sampled answers."""
    return float(np.mean([episode["r"] for episode in model.ep_info_buffer]))


def greedy_reward(model: PPO, vocabulary: Vocabulary) -> float:
    answers = answer_all(model.policy, vocabulary, ECHO, LIMITS)
    return float(np.mean([token_f1(a, e.answers) for a, e in zip(answers, ECHO, strict=True)]))


@pytest.mark.parametrize("setting", SETTINGS)
def test_ppo_learns_to_repeat_the_question_from_rewards_alone(words: Vocabulary, setting: str) -> None:
    model = echo_model(words, setting)
    before = greedy_reward(model, words)
    model.learn(8192)
    assert before <= 0.5
    assert sampled_reward(model) >= 0.9
    assert greedy_reward(model, words) >= 0.95


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_same_seed_learns_exactly_the_same(words: Vocabulary, setting: str) -> None:
    weights = []
    for seed in (0, 0, 1):
        model = echo_model(words, setting, seed)
        start = parameters_to_vector(model.policy.parameters()).detach().clone()
        model.learn(512)
        weights.append(parameters_to_vector(model.policy.parameters()).detach())
        assert not torch.equal(weights[-1], start)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_rl_can_begin_at_other_weights_than_the_policy_was_made_with(words: Vocabulary) -> None:
    model, other = echo_model(words, "trained"), echo_model(words, "trained", seed=1)
    set_reference(model)
    assert model.rollout_buffer.reference.lm is not model.policy.lm
    begin_at(model, other.policy.lm.state_dict())
    wanted = parameters_to_vector(other.policy.lm.parameters())
    for lm in (model.policy.lm, model.rollout_buffer.reference.lm):
        assert torch.equal(parameters_to_vector(lm.parameters()), wanted)
    assert not any(p.requires_grad for p in model.rollout_buffer.reference.parameters())
    assert model.env.get_attr("task")[0].encoder is model.policy.lm.encoder
