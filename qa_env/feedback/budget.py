"""How many labels people may be asked for, and when in training."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike

from qa_env.errors import QAError
from qa_env.feedback.naming import load_named

Schedule = Callable[[float], float]
"""Progress of training, above 0 and up to 1, to the share of the labels that may have been asked for by then.

The labels are those after the initial ones. A share outside [0, 1] means the nearer end, and one that is less
than before is as before.
"""

WINDOW = 50
"""Fresh labels over which the reward model's present error is averaged."""
PACES = (0.5, 2.0)
"""Least and greatest speed of the adaptive schedule, so that no streak of luck stops or empties it."""
# Products of shares and whole numbers fall short of the whole number they mean: 0.29 * 100 < 29.
_ROUNDING = 1e-9


def constant(progress: float) -> float:
    """The same rate throughout."""
    return progress


def hyperbolic(progress: float, decay: float = 10.0) -> float:
    """A rate that falls as ``1 / (1 + decay * progress)``, integrated: `log(1 + c p) / log(1 + c)`.

    So do Christiano et al. (2017, "Deep Reinforcement Learning from Human Preferences") slow down.
    """
    return math.log1p(decay * progress) / math.log1p(decay)


def inverse_quadratic(progress: float, decay: float = 10.0) -> float:
    """A rate that falls as ``1 / (1 + (decay * progress)^2)``, integrated: `atan(c p) / atan(c)`."""
    return math.atan(decay * progress) / math.atan(decay)


def front_loaded(progress: float) -> float:
    """All within the first quarter of training."""
    return min(1.0, 4.0 * progress)


ADAPTIVE = "adaptive"
SCHEDULES: dict[str, Schedule] = {
    "constant": constant,
    "hyperbolic": hyperbolic,
    "inverse-quadratic": inverse_quadratic,
    "front-loaded": front_loaded,
    ADAPTIVE: constant,
}
"""The schedules by name. The adaptive one is constant while the reward model errs as it always did."""


@dataclass(frozen=True)
class BudgetConfig:
    """When people are asked for labels."""

    share: float = 0.1
    """Greatest share of a rollout's finished answers to ask about. One is asked about even if it is more."""
    schedule: str = "hyperbolic"
    """constant, hyperbolic, inverse-quadratic, front-loaded, adaptive, or "module:function" of progress."""
    initial: float = 0.9
    """Share of the labels asked for before the first step of reinforcement learning. What is said then
    changes the weights that it begins with; what comes later pays rewards, and tests the reward model."""

    def __post_init__(self) -> None:
        """Raise a QAError for a number out of range or a schedule that cannot be found."""
        if not 0 < self.share <= 1:
            raise QAError(f"budget.share must be above 0 and at most 1, got {self.share}")
        if not 0 <= self.initial <= 1:
            raise QAError(f"budget.initial must be from 0 to 1, got {self.initial}")
        load_named(self.schedule, SCHEDULES, "schedule")


@dataclass
class _State:
    asked: int = 0
    given: int = 0
    progress: float = 0.0
    released: float = 0.0
    """Share of the labels after the initial ones that may have been asked for by `progress`."""
    scores: int = 0
    """Brier scores seen."""
    mean: float = 0.0
    """Of all of them."""
    recent: float = 0.0
    """Of about the last `WINDOW`."""


