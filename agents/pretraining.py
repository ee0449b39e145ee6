"""Pre-training of the language model on plain text, before any question: denoising, teacher-forced."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

import numpy as np
import torch
from stable_baselines3.common.logger import Logger

from agents.augmentation import Augmentation, AugmentationConfig
from agents.config import PretrainConfig
from agents.decoding import Limits
from agents.denoising import Denoising, Pair
from agents.plain_text import Passage, cut_passages, frequent_words
from agents.warm_start import Supervised, WarmStartConfig, maximise_likelihood, negative_log_likelihood
from policies.actor_critic import LMActorCriticPolicy
from policies.reading import AnswerBatch
from qa_env.errors import QAError
from qa_env.vocabulary import PAD, Vocabulary

POOL = 16
"""Minibatches whose passages are noised together."""
MOST_HELD_OUT = 256
"""At most so many passages are held out."""

Report = Callable[[int, Mapping[str, float]], None]
"""Is told at a step the training loss (nats a token), and the held-out perplexity of each objective."""


@dataclass(frozen=True)
class Corpus:
    """Passages to pre-train on, and how they are noised.

    Attributes:
        denoising: Makes pairs of source and answer of them.
        train: The passages to learn from.
        held_out: Pairs of others, noised once, by objective.
    """

    denoising: Denoising
    train: list[Passage]
    held_out: dict[str, Supervised]

    @classmethod
    def from_texts(
        cls, texts: Sequence[str], vocabulary: Vocabulary, config: PretrainConfig, limits: Limits, seed: int
    ) -> Corpus:
        """Cut the texts into passages of three quarters of a source, and hold some of them out.

        A text whose passages are held out is not learned from, but for the one where the share ends.

        Raises:
            QAError: If no passage suits an objective.
        """
        rng = np.random.default_rng(seed)
        shuffled = [texts[place] for place in rng.permutation(len(texts))]
        passages = cut_passages(shuffled, vocabulary, max(limits.max_source * 3 // 4, 1))
        count = min(max(round(len(passages) * config.held_out), 1), MOST_HELD_OUT)
        held_out, train = passages[:count], passages[count:]
        denoising = Denoising(vocabulary, config, limits, frequent_words(passages))
        pairs = {name: denoising.pairs(name, held_out, rng) for name in denoising.shares}
        for name in denoising.shares:
            if not pairs[name] or not denoising.pairs(
                name, train[: POOL * POOL], np.random.default_rng(seed)
            ):
                raise QAError(
                    f"too little text to pre-train on: {len(passages)} passages, {count} of them held out, "
                    f"give no example for pretraining.{name}; give more text, or --pretraining.{name} 0"
                )
        return cls(denoising, train, {name: as_supervised(found, limits) for name, found in pairs.items()})

    def batches(
        self, size: int, rng: np.random.Generator, device: torch.device | str = "cpu"
    ) -> Iterator[tuple[AnswerBatch, torch.Tensor]]:
        """Minibatches without end, each of one objective; a passage is noised anew each time it comes."""
        names = list(self.denoising.shares)
        shares = np.array([*self.denoising.shares.values()])
        unchanged = Augmentation(self.denoising.vocabulary, AugmentationConfig(0.0, 0.0))
        while True:
            order = rng.permutation(len(self.train))
            for start in range(0, len(order), POOL * size):
                rows = order[start : start + POOL * size]
                chosen = rng.choice(len(names), len(rows), p=shares / shares.sum())
                batches: list[tuple[AnswerBatch, torch.Tensor]] = []
                for number, name in enumerate(names):
                    passages = [self.train[row] for row in rows[chosen == number]]
                    if pairs := self.denoising.pairs(name, passages, rng):
                        made = as_supervised(pairs, self.denoising.limits)
                        batches += made.shuffled(size, unchanged, rng, device)
                yield from (batches[place] for place in rng.permutation(len(batches)))

    def perplexities(self, policy: LMActorCriticPolicy, size: int) -> dict[str, float]:
        """The held-out perplexity of each objective: ``exp`` of the mean of ``-log p(token)``."""
        return {
            name: float(np.exp(negative_log_likelihood(policy, pairs, size)))
            for name, pairs in self.held_out.items()
        }

    def loss(self, perplexities: Mapping[str, float]) -> float:
        """The mean of the objectives' losses (nats a token) by their shares."""
        shares = self.denoising.shares
        total = sum(share * float(np.log(perplexities[name])) for name, share in shares.items())
        return total / sum(shares.values())


@dataclass(frozen=True)
class Pretrained:
    """What pre-training came to; part of a run's ``results.json``.

    Attributes:
        passages: Passages that were learned from.
        steps: Gradient steps taken.
        before: Held-out perplexity of each objective, before.
        after: The same of the weights that were kept.
    """

    passages: int
    steps: int
    before: dict[str, float]
    after: dict[str, float]

    def __str__(self) -> str:
        told = (f"{name} {self.before[name]:,.1f} to {self.after[name]:,.1f}" for name in self.before)
        return (
            f"pre-training on {self.passages:,} passages, {self.steps:,} steps; "
            f"held-out perplexity: {', '.join(told)}"
        )


def pretrain(
    policy: LMActorCriticPolicy, corpus: Corpus, config: PretrainConfig, seed: int, report: Report
) -> Pretrained:
    """Train on the corpus until the held-out loss gets no better, and keep the weights of the best one.

    Args:
        policy: Its language model is trained in place.
        corpus: The passages.
        config: Settings.
        seed: Of the order of the passages and their noise.
        report: Told at each look at the held-out text, and before the first step.
    """
    stream = corpus.batches(config.batch_size, np.random.default_rng(seed), policy.device)
    ends = [*range(config.check_every, config.steps, config.check_every), config.steps]
    measured = [corpus.perplexities(policy, config.batch_size)]
    report(0, named(measured[0]))

    def validate() -> float:
        measured.append(corpus.perplexities(policy, config.batch_size))
        return corpus.loss(measured[-1])

    rounds = (islice(stream, end - start) for start, end in pairwise([0, *ends]))
    maximise_likelihood(
        policy,
        rounds,
        validate,
        WarmStartConfig(learning_rate=config.learning_rate, patience=config.patience),
        lambda number, loss, _: report(ends[number], {"loss": loss, **named(measured[-1])}),
    )
    before, *later = measured
    return Pretrained(len(corpus.train), ends[len(later) - 1], before, min(later, key=corpus.loss))


def reporter(tell: Callable[[str], None], logger: Logger) -> Report:
    """Tells each figure in a line, and TensorBoard."""

    def report(step: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            logger.record(f"pretrain/{name}", value)
        logger.dump(step)
        told = (f"{name.replace('_', ' ')} {value:,.3g}" for name, value in figures.items())
        tell(f"pre-training, step {step}: {', '.join(told)}")

    return report


def named(perplexities: Mapping[str, float]) -> dict[str, float]:
    """Perplexities under the names that reports have for them."""
    return {f"{name}_perplexity": value for name, value in perplexities.items()}


def as_supervised(pairs: Sequence[Pair], limits: Limits) -> Supervised:
    """Pairs of source and answer as arrays; an answer may be longer than those of questions are."""
    source = np.full((len(pairs), limits.max_source), PAD, dtype=np.int64)
    tokens = np.full((len(pairs), max(len(answer) for _, answer in pairs)), PAD, dtype=np.int64)
    for row, written, (read, answer) in zip(source, tokens, pairs, strict=True):
        row[: len(read)] = read
        written[: len(answer)] = answer
    return Supervised((), source, tokens, tokens, np.ones(len(pairs), dtype=np.int64), 0)
