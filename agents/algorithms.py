"""Which algorithm learns: a plain dict from names to functions that make a Stable-Baselines3 model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv

from agents.buffers import AnswerRolloutBuffer
from agents.config import RLConfig, suggest
from policies.actor_critic import LMActorCriticPolicy
from qa_env.errors import QAError
from qa_env.feedback import load_object

MakeModel = Callable[[VecEnv, RLConfig, dict[str, Any]], BaseAlgorithm]
"""``(env, config, common) -> model``; `common` holds policy_kwargs, seed and device."""


def make_ppo(env: VecEnv, config: RLConfig, common: dict[str, Any]) -> PPO:
    """Stock PPO (Schulman et al. 2017) on whole-answer minibatches, undiscounted."""
    return PPO(
        LMActorCriticPolicy,
        env,
        learning_rate=LinearSchedule(config.learning_rate, config.learning_rate / 10, 1.0),
        n_steps=config.n_steps,
        batch_size=config.batch_size,
        n_epochs=config.n_epochs,
        gamma=1.0,  # with gamma < 1 an answer's length would silently become reward
        gae_lambda=config.gae_lambda,
        clip_range=config.clip_range,
        ent_coef=config.ent_coef,
        vf_coef=config.vf_coef,
        rollout_buffer_class=AnswerRolloutBuffer,
        rollout_buffer_kwargs={
            "kl_coef": config.kl_coef,
            "baseline": "group" if config.samples_per_question > 1 else "critic",
        },
        **common,
    )


ALGORITHMS: dict[str, MakeModel] = {"ppo": make_ppo}


def find_algorithm(name: str) -> MakeModel:
    """What makes the model of an algorithm: a name in `ALGORITHMS`, or ``module:attr``.

    Raises:
        QAError: If there is no such algorithm.
    """
    if ":" in name:
        make: MakeModel = load_object(name)
        return make
    if name not in ALGORITHMS:
        raise QAError(f"unknown algorithm '{name}'{suggest(name, list(ALGORITHMS))}")
    return ALGORITHMS[name]