class Budget:
    """Counts the labels that were asked for and given, and says how many may be asked for now.

    A query costs its label when it is asked. If it is skipped or expires, it gets it back.

    Args:
        labels: In all; 0 asks for none.
        config: When.

    Raises:
        QAError: If the number is negative.
    """

    def __init__(self, labels: int, config: BudgetConfig) -> None:
        if labels < 0:
            raise QAError(f"a budget's labels must be 0 or more, got {labels}")
        self.labels, self.config = labels, config
        self._schedule: Schedule = load_named(config.schedule, SCHEDULES, "schedule")
        self._state = _State()

    @property
    def asked(self) -> int:
        """Labels asked for, without those refunded."""
        return self._state.asked

    @property
    def given(self) -> int:
        """Labels that came."""
        return self._state.given

    @property
    def open(self) -> int:
        """Labels that were asked for and have not come."""
        return self.asked - self.given

    @property
    def left(self) -> int:
        """Labels that may still be asked for, now or later."""
        return max(0, self.labels - self.asked)

    @property
    def initial(self) -> int:
        """Labels that may still be asked for before the first step, from however many answers."""
        return self._due(0.0)

    @property
    def pace(self) -> float:
        """Speed of the adaptive schedule: recent Brier score over its long mean, within `PACES`."""
        state = self._state
        return float(np.clip(state.recent / state.mean, *PACES)) if state.mean > 0 else 1.0

    def allowed(self, progress: float, finished: int, needed: int = 1) -> int:
        """How many queries may be asked at the end of a rollout; what is too little for one is kept.

        Args:
            progress: Of training; numbers outside [0, 1] mean the nearer end.
            finished: Answers that the rollout finished.
            needed: Labels of each query.

        Raises:
            QAError: If `progress` or what the schedule makes of it is no finite number.
        """
        self._advance(float(np.clip(_finite(progress, "progress of training"), 0.0, 1.0)))
        of_rollout = max(1, math.floor(self.config.share * finished + _ROUNDING)) if finished > 0 else 0
        return min(of_rollout, self._due(self._state.released) // needed)

    def spend(self, labels: int) -> None:
        """Note that so many labels were asked for.

        Raises:
            QAError: If there are not so many left.
        """
        self._check(labels, self.left, "left to ask for")
        self._state.asked += labels

    def receive(self, labels: int) -> None:
        """Note that so many open labels came. One that comes after its refund is not counted.

        Raises:
            QAError: If not so many are open.
        """
        self._check(labels, self.open, "open")
        self._state.given += labels

    def refund(self, labels: int) -> None:
        """Note that so many open labels will not come: the query was skipped or has expired.

        Raises:
            QAError: If not so many are open.
        """
        self._check(labels, self.open, "open")
        self._state.asked -= labels

    def observe(self, brier: ArrayLike) -> None:
        """Note how far the reward model was off on fresh labels, for the adaptive schedule.

        Args:
            brier: The Brier score of each label, foretold before the model learned from it: a number or
                shape ``(labels,)``. Those of uniform picks are fair; those of chosen ones, hard.

        Raises:
            QAError: If a score is negative or not finite.
        """
        scores = np.atleast_1d(np.asarray(brier, dtype=np.float64))
        if not (np.isfinite(scores).all() and (scores >= 0).all()):
            raise QAError(f"Brier scores must be finite and not negative, got {brier!r:.60}")
        state = self._state
        for score in scores.ravel().tolist():
            state.scores += 1
            state.mean += (score - state.mean) / state.scores
            # A moving average, and not a window, so that the state is a few numbers.
            state.recent += (score - state.recent) / min(state.scores, WINDOW)

    def state(self) -> dict[str, float]:
        """Return everything that changes, as numbers, for a checkpoint."""
        return asdict(self._state)

    def load_state(self, state: Mapping[str, float]) -> None:
        """Go on from what `state` returned. The budget's settings may have changed since.

        Raises:
            QAError: If it holds other keys, or a value that is no finite number.
        """
        kinds = {key: type(value) for key, value in asdict(_State()).items()}
        if set(state) != set(kinds):
            raise QAError(f"a budget's state must hold {', '.join(kinds)}; got {', '.join(state)}")
        self._state = _State(
            **{key: kind(_finite(state[key], f"the budget's '{key}'")) for key, kind in kinds.items()}
        )

    def _advance(self, progress: float) -> None:
        state = self._state
        if progress <= state.progress:
            return
        if self.config.schedule == ADAPTIVE:
            # What is held back falls as (1 - progress)^pace: all has been released at the end whatever the
            # pace was, and at pace 1 the schedule is constant.
            held = ((1.0 - progress) / (1.0 - state.progress)) ** self.pace
            state.released = 1.0 - (1.0 - state.released) * held
        else:
            share = _finite(self._schedule(progress), f"schedule '{self.config.schedule}' at {progress:g}")
            state.released = max(state.released, min(share, 1.0))
        state.progress = progress

    def _due(self, released: float) -> int:
        initial = self.config.initial
        share = initial + (1.0 - initial) * released
        return max(0, math.floor(self.labels * share + _ROUNDING) - self.asked)

    def _check(self, labels: int, most: int, what: str) -> None:
        if not 0 <= labels <= most:
            raise QAError(f"a number of labels must be from 0 to the {most} {what}, got {labels}")


def _finite(value: object, name: str) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise QAError(f"{name} must be a finite number, got {value!r:.60}")
    return number
