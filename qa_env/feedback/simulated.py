"""SIMULATED users who rate answers from 1 to 5: a stand-in for people, not data about people.

Nobody was asked anything. What is assumed instead, so that runs can be repeated and compared:

* What users want is a weighted sum (`SimulatedUsersConfig.w_correct` and so on) of a right answer,
  fluent wording and a fit length without repetition. The weights are a guess, not measured.
* Users differ by one number, their strictness, and are noisy: the perturbations that Nguyen et al.
  (2017, "Reinforcement Learning for Bandit Neural Machine Translation with Simulated Human
  Feedback") use for ratings: granular (five grades), with variance, and skewed by the rater.
* A rating is an absolute grade on a five-point scale, collected once an answer, as in Kreutzer et
  al. (2018, "Reliability and Learnability of Human Bandit Feedback for Sequence-to-Sequence
  Reinforcement Learning").
* Now and then a user answers at random: the constant error rate that Christiano et al. (2017, "Deep
  Reinforcement Learning from Human Preferences") assume, called lapse rate in psychophysics.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qa_env.datasets.example import QAExample
from qa_env.errors import QAError
from qa_env.feedback.base import FloatArray, Score
from qa_env.feedback.components import Fluency, FluencyJudge, Length, Repetition, require_reference
from qa_env.feedback.text import token_f1, value_accuracy, words

LOWEST, HIGHEST, SATISFIED = 1, 5, 4


@dataclass(frozen=True)
class SimulatedUsersConfig:
    """What the simulated users want and how they differ; every default is an assumption.

    Attributes:
        w_correct: Weight of being right.
        w_fluent: Weight of fluent wording.
        w_length: Weight of a fit length without repetition. The three weights sum to 1.
        users: How many users there are.
        users_per_answer: How many different users rate each answer; the reward is their mean. Three, since
            the mean of a few raters is what Kreutzer et al. (2018) found reliable enough to learn from.
        strictness_sd: Standard deviation of the users' strictness, in grades.
        noise_sd: Standard deviation of the noise on each rating, in grades.
        lapse: Probability of a rating drawn uniformly from 1 to 5.
        max_words: Greatest fit length where there is no reference answer; see `components.Length`.
        length_factor: How far from a reference's length is still fit.
        seed: Seed of the users' strictness, drawn once.
    """

    w_correct: float = 0.7
    w_fluent: float = 0.2
    w_length: float = 0.1
    users: int = 20
    users_per_answer: int = 3
    strictness_sd: float = 0.4
    noise_sd: float = 0.5
    lapse: float = 0.05
    max_words: int = 40
    length_factor: float = 2.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check every field; `max_words` and `length_factor` are checked by `Length`."""
        weights = (self.w_correct, self.w_fluent, self.w_length)
        if not all(weight >= 0.0 for weight in weights) or not math.isclose(sum(weights), 1.0, abs_tol=1e-6):
            raise QAError(f"w_correct, w_fluent and w_length must be >= 0 and sum to 1, got {weights}")
        if self.users < 1:
            raise QAError(f"users must be at least 1, got {self.users}")
        if not 1 <= self.users_per_answer <= self.users:
            raise QAError(
                f"users_per_answer must be from 1 to users={self.users}, got {self.users_per_answer}"
            )
        for field in ("strictness_sd", "noise_sd"):
            if not 0.0 <= getattr(self, field) < math.inf:
                raise QAError(f"{field} must be a finite number >= 0, got {getattr(self, field)}")
        if not 0.0 <= self.lapse <= 1.0:
            raise QAError(f"lapse is a probability from 0 to 1, got {self.lapse}")
        if self.seed < 0:
            raise QAError(f"seed must be >= 0, got {self.seed}")
        Length(self.max_words, self.length_factor)


