"""Which of a rollout's answers to ask people about.

Some picks are always uniform: active choice can hurt (Christiano et al. 2017), and labels of uniform picks
alone tell without bias how good the reward model is.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from qa_env.errors import QAError
from qa_env.feedback.naming import load_named

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
Purpose = Literal["train", "uniform"]

PRESELECTED = 4
"""Candidates with the greatest disagreement, for each that k-centre picks among them."""
MAX_PAIRS = 4096
"""Pairs considered; of more, so many are drawn."""


def _unknown() -> FloatArray:
    return np.array(np.nan)


@dataclass(frozen=True)
class Candidates:
    """Answers that people could be asked about. What is not known is left out, or is NaN.

    Attributes:
        question: Index of each answer's question, shape ``(n,)``.
        answer: What tells answers to one question apart, length ``n``: ids, texts or tuples of tokens.
            Texts that differ in nothing that matters should be given the same. Kept as ``(n,)`` integers
            below n.
        disagreement: Standard deviation of the reward model's members, shape ``(n,)``.
        entropy: The policy's mean entropy a token, or negative log-likelihood, shape ``(n,)``.
        features: Embeddings, shape ``(n, d)``.
        labelled: Embeddings of what has been asked about before, shape ``(m, d)``.
        asked: How often each question was asked about before, shape ``(questions,)``.
    """

    question: IntArray
    answer: Sequence[Hashable] | IntArray
    disagreement: FloatArray = field(default_factory=_unknown)
    entropy: FloatArray = field(default_factory=_unknown)
    features: FloatArray = field(default_factory=lambda: np.empty((0, 0)))
    labelled: FloatArray = field(default_factory=lambda: np.empty((0, 0)))
    asked: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def __post_init__(self) -> None:
        """Make arrays of everything.

        Raises:
            QAError: If shapes do not fit, a question has no count, or an embedding is not finite.
        """
        n, codes = len(self.question), dict[Hashable, int]()
        self._set("question", self.question, np.int64, (n,))
        self._set("answer", [codes.setdefault(answer, len(codes)) for answer in self.answer], np.int64, (n,))
        for name in ("disagreement", "entropy"):
            value = getattr(self, name)
            self._set(name, np.full(n, np.nan) if np.ndim(value) == 0 else value, np.float64, (n,))
        questions = int(self.question.max(initial=-1)) + 1
        self._set("asked", self.asked if len(self.asked) else np.zeros(questions), np.int64, None)
        if self.question.min(initial=0) < 0 or questions > len(self.asked):
            raise QAError(f"a candidate's question must be an index into {len(self.asked)} counts `asked`")
        width = np.shape(self.features)[-1]
        self._set("features", self.features if width else np.empty((n, 0)), np.float64, (n, width))
        labelled = self.labelled if len(self.labelled) else np.empty((0, width))
        self._set("labelled", labelled, np.float64, (len(labelled), width))
        if not (np.isfinite(self.features).all() and np.isfinite(self.labelled).all()):
            raise QAError("embeddings must be finite; leave features out if they are not known")

    def _set(self, name: str, value: Any, dtype: type, shape: tuple[int, ...] | None) -> None:
        array: NDArray[Any] = np.asarray(value, dtype=dtype)
        if shape is not None and array.shape != shape:
            raise QAError(f"candidates' {name} must have shape {shape}, got {array.shape}")
        object.__setattr__(self, name, array)

    def __len__(self) -> int:
        return len(self.question)

    def take(self, rows: IntArray) -> Candidates:
        """Return these candidates alone."""
        return replace(
            self,
            question=self.question[rows],
            answer=np.asarray(self.answer)[rows],
            disagreement=self.disagreement[rows],
            entropy=self.entropy[rows],
            features=self.features[rows],
        )

    def after(self, rows: IntArray) -> Candidates:
        """Return the same candidates as they are once these will have been asked about."""
        asked = self.asked + np.bincount(self.question[rows], minlength=len(self.asked))
        return replace(self, labelled=np.concatenate([self.labelled, self.features[rows]]), asked=asked)


Selector = Callable[[Candidates, int, np.random.Generator], IntArray]
"""Returns the indices of at most so many different candidates."""


def uniform(candidates: Candidates, number: int, rng: np.random.Generator) -> IntArray:
    """Any."""
    return rng.permutation(len(candidates))[:number]


def disagreement(candidates: Candidates, number: int, rng: np.random.Generator) -> IntArray:
    """Those that the reward model's members see most differently (Christiano et al. 2017)."""
    return _greatest(candidates.disagreement, number, rng)


