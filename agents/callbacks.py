"""What watches training: feedback logged by component, validation, backing off, checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule

from agents.buffers import AnswerRolloutBuffer
from agents.config import RLConfig


class FeedbackLog(BaseCallback):
    """Logs each component of the feedback, the reward and the KL to the warm start.

    Attributes:
        episodes: Finished answers so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.episodes = 0

    def _on_step(self) -> bool:
        infos: list[dict[str, Any]] = self.locals["infos"]
        for lane in np.flatnonzero(self.locals["dones"]):
            self.episodes += 1
            for key, value in infos[lane].items():
                if key.startswith("feedback/"):
                    self.logger.record_mean(key, value)
        return True

    def _on_rollout_end(self) -> None:
        buffer = self.locals.get("rollout_buffer")
        self.logger.record("rollout/episodes", self.episodes)
        if isinstance(buffer, AnswerRolloutBuffer):
            answers = max(float(buffer.episode_starts.sum()), 1.0)
            self.logger.record("train/kl_reference", buffer.kl)
            self.logger.record("rollout/entropy", float(-buffer.log_probs.mean()))
            self.logger.record("rollout/reward", float(buffer.raw_rewards.sum()) / answers)
            self.logger.record("train/kl_coef", buffer.kl_coef)


class RatingBudget(BaseCallback):
    """Stops training when the budget of rated answers is spent.

    Args:
        rated: How many answers have been rated so far.
        budget: How many may be; 0 is no limit.
    """

    def __init__(self, rated: Callable[[], int], budget: int) -> None:
        super().__init__()
        self.rated, self.budget = rated, budget

    def _on_step(self) -> bool:
        return not self.budget or self.rated() < self.budget


class Checkpoints(BaseCallback):
    """Writes a checkpoint every few rollouts, before anything else is done: the first among callbacks.

    There is none before the first rollout: the policy may still know decoder states of the critic's warm-up
    then, and a run that goes on repeats that warm-up.

    Args:
        save: Writes it.
        every: Rollouts between two.

    Attributes:
        rollouts: Begun so far.
    """

    def __init__(self, save: Callable[[], None], every: int) -> None:
        super().__init__()
        self.save, self.every, self.rollouts = save, every, 0

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        if self.rollouts and self.rollouts % self.every == 0:
            self.save()
        self.rollouts += 1


class Validation(BaseCallback):
    """Every few rollouts: the greedy answers' score on validation questions; keeps the best weights.

    Backs off when training runs away: if the KL to the warm start exceeds ``max_kl`` or the score falls by
    ``max_drop``, the best weights come back, the learning rate is halved and the KL penalty doubled.

    Args:
        score: Returns the validation metrics; the one called "score" is what counts.
        config: Its ``eval_every``, ``max_kl`` and ``max_drop`` are used.
        save_best: Called when the score is the best so far.
        load_best: Brings the best weights back.
        save_checkpoint: Called after a validation that no rollout follows.

    Attributes:
        best: The best score so far.
        history: The timesteps and metrics of every validation.
        backed_off: How often training was taken back.
    """

    def __init__(
        self,
        score: Callable[[], dict[str, float]],
        config: RLConfig,
        save_best: Callable[[], None],
        load_best: Callable[[], None],
        save_checkpoint: Callable[[], None],
    ) -> None:
        super().__init__()
        self.score, self.config = score, config
        self.save_best, self.load_best, self.save_checkpoint = save_best, load_best, save_checkpoint
        self.best = -np.inf
        self.history: list[dict[str, float]] = []
        self.backed_off = 0
        self._rollouts = 0

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        if self._rollouts % self.config.eval_every == 0:
            self._measure()
        self._rollouts += 1

    def _on_training_end(self) -> None:
        self.validate()

    def validate(self) -> None:
        """Measure; keep or bring back the best weights; write a checkpoint."""
        self._measure()
        self.save_checkpoint()

    def state(self) -> dict[str, Any]:
        """For a checkpoint, fit for JSON."""
        return {
            "best": float(self.best),
            "history": self.history,
            "backed_off": self.backed_off,
            "rollouts": self._rollouts,
            "learning_rate": float(self.model.lr_schedule(self.model._current_progress_remaining)),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave; the callback must know its model."""
        self.best, self.history = state["best"], list(state["history"])
        self.backed_off, self._rollouts = state["backed_off"], state["rollouts"]
        if self.backed_off:
            self.model.lr_schedule = FloatSchedule(ConstantSchedule(state["learning_rate"]))

    def _measure(self) -> None:
        metrics, timesteps = self.score(), self.model.num_timesteps
        self.history.append({"timesteps": float(timesteps), **metrics})
        for name, value in metrics.items():
            self.logger.record(f"eval/{name}", value)
        self.logger.dump(timesteps)
        score = metrics["score"]
        if score > self.best:
            self.best = score
            self.save_best()
        elif score < self.best - self.config.max_drop or self._kl() > self.config.max_kl:
            self._back_off()

    def _kl(self) -> float:
        buffer = getattr(self.model, "rollout_buffer", None)
        return buffer.kl if isinstance(buffer, AnswerRolloutBuffer) else 0.0

    def _back_off(self) -> None:
        self.load_best()
        self.backed_off += 1
        rate = self.model.lr_schedule(self.model._current_progress_remaining) / 2
        self.model.lr_schedule = FloatSchedule(ConstantSchedule(rate))
        buffer = getattr(self.model, "rollout_buffer", None)
        if isinstance(buffer, AnswerRolloutBuffer):
            buffer.kl_coef *= 2
        self.logger.record("train/backed_off", self.backed_off)
