"""Who pays the reward: a person's label if there is one, else the reward model, else a fallback."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agents.reward_data import FloatArray, render
from agents.reward_model import RewardModel
from qa_env.datasets import QAExample
from qa_env.feedback.aggregation import Aggregate, Quality
from qa_env.feedback.base import Feedback, Score
from qa_env.feedback.labels import answer_id

MODEL_SD = 0.5
"""Least standard deviation of a quality that the reward model foretells: members that agree may be wrong."""


class RoutedFeedback:
    """A feedback source made of others; it answers at once and never waits for a person.

    An answer's quality has a posterior from people's labels, if it was labelled, and one from the reward
    model, if that is trusted. Both are weighted by their precision. (The model may inform a reward that is
    served; it never informs what it is fitted to.) Where there is neither, the fallback pays, or nobody.

    Rewards are from -1 to 1: twice the chance that the answer satisfies, less 1.

    Args:
        fallback: Rules, or a metric by references; None pays 0.

    Attributes:
        aggregate: What people's labels say, or None.
        model: The reward model that serves, or None.
    """

    name = "routed"

    def __init__(self, fallback: Feedback | None = None) -> None:
        self.fallback = fallback
        self.aggregate: Aggregate | None = None
        self.model: RewardModel | None = None

    def score(
        self, examples: Sequence[QAExample], answers: Sequence[str], rngs: Sequence[np.random.Generator]
    ) -> Score:
        """The rewards ``(batch,)``, and which share of each came from whom.

        The components ``from_people``, ``from_model`` and ``from_fallback`` add up to 1, or to 0 where
        nobody paid.
        """
        labelled = self._labelled(examples, answers)
        human = np.array([quality is not None for quality in labelled], dtype=np.bool_)
        if self.model is not None:
            reward, share = self._blended(self.model, examples, answers, labelled)
            return Score(reward, sources(share, 1 - share, np.zeros(len(answers))))
        reward, rest = np.zeros(len(answers)), ~human & (self.fallback is not None)
        if self.fallback is not None and rest.any():
            rows = np.flatnonzero(rest).tolist()
            asked = [examples[i] for i in rows], [answers[i] for i in rows], [rngs[i] for i in rows]
            reward[rest] = self.fallback.score(*asked).reward
        for i in np.flatnonzero(human).tolist():
            assert self.aggregate is not None
            id_ = answer_id(examples[i].question, examples[i].context, answers[i])
            reward[i] = 2 * self.aggregate.satisfies(id_) - 1
        nobody = np.zeros(len(answers))
        return Score(reward, sources(human.astype(np.float64), nobody, rest.astype(np.float64)))

    def labelled_of(self, examples: Sequence[QAExample], answers: Sequence[str]) -> list[bool]:
        """Whether people's labels say anything of each answer."""
        return [quality is not None for quality in self._labelled(examples, answers)]

    def _labelled(self, examples: Sequence[QAExample], answers: Sequence[str]) -> list[Quality | None]:
        """What people's labels say of each answer; None where they say nothing."""
        if self.aggregate is None:
            return [None] * len(answers)
        known = self.aggregate.quality
        found = [
            known.get(answer_id(e.question, e.context, a)) for e, a in zip(examples, answers, strict=True)
        ]
        return [quality if quality is not None and quality.n else None for quality in found]

    def _blended(
        self,
        model: RewardModel,
        examples: Sequence[QAExample],
        answers: Sequence[str],
        labelled: Sequence[Quality | None],
    ) -> tuple[FloatArray, FloatArray]:
        """Rewards, and the labels' share in each, both ``(batch,)``."""
        quality = model.members(*render(examples, answers, model.vocabulary, model.limits))
        mean = np.array([0.0 if q is None else q.mean for q in labelled])
        precision = np.array([0.0 if q is None else q.sd**-2 for q in labelled])
        of_model = 1 / (quality.std(1) ** 2 + MODEL_SD**2)
        share = precision / (precision + of_model)
        blended = quality * (1 - share)[:, None] + (mean * share)[:, None]
        return model.reward(model.judged(blended)), share


def sources(human: FloatArray, model: FloatArray, fallback: FloatArray) -> dict[str, FloatArray]:
    """Components that say who paid, each ``(batch,)``."""
    return {"from_people": human, "from_model": model, "from_fallback": fallback}
