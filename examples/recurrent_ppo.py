"""RecurrentPPO of sb3-contrib: its LSTM remembers the answer so far and is shown the last token only.

``python examples/recurrent_ppo.py --timesteps 20000``

`encoder=None`, because RecurrentPPO stores the observation of every step and feeds all of it to its LSTM: the
encoder's outputs are 256 numbers a source token, the same at each step of an answer; the embedding learned
here has 16. The token-level MDP needs no recurrence (an observation holds the whole answer so far), and one
LSTM state cannot hold what attention reads: for real questions `LMActorCriticPolicy` is the better policy.
Here the answers come from a short list of words.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
import tyro
from gymnasium import spaces
from gymnasium.wrappers import TransformAction
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn

from qa_env.env import QAEnv
from qa_env.vocabulary import EOS, PAD

ECHO = Path(__file__).with_name("echo.jsonl")


class SourceAndLastToken(BaseFeaturesExtractor):
    """Embeds the source and the token written last."""

    def __init__(self, observation_space: spaces.Dict, vocabulary: int, width: int = 16) -> None:
        places = observation_space["source"].shape[0] + 1  # type: ignore[index]
        super().__init__(observation_space, places * width)
        self.embedding = nn.Embedding(vocabulary, width, padding_idx=PAD)

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        """Vectors of shape ``(batch, (max_source + 1) * width)``."""
        answer = observations["answer"].long()
        last = ((answer != PAD).sum(1, keepdim=True) - 1).clamp(min=0)
        ids = torch.cat((observations["source"].long(), answer.gather(1, last)), dim=1)
        embedded: Tensor = self.embedding(ids)
        return embedded.flatten(1)


def answer_tokens(env: QAEnv) -> list[int]:
    """The tokens of all reference answers, and EOS."""
    answers = [answer for example in env.task.examples for answer in example.answers]
    return sorted({EOS}.union(*env.task.vocabulary.encode_batch(answers)))


def new_env(data: Path, max_source: int, max_answer: int) -> gymnasium.Env[Any, Any]:
    """A `QAEnv` whose actions are the tokens of all reference answers: few enough to try them all."""
    env = QAEnv(data=data, encoder=None, max_source=max_source, max_answer=max_answer)
    tokens = np.array(answer_tokens(env))
    return TransformAction(env, lambda action: tokens[action], spaces.Discrete(len(tokens)))


def mean_reward(model: RecurrentPPO, env: VecEnv) -> float:
    """The mean reward of 100 greedy answers."""
    return float(np.mean(evaluate_policy(model, env, n_eval_episodes=100)[0]))


def main(
    data: Path = ECHO, timesteps: int = 20_000, seed: int = 0, max_source: int = 8, max_answer: int = 6
) -> tuple[float, float]:
    """Train, and return the mean reward of greedy answers before and after."""
    task = {"data": data, "max_source": max_source, "max_answer": max_answer}
    env = make_vec_env(new_env, 16, seed, env_kwargs=task)
    vocabulary = int(env.observation_space["source"].high[0]) + 1  # type: ignore[index]
    model = RecurrentPPO(
        "MultiInputLstmPolicy",
        env,
        learning_rate=2e-3,
        n_steps=64,
        batch_size=256,
        n_epochs=4,
        gamma=1.0,  # below 1 the length of an answer would silently become reward
        ent_coef=0.01,
        policy_kwargs={
            "features_extractor_class": SourceAndLastToken,
            "features_extractor_kwargs": {"vocabulary": vocabulary},
            "lstm_hidden_size": 64,
        },
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
