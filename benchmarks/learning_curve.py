"""A learning curve over wall-clock: what `time_to_quality.py` and `trl_baseline.py` share."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from qa_env.datasets import QAExample
from qa_env.feedback.base import Feedback, Score
from qa_env.feedback.text import value_accuracy


class Point(NamedTuple):
    """A point of a learning curve."""

    seconds: float
    """Since the start of the job, time spent on measuring points left out."""
    accuracy: float
    """Share of the test questions answered rightly, greedy decoding."""
    rated: int
    """Answers rated by the simulated users so far."""


class LearningCurve:
    """Takes the time of a job and measures its accuracy meanwhile, with the clock stopped.

    Args:
        seconds: At the first measurement behind so many seconds `over` becomes true; None is no limit.
        target: The same for this accuracy.

    Attributes:
        points: What was measured so far.
    """

    def __init__(self, seconds: float | None = None, target: float | None = None) -> None:
        self.points: list[Point] = []
        self._limit, self._target = seconds, target
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Since the start, without the time that measuring took."""
        return time.perf_counter() - self._start

    @property
    def over(self) -> bool:
        """Whether the time is up or the target reached."""
        reached = self._target is not None and any(p.accuracy >= self._target for p in self.points)
        return reached or (self._limit is not None and self.seconds >= self._limit)

    def measure(self, examples: Sequence[QAExample], answer: Callable[[], list[str]], rated: int) -> float:
        """Add the point of now and return its accuracy; the clock stands still while `answer` works."""
        stopped = time.perf_counter()
        pairs = zip(examples, answer(), strict=True)
        accuracy = float(np.mean([value_accuracy(example, text) for example, text in pairs]))
        self.points.append(Point(stopped - self._start, accuracy, rated))
        print(f"{self.points[-1].seconds:7.1f} s  accuracy {accuracy:.3f}  {rated} rated answers", flush=True)
        self._start += time.perf_counter() - stopped
        return accuracy


class CountedFeedback:
    """Another source of feedback, and how many answers it was asked about.

    Attributes:
        rated: Answers so far.
    """

    def __init__(self, feedback: Feedback) -> None:
        self.feedback = feedback
        self.name = feedback.name
        self.rated = 0

    def score(
        self, examples: Sequence[QAExample], answers: Sequence[str], rngs: Sequence[np.random.Generator]
    ) -> Score:
        """Judge the answers and count them."""
        self.rated += len(answers)
        return self.feedback.score(examples, answers, rngs)


def seconds_to(points: Sequence[Point], accuracy: float) -> float | None:
    """When the accuracy was first measured, or None if it never was."""
    return next((point.seconds for point in points if point.accuracy >= accuracy), None)
