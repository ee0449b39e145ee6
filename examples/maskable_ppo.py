"""MaskablePPO of sb3-contrib writes answers that hold only words of the text it was given.

``python examples/maskable_ppo.py --timesteps 30000``
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
import tyro
from gymnasium import spaces
from numpy.typing import NDArray
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.evaluation import evaluate_policy
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn

from qa_env.env import QAEnv
from qa_env.vocabulary import EOS, PAD

ECHO = Path(__file__).with_name("echo.jsonl")


class OnlySourceTokens(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Narrows `QAEnv.action_masks`: an answer may hold the tokens of its question and context, and EOS.

    Of the vocabulary's 850 tokens some 6 are left, so that a network without copying can explore.
    """

    def action_masks(self) -> NDArray[np.bool_]:
        """Which tokens may be chosen, shape ``(vocabulary,)``."""
        env = self.unwrapped
        assert isinstance(env, QAEnv)
        allowed = np.zeros(len(env.task.vocabulary), dtype=np.bool_)
        allowed[env.task.sources[env.index]] = True
        allowed[EOS] = True
        return allowed & env.action_masks()


class EmbeddedTokens(BaseFeaturesExtractor):
    """Embeds the ids of source and answer; as plain numbers they would tell a network nothing."""

    def __init__(self, observation_space: spaces.Dict, vocabulary: int, width: int = 16) -> None:
        places = spaces.flatdim(observation_space)
        super().__init__(observation_space, places * width)
        self.embedding = nn.Embedding(vocabulary, width, padding_idx=PAD)

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        """Vectors of shape ``(batch, (max_source + max_answer) * width)``."""
        ids = torch.cat((observations["source"], observations["answer"]), dim=1).long()
        embedded: Tensor = self.embedding(ids)
        return embedded.flatten(1)


def mean_reward(model: MaskablePPO, env: VecEnv) -> float:
    """The mean reward of 100 greedy answers."""
    return float(np.mean(evaluate_policy(model, env, n_eval_episodes=100)[0]))


def main(
    data: Path = ECHO, timesteps: int = 30_000, seed: int = 0, max_source: int = 8, max_answer: int = 6
) -> tuple[float, float]:
    """Train, and return the mean reward of greedy answers before and after."""
    task = {"data": data, "encoder": None, "max_source": max_source, "max_answer": max_answer}
    env = make_vec_env(QAEnv, 16, seed, wrapper_class=OnlySourceTokens, env_kwargs=task)
    policy = {
        "features_extractor_class": EmbeddedTokens,
        "features_extractor_kwargs": {"vocabulary": int(env.action_space.n)},  # type: ignore[attr-defined]
    }
    model = MaskablePPO(
        "MultiInputPolicy",
        env,
        learning_rate=2e-3,
        n_steps=64,
        batch_size=256,
        n_epochs=4,
        gamma=1.0,  # below 1 the length of an answer would silently become reward
        ent_coef=0.01,
        policy_kwargs=policy,
        seed=seed,
        device="cpu",
    )
    before = mean_reward(model, env)
    model.learn(timesteps)
    after = mean_reward(model, env)
    env.close()
    print(f"mean reward: {before:.3f} before, {after:.3f} after {timesteps:,} steps")
    return before, after


if __name__ == "__main__":
    tyro.cli(main)
