"""The RL stage of a run: the algorithm, what watches it, and how it is taken up again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import NDArray
from rich.console import Console
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from agents.algorithms import language_model
from agents.buffers import AnswerRolloutBuffer
from agents.callbacks import FeedbackLog, RatingBudget, Validation
from agents.config import TrainConfig
from agents.critic import warm_up_critic, warm_up_q
from agents.q_learning import AnswerDQN, AnswerQRDQN, demonstrate
from agents.runs import Run, Stopwatch
from agents.self_imitation import SelfImitation
from agents.trpo import AnswerTRPO
from qa_env.datasets import QAExample


class Learner:
    """Critic warm-up, rollouts and updates, last passes over the good answers; with checkpoints.

    Args:
        config: The settings.
        run: Holds the checkpoint, and the best weights in ``model.safetensors``.
        model: The algorithm; its policy is the warm start's.
        imitation: Learns well-rated answers again, or None.
        labelled: The labelled questions, with which Q-learning begins.
        score: Measures the policy on validation questions.
        watch: Takes the time of the stages.
        console: Where progress is told.
    """

    def __init__(
        self,
        config: TrainConfig,
        run: Run,
        model: BaseAlgorithm,
        imitation: SelfImitation | None,
        labelled: Sequence[QAExample],
        score: Callable[[], dict[str, float]],
        watch: Stopwatch,
        console: Console,
    ) -> None:
        self.config, self.run, self.model, self.imitation = config, run, model, imitation
        self.watch, self.console, self.labelled = watch, console, labelled
        self.log = FeedbackLog()
        self.rated_before = 0  # answers, when the run was interrupted
        self.consolidated = 0  # tokens written when the good answers were last gone over
        self.validation = Validation(
            score,
            config.rl,
            save_best=lambda: run.save_weights(language_model(model), "model.safetensors"),
            load_best=lambda: run.load_language_model(language_model(model), "model.safetensors"),
            save_checkpoint=self.save_checkpoint,
        )
        learning = [] if imitation is None else [imitation]
        budget = RatingBudget(self.rated, config.rl.max_rated)
        self.callbacks: list[BaseCallback] = [self.log, *learning, self.validation, budget]

    def learn(self) -> int:
        """Learn from where the last checkpoint left off, if there is one; the number of rated answers."""
        if self.run.has("checkpoint/state.json"):
            self._restore()
        else:
            with self.watch.stage("critic"):
                self._warm_up()
        for callback in self.callbacks:  # which may be used without a rollout, if RL was over before
            callback.init_callback(self.model)
        left = self.config.rl.timesteps - self.model.num_timesteps
        if left > 0:
            with self.watch.stage("rl"):
                self._learn_interruptibly(left)
        if self.imitation is not None and self.model.num_timesteps > self.consolidated:
            with self.watch.stage("imitation"):
                self._consolidate(self.imitation)
        if not self.run.has("model.safetensors"):  # no token was left for RL
            self.run.save_weights(language_model(self.model), "model.safetensors")
        return self.rated()

    def rated(self) -> int:
        """How many answers feedback was asked about, those of the run so far included."""
        assert self.model.env is not None
        graded: int = self.model.env.get_attr("task", indices=0)[0].graded
        return self.rated_before + graded

    def save_checkpoint(self) -> None:
        """Write all that is needed to go on."""
        state = {
            "best": float(self.validation.best),
            "episodes": self.rated(),
            "kl_coef": kl_coef(self.model),
            "consolidated": self.consolidated,
            "seconds": self.watch.seconds,
        }
        self.run.save_checkpoint(self.model, state, self._experience())

    def _experience(self) -> dict[str, NDArray[Any]]:
        """The answers that are learned from again."""
        if isinstance(self.model, AnswerDQN | AnswerQRDQN):
            return self.model.replay_buffer.state()
        return self.imitation.state() if self.imitation else {}

    def _warm_up(self) -> None:
        """Fit the value head, if there is one that is used; Q-learning first hears of the demonstrations."""
        model, rollouts = self.model, self.config.warm_start.critic_rollouts
        if isinstance(model, AnswerDQN | AnswerQRDQN):
            if self.config.rl.q.demonstrations:
                demonstrate(model, self.labelled)
            warm_up_q(model, rollouts, self.log)
        elif isinstance(model, PPO | A2C | AnswerTRPO) and rollouts:
            warm_up_critic(model, rollouts, self.log)

    def _consolidate(self, imitation: SelfImitation) -> None:
        """The last passes, if there is a good answer; they count if validation says so."""
        if imitation.best:
            imitation.consolidate()
            self.consolidated = self.model.num_timesteps
            self.validation.validate()

    def _restore(self) -> None:
        """Put everything where the last checkpoint was."""
        state, arrays = self.run.load_checkpoint(self.model)
        self.validation.best = state["best"]
        self.rated_before = self.log.episodes = state["episodes"]
        self.watch.seconds, self.consolidated = state["seconds"], state["consolidated"]
        set_kl_coef(self.model, state["kl_coef"])
        if isinstance(self.model, AnswerDQN | AnswerQRDQN):
            self.model.replay_buffer.load_state(arrays)
        elif self.imitation is not None and arrays:
            self.imitation.load_state(arrays)
        told = f"resuming at {self.model.num_timesteps} of {self.config.rl.timesteps} tokens"
        self.console.print(told, markup=False, soft_wrap=True)

    def _learn_interruptibly(self, timesteps: int) -> None:
        """Ctrl-C saves a checkpoint before it goes on up."""
        try:
            self.model.learn(
                timesteps,
                callback=self.callbacks,
                reset_num_timesteps=False,
                progress_bar=self.console.is_terminal,
            )
        except KeyboardInterrupt:
            self.save_checkpoint()
            raise


def kl_coef(model: BaseAlgorithm) -> float:
    """The weight of the KL penalty, 0 without one."""
    buffer = getattr(model, "rollout_buffer", None)
    return buffer.kl_coef if isinstance(buffer, AnswerRolloutBuffer) else 0.0


def set_kl_coef(model: BaseAlgorithm, value: float) -> None:
    """Set the weight of the KL penalty, if there is one."""
    buffer = getattr(model, "rollout_buffer", None)
    if isinstance(buffer, AnswerRolloutBuffer):
        buffer.kl_coef = value