def entropy(candidates: Candidates, number: int, rng: np.random.Generator) -> IntArray:
    """Those that the policy was least sure of (uncertainty sampling, Lewis & Gale 1994)."""
    return _greatest(candidates.entropy, number, rng)


def k_centre(candidates: Candidates, number: int, rng: np.random.Generator) -> IntArray:
    """Each time the one that lies farthest from all that is labelled or picked.

    The greedy 2-approximation of Gonzalez (1985), for active learning by Sener & Savarese (2018, "Active
    Learning for Convolutional Neural Networks: A Core-Set Approach"). Distances are Euclidean.
    """
    # In random order, ties are broken at random; without features, everything ties.
    order = rng.permutation(len(candidates))
    features, picked = candidates.features[order], list[int]()
    distance = _nearest(features, candidates.labelled)
    for _ in range(min(number, len(order))):
        pick = int(distance.argmax())
        picked.append(pick)
        distance = np.minimum(distance, ((features - features[pick]) ** 2).sum(axis=1))
        distance[picked] = -np.inf
    return order[picked]


def k_centre_disagreement(candidates: Candidates, number: int, rng: np.random.Generator) -> IntArray:
    """k-centre among the `PRESELECTED` times as many with the greatest disagreement."""
    rows = disagreement(candidates, PRESELECTED * number, rng)
    return rows[k_centre(candidates.take(rows), number, rng)]


def rare_question(candidates: Candidates, number: int, rng: np.random.Generator) -> IntArray:
    """Answers to the questions that were asked about least, counting what is picked."""
    order = rng.permutation(len(candidates))
    question = candidates.question[order]
    grouped = np.argsort(question, kind="stable")
    starts = np.searchsorted(question[grouped], question[grouped])
    earlier = np.empty_like(order)
    earlier[grouped] = np.arange(len(order)) - starts
    return order[np.argsort(candidates.asked[question] + earlier, kind="stable")][:number]


SELECTORS: dict[str, Selector] = {
    "uniform": uniform,
    "disagreement": disagreement,
    "entropy": entropy,
    "k-centre": k_centre,
    "k-centre+disagreement": k_centre_disagreement,
    "rare-question": rare_question,
}
"""The selectors by name. Each picks uniformly where it lacks what it goes by."""


def _greatest(score: FloatArray, number: int, rng: np.random.Generator) -> IntArray:
    """Indices of the greatest, ties at random and NaN last: where all are NaN, a uniform pick."""
    order = rng.permutation(len(score))
    return order[np.argsort(-score[order], kind="stable")][:number]


def _nearest(features: FloatArray, centres: FloatArray) -> FloatArray:
    """Squared distance of each row to its nearest centre; infinite if there are none."""
    if not len(centres):
        return np.full(len(features), np.inf)
    squares = (features**2).sum(axis=1)[:, None] + (centres**2).sum(axis=1) - 2.0 * features @ centres.T
    return np.asarray(squares.min(axis=1))


@dataclass(frozen=True)
class Selection:
    """What to ask about.

    Attributes:
        indices: Candidates, shape ``(k,)``, or pairs of them, ``(k, 2)``.
        purposes: "uniform" for the picks that are uniform whatever the selector, else "train"; length ``k``.
    """

    indices: IntArray
    purposes: tuple[Purpose, ...]


