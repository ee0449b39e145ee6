"""How one simulated annotator errs: every way a field, and some annotators by name.

The sources of the fields:

* Lee et al. (2021, "B-Pref: Benchmarking Preference-Based Reinforcement Learning"): finite rationality,
  myopia, mistakes, skips and ties of comparisons. B-Pref's thresholds for skips and ties are shares of the
  policy's mean return, which moves. Here they are shares of the scale of the scores, [0, 1], and stay, so
  that a label does not depend on the policy. They are applied once, to the scores as the annotator sees them.
* Nguyen et al. (2017, "Reinforcement Learning for Bandit Neural Machine Translation with Simulated Human
  Feedback"): granular, skewed and varying perception of a score.
* McCullagh (1980, "Regression models for ordinal data"): ratings from cut points on a latent score.
* Christiano et al. (2017, "Deep Reinforcement Learning from Human Preferences"): lapses, labels at random.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from qa_env.errors import QAError

_PROBABILITIES = (
    *("eps_mistake", "eps_skip", "eps_equal", "both_wrong", "gamma"),
    *("skip", "lazy", "lapse", "flip", "fuzzy", "unsure"),
)
_FINITE = ("position_bias", "length_bias", "usual_words", "drift", "night_start", "thumb_cut")
_NOT_NEGATIVE = ("noise", "variance", "fatigue", "delay_median", "delay_sigma")


@dataclass(frozen=True)
class AnnotatorConfig:
    """How one simulated annotator sees answers and errs; by default not at all.

    A score is seen so: parts are discounted, then skewed, varied, shifted by length and drift, and made
    granular. What is seen becomes a label: logistic noise, then cut points or a comparison.

    Attributes:
        gamma: Discount of an answer's earlier parts; 1 for none.
        skew: Exponent of the score; above 1 is harsh.
        variance: Scale of the normal noise on a score; 1 is Nguyen et al.'s fit to people's ratings.
        granularity: Levels between the least and the greatest score that are told apart; None for all.
        length_bias: Score added for every 10 words above `usual_words`, taken off below.
        usual_words: The length without such a bonus. It matters for single answers only.
        drift: Score added for every 100 labels given.
        noise: Scale of the logistic noise on the score behind a rating, percentage or thumb.
        cuts: The four cut points between ratings, on the scale of scores.
        thumb_cut: The least score for a thumb up.
        beta: Rationality in comparisons: log-odds for a difference of 1 in score. Infinity: no noise. A
            ranking is drawn from the Plackett-Luce model.
        position_bias: Log-odds for the answer shown first. No effect on a perfectly rational annotator.
        eps_equal: Two answers whose scores lie no farther apart are a tie.
        both_wrong: Of two answers with no greater scores "both wrong" is said.
        eps_skip: Comparisons and rankings of answers that all score less are skipped.
        skip: Probability that any query is skipped.
        eps_mistake: Probability that a preference (pair or ranking) is turned round.
        flip: Probability that any label is inverted; 1 is an adversary.
        lazy: Probability of the middle label without a look: always 3 at 1.
        lapse: Probability of a label at random.
        fatigue: Lapses added for every 100 labels given in a sitting.
        sitting: Labels in a sitting; after it the annotator has rested.
        fuzzy: Probability of a range in place of a rating or percentage.
        unsure: Probability of a remark that the label may be wrong.
        delay_median: Median of the log-normal time to reply, in seconds.
        delay_sigma: Standard deviation of its logarithm.
        night_start: Hour of the day (0 to 24, of the clock that `replied_at` is given) when sleep begins.
        night_hours: Hours of sleep. What would be answered then is answered at its end.
    """

    gamma: float = 1.0
    skew: float = 1.0
    variance: float = 0.0
    granularity: int | None = None
    length_bias: float = 0.0
    usual_words: float = 8.0
    drift: float = 0.0
    noise: float = 0.0
    cuts: tuple[float, float, float, float] = (0.125, 0.375, 0.625, 0.875)
    thumb_cut: float = 0.5
    beta: float = math.inf
    position_bias: float = 0.0
    eps_equal: float = 0.0
    both_wrong: float = 0.0
    eps_skip: float = 0.0
    skip: float = 0.0
    eps_mistake: float = 0.0
    flip: float = 0.0
    lazy: float = 0.0
    lapse: float = 0.0
    fatigue: float = 0.0
    sitting: int = 100
    fuzzy: float = 0.0
    unsure: float = 0.0
    delay_median: float = 0.0
    delay_sigma: float = 0.0
    night_start: float = 22.0
    night_hours: float = 0.0

    def __post_init__(self) -> None:
        """Raise a QAError for a value that makes no sense."""
        for name in _PROBABILITIES:
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise QAError(f"{name} must be from 0 to 1, got {getattr(self, name)}")
        for name in _FINITE:
            if not math.isfinite(getattr(self, name)):
                raise QAError(f"{name} must be a finite number, got {getattr(self, name)}")
        for name in _NOT_NEGATIVE:
            if not 0.0 <= getattr(self, name) < math.inf:
                raise QAError(f"{name} must be a finite number >= 0, got {getattr(self, name)}")
        if not 0.0 < self.skew < math.inf:
            raise QAError(f"skew must be a finite number above 0, got {self.skew}")
        if not self.beta > 0.0:
            raise QAError(f"beta must be above 0 (infinity for no noise), got {self.beta}")
        if self.granularity is not None and self.granularity < 1:
            raise QAError(f"granularity must be None or at least 1, got {self.granularity}")
        if self.sitting < 1:
            raise QAError(f"sitting must be at least 1 label, got {self.sitting}")
        if not 0.0 <= self.night_hours < 24.0:
            raise QAError(f"night_hours must be at least 0 and less than 24, got {self.night_hours}")
        rising = len(self.cuts) == 4 and all(np.diff(self.cuts) > 0)
        if not rising or not all(math.isfinite(cut) for cut in self.cuts):
            raise QAError(f"cuts must be four finite, rising numbers, got {self.cuts}")


PRESETS: dict[str, AnnotatorConfig] = {
    "oracle": AnnotatorConfig(),
    "mistake10": AnnotatorConfig(eps_mistake=0.1),
    "flip10": AnnotatorConfig(flip=0.1),
    "flip25": AnnotatorConfig(flip=0.25),
    "lapse10": AnnotatorConfig(lapse=0.1),
    "stochastic": AnnotatorConfig(beta=5.0, noise=0.1),
    "myopic": AnnotatorConfig(gamma=0.9),
    "skip": AnnotatorConfig(eps_skip=0.1, skip=0.1),
    "equal": AnnotatorConfig(eps_equal=0.1),
    "noisy": AnnotatorConfig(granularity=5, skew=2.0, variance=1.0),
    "lazy": AnnotatorConfig(lazy=1.0),
    "adversary": AnnotatorConfig(flip=1.0),
    "tired": AnnotatorConfig(
        lapse=0.05, fatigue=0.3, drift=0.01, unsure=0.1, delay_median=30.0, delay_sigma=1.0, night_hours=9.0
    ),
    "biased": AnnotatorConfig(beta=5.0, position_bias=0.5, length_bias=0.05),
}
"""For experiments. The numbers are assumptions, after Lee et al. (2021) for the errors that are theirs."""
