"""Which algorithm learns: a plain dict from names to functions that make a Stable-Baselines3 model."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from stable_baselines3 import A2C, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from agents.buffers import AnswerRolloutBuffer
from agents.config import RLConfig, suggest
from agents.offline_algorithms import OFFLINE
from agents.q_learning import AnswerDQN, AnswerQRDQN
from agents.reinforce import REINFORCE
from agents.replay import AnswerReplayBuffer
from agents.trpo import AnswerTRPO
from policies.actor_critic import LMActorCriticPolicy
from policies.language_model import LSTMAttentionLM
from policies.q_network import LMDQNPolicy, LMQRDQNPolicy
from qa_env.errors import QAError
from qa_env.feedback import load_object

MakeModel = Callable[[VecEnv, RLConfig, dict[str, Any]], BaseAlgorithm]
"""``(env, config, common) -> model``; `common` holds policy_kwargs, seed and device."""


def make_ppo(env: VecEnv, config: RLConfig, common: dict[str, Any]) -> PPO:
    """Stock PPO (Schulman et al. 2017) on whole-answer minibatches, undiscounted."""
    return PPO(
        LMActorCriticPolicy,
        env,
        learning_rate=falling(config, 1e-4),
        batch_size=config.batch_size,
        n_epochs=config.n_epochs,
        clip_range=config.clip_range,
        ent_coef=config.ent_coef,
        vf_coef=config.vf_coef,
        **on_policy(config),
        **actor_critic(common, config),
    )


def make_a2c(env: VecEnv, config: RLConfig, common: dict[str, Any]) -> A2C:
    """Stock A2C (Mnih et al. 2016): a single step a rollout, with Adam."""
    return A2C(
        LMActorCriticPolicy,
        env,
        learning_rate=falling(config, 1e-3),
        use_rms_prop=False,
        normalize_advantage=True,
        ent_coef=config.ent_coef,
        vf_coef=config.vf_coef,
        **on_policy(config),
        **actor_critic(common, config),
    )


def make_trpo(env: VecEnv, config: RLConfig, common: dict[str, Any]) -> AnswerTRPO:
    """TRPO (Schulman et al. 2015): a natural-gradient step a rollout; the learning rate is the critic's."""
    return AnswerTRPO(
        LMActorCriticPolicy,
        env,
        learning_rate=falling(config, 1e-3),
        batch_size=config.batch_size,
        n_critic_updates=1,
        cg_max_steps=3,
        curvature_batch=config.batch_size,
        target_kl=config.trust_region,
        **on_policy(config),
        **actor_critic(common, config),
    )


def make_reinforce(env: VecEnv, config: RLConfig, common: dict[str, Any], baseline: str) -> REINFORCE:
    """Our own REINFORCE family."""
    if baseline != "greedy" and config.samples_per_question < 2:
        raise QAError(
            f"{config.algorithm} compares answers to the same question: give --rl.samples-per-question 2 or "
            f"more, got {config.samples_per_question}"
        )
    return REINFORCE(
        LMActorCriticPolicy,
        env,
        learning_rate=falling(config, 3e-4),
        n_steps=config.n_steps,
        batch_size=config.batch_size,
        baseline=baseline,
        ent_coef=config.ent_coef,
        kl_coef=config.kl_coef,
        **actor_critic(common, config),
    )


def actor_critic(common: dict[str, Any], config: RLConfig) -> dict[str, Any]:
    """`common`, with entropies only if the loss uses them."""
    return {**common, "policy_kwargs": {**common["policy_kwargs"], "entropy": config.ent_coef > 0}}


def on_policy(config: RLConfig) -> dict[str, Any]:
    """Settings that PPO, A2C and TRPO share: whole answers, no discount.

    With gamma < 1 an answer's length would silently become reward.
    """
    baseline = "group" if config.samples_per_question > 1 else "critic"
    return {
        "n_steps": config.n_steps,
        "gamma": 1.0,
        "gae_lambda": config.gae_lambda,
        "rollout_buffer_class": AnswerRolloutBuffer,
        "rollout_buffer_kwargs": {"kl_coef": config.kl_coef, "baseline": baseline},
    }


