"""SIMULATED annotators: true scores in, labels with the errors of people out. Nobody was asked anything.

`AnnotatorConfig` names the ways to err. The randomness of a reply is drawn from the seed, the annotator's
name and the query's id alone: the same query gets the same reply in whatever order queries come. Drift and
fatigue depend on one number beside it, the labels given so far, which is the whole state of an annotator.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from qa_env.errors import QAError
from qa_env.feedback import annotator_noise as noise
from qa_env.feedback.annotator_config import PRESETS, AnnotatorConfig
from qa_env.feedback.base import FloatArray
from qa_env.feedback.labels import (
    KINDS,
    Correction,
    Kind,
    Label,
    Pair,
    Percent,
    Ranking,
    Rating,
    Skip,
    Thumb,
)

STRENGTH_CUTS = (0.25, 0.5)
"""A difference in score from here on is "clearly", and "far", better."""
HOUR = 3600.0
DAY = 24 * HOUR


@dataclass(frozen=True)
class Reply:
    """What an annotator said of one query.

    Attributes:
        label: The label; a pair and a ranking speak of the answers' places in the query.
        unsure: Whether the annotator said that it may well be wrong.
        shown_order: The answers' places in the query, in the order shown.
        latency: Seconds from the question to the reply, without the night.
    """

    label: Label
    unsure: bool
    shown_order: tuple[int, ...]
    latency: float


class _Draws(NamedTuple):
    """Uniform numbers, one for each error that happens or does not."""

    skip: float
    lazy: float
    lapse: float
    mistake: float
    flip: float
    fuzzy: float
    unsure: float


class SimulatedAnnotator:
    """One simulated annotator.

    Attributes:
        name: The rater's name.
        config: How it errs.
        given: Labels given so far; skips do not count.
    """

    def __init__(self, name: str, config: AnnotatorConfig, seed: int = 0) -> None:
        if seed < 0:
            raise QAError(f"seed must be >= 0, got {seed}")
        self.name = name
        self.config = config
        self.seed = seed
        self.given = 0

    def answer(
        self,
        query: str,
        kind: Kind,
        scores: Sequence[float | Sequence[float]],
        lengths: Sequence[int],
        correction: str | None = None,
        shown_order: Sequence[int] | None = None,
    ) -> Reply:
        """Reply to one query.

        Args:
            query: The query's id, from which the randomness of the reply comes.
            kind: What is asked for.
            scores: The true score of each answer, in [0, 1]; or the scores of its parts.
            lengths: Words of each answer.
            correction: The text that a correction consists of. Without it the annotator knows no better
                answer and skips. It is the one label that is never wrong.
            shown_order: The answers' places in the order shown; None for a random order.

        Raises:
            QAError: If the kind is unknown, the number of answers does not fit it, a score lies outside
                [0, 1], or `shown_order` is no order of the answers.
        """
        _check_query(kind, len(scores), len(lengths))
        key = hashlib.sha256(f"{self.seed}\0{self.name}\0{query}".encode()).digest()
        rng = np.random.default_rng(np.frombuffer(key, dtype="<u4"))
        # What decides is drawn first and always: an error can be switched on, and the other draws stay.
        draws = _Draws(*rng.random(len(_Draws._fields)).tolist())
        latency = self.config.delay_median * math.exp(self.config.delay_sigma * rng.standard_normal())
        order = tuple(int(place) for place in rng.permutation(len(scores)))
        if shown_order is not None:
            order = tuple(shown_order)
            if sorted(order) != list(range(len(scores))):
                raise QAError(f"shown_order must hold the places 0 to {len(scores) - 1}, got {shown_order}")
        seen = self._see(scores, lengths, rng)
        label = self._decline(kind, seen, correction, draws) or self._judge(kind, seen, order, draws, rng)
        if not isinstance(label, Skip):
            self.given += 1
        return Reply(label, draws.unsure < self.config.unsure, order, latency)

    def replied_at(self, asked: float, latency: float) -> float:
        """When the reply to a query comes: after `latency`, and not in the night.

        Args:
            asked: Time of the query, in seconds; midnight is at multiples of 86,400.
            latency: Seconds to reply.
        """
        done = asked + latency
        asleep = (done - self.config.night_start * HOUR) % DAY
        night = self.config.night_hours * HOUR
        return done + night - asleep if asleep < night else done

    def state(self) -> dict[str, int]:
        """What `load_state` needs to go on as if there had been no break."""
        return {"given": self.given}

    def load_state(self, state: Mapping[str, int]) -> None:
        """Take up a state of `state`.

        Raises:
            QAError: If it holds no number of labels.
        """
        given = state.get("given")
        if not isinstance(given, int) or given < 0:
            raise QAError(f"the state of an annotator must be {{'given': labels}}, got {state!r:.60}")
        self.given = given

    def _see(
        self, scores: Sequence[float | Sequence[float]], lengths: Sequence[int], rng: np.random.Generator
    ) -> FloatArray:
        """The scores as this annotator sees them, shape ``(answers,)``; bias may lead out of [0, 1]."""
        config = self.config
        seen = noise.skewed(
            np.array([noise.discounted(parts, config.gamma) for parts in scores]), config.skew
        )
        if config.variance > 0.0:
            seen = noise.varied(seen, config.variance, rng)
        seen += config.length_bias * (np.asarray(lengths, dtype=np.float64) - config.usual_words) / 10.0
        seen += config.drift * self.given / 100.0
        return seen if config.granularity is None else noise.granular(seen, config.granularity)

    def _decline(self, kind: Kind, seen: FloatArray, correction: str | None, draws: _Draws) -> Label | None:
        """A skip, or the correction, where nothing has to be judged; else None."""
        if draws.skip < self.config.skip:
            return Skip("does not want to judge")
        if kind == "correction":
            return Skip("knows no better answer") if correction is None else Correction(correction)
        if kind in ("pair", "ranking") and seen.max() < self.config.eps_skip:
            return Skip("no answer is worth comparing")
        return None

    def _judge(
        self, kind: Kind, seen: FloatArray, order: Sequence[int], draws: _Draws, rng: np.random.Generator
    ) -> Label:
        """The label, with the errors that do not come from how the scores are seen."""
        config = self.config
        if draws.lazy < config.lazy:
            return noise.middling(kind, seen.size)
        if draws.lapse < config.lapse + config.fatigue * (self.given % config.sitting) / 100.0:
            return noise.careless(kind, seen.size, rng)
        label = self._say(kind, seen, order, rng)
        if kind in ("pair", "ranking") and draws.mistake < config.eps_mistake:
            label = noise.inverted(label)
        if draws.flip < config.flip:
            label = noise.inverted(label)
        return noise.fuzzy(label, rng) if draws.fuzzy < config.fuzzy else label

    def _say(self, kind: Kind, seen: FloatArray, order: Sequence[int], rng: np.random.Generator) -> Label:
        """The label that is meant."""
        config = self.config
        if kind == "pair":
            return self._compare(seen, order, rng)
        if kind == "ranking":
            return self._rank(seen, order, rng)
        score = float(seen[0]) + config.noise * float(rng.logistic())
        if kind == "rating":
            grade = 1 + sum(score >= cut for cut in config.cuts)
            return Rating(grade, grade)
        if kind == "thumb":
            return Thumb(score >= config.thumb_cut)
        percent = 100.0 * min(max(score, 0.0), 1.0)
        return Percent(percent, percent)

    def _compare(self, seen: FloatArray, order: Sequence[int], rng: np.random.Generator) -> Label:
        """Bradley-Terry as a logistic difference, so that the strength of a preference follows too."""
        config = self.config
        if seen.max() <= config.both_wrong:
            return Pair("both_wrong")
        difference = float(seen[0] - seen[1])
        if abs(difference) <= config.eps_equal:
            return Pair("tie")
        bias = config.position_bias if order[0] == 0 else -config.position_bias
        difference += (bias + float(rng.logistic())) / config.beta
        strength = 1 + sum(abs(difference) >= cut for cut in STRENGTH_CUTS)
        return Pair("first" if difference > 0 else "second", strength)

    def _rank(self, seen: FloatArray, order: Sequence[int], rng: np.random.Generator) -> Label:
        """Plackett-Luce as scores with Gumbel noise; answers then within `eps_equal` share a rank."""
        config = self.config
        bias = np.where(np.arange(seen.size) == order[0], config.position_bias, 0.0)
        return Ranking(
            noise.ranks_of(seen + (bias + rng.gumbel(size=seen.size)) / config.beta, config.eps_equal)
        )


def crowd(
    number: int = 13, base: AnnotatorConfig = PRESETS["oracle"], seed: int = 0
) -> list[SimulatedAnnotator]:
    """Annotators who differ in strictness, skew, rationality and haste.

    Thirteen, as in Dubois et al. (2023, "AlpacaFarm: A Simulation Framework for Methods that Learn from Human
    Feedback").

    All cut points of one annotator are shifted alike, normal with a standard deviation of 0.1 (0.4 grades, as
    in `SimulatedUsersConfig`). Skew, rationality, noise and the median of the delay are multiplied, each by a
    log-normal number with a sigma of 0.25; what is off in `base` stays off. The rest is shared.

    Raises:
        QAError: If there is to be no annotator.
    """
    if number < 1:
        raise QAError(f"a crowd needs at least 1 annotator, got {number}")
    rng = np.random.default_rng(seed)
    annotators = []
    for place in range(number):
        strictness = float(rng.normal(0.0, 0.1))
        skew, beta, scale, delay = (float(factor) for factor in np.exp(rng.normal(0.0, 0.25, 4)))
        first, second, third, fourth = (cut + strictness for cut in base.cuts)
        config = dataclasses.replace(
            base,
            cuts=(first, second, third, fourth),
            thumb_cut=base.thumb_cut + strictness,
            skew=base.skew * skew,
            beta=base.beta * beta,
            noise=base.noise * scale,
            delay_median=base.delay_median * delay,
        )
        annotators.append(SimulatedAnnotator(f"simulated-{place + 1:02d}", config, seed))
    return annotators


def _check_query(kind: Kind, scores: int, lengths: int) -> None:
    if kind not in KINDS:
        raise QAError(f"a query's kind must be one of {', '.join(KINDS)}; got {kind!r:.40}")
    fits = scores >= 2 if kind == "ranking" else scores == (2 if kind == "pair" else 1)
    if not fits or lengths != scores:
        wanted = {"ranking": "two or more answers", "pair": "two answers"}.get(kind, "one answer")
        raise QAError(f"a {kind} is of {wanted}; got {scores} scores and {lengths} lengths")
