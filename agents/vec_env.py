"""A Gymnasium `VectorEnv` as a Stable-Baselines3 `VecEnv`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from qa_env.errors import QAError


class QAVecEnv(VecEnv):
    """A thin adapter: Stable-Baselines3 takes no Gymnasium `VectorEnv`.

    Both reset a lane in the step that ends it, so nothing is added or lost; infos become one dict a
    lane. Wrap it in `VecMonitor(env, info_keywords=("is_success",))` for episode statistics.

    Args:
        env: A `QAVectorEnv`; or a `SyncVectorEnv` or `AsyncVectorEnv` of `QAEnv`, which know no
            `action_masks` for all lanes together.

    Raises:
        QAError: If the environment's autoreset is not SAME_STEP.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        mode = env.metadata.get("autoreset_mode")
        if mode is not AutoresetMode.SAME_STEP:
            raise QAError(
                f"Stable-Baselines3 needs autoreset in the same step, this environment has {mode}: "
                "make it with autoreset_mode=AutoresetMode.SAME_STEP"
            )
        self.env = env
        self._actions: NDArray[np.int64] = np.zeros(env.num_envs, dtype=np.int64)
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    def reset(self) -> VecEnvObs:
        """Ask new questions; seeds given by `seed` apply here."""
        seeds = None if self._seeds[0] is None else list(self._seeds)
        observation: VecEnvObs = self.env.reset(seed=seeds)[0]  # type: ignore[arg-type]  # a list is fine
        self._reset_seeds()
        self._reset_options()
        self.reset_infos = [{} for _ in range(self.num_envs)]
        return observation

    def step_async(self, actions: NDArray[np.int64]) -> None:
        """Keep the tokens for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Append the tokens."""
        observation, rewards, terminated, truncated, info = self.env.step(self._actions)
        done = terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if info:
            told = info["final_info"].items()
            final = {key: values[done].tolist() for key, values in told if not key.startswith("_")}
            for lane, *row in zip(np.flatnonzero(done), *final.values(), strict=True):
                infos[lane] = dict(zip(final, row, strict=True))
                infos[lane]["terminal_observation"] = info["final_obs"][lane]
                infos[lane]["TimeLimit.truncated"] = bool(truncated[lane] and not terminated[lane])
        return observation, rewards.astype(np.float32), done, infos

    def action_masks(self) -> NDArray[np.bool_]:
        """Which tokens each lane may choose, shape ``(num_envs, vocabulary)``."""
        masks: NDArray[np.bool_] = self.env.action_masks()  # type: ignore[attr-defined]
        return masks

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def get_attr(self, attr_name: str, indices: int | Iterable[int] | None = None) -> list[Any]:
        """An attribute of the vector environment, once a lane."""
        return [getattr(self.env, attr_name)] * len(self._lanes(indices))

    def set_attr(self, attr_name: str, value: Any, indices: int | Iterable[int] | None = None) -> None:
        """Set an attribute of the vector environment: for all lanes, whatever `indices` says."""
        setattr(self.env, attr_name, value)

    def env_method(
        self, method_name: str, *args: Any, indices: int | Iterable[int] | None = None, **kwargs: Any
    ) -> list[Any]:
        """Call a method of the vector environment; its result is split over the lanes."""
        result = getattr(self.env, method_name)(*args, **kwargs)
        lanes = self._lanes(indices)
        return [None] * len(lanes) if result is None else [result[lane] for lane in lanes]

    def env_is_wrapped(
        self,
        wrapper_class: type[gymnasium.Wrapper[Any, Any, Any, Any]],
        indices: int | Iterable[int] | None = None,
    ) -> list[bool]:
        """No lane is wrapped."""
        return [False] * len(self._lanes(indices))

    def _lanes(self, indices: int | Iterable[int] | None) -> Sequence[int]:
        return list(self._get_indices(indices))
