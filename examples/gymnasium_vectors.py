"""Stock PPO on three kinds of vector environment with a `QAEnv` in each lane, two of them in other processes.

``python examples/gymnasium_vectors.py --kinds sync async subproc --timesteps 4096``

Worker processes are sent the arguments of `QAEnv`, so these must be picklable: a path is, and so is
"module:attribute"; a function must stand at the top of a module. With `encoder=None` no worker holds a
network: the policy encodes the ids itself, all lanes in one batch.

For speed use `QAVectorEnv` (``gymnasium.make_vec("qa_env/QA-v0", num_envs=64)``), which steps all lanes in
one array operation. Workers pay where the feedback is slow and judges one answer at a time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import torch
import tyro
from gymnasium.vector import AutoresetMode
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv, VecMonitor

from agents.vec_env import QAVecEnv
from policies import LMActorCriticPolicy, LMConfig, LSTMAttentionLM
from qa_env.env import QAEnv

ECHO = Path(__file__).with_name("echo.jsonl")
Kind = Literal["sync", "async", "subproc"]


def new_env(kind: Kind, num_envs: int, task: dict[str, Any]) -> VecEnv:
    """A Stable-Baselines3 environment of `num_envs` lanes, each a `QAEnv` of its own."""
    if kind == "subproc":
        return make_vec_env(QAEnv, num_envs, vec_env_cls=SubprocVecEnv, env_kwargs=task)
    # Stable-Baselines3 resets a lane in the step that ends it; Gymnasium's own default is one step later.
    same_step = {"autoreset_mode": AutoresetMode.SAME_STEP}
    envs = gym.make_vec("qa_env/QA-v0", num_envs, kind, vector_kwargs=same_step, **task)
    return VecMonitor(QAVecEnv(envs))


def mean_reward(model: PPO, env: VecEnv) -> float:
    """The mean reward of 40 greedy answers."""
    return float(np.mean(evaluate_policy(model, env, n_eval_episodes=40)[0]))


def train(env: VecEnv, timesteps: int, seed: int) -> tuple[float, float]:
    """Train, and return the mean reward of greedy answers before and after."""
    torch.manual_seed(seed)
    size = int(env.action_space.n)  # type: ignore[attr-defined]
    lm = LSTMAttentionLM(LMConfig(embedding=32, encoder_hidden=16, hidden=32), size)
    model = PPO(
        LMActorCriticPolicy,
        env,
        learning_rate=3e-3,
        n_steps=64,
        batch_size=128,
        n_epochs=4,
        gamma=1.0,  # below 1 the length of an answer would silently become reward
        policy_kwargs={"lm": lm},
        seed=seed,
        device="cpu",
    )
    before = mean_reward(model, env)
    model.learn(timesteps)
    after = mean_reward(model, env)
    return before, after


def main(
    kinds: tuple[Kind, ...] = ("sync", "async", "subproc"),
    data: Path = ECHO,
    timesteps: int = 4096,
    seed: int = 0,
    num_envs: int = 4,
    max_source: int = 8,
    max_answer: int = 6,
) -> dict[str, tuple[float, float]]:
    """Train on each kind, and return its mean reward before and after."""
    task = {"data": data, "encoder": None, "max_source": max_source, "max_answer": max_answer}
    rewards: dict[str, tuple[float, float]] = {}
    for kind in kinds:
        env = new_env(kind, num_envs, task)
        before, after = rewards[kind] = train(env, timesteps, seed)
        env.close()
        print(f"{kind}: mean reward {before:.3f} before, {after:.3f} after {timesteps:,} steps")
    return rewards


if __name__ == "__main__":  # worker processes import this file, and must not start workers of their own
    tyro.cli(main)
