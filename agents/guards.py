"""Guards against over-optimisation: signs that the policy pleases the reward model and not the people."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from agents.asking import Finished
from agents.reward_data import FloatArray, render
from agents.reward_model import RewardModel
from qa_env.datasets import QAExample
from qa_env.errors import QAError
from qa_env.feedback.labels import Judgement, Pair, Percent, Rating, Thumb
from qa_env.feedback.store import AnswerRecord
from qa_env.feedback.text import words

GOOD_STARS, GOOD_PERCENT = 4, 70.0
"""From here on a rating, or a percentage, says that the answer satisfies."""
LEAST_PROBES = 10
"""Fresh labels without which the gap to people is not judged."""


@dataclass(frozen=True)
class GuardConfig:
    """When training is taken back to the last good pair of policy and reward model."""

    max_gap: float = 0.25
    """How much better the reward model may think of answers than people say on fresh labels, as a share."""
    probes: int = 40
    """Fresh labels over which that is averaged: those of uniformly chosen queries, before a fit sees them."""
    max_length_correlation: float = 0.6
    """Greatest correlation of reward and answer length in a rollout."""
    least_distinct: float = 0.1
    """Least share of different answers in a rollout."""

    def __post_init__(self) -> None:
        """Raise a QAError if a field is out of its range."""
        if self.probes < LEAST_PROBES:
            raise QAError(f"guards.probes must be {LEAST_PROBES} or more, got {self.probes}")
        for name in ("max_gap", "max_length_correlation", "least_distinct"):
            if not getattr(self, name) >= 0:
                raise QAError(f"guards.{name} must be 0 or more, got {getattr(self, name)}")


class GoodPair(NamedTuple):
    """A policy and the reward model that it was trained by, when all was well."""

    policy: Mapping[str, Any]
    model: RewardModel | None


class Guards:
    """Measures the signs, and keeps the last good pair.

    Args:
        config: What is too much.

    Attributes:
        good: The last good pair, or None.
        rolled_back: How often training was taken back.
    """

    def __init__(self, config: GuardConfig) -> None:
        self.config = config
        self.good: GoodPair | None = None
        self.rolled_back = 0
        self._gaps: deque[float] = deque(maxlen=config.probes)

    def probe(self, predicted: FloatArray, said: FloatArray) -> None:
        """Note what the model foretold of fresh labels, and what people said; each ``(labels,)``."""
        self._gaps.extend((predicted - said).tolist())

    @property
    def gap(self) -> float:
        """Mean of foretold less said over the last probes; NaN if there are too few."""
        return float(np.mean(self._gaps)) if len(self._gaps) >= LEAST_PROBES else float("nan")

    def figures(self, answers: Sequence[Finished]) -> dict[str, float]:
        """The signs, of a rollout's answers and of the fresh labels."""
        length = np.array([len(words(a.text)) for a in answers], dtype=np.float64)
        reward = np.array([a.reward for a in answers])
        varies = len(answers) > 2 and length.std() > 0 and reward.std() > 0
        return {
            "human_gap": self.gap,
            "length_correlation": float(np.corrcoef(length, reward)[0, 1]) if varies else 0.0,
            "distinct": len({(a.example, a.text) for a in answers}) / max(len(answers), 1),
        }

    def alarms(self, figures: Mapping[str, float]) -> list[str]:
        """The names of the signs that are too strong."""
        config = self.config
        found = {
            "human_gap": figures["human_gap"] > config.max_gap,  # NaN is not
            "length_correlation": figures["length_correlation"] > config.max_length_correlation,
            "distinct": figures["distinct"] < config.least_distinct,
        }
        return [name for name, is_too_much in found.items() if is_too_much]

    def keep(self, policy: Mapping[str, Any], model: RewardModel | None) -> None:
        """Take this pair for good."""
        self.good = GoodPair(copy.deepcopy(dict(policy)), model)

    def roll_back(self) -> GoodPair | None:
        """The last good pair, or None; the probes begin anew, since they were about another policy."""
        self.rolled_back += self.good is not None
        self._gaps.clear()
        return self.good

    def state(self) -> dict[str, Any]:
        """For a checkpoint, fit for JSON; the good pair is not in it."""
        return {"gaps": list(self._gaps), "rolled_back": self.rolled_back}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self._gaps = deque(state["gaps"], self.config.probes)
        self.rolled_back = state["rolled_back"]


def foretold(
    model: RewardModel,
    judgements: Sequence[Judgement],
    records: Mapping[str, AnswerRecord],
) -> tuple[FloatArray, FloatArray]:
    """What the model foretells of labels, and what they say: yes 1, no 0, tie 0.5; each ``(labels,)``.

    Yes is a good answer, or that the first of a pair is the better one. Labels that say neither are left out.
    """
    told = [(judgement.answers, _said(judgement)) for judgement in judgements]
    kept = [(ids, said) for ids, said in told if said is not None]
    if not kept:
        return np.zeros(0), np.zeros(0)
    asked = [records[ids[0]] for ids, _ in kept] + [records[ids[-1]] for ids, _ in kept]
    examples = [QAExample(r.question_id, r.question, r.context, ()) for r in asked]
    arrays = render(examples, [r.text for r in asked], model.vocabulary, model.limits)
    first, last = np.split(model.members(*arrays).mean(1), 2)
    paired = np.array([len(ids) == 2 for ids, _ in kept])
    predicted = 1 / (1 + np.exp(-model.scale * (first - np.where(paired, last, model.good_enough))))
    return predicted, np.array([said for _, said in kept])


def _said(judgement: Judgement) -> float | None:
    match judgement.label:
        case Rating(low, high):
            return float((low + high) / 2 >= GOOD_STARS)
        case Percent(low, high):
            return float((low + high) / 2 >= GOOD_PERCENT)
        case Thumb(up):
            return float(up)
        case Pair(choice) if choice != "both_wrong":
            return {"first": 1.0, "second": 0.0, "tie": 0.5}[choice]
        case _:
            return None