def select(
    candidates: Candidates,
    number: int,
    selector: str = "uniform",
    uniform_share: float = 0.2,
    *,
    rng: np.random.Generator,
) -> Selection:
    """Choose what to ask about. The same answer to the same question is asked about once.

    Uniform picks are drawn first, from all answers: one that was given twice is twice as likely. The selector
    then chooses among the different answers that are left.

    Args:
        candidates: To choose from.
        number: How many at most; fewer only if there are not so many different ones.
        selector: A name in `SELECTORS`, or ``"module:attribute"`` of a function like those.
        uniform_share: Share of uniform picks. A fraction of a pick is rounded up or down at random, so that
            the share holds on average where few are picked at a time.
        rng: Of all randomness.

    Raises:
        QAError: If there is no such selector, the share is not from 0 to 1, or the selector returns
            something other than different indices, at most as many as it was asked for.
    """
    choose: Selector = load_named(selector, SELECTORS, "selector")
    if not 0 <= uniform_share <= 1:
        raise QAError(f"the share of uniform picks must be from 0 to 1, got {uniform_share}")
    distinct = _distinct(candidates, rng)
    number = max(0, min(number, len(distinct)))
    whole, part = divmod(uniform_share * number, 1)
    uniforms = int(whole) + int(rng.random() < part)
    drawn, others = distinct[:uniforms], distinct[uniforms:]
    picked = choose(candidates.after(drawn).take(others), number - uniforms, rng)
    chosen = others[_checked(picked, number - uniforms, len(others), selector)]
    fair: tuple[Purpose, ...] = ("uniform",)
    trained: tuple[Purpose, ...] = ("train",)
    return Selection(np.concatenate([drawn, chosen]), fair * len(drawn) + trained * len(chosen))


def pairs_of(
    candidates: Candidates,
    number: int,
    selector: str = "uniform",
    uniform_share: float = 0.2,
    *,
    rng: np.random.Generator,
) -> Selection:
    """Choose pairs of different answers to the same question, as `select` does single ones.

    A pair's disagreement and entropy are the sums of its answers', its features their mean; `labelled` should
    hold such means.

    Args:
        candidates: Answers to pair.
        number: How many pairs at most.
        selector: As for `select`.
        uniform_share: As for `select`.
        rng: Of all randomness, the order in a pair included.

    Raises:
        QAError: As for `select`.
    """
    pairs = rng.permuted(rng.permutation(_all_pairs(candidates))[:MAX_PAIRS], axis=1)
    first, second = pairs.T
    answers = np.sort(np.asarray(candidates.answer)[pairs], axis=1)
    of_pairs = replace(
        candidates,
        question=candidates.question[first],
        answer=[tuple(pair) for pair in answers.tolist()],
        disagreement=candidates.disagreement[first] + candidates.disagreement[second],
        entropy=candidates.entropy[first] + candidates.entropy[second],
        features=(candidates.features[first] + candidates.features[second]) / 2,
    )
    selection = select(of_pairs, number, selector, uniform_share, rng=rng)
    return replace(selection, indices=pairs[selection.indices])


def _distinct(candidates: Candidates, rng: np.random.Generator) -> IntArray:
    """One index of each different question and answer, in the order in which a uniform draw meets them."""
    order = rng.permutation(len(candidates))
    keys = candidates.question * len(candidates) + np.asarray(candidates.answer)
    _, first = np.unique(keys[order], return_index=True)
    return order[np.sort(first)]


def _all_pairs(candidates: Candidates) -> IntArray:
    """Every two candidates with the same question and different answers, shape ``(pairs, 2)``."""
    answer, found = np.asarray(candidates.answer), [np.empty((0, 2), dtype=np.int64)]
    for question in np.unique(candidates.question):
        rows = np.flatnonzero(candidates.question == question)
        pairs = rows[np.stack(np.triu_indices(len(rows), k=1), axis=1)]
        found.append(pairs[answer[pairs[:, 0]] != answer[pairs[:, 1]]])
    return np.concatenate(found)


def _checked(picked: IntArray, number: int, candidates: int, selector: str) -> IntArray:
    indices = np.asarray(picked)
    whole = indices.ndim == 1 and (not indices.size or np.issubdtype(indices.dtype, np.integer))
    if not (whole and len(set(indices.tolist())) == len(indices) <= number) or (
        indices.size and not 0 <= indices.min() <= indices.max() < candidates
    ):
        raise QAError(
            f"selector '{selector}' must return at most {number} different indices below {candidates}, "
            f"got {picked!r:.80}"
        )
    return indices.astype(np.int64)