def make_dqn(env: VecEnv, config: RLConfig, common: dict[str, Any]) -> AnswerDQN:
    """DQN on whole answers."""
    model = AnswerDQN(LMDQNPolicy, env, **q_learning(config), **q_policy(common, config))
    model.hysteresis = config.q.hysteresis
    return model


def make_qrdqn(env: VecEnv, config: RLConfig, common: dict[str, Any]) -> AnswerQRDQN:
    """QR-DQN on whole answers."""
    common = q_policy(common, config)
    common["policy_kwargs"]["n_quantiles"] = config.q.n_quantiles
    model = AnswerQRDQN(LMQRDQNPolicy, env, **q_learning(config), **common)
    model.hysteresis = config.q.hysteresis
    return model


def q_learning(config: RLConfig) -> dict[str, Any]:
    """Settings that DQN and QR-DQN share."""
    q = config.q
    return {
        "learning_rate": falling(config, 5e-4),
        "buffer_size": q.buffer_size,
        "learning_starts": 0,
        "batch_size": config.batch_size,
        "gamma": 1.0,
        "train_freq": (config.n_steps, "step"),
        "gradient_steps": q.gradient_steps,
        "replay_buffer_class": AnswerReplayBuffer,
        "replay_buffer_kwargs": {"n_steps": q.return_steps},
        "target_update_interval": q.target_update_interval,
        "exploration_fraction": 1.0,
        "exploration_initial_eps": q.exploration_initial,
        "exploration_final_eps": q.exploration_final,
        "max_grad_norm": 1.0,
    }


def q_policy(common: dict[str, Any], config: RLConfig) -> dict[str, Any]:
    """`common` with the scale of the Q-values."""
    return {**common, "policy_kwargs": {**common["policy_kwargs"], "scale": config.q.scale}}


def falling(config: RLConfig, default: float) -> LinearSchedule:
    """The learning rate, falling linearly to a tenth."""
    start = default if config.learning_rate is None else config.learning_rate
    return LinearSchedule(start, start / 10, 1.0)


ALGORITHMS: dict[str, MakeModel] = {
    "ppo": make_ppo,
    "a2c": make_a2c,
    "trpo": make_trpo,
    "rloo": partial(make_reinforce, baseline="leave_one_out"),
    "grpo": partial(make_reinforce, baseline="group_normalised"),
    "self-critical": partial(make_reinforce, baseline="greedy"),
    "dqn": make_dqn,
    "qrdqn": make_qrdqn,
}


def language_model(model: BaseAlgorithm) -> LSTMAttentionLM:
    """The language model that an algorithm trains.

    Raises:
        QAError: If its policy wraps none.
    """
    lm = getattr(model.policy, "lm", None)
    if not isinstance(lm, LSTMAttentionLM):
        raise QAError(f"the algorithm's policy must wrap the language model, got {type(model.policy)}")
    return lm


def set_reference(model: BaseAlgorithm) -> None:
    """Make the policy as it is now the one from which a KL penalty is measured, if the algorithm has one."""
    buffer = getattr(model, "rollout_buffer", None)
    if isinstance(buffer, AnswerRolloutBuffer):
        reference = copy.deepcopy(model.policy).requires_grad_(False)
        assert isinstance(reference, LMActorCriticPolicy)
        buffer.reference = reference
    elif isinstance(model, AnswerDQN | AnswerQRDQN):
        model.reference = copy.deepcopy(language_model(model)).requires_grad_(False)


def begin_at(model: BaseAlgorithm, weights: Mapping[str, Tensor]) -> None:
    """Give the policy, the reference and a target network a language model's weights, before RL begins."""
    language_model(model).load_state_dict(weights)
    if isinstance(model, AnswerDQN | AnswerQRDQN):
        model.policy.target.load_state_dict(model.policy.online.state_dict())
    set_reference(model)


def find_algorithm(name: str) -> MakeModel:
    """What makes the model of an algorithm: a name in `ALGORITHMS`, or ``module:attr``.

    Raises:
        QAError: If there is no such algorithm.
    """
    if ":" in name:
        make: MakeModel = load_object(name)
        return make
    if name not in ALGORITHMS:
        raise QAError(f"unknown algorithm '{name}'{suggest(name, [*ALGORITHMS, *OFFLINE])}")
    return ALGORITHMS[name]
