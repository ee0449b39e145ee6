"""REINFORCE on whole answers, with a choice of baselines that need no critic."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import GymEnv, RolloutBufferSamples, Schedule
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn

from agents.buffers import AnswerRolloutBuffer
from agents.decoding import greedy
from policies.actor_critic import LMActorCriticPolicy
from qa_env.errors import QAError

BASELINES = ("greedy", "leave_one_out", "group_normalised")


class REINFORCE(OnPolicyAlgorithm):
    """Policy gradient with whole answers as the actions (Williams 1992).

    The gradient of the expected reward is that of ``sum_t (R - b) log pi(token_t)``, averaged over answers,
    for any baseline ``b`` that the answer has no part in:

    - ``"greedy"``: the reward of the policy's own greedy answer to the question (self-critical sequence
      training, Rennie et al. 2017). Each question's greedy answer is rated too.
    - ``"leave_one_out"``: the mean reward of the other answers to the question (RLOO, Kool et al. 2019,
      Ahmadian et al. 2024).
    - ``"group_normalised"``: the mean reward of all answers to the question, the difference divided by their
      standard deviation (GRPO, Shao et al. 2024). Biased, but equally large for easy and hard questions.

    The last two need an environment with ``samples_per_question`` of 2 or more. Answers that are unfinished
    when a rollout ends, and those to which there is nothing to compare, are left out of the update.

    Args:
        policy: `LMActorCriticPolicy`; its critic is not used.
        env: A `QAVecEnv`, wrapped or not.
        learning_rate: Of the policy's optimizer.
        n_steps: Tokens that a lane writes between two updates.
        batch_size: Tokens a gradient step, in whole answers.
        baseline: One of the three above.
        ent_coef: Weight of the entropy in the loss.
        max_grad_norm: Where the gradient is clipped.
        kl_coef: Charge for each nat a token that the policy moves from the reference, see
            `AnswerRolloutBuffer`.
        **kwargs: Those of SB3's `OnPolicyAlgorithm`.

    Raises:
        QAError: If there is no such baseline.
    """

    rollout_buffer: AnswerRolloutBuffer
    policy: LMActorCriticPolicy

    def __init__(
        self,
        policy: type[LMActorCriticPolicy],
        env: GymEnv,
        learning_rate: float | Schedule = 1e-4,
        n_steps: int = 32,
        batch_size: int = 768,
        baseline: str = "leave_one_out",
        ent_coef: float = 0.0,
        max_grad_norm: float = 0.5,
        kl_coef: float = 0.0,
        **kwargs: Any,
    ) -> None:
        if baseline not in BASELINES:
            raise QAError(f"baseline must be one of {', '.join(BASELINES)}; got '{baseline}'")
        self.baseline, self.batch_size = baseline, batch_size
        buffer = {"kl_coef": kl_coef, "baseline": baseline}
        super().__init__(
            policy,
            env,
            learning_rate,
            n_steps,
            gamma=1.0,
            gae_lambda=1.0,
            ent_coef=ent_coef,
            vf_coef=0.0,
            max_grad_norm=max_grad_norm,
            use_sde=False,
            sde_sample_freq=-1,
            rollout_buffer_class=AnswerRolloutBuffer,
            rollout_buffer_kwargs=buffer,
            **kwargs,
        )

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: RolloutBuffer, n_rollout_steps: int
    ) -> bool:
        """As SB3 does; with the greedy baseline, its answers are written and rated behind."""
        going_on = super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps)
        if going_on and self.baseline == "greedy":
            self.rollout_buffer.compare_with(self._greedy_rewards(self.rollout_buffer.sources()))
        return going_on

    def _greedy_rewards(self, source: NDArray[np.int64]) -> NDArray[np.float64]:
        """The rewards of the greedy answers to sources ``(questions, source)``: ``(questions,)``."""
        assert self.env is not None
        longest = self.observation_space["answer"].shape[0]  # type: ignore[index]
        tokens = greedy(self.policy, source, longest)
        rewards = self.env.get_attr("rate", indices=0)[0](source, tokens)
        self.logger.record("rollout/greedy_reward", float(rewards.mean()))
        return np.asarray(rewards, dtype=np.float64)

    def loss(self, batch: RolloutBufferSamples) -> Tensor:
        """Minus the objective whose gradient is the policy gradient, averaged over the batch's answers."""
        _, log_prob, entropy = self.policy.evaluate_actions(batch.observations, batch.actions.flatten())
        answers = len(batch.observations.tokens)  # type: ignore[attr-defined]
        gain = batch.advantages * log_prob
        if entropy is not None:
            gain = gain + self.ent_coef * entropy
        return -gain.sum() / answers

    def train(self) -> None:
        """One pass over the rollout."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        losses = []
        for batch in self.rollout_buffer.get(self.batch_size):
            loss = self.loss(batch)
            self.policy.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
            self.policy.optimizer.step()
            losses.append(loss.item())
        self._n_updates += 1
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/policy_gradient_loss", float(np.mean(losses)))
        self.logger.record("train/advantage_std", float(np.std(self.rollout_buffer.advantages)))
