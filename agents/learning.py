"""The last stage of a run: the algorithm, what watches it, and how it is taken up again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rich.console import Console
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecMonitor

from agents.algorithms import language_model
from agents.buffers import AnswerRolloutBuffer
from agents.callbacks import Checkpoints, FeedbackLog, RatingBudget, Validation
from agents.checkpoints import (
    Checkpoint,
    random_state,
    read_checkpoint,
    read_reward_model,
    set_random_state,
    write_checkpoint,
)
from agents.config import TrainConfig
from agents.critic import warm_up_critic, warm_up_q
from agents.human_feedback import HumanFeedback
from agents.offline import OfflineAlgorithm
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
        people: Asks people between rollouts, or None.
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
        people: HumanFeedback | None,
        imitation: SelfImitation | None,
        labelled: Sequence[QAExample],
        score: Callable[[], dict[str, float]],
        watch: Stopwatch,
        console: Console,
    ) -> None:
        self.config, self.run, self.model = config, run, model
        self.people, self.imitation = people, imitation
        self.watch, self.console, self.labelled = watch, console, labelled
        self.log = FeedbackLog()
        self.consolidated = 0  # tokens written when the good answers were last gone over
        self.validation = Validation(
            score,
            config.rl,
            save_best=lambda: run.save_weights(language_model(model), "model.safetensors"),
            load_best=lambda: run.load_language_model(language_model(model), "model.safetensors"),
            save_checkpoint=self.save_checkpoint,
        )
        # Labels correct the rewards of a rollout before imitation chooses among its answers.
        learning = [callback for callback in (people, imitation) if callback is not None]
        budget = RatingBudget(self.rated, config.rl.max_rated)
        self.checkpoints = Checkpoints(self.save_checkpoint, config.rl.eval_every)
        self.callbacks: list[BaseCallback] = [
            self.checkpoints,
            self.log,
            *learning,
            self.validation,
            budget,
        ]

    def learn(self) -> int:
        """Learn from where the last checkpoint left off, if there is one; the number of rated answers."""
        for callback in self.callbacks:  # which may be used without a rollout, if RL was over before
            callback.init_callback(self.model)
        if self.run.has("checkpoint/state.json"):
            self._restore()
        else:
            with self.watch.stage("critic"):
                self._warm_up()
        left, limit = self.config.rl.timesteps - self.model.num_timesteps, self.config.rl.max_rated
        if left > 0 and (not limit or self.rated() < limit):
            with self.watch.stage("rl"):
                self.model.learn(
                    left,
                    callback=self.callbacks,
                    reset_num_timesteps=False,
                    progress_bar=self.console.is_terminal,
                )
        if self.imitation is not None and self.model.num_timesteps > self.consolidated:
            with self.watch.stage("imitation"):
                self._consolidate(self.imitation)
        if not self.run.has("model.safetensors"):  # no token was left for RL
            self.run.save_weights(language_model(self.model), "model.safetensors")
        return self.rated()

    def rated(self) -> int:
        """How many answers feedback was asked about."""
        graded: int = self._of_env("task").graded
        return graded

    def _of_env(self, name: str) -> Any:
        assert self.model.env is not None
        return self.model.env.get_attr(name, indices=0)[0]

    def save_checkpoint(self) -> None:
        """Write all that is needed to go on."""
        state = {
            "timesteps": self.model.num_timesteps,
            "episodes": self.rated(),
            "consolidated": self.consolidated,
            "seconds": self.watch.seconds,
            "rollouts": self.checkpoints.rollouts,
            "finished": self.log.episodes,
            "validation": self.validation.state(),
            "algorithm": algorithm_state(self.model),
            "env": self._of_env("state")(),
            "random": random_state(),
        }
        checkpoint = Checkpoint(state)
        if self.imitation is not None:
            state["imitation"] = self.imitation.state()
            checkpoint.tensors["imitation"] = state["imitation"].pop("optimizer")
        if self.people is not None:
            state["people"], checkpoint.models = self.people.state(), self.people.models()
            good = self.people.guards.good
            checkpoint.tensors["good_policy"] = None if good is None else good.policy
        write_checkpoint(self.run, self.model, checkpoint)

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
        """The last passes, if there is a good answer; they count if validation says so.

        Labels that foretell no other labels are not learnt by heart.
        """
        if imitation.best and (self.people is None or self.people.trusted):
            imitation.consolidate()
            self.consolidated = self.model.num_timesteps
            self.validation.validate()

    def _restore(self) -> None:
        """Put everything where the last checkpoint was."""
        saved = read_checkpoint(self.run, self.model)
        state = saved.state
        self.model.num_timesteps = state["timesteps"]
        self.consolidated, self.watch.seconds = state["consolidated"], state["seconds"]
        self.checkpoints.rollouts, self.log.episodes = state["rollouts"], state["finished"]
        self.validation.load_state(state["validation"])
        load_algorithm_state(self.model, state["algorithm"])
        self.model._last_obs = self._of_env("load_state")(state["env"])
        begun = state["env"]["lengths"]
        self.model._last_episode_starts = begun == 0
        if isinstance(self.model.env, VecMonitor):
            self.model.env.episode_lengths[:] = begun
        if self.imitation is not None and "imitation" in state:
            self.imitation.load_state({**state["imitation"], "optimizer": saved.tensors["imitation"]})
        if self.people is not None and "people" in state:
            self._restore_people(self.people, state["people"], saved.tensors["good_policy"])
        set_random_state(state["random"])  # last: making networks draws numbers
        told = f"resuming at {self.model.num_timesteps} of {self.config.rl.timesteps} tokens"
        self.console.print(told, markup=False, soft_wrap=True)

    def _restore_people(
        self, people: HumanFeedback, state: Mapping[str, Any], good_policy: Mapping[str, Any] | None
    ) -> None:
        lm, task = language_model(self.model), self._of_env("task")
        models = {
            version: read_reward_model(self.run, version, lm, task.vocabulary, self.config.limits)
            for version in state["models"].values()
            if version is not None
        }
        people.load_state(state, models, good_policy)


def learn_offline(
    config: TrainConfig,
    run: Run,
    model: OfflineAlgorithm,
    score: Callable[[], dict[str, float]],
    watch: Stopwatch,
    console: Console,
) -> None:
    """Learn from a fixed collection; validation behind each pass keeps the best weights.

    There is no checkpoint on the way: a run that was stopped makes its passes anew, which gives the same.

    Args:
        config: The settings.
        run: Gets the best weights, in ``model.safetensors``.
        model: The algorithm; its policy is the warm start's.
        score: Measures the policy on validation questions.
        watch: Takes the time.
        console: Where progress is told.
    """
    validation = Validation(
        score,
        replace(config.rl, eval_every=1),
        save_best=lambda: run.save_weights(language_model(model), "model.safetensors"),
        load_best=lambda: run.load_language_model(language_model(model), "model.safetensors"),
        save_checkpoint=lambda: None,
    )
    with watch.stage("labels"):
        model.learn(callback=validation, progress_bar=console.is_terminal)


def algorithm_state(model: BaseAlgorithm) -> dict[str, Any]:
    """What changes in an algorithm beside policy and optimizer: numbers and arrays."""
    state: dict[str, Any] = {"progress": model._current_progress_remaining, "updates": model._n_updates}
    buffer = getattr(model, "rollout_buffer", None)
    if isinstance(buffer, AnswerRolloutBuffer):
        state |= {"kl_coef": buffer.kl_coef, "kl": buffer.kl}
    if isinstance(model, AnswerDQN | AnswerQRDQN):
        state |= {"calls": model._n_calls, "exploration": model.exploration_rate}
        state["replay"] = model.replay_buffer.state()
    return state


def load_algorithm_state(model: BaseAlgorithm, state: Mapping[str, Any]) -> None:
    """Go on from what `algorithm_state` gave."""
    model._current_progress_remaining, model._n_updates = state["progress"], state["updates"]
    buffer = getattr(model, "rollout_buffer", None)
    if isinstance(buffer, AnswerRolloutBuffer):
        buffer.kl_coef, buffer.kl = state["kl_coef"], state["kl"]
    if isinstance(model, AnswerDQN | AnswerQRDQN):
        model._n_calls, model.exploration_rate = state["calls"], state["exploration"]
        model.policy.exploration_rate = state["exploration"]
        model.replay_buffer.load_state(state["replay"])
