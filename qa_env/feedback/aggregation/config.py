"""The assumptions of the aggregation: priors of raters, weights of labels, when to stop."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from qa_env.errors import QAError

Role = Literal["user", "expert"]
Roles = Mapping[str, Role]


@dataclass(frozen=True)
class AggregationConfig:
    """Assumptions about raters. The quality of an answer has the prior N(0, 1) throughout.

    Attributes:
        lapse_prior: Beta prior of the share of a rater's labels that are given at random. The default
            has the mean 0.1 that Christiano et al. (2017) assume.
        unsure: The share of random answers among the labels that a rater marks as unsure, on top of lapses.
        scale: Prior mean of how steeply a label depends on the quality, in logits for one standard deviation.
        scale_sd: How far raters' scales lie from the shared one.
        location_sd: How far raters' strictness lies from the shared one, in logits.
        gap_weight: How strongly the gaps between a rater's cut points are held to the shared ones: the
            relative standard deviation of a gap is about ``gap_weight ** -0.5``.
        expert_weight: How many users' labels one label of an expert counts for.
        rater_cap: One rater's labels of one answer, however many, weigh at most as much as this many. Those
            of one form about the same answers are repetitions, and weigh as one together.
        max_iterations: Steps of EM at most.
        tolerance: EM stops when no quality moves by more than this in a step.
    """

    lapse_prior: tuple[float, float] = (1.0, 9.0)
    unsure: float = 0.5
    scale: float = 1.5
    scale_sd: float = 0.5
    location_sd: float = 1.0
    gap_weight: float = 4.0
    expert_weight: float = 2.0
    rater_cap: float = 3.0
    max_iterations: int = 200
    tolerance: float = 1e-3

    def __post_init__(self) -> None:
        """Raise a QAError for a value that makes no sense."""
        if len(self.lapse_prior) != 2 or not all(math.isfinite(p) and p > 0 for p in self.lapse_prior):
            raise QAError(f"lapse_prior must be two numbers above 0, got {self.lapse_prior}")
        if not 0 <= self.unsure < 1:
            raise QAError(f"unsure must be at least 0 and less than 1, got {self.unsure}")
        for name in ("scale", "scale_sd", "location_sd", "gap_weight", "expert_weight", "tolerance"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise QAError(f"{name} must be a number above 0, got {value}")
        if not self.rater_cap > 0:
            raise QAError(f"rater_cap must be above 0 (infinity for no cap), got {self.rater_cap}")
        if self.max_iterations < 1:
            raise QAError(f"max_iterations must be at least 1, got {self.max_iterations}")
