"""The natively batched environment: many answers at once, one array operation a step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from qa_env.answers import Answers, BoolArray, IntArray
from qa_env.errors import QAError
from qa_env.task import QATask

Observation = dict[str, NDArray[Any]]


class QAVectorEnv(VectorEnv[Observation, IntArray, NDArray[Any]]):
    """`num_envs` questions answered side by side, each lane equal to a `QAEnv` of its own seed.

    Autoreset is SAME_STEP: the step that finishes an answer returns the next question's observation,
    and ``info["final_obs"]``, ``info["final_info"]`` hold the end of the finished one.

    The arrays of an observation are new at every step, except ``memory``: it is the same object until
    an answer ends, because a copy a step would cost more than the step.

    Args:
        num_envs: Lanes.
        render_mode: None or ``"ansi"``.
        samples_per_question: With k > 1 a question is asked k times: the next k lanes that become free get
            it, so that its answers come close together and can be compared.
        retry: Share of the new questions that are drawn from those that failed: the ones asked before to
            which every answer so far earned less than the mean reward of all answers. Otherwise a question
            is drawn from all alike. (Asking again where there is most to learn is the idea of prioritized
            level replay, Jiang et al. 2021.)
        **task: The arguments of `QATask`.
    """

    single_observation_space: spaces.Dict
    _best: NDArray[np.float64]  # the best reward of each question so far
    _rewards: float  # the sum of the rewards of all answers
    _graded: int  # the number of all answers

    def __init__(
        self,
        num_envs: int = 1,
        render_mode: str | None = None,
        samples_per_question: int = 1,
        retry: float = 0.0,
        **task: Any,
    ) -> None:
        self.metadata = {"render_modes": ["ansi"], "render_fps": 4, "autoreset_mode": AutoresetMode.SAME_STEP}
        if num_envs < 1:
            raise QAError(f"num_envs must be at least 1, got {num_envs}")
        if not 1 <= samples_per_question <= num_envs:
            raise QAError(
                f"samples_per_question must be from 1 to num_envs={num_envs}, got {samples_per_question}"
            )
        if not 0 <= retry < 1:
            raise QAError(f"retry must be 0 or more and less than 1, got {retry}")
        check_render_mode(render_mode)
        self.retry = retry
        self.samples_per_question = samples_per_question
        self._asked, self._question = 0, 0
        self.task = QATask(**task)
        self._forget()
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.single_observation_space = self.task.observation_space
        self.single_action_space = self.task.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.answers = Answers(num_envs, self.task.max_answer, self.task.vocabulary.abstain)
        self.indices: IntArray = np.zeros(num_envs, dtype=np.int64)
        self._source = self.task.sources[self.indices]
        self._memory: NDArray[np.float32] | None = None
        if self.task.encoder is not None:
            self._shape = (num_envs, self.task.sources.shape[1], self.task.encoder.width)
        self._rngs = [np.random.default_rng() for _ in range(num_envs)]

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Ask a new question in every lane.

        Args:
            seed: Seed of lane 0; lane i gets ``seed + i``. A list seeds each lane.
            options: ``{"index": ids (num_envs,)}`` asks these examples instead of drawing at random.
        """
        if seed is not None:
            self._forget()
            seeds = [seed + i for i in range(self.num_envs)] if isinstance(seed, int) else seed
            for lane, lane_seed in enumerate(seeds):
                if lane_seed is not None:
                    self._rngs[lane] = np.random.default_rng(lane_seed)
        self._asked = 0
        self._ask(np.arange(self.num_envs), None if options is None else options.get("index"))
        return self._observe(), {}

    def step(
        self, actions: IntArray
    ) -> tuple[Observation, NDArray[np.float64], BoolArray, BoolArray, dict[str, Any]]:
        """Append one token to every answer; grade the finished ones and ask the next questions."""
        done = self.answers.append(np.asarray(actions, dtype=np.int64))
        rewards = np.zeros(self.num_envs, dtype=np.float64)
        info: dict[str, Any] = {}
        if done.any():
            lanes = np.flatnonzero(done)
            rngs = [self._rngs[lane] for lane in lanes.tolist()]
            graded = self.task.grade(self.indices[lanes], self.answers.tokens[lanes], rngs)
            rewards[lanes] = graded.reward
            np.maximum.at(self._best, self.indices[lanes], graded.reward)
            self._rewards, self._graded = self._rewards + graded.reward.sum(), self._graded + len(lanes)
            info = self._final(lanes, done, graded.info)
            self._ask(lanes, None)
        return self._observe(), rewards, done, np.zeros(self.num_envs, dtype=np.bool_), info

    def action_masks(self) -> BoolArray:
        """Which tokens each lane may choose, shape ``(num_envs, vocabulary)``."""
        return self.task.action_masks(self.answers.lengths)

    def rate(self, source: IntArray, tokens: IntArray) -> NDArray[np.float64]:
        """Feedback on answers that no lane has written, such as greedy ones.

        Args:
            source: Source ids of questions of this environment, ``(batch, max_source)``.
            tokens: The answers' ids, ``(batch, max_answer)``.

        Returns:
            The rewards, ``(batch,)``.
        """
        rngs = self._rngs[0].spawn(len(source))  # which leaves the lane's own stream as it is
        return self.task.grade(self.task.indices_of(source), tokens, rngs).reward

    def render(self) -> tuple[str, ...] | None:
        """The question and answer of each lane as text, if ``render_mode="ansi"``."""
        if self.render_mode is None:
            return None
        return tuple(
            render_text(self.task, index, tokens)
            for index, tokens in zip(self.indices, self.answers.tokens, strict=True)
        )

    def _ask(self, lanes: IntArray, index: Any) -> None:
        """Draw new examples in `lanes`, encode them once, and empty their answers."""
        if index is None:
            self.indices[lanes] = [self._draw(lane) for lane in lanes.tolist()]
        else:
            self.indices[lanes] = check_indices(index, len(lanes), len(self.task.examples))
        self.answers.reset(lanes)
        self._source[lanes] = self.task.sources[self.indices[lanes]]
        if self.task.encoder is not None:
            questions, inverse = np.unique(self.indices[lanes], return_inverse=True)
            # A new array, since the one before was handed out and belongs to the caller.
            self._memory = np.empty(self._shape, np.float32) if self._memory is None else self._memory.copy()
            self._memory[lanes] = self.task.encoder.encode(self.task.sources[questions])[inverse]

    def _draw(self, lane: int) -> int:
        """The next question of a lane; every `samples_per_question`-th call draws a new one."""
        if self._asked % self.samples_per_question == 0:
            self._question = self._new_question(self._rngs[lane])
        self._asked += 1
        return self._question

    def _forget(self) -> None:
        """Begin anew to keep which questions failed."""
        self._best = np.full(len(self.task.examples), -np.inf)
        self._rewards, self._graded = 0.0, 0

    def _new_question(self, rng: np.random.Generator) -> int:
        """Any question, or with probability `retry` one that failed, if there is one."""
        if self.retry and rng.random() < self.retry and self._graded:
            mean = self._rewards / self._graded
            failed = np.flatnonzero((self._best > -np.inf) & (self._best < mean))
            if len(failed):
                return int(rng.choice(failed))
        return int(rng.integers(len(self.task.examples)))

    def _observe(self) -> Observation:
        answer, source = self.answers.tokens.copy(), self._source.copy()
        return self._arrange({"answer": answer, "source": source, "memory": self._memory})

    def _arrange(self, parts: dict[str, Any]) -> Observation:
        return {key: parts[key] for key in self.single_observation_space.keys()}

    def _final(self, lanes: IntArray, done: BoolArray, told: dict[str, NDArray[Any]]) -> dict[str, Any]:
        """The ends of the finished lanes, in Gymnasium's dict-of-arrays form."""
        memory = None if self._memory is None else self._memory[lanes]
        answer, source = self.answers.tokens[lanes], self._source[lanes]
        last = self._arrange({"answer": answer, "source": source, "memory": memory})
        final_obs = np.empty(self.num_envs, dtype=object)
        for lane, *row in zip(lanes.tolist(), *last.values(), strict=True):
            final_obs[lane] = dict(zip(last, row, strict=True))
        final_info: dict[str, Any] = {}
        for key, values in told.items():
            blank = np.empty if values.dtype == object else np.zeros  # None, or 0
            final_info[key] = blank(self.num_envs, values.dtype)
            final_info[key][lanes] = values
            final_info[f"_{key}"] = done.copy()
        return {
            "final_obs": final_obs,
            "_final_obs": done.copy(),
            "final_info": final_info,
            "_final_info": done.copy(),
        }

    def state(self) -> dict[str, Any]:
        """Everything that changes, for a checkpoint: numbers, lists, dicts, and arrays that are not copied.

        The examples and what grades the answers are not in it; nor is the state of a feedback that has one.
        """
        return {
            "indices": self.indices,
            "tokens": self.answers.tokens,
            "lengths": self.answers.lengths,
            "memory": self._memory,
            "best": self._best,
            "rewards": float(self._rewards),
            "graded": self._graded,
            "asked": self._asked,
            "question": int(self._question),
            "rated": self.task.graded,
            "rngs": [generator_state(rng) for rng in self._rngs],
        }

    def load_state(self, state: Mapping[str, Any]) -> Observation:
        """Go on from what `state` gave; the observation of then."""
        self.indices, self._best = state["indices"].copy(), state["best"].copy()
        self.answers.tokens, self.answers.lengths = state["tokens"].copy(), state["lengths"].copy()
        self._source = self.task.sources[self.indices]
        self._memory = None if state["memory"] is None else state["memory"].copy()
        self._rewards, self._graded = state["rewards"], state["graded"]
        self._asked, self._question = state["asked"], state["question"]
        self.task.graded = state["rated"]
        self._rngs = [generator_from(rng) for rng in state["rngs"]]
        return self._observe()