class SimulatedUsers:
    """Feedback of simulated users: the reward is a rating, moved from 1...5 to [-1, 1].

    The rating of answer ``i`` by user ``u`` is ``clip(round(1 + 4 utility_i - strictness_u + noise),
    1, 5)``, except for lapses. Reference answers reach the reward through this number only.

    Attributes:
        name: The name in logs.
        strictness: How many grades each user gives less than the average user, shape ``(users,)``.
    """

    name = "users"

    def __init__(self, config: SimulatedUsersConfig, fluency: FluencyJudge) -> None:
        self.config = config
        self.strictness: FloatArray = np.random.default_rng(config.seed).normal(
            0.0, config.strictness_sd, config.users
        )
        self._fluency = Fluency(fluency)
        self._length = Length(config.max_words, config.length_factor)
        self._repetition = Repetition()

    def correctness(self, example: QAExample, answer: str) -> float:
        """Return how right one answer is, in [0, 1].

        With a marked value this is ``value_accuracy * (0.5 + 0.5 * token F1)``: a wrong value makes
        an answer worthless however well it imitates the reference's words ("The capital of Japan is
        Kyoto" has an F1 of 0.8), a right value alone earns half, and the rest is for saying it as
        the reference does. Without a marked value nothing says which word carries the answer, so
        the token F1 has to do.
        """
        require_reference(example, self.name, value_will_do=True)
        if example.metadata.get("value") is None:
            return token_f1(answer, example.references)
        right = value_accuracy(example, answer)
        # A value without a written answer around it: saying it is all that can be asked.
        overlap = token_f1(answer, example.answers or (str(example.metadata["value"]),)) if right else 0.0
        return right * (0.5 + 0.5 * overlap)

    def utility(self, examples: Sequence[QAExample], answers: Sequence[str]) -> FloatArray:
        """Return what the answers are worth to the average user, shape ``(batch,)`` in [0, 1].

        ``w_correct * correctness + (w_fluent * fluency + w_length) * form`` with form = fit length
        times freedom from repetition. Fluency counts only as far as the form is good: otherwise
        the whole context, which is fluent and holds the value, would satisfy half the users. To an
        unanswerable question silence is worth 1, and anything else 0.
        """
        config = self.config
        pairs = list(zip(examples, answers, strict=True))
        correct = np.array([self.correctness(*pair) for pair in pairs], dtype=np.float64)
        form = np.array(
            [self._length.measure(*pair) * self._repetition.measure(*pair) for pair in pairs],
            dtype=np.float64,
        )
        fluent = self._fluency.score(examples, answers, []).reward
        wording = config.w_fluent * fluent + config.w_length
        return config.w_correct * correct + wording * form

    def score(
        self, examples: Sequence[QAExample], answers: Sequence[str], rngs: Sequence[np.random.Generator]
    ) -> Score:
        """Let users rate the answers; ``rngs[i]`` alone decides who rates answer ``i``, and how.

        Returns:
            The reward ``(rating - 3) / 2`` in [-1, 1] and the components "rating" (mean over the
            answer's raters, 1 to 5) and "satisfied" (share of them who gave 4 or 5).
        """
        config = self.config
        utility, worthless = self.utility(examples, answers), _worthless(examples, answers)
        ratings = np.empty((len(answers), config.users_per_answer))
        for row, rng in enumerate(rngs):
            # Everything is always drawn, so that the stream does not depend on the answer.
            raters = rng.permutation(config.users)[: config.users_per_answer]
            noise = rng.normal(0.0, config.noise_sd, config.users_per_answer)
            lapses = rng.random(config.users_per_answer) < config.lapse
            guesses = rng.integers(LOWEST, HIGHEST + 1, config.users_per_answer)
            meant = _rate(utility[row : row + 1], noise - self.strictness[raters], worthless[row : row + 1])[
                0
            ]
            ratings[row] = np.where(lapses, guesses, meant)
        mean = ratings.mean(axis=1)
        satisfied = (ratings >= SATISFIED).mean(axis=1)
        return Score((mean - 3.0) / 2.0, {"rating": mean, "satisfied": satisfied})

    def ratings(self, examples: Sequence[QAExample], answers: Sequence[str]) -> FloatArray:
        """Return every user's rating without noise and lapses, shape ``(batch, users)``."""
        return _rate(self.utility(examples, answers), -self.strictness, _worthless(examples, answers))

    def satisfaction(self, examples: Sequence[QAExample], answers: Sequence[str]) -> FloatArray:
        """Return the share of all users who would give 4 or 5, without noise, shape ``(batch,)``.

        This is the figure that a judge reports: it does not depend on who happened to rate.
        """
        return np.asarray((self.ratings(examples, answers) >= SATISFIED).mean(axis=1), dtype=np.float64)


def _worthless(examples: Sequence[QAExample], answers: Sequence[str]) -> NDArray[np.bool_]:
    """Return which answers are without words although something was to be said, shape ``(batch,)``."""
    pairs = zip(examples, answers, strict=True)
    return np.array([not words(answer) and not example.unanswerable for example, answer in pairs], dtype=bool)


def _rate(utility: FloatArray, leniency: FloatArray, worthless: NDArray[np.bool_]) -> FloatArray:
    """Return grades from 1 to 5, shape ``(batch, raters)``.

    Args:
        utility: Worth of each answer, shape ``(batch,)``.
        leniency: Grades that each rater adds, shape ``(raters,)``.
        worthless: Answers that are a 1 for the most lenient user too, shape ``(batch,)``.
    """
    # floor(x + 0.5), since np.round takes 2.5 to 2 and 3.5 to 4.
    grades = np.floor(1.5 + 4.0 * utility[:, None] + leniency[None, :])
    return np.asarray(
        np.where(worthless[:, None], LOWEST, np.clip(grades, LOWEST, HIGHEST)), dtype=np.float64
    )
