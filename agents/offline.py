"""The shape of all learning from a fixed collection of answers: an SB3 algorithm without an environment."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, ProgressBarCallback
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback
from stable_baselines3.common.utils import LinearSchedule, configure_logger
from torch import Tensor, nn

from agents.augmentation import Augmentation
from policies.actor_critic import LMActorCriticPolicy
from policies.language_model import LSTMAttentionLM
from qa_env.errors import QAError

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class OfflineConfig:
    """What all learning from a fixed collection has."""

    epochs: int = 8
    """Passes over the collection, if `learn` is not told how many tokens to learn from."""
    batch_size: int = 32
    """Questions a gradient step."""
    learning_rate: float = 1e-3
    """At the start; it falls linearly to zero."""

    def __post_init__(self) -> None:
        """Raise a QAError if a field is out of its range."""
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise QAError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise QAError(f"learning_rate must be greater than 0, got {self.learning_rate}")


class Collection(Protocol):
    """Answers to learn from, as ids: see `agents.preference_data`."""

    @property
    def source(self) -> NDArray[np.int64]:
        """Source ids of the questions, ``(rows, source)``."""
        ...

    @property
    def longest(self) -> int:
        """The most tokens that an answer may have, EOS included."""
        ...


@dataclass(frozen=True)
class Step:
    """What one minibatch says.

    Attributes:
        loss: To be made small, shape ``()``.
        tokens: How many tokens were learned from.
        metrics: What is logged, by name; the mean over a pass.
    """

    loss: Tensor
    tokens: int
    metrics: dict[str, float]


class OfflineAlgorithm(BaseAlgorithm):
    """Gradient steps on a fixed collection of answers.

    A rollout is a pass over the collection, a timestep is a token that was learned from; ``learn()`` without
    a number makes the passes of the config. Nothing is asked of an environment. A saved model holds the
    weights, the optimizer and its chance, but not the collection: set `data` to go on learning.

    Args:
        policy: `LMActorCriticPolicy`; its critic is not used.
        env: Gives the spaces; it may be left out if there is `data` and ``policy_kwargs["lm"]``.
        data: What is learned from.
        config: Settings.
        augmentation: Changes questions and answers anew in each minibatch; None leaves them as they are.
        max_grad_norm: Where the gradient is clipped.
        seed: Of the order of the minibatches and of the augmentation.
        **kwargs: Those of SB3's `BaseAlgorithm`.

    Raises:
        QAError: If nothing tells the spaces.
    """

    policy: LMActorCriticPolicy

    def __init__(
        self,
        policy: type[LMActorCriticPolicy],
        env: GymEnv | None,
        data: Collection | None,
        config: OfflineConfig,
        augmentation: Augmentation | None = None,
        max_grad_norm: float = 1.0,
        seed: int | None = None,
        _init_setup_model: bool = True,
        **kwargs: Any,
    ) -> None:
        rate = LinearSchedule(config.learning_rate, 0.0, 1.0)
        super().__init__(policy, env, rate, seed=seed, support_multi_env=True, **kwargs)
        self.data, self.config = data, config
        self.augmentation, self.max_grad_norm = augmentation, max_grad_norm
        self._rng = np.random.default_rng(seed)
        if env is None and _init_setup_model:
            self.observation_space, self.action_space = self._spaces()
            self.n_envs = 1
        if _init_setup_model:
            self._setup_model()

    @abstractmethod
    def steps(self) -> Iterator[Step]:
        """The minibatches of one pass; each loss is computed when it is its turn."""

    @abstractmethod
    def pass_tokens(self) -> int:
        """How many tokens a pass learns from."""

    def learn(
        self,
        total_timesteps: int | None = None,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str = "offline",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """Learn from so many tokens of the collection; if left out, in the passes of the config.

        Raises:
            QAError: If there is nothing to learn from.
        """
        if self.data is None:
            raise QAError(f"{type(self).__name__} has no data to learn from: set its attribute 'data'")
        a_pass = self.pass_tokens()
        wanted = self.config.epochs * a_pass if total_timesteps is None else total_timesteps
        total_timesteps, callback = self._setup_learn(
            wanted, callback, reset_num_timesteps, tb_log_name, progress_bar
        )
        callback.on_training_start(locals(), globals())
        passes = 0
        while self.num_timesteps < total_timesteps and self._pass(callback):
            passes += 1
            if passes % log_interval == 0:
                self.logger.record("time/total_timesteps", self.num_timesteps, exclude="tensorboard")
                self.logger.dump(self.num_timesteps)
        callback.on_training_end()
        return self

    def _pass(self, callback: BaseCallback) -> bool:
        """One pass over the collection; false if the callback wants no more."""
        callback.on_rollout_start()
        self.policy.set_training_mode(True)
        for step in self.steps():
            self._update_current_progress_remaining(self.num_timesteps, self._total_timesteps)
            self._update_learning_rate(self.policy.optimizer)
            self.policy.optimizer.zero_grad()
            step.loss.backward()
            nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
            self.policy.optimizer.step()
            self._n_updates += 1
            self.num_timesteps += step.tokens
            for name, value in step.metrics.items():
                self.logger.record_mean(name, value)
            # SB3's callbacks read what a step of an environment told; here no answer was written.
            callback.update_locals({"tokens": step.tokens, "infos": [], "dones": []})
            if not callback.on_step():
                return False
            if self.num_timesteps >= self._total_timesteps:
                break
        callback.on_rollout_end()
        return True

    def _setup_learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        reset_num_timesteps: bool = True,
        tb_log_name: str = "run",
        progress_bar: bool = False,
    ) -> tuple[int, BaseCallback]:
        """As SB3 does, but no environment is reset."""
        self.start_time = time.time_ns()
        self.ep_info_buffer, self.ep_success_buffer = deque(), deque()
        self.num_timesteps = 0 if reset_num_timesteps else self.num_timesteps
        self._num_timesteps_at_start = self.num_timesteps
        self._total_timesteps = self.num_timesteps + total_timesteps
        if not self._custom_logger:
            self._logger = configure_logger(
                self.verbose, self.tensorboard_log, tb_log_name, reset_num_timesteps
            )
        if progress_bar:
            callback = CallbackList([self._init_callback(callback), TokenBar()])
        return self._total_timesteps, self._init_callback(callback)

    def _setup_model(self) -> None:
        self._setup_lr_schedule()
        self.set_random_seed(self.seed)
        policy = self.policy_class(
            self.observation_space, self.action_space, self.lr_schedule, **self.policy_kwargs
        )
        assert isinstance(policy, LMActorCriticPolicy)
        self.policy = policy.to(self.device)

    def _spaces(self) -> tuple[spaces.Dict, spaces.Discrete]:
        """Those of a `QAEnv` without an encoder that the collection could come from."""
        lm = self.policy_kwargs.get("lm")
        if self.data is None or not isinstance(lm, LSTMAttentionLM):
            raise QAError(
                f"{type(self).__name__} needs an environment, or else data and a language model in "
                "policy_kwargs['lm'], to know its vocabulary and how long sources and answers are"
            )
        top = lm.vocabulary - 1
        parts: dict[str, spaces.Space[Any]] = {
            "source": spaces.Box(0, top, (self.data.source.shape[1],), np.int64),
            "answer": spaces.Box(0, top, (self.data.longest,), np.int64),
        }
        return spaces.Dict(parts), spaces.Discrete(lm.vocabulary)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "data"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "policy.optimizer"], []


class TokenBar(ProgressBarCallback):
    """SB3's progress bar, in tokens learned from."""

    def _on_step(self) -> bool:
        self.pbar.update(self.locals["tokens"])
        return True
