"""PPO in one file in the manner of CleanRL (Huang et al. 2022): pure torch, no Stable-Baselines3.

``python examples/cleanrl_ppo.py --timesteps 20000``
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import torch
import tyro
from torch import Tensor, nn
from torch.distributions import Categorical

from policies.language_model import LMConfig, LSTMAttentionLM
from qa_env.vector_env import Observation, QAVectorEnv
from qa_env.vocabulary import PAD

ECHO = Path(__file__).with_name("echo.jsonl")


@dataclass
class Args:
    """Settings; the names are CleanRL's."""

    data: Path = ECHO
    timesteps: int = 20_000
    seed: int = 0
    num_envs: int = 32
    num_steps: int = 32
    learning_rate: float = 2e-3
    update_epochs: int = 4
    num_minibatches: int = 4
    gae_lambda: float = 0.95
    clip_coef: float = 0.2
    ent_coef: float = 0.01
    vf_coef: float = 0.5
    max_grad_norm: float = 0.5
    max_source: int = 8
    max_answer: int = 6


class Agent(nn.Module):
    """The language model as the actor, and a critic on its features.

    Args:
        mask: Which tokens may stand in an answer, ``(vocabulary,)``.
    """

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.lm = LSTMAttentionLM(LMConfig(embedding=32, encoder_hidden=16, hidden=32), len(mask))
        self.critic = nn.Linear(32, 1)
        self.mask = mask

    def forward(self, obs: dict[str, Tensor]) -> tuple[Categorical, Tensor]:
        """The next token's distribution and the value of each row, ``(rows,)``."""
        length = (obs["answer"] != PAD).sum(1)
        answer = nn.functional.pad(obs["answer"], (0, 1), value=PAD)
        decoded = self.lm.unroll(answer, self.lm.encode(obs["source"]))
        decoded = decoded.at(torch.arange(len(length)), length)
        # A large number instead of infinity: 0 times infinity would make the entropy NaN.
        logits = self.lm.log_probabilities(decoded).masked_fill(~self.mask, -1e8)
        return Categorical(logits=logits), self.critic(decoded.features).squeeze(1)


def tensors(observation: Observation) -> dict[str, Tensor]:
    """An observation of NumPy arrays as tensors of the same shapes."""
    return {key: torch.as_tensor(value) for key, value in observation.items()}


def advantages(rewards: Tensor, values: Tensor, dones: Tensor, last: Tensor, gae_lambda: float) -> Tensor:
    """Generalised advantage estimates (Schulman et al. 2016) with a discount of 1, ``(steps, lanes)``.

    Autoreset is SAME_STEP: ``dones[t]`` says that step t ended an answer, and the next observation is the
    next question's. So nothing is bootstrapped behind it, and no step is lost to a reset. An answer is never
    truncated; where one could be, ``info["final_obs"]`` would hold the state to bootstrap from.

    Args:
        rewards: Of step t, ``(steps, lanes)``.
        values: Of the observation before step t, ``(steps, lanes)``.
        dones: 1 where step t ended an answer, ``(steps, lanes)``.
        last: Values of the observation behind the last step, ``(lanes,)``.
        gae_lambda: The weight of longer returns.
    """
    result = torch.zeros_like(rewards)
    running = torch.zeros_like(last)
    for t in reversed(range(len(rewards))):
        following = values[t + 1] if t + 1 < len(values) else last
        delta = rewards[t] + following * (1 - dones[t]) - values[t]
        running = delta + gae_lambda * (1 - dones[t]) * running
        result[t] = running
    return result


class Rollout(NamedTuple):
    """What one rollout gathered, a row a token, ``(steps * lanes,)`` and ``(steps * lanes, places)``."""

    obs: dict[str, Tensor]
    actions: Tensor
    log_probs: Tensor
    advantages: Tensor
    returns: Tensor
    mean_reward: float


def rollout(
    agent: Agent, envs: gym.vector.VectorEnv[Any, Any, Any], obs: dict[str, Tensor], args: Args
) -> tuple[Rollout, dict[str, Tensor]]:
    """Take `num_steps` steps in every lane; what they gave, and the observation behind them."""
    steps = []
    with torch.no_grad():
        for _ in range(args.num_steps):
            distribution, value = agent(obs)
            action = distribution.sample()
            following, reward, terminated, _, _ = envs.step(action.numpy())
            outcome = torch.as_tensor(reward).float(), torch.as_tensor(terminated).float()
            steps.append((obs, action, distribution.log_prob(action), value, *outcome))
            obs = tensors(following)
        last = agent(obs)[1]
    observations, actions, log_probs, values, rewards, dones = zip(*steps, strict=True)
    reward, done, value = torch.stack(rewards), torch.stack(dones), torch.stack(values)
    advantage = advantages(reward, value, done, last, args.gae_lambda)
    return Rollout(
        {key: torch.cat([o[key] for o in observations]) for key in obs},
        torch.cat(actions),
        torch.cat(log_probs),
        advantage.flatten(),
        (advantage + value).flatten(),
        float(reward.sum() / done.sum().clamp(min=1)),
    ), obs


def update(agent: Agent, optimizer: torch.optim.Optimizer, batch: Rollout, rows: Tensor, args: Args) -> None:
    """One gradient step of PPO (Schulman et al. 2017, equations 7 and 9) on some rows."""
    distribution, value = agent({key: part[rows] for key, part in batch.obs.items()})
    ratio = (distribution.log_prob(batch.actions[rows]) - batch.log_probs[rows]).exp()
    advantage = batch.advantages[rows]
    advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    clipped = ratio.clamp(1 - args.clip_coef, 1 + args.clip_coef)
    policy_loss = -torch.min(advantage * ratio, advantage * clipped).mean()
    value_loss = 0.5 * (value - batch.returns[rows]).square().mean()
    loss = policy_loss + args.vf_coef * value_loss - args.ent_coef * distribution.entropy().mean()
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(agent.parameters(), args.max_grad_norm)
    optimizer.step()


def main(args: Args) -> list[float]:
    """Train, and return the mean reward of the answers of each rollout."""
    torch.manual_seed(args.seed)
    task: dict[str, Any] = {"data": args.data, "max_source": args.max_source, "max_answer": args.max_answer}
    envs = gym.make_vec("qa_env/QA-v0", args.num_envs, encoder=None, **task)
    assert isinstance(envs, QAVectorEnv)
    agent = Agent(torch.as_tensor(envs.action_masks()[0]))
    optimizer = torch.optim.Adam(agent.parameters(), lr=args.learning_rate, eps=1e-5)
    rows = args.num_steps * args.num_envs
    rewards = []
    obs = tensors(envs.reset(seed=args.seed)[0])
    for iteration in range(1, max(args.timesteps // rows, 1) + 1):
        batch, obs = rollout(agent, envs, obs, args)
        for _ in range(args.update_epochs):
            for minibatch in torch.randperm(rows).chunk(args.num_minibatches):
                update(agent, optimizer, batch, minibatch, args)
        rewards.append(batch.mean_reward)
        print(f"step {iteration * rows:,}: mean reward {batch.mean_reward:.3f}")
    envs.close()
    return rewards


if __name__ == "__main__":
    main(tyro.cli(Args))
