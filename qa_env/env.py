"""The Gymnasium environment: one question at a time."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from qa_env.answers import Answers
from qa_env.task import QATask
from qa_env.vector_env import check_indices, check_render_mode, render_text


class QAEnv(gymnasium.Env[dict[str, NDArray[Any]], np.int64]):
    """Answer a question token by token.

    ## Description
    A question, with the passage to read if there is one, is shown as token ids and as the outputs of
    an encoder. The agent writes the answer one token at a time; feedback comes on the finished answer.

    ## Action Space
    `Discrete(V)`: a token of the vocabulary. EOS ends the answer. PAD, BOS and SEP may not stand in an
    answer (`action_masks` excludes them); choosing one ends it as EOS would. If the vocabulary has an
    abstain token, it may be the first and only one, in the place of EOS: the answer's text is "" then.

    ## Observation Space
    A `Dict`:

    - `source`: ids of ``question SEP context``, PAD behind, `Box(0, V-1, (max_source,), int64)`.
    - `answer`: ids of the answer so far, PAD behind, `Box(0, V-1, (max_answer,), int64)`. How many
      places are left is how much may still be written.
    - `memory`: the encoder's outputs, one vector a source token, zero at padding,
      `Box(-inf, inf, (max_source, width), float32)`. Left out with `encoder=None`.

    ## Starting State
    A question drawn at random, and an empty answer. `reset(options={"index": i})` asks example i.

    ## Rewards
    0 for every token but the last; the last one is paid what the feedback source says of the answer.

    ## Episode End
    `terminated` when EOS is chosen or the answer is full. `truncated` is always False: running out of
    length is part of the task, and nothing is to be bootstrapped behind it.

    ## Information
    At the end: `index` (which example was answered, an int), `question` and `answer` as text,
    `is_success` (exact match with a reference), and `feedback/<component>` for every part of the reward.

    ## Arguments
    `render_mode` is None or `"ansi"`; the others are those of `QATask`: data, vocabulary, encoder,
    feedback, max_source, max_answer.

    ## Version History
    - v0: first version.
    """

    metadata = {"render_modes": ["ansi"], "render_fps": 4}  # noqa: RUF012 (Gymnasium's own form)

    observation_space: spaces.Dict  # type: ignore[assignment]

    def __init__(self, render_mode: str | None = None, **task: Any) -> None:
        check_render_mode(render_mode)
        self.render_mode = render_mode
        self.task = QATask(**task)
        self.observation_space = self.task.observation_space
        self.action_space = self.task.action_space
        self.answers = Answers(1, self.task.max_answer, self.task.vocabulary.abstain)
        self.index = 0
        self._memory: NDArray[np.float32] | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Ask a question: a random one, or ``options["index"]``."""
        super().reset(seed=seed)
        if options is not None and "index" in options:
            self.index = int(check_indices(options["index"], 1, len(self.task.examples))[0])
        else:
            self.index = int(self.np_random.integers(len(self.task.examples)))
        self.answers.reset(np.ones(1, dtype=np.bool_))
        if self.task.encoder is not None:
            self._memory = self.task.encoder.encode(self.task.sources[[self.index]])[0]
        return self._observe(), {}

    def step(self, action: np.int64) -> tuple[dict[str, NDArray[Any]], float, bool, bool, dict[str, Any]]:
        """Append a token; grade the answer if that finished it."""
        finished = bool(self.answers.append(np.array([action], dtype=np.int64))[0])
        if not finished:
            return self._observe(), 0.0, False, False, {}
        graded = self.task.grade(np.array([self.index]), self.answers.tokens, [self.np_random])
        info = {key: values.tolist()[0] for key, values in graded.info.items()}
        return self._observe(), float(graded.reward[0]), True, False, info

    def action_masks(self) -> NDArray[np.bool_]:
        """Which tokens may be chosen, shape ``(V,)``."""
        (mask,) = self.task.action_masks(self.answers.lengths)
        return np.asarray(mask)

    def render(self) -> str | None:
        """The question and the answer so far as text, if ``render_mode="ansi"``."""
        return (
            None if self.render_mode is None else render_text(self.task, self.index, self.answers.tokens[0])
        )

    def _observe(self) -> dict[str, NDArray[Any]]:
        """New arrays at every call: Gymnasium forbids returning the same object twice."""
        observation: dict[str, NDArray[Any]] = {
            "answer": self.answers.tokens[0].copy(),
            "source": self.task.sources[self.index].copy(),
        }
        if self._memory is not None:
            observation["memory"] = self._memory.copy()
        return {key: observation[key] for key in self.observation_space.keys()}
