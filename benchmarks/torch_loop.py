"""PPO written by hand in plain torch on the same network: the limit of what a library around it can reach.

No Stable-Baselines3, no dictionaries of observations, no callbacks and no logs. The encoder runs once an
answer, the decoder's state is kept between steps, an update unrolls whole answers. All lanes begin and end
together, which saves the bookkeeping of lanes that do not.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from policies.language_model import LSTMAttentionLM
from policies.tokens import Sampling, draw
from qa_env.vector_env import QAVectorEnv
from qa_env.vocabulary import BOS

CLIP, VALUE_WEIGHT, MAX_NORM = 0.2, 0.5, 0.5


class TorchLoop:
    """PPO on answers that all have the environment's full length.

    Args:
        env: Tokens only; every answer must run to the length limit.
        lm: The network.
        answers: Answers of each lane in a rollout.
        batch_size: Tokens a gradient step.
        device: Where the network is.
    """

    def __init__(
        self, env: QAVectorEnv, lm: LSTMAttentionLM, answers: int, batch_size: int, device: str = "cpu"
    ) -> None:
        self.env, self.lm, self.answers, self.device = env, lm.to(device), answers, device
        self.length = env.task.max_answer
        self.answers_a_batch = max(batch_size // self.length, 1)
        self.sampling = Sampling()
        hidden = lm.config.hidden
        self.value = nn.Sequential(nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, 1)).to(device)
        self.parameters = [*lm.parameters(), *self.value.parameters()]
        self.optimizer = torch.optim.Adam(self.parameters, lr=1e-4, eps=1e-5)
        self.observation, _ = env.reset(seed=0)

    def iterate(self) -> int:
        """A rollout and an update; the number of tokens."""
        source, tokens, log_probs, values, rewards = self.rollout()
        returns = rewards.unsqueeze(1).expand_as(tokens)  # undiscounted, and paid at the end
        self.update(source, tokens, log_probs, returns - values, returns)
        return tokens.numel()

    @torch.no_grad()
    def rollout(self) -> tuple[Tensor, ...]:
        """Sources, tokens, log-probabilities, values and rewards, a row an answer."""
        rows: list[list[Tensor]] = []
        for _ in range(self.answers):
            source = torch.as_tensor(self.observation["source"], device=self.device)
            memory = self.lm.encode(source)
            state, token = self.lm.start(memory), torch.full_like(source[:, 0], BOS)
            steps: list[tuple[Tensor, Tensor, Tensor]] = []
            for _ in range(self.length):
                decoded, state = self.lm.step(token, state, memory)
                log_probs = self.sampling.log_probs(self.lm.log_probabilities(decoded)[:, 0])
                token = draw(log_probs)
                value = self.value(decoded.features[:, 0]).squeeze(1)
                steps.append((token, log_probs.gather(1, token.unsqueeze(1)).squeeze(1), value))
                self.observation, reward, done, _, _ = self.env.step(token.cpu().numpy())
            assert done.all(), "every answer must run to the length limit"
            columns = [torch.stack(column, dim=1) for column in zip(*steps, strict=True)]
            rows.append([source, *columns, torch.as_tensor(reward, dtype=torch.float32, device=self.device)])
        return tuple(torch.cat(column) for column in zip(*rows, strict=True))

    def update(
        self, source: Tensor, tokens: Tensor, old: Tensor, advantages: Tensor, returns: Tensor
    ) -> None:
        """One epoch over whole answers in random order."""
        for chosen in torch.as_tensor(np.random.permutation(len(tokens))).split(self.answers_a_batch):
            chosen = chosen.to(self.device)
            decoded = self.lm.unroll(tokens[chosen], self.lm.encode(source[chosen]))
            log_probs = self.sampling.log_probs(self.lm.log_probabilities(decoded).flatten(0, 1))
            taken = log_probs.gather(1, tokens[chosen].reshape(-1, 1)).squeeze(1)
            gain = advantages[chosen].flatten()
            gain = (gain - gain.mean()) / (gain.std() + 1e-8)
            ratio = (taken - old[chosen].flatten()).exp()
            policy_loss = -torch.min(gain * ratio, gain * ratio.clamp(1 - CLIP, 1 + CLIP)).mean()
            values = self.value(decoded.features.detach()).flatten()
            value_loss = nn.functional.mse_loss(values, returns[chosen].flatten())
            loss = policy_loss + VALUE_WEIGHT * value_loss
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.parameters, MAX_NORM)
            self.optimizer.step()