def render_text(task: QATask, index: int, tokens: IntArray) -> str:
    """Question, context and the answer so far, as lines of text."""
    example = task.examples[index]
    lines = [f"Q: {example.question}", f"A: {task.texts(tokens[None])[0]}"]
    return "\n".join(lines if example.context is None else [f"C: {example.context}", *lines])


def check_render_mode(render_mode: str | None) -> None:
    """Raise TypeError for an unknown mode: Stable-Baselines3 then falls back to no rendering."""
    if render_mode not in (None, "ansi"):
        raise TypeError(f"render_mode must be None or 'ansi', got {render_mode!r}")


def check_indices(index: Any, count: int, examples: int) -> IntArray:
    """`index` as `count` ids of examples.

    Raises:
        QAError: If there are more or fewer, or one is not the id of an example.
    """
    chosen = np.atleast_1d(np.asarray(index, dtype=np.int64))
    if chosen.shape != (count,) or (chosen < 0).any() or (chosen >= examples).any():
        raise QAError(f"options['index'] must be {count} numbers from 0 to {examples - 1}, got {index!r:.80}")
    return chosen


def generator_state(rng: np.random.Generator) -> dict[str, Any]:
    """A generator's state and, since others may be spawned from it, its seed's; fit for JSON."""
    seed = rng.bit_generator.seed_seq.state  # type: ignore[attr-defined]
    return {"seed": {**seed, "spawn_key": list(seed["spawn_key"])}, "state": rng.bit_generator.state}


def generator_from(state: Mapping[str, Any]) -> np.random.Generator:
    """The generator that `generator_state` was asked about."""
    bits = np.random.PCG64(np.random.SeedSequence(**state["seed"]))
    bits.state = state["state"]
    return np.random.Generator(bits)
