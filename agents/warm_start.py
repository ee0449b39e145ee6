"""Supervised warm start: teacher forcing on the labelled questions, then a first fit of the critic."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from agents.augmentation import Augmentation
from agents.decoding import Limits
from policies.actor_critic import LMActorCriticPolicy
from policies.optimizers import make_optimizer
from policies.reading import AnswerBatch
from qa_env.datasets import QAExample
from qa_env.errors import QAError
from qa_env.task import encode_examples
from qa_env.vocabulary import PAD, Vocabulary

POOL = 12
"""Minibatches among which examples are sorted by length."""


@dataclass(frozen=True)
class WarmStartConfig:
    """Settings of the supervised warm start."""

    epochs: int = 40
    """At most; early stopping usually ends it before."""
    batch_size: int = 16
    """Answers a gradient step."""
    learning_rate: float = 2e-3
    references: Literal["main", "all"] = "main"
    """Which reference answers are learned: the main one of each question (the first that is not too long), or
    in each epoch one of them, drawn anew."""
    rate_decay: float = 1.0
    """What the learning rate is multiplied by after an epoch without better validation."""
    dropout: float = 0.0
    """Share of what the model reads that is left out while it learns: with thousands of labelled questions it
    learns them by heart otherwise. Where there are few, names are renamed instead (`augmentation`)."""
    patience: int = 4
    """Epochs without better validation before it stops."""
    choose_by: Literal["loss", "score"] = "loss"
    """What validation is: the loss a token, or how good written answers are (`checkpoint_score`), which takes
    longer. With thousands of labelled questions the loss rises while answers still get better."""
    critic_rollouts: int = 2
    """Rollouts on which the value head is fitted before the first policy update."""

    def __post_init__(self) -> None:
        """Raise a QAError if a share is out of its range."""
        if not 0 < self.rate_decay <= 1:
            raise QAError(
                f"warm_start.rate_decay must be greater than 0 and at most 1, got {self.rate_decay}"
            )
        if not 0 <= self.dropout < 1:
            raise QAError(f"warm_start.dropout must be from 0 to less than 1, got {self.dropout}")


@dataclass(frozen=True)
class Supervised:
    """Questions with reference answers, as ids.

    Attributes:
        examples: The questions.
        source: ``(examples, max_source)``.
        tokens: The main answers with EOS, ``(examples, max_answer)``.
        references: All the answers, those of one question behind each other, ``(answers, max_answer)``.
        number: How many there are to each question, ``(examples,)``.
        cut: How many examples did not fit the limits: sources are cut, and left out is what has only answers
            that are too long.
    """

    examples: tuple[QAExample, ...]
    source: NDArray[np.int64]
    tokens: NDArray[np.int64]
    references: NDArray[np.int64]
    number: NDArray[np.int64]
    cut: int

    @classmethod
    def from_examples(
        cls, examples: Sequence[QAExample], vocabulary: Vocabulary, limits: Limits
    ) -> Supervised:
        """Encode the examples that have a reference answer; it is "" if they are unanswerable.

        The main answer is the first that fits the limits.

        Raises:
            QAError: If none has an answer that fits.
        """
        answered = [e for e in examples if e.references]
        ids = iter(vocabulary.encode_answers([text for e in answered for text in e.references]))
        fitting = [
            [row for _ in e.references if len(row := next(ids)) <= limits.max_answer] for e in answered
        ]
        kept = [e for e, rows in zip(answered, fitting, strict=True) if rows]
        if not kept:
            raise QAError(
                f"no labelled question: supervised training needs reference answers of at most "
                f"{limits.max_answer} tokens, and none of {len(examples)} examples has one"
            )
        source, cut = encode_examples(kept, vocabulary, limits.max_source)
        number = np.array([len(rows) for rows in fitting if rows])
        references = np.full((number.sum(), limits.max_answer), PAD, dtype=np.int64)
        for row, answer in zip(references, (row for rows in fitting for row in rows), strict=True):
            row[: len(answer)] = answer
        tokens = references[np.cumsum(number) - number]
        return cls(tuple(kept), source, tokens, references, number, cut + len(answered) - len(kept))

    def batches(
        self, size: int, device: torch.device | str = "cpu"
    ) -> Iterator[tuple[AnswerBatch, torch.Tensor]]:
        """All the examples in order, as minibatches of whole answers and their tokens ``(rows,)``."""
        for start in range(0, len(self.source), size):
            yield as_batch(self.source[start : start + size], self.tokens[start : start + size], device)

    def shuffled(
        self,
        size: int,
        augmentation: Augmentation,
        rng: np.random.Generator,
        device: torch.device | str = "cpu",
        references: str = "main",
    ) -> Iterator[tuple[AnswerBatch, torch.Tensor]]:
        """One epoch in random order, every example changed by the `augmentation`.

        With `references` "all" each answer is any one of its question's.
        """
        tokens = self.tokens
        if references == "all":
            tokens = self.references[np.cumsum(self.number) - 1 - rng.integers(self.number)]
        for rows in bucketed(self.source, size, rng):
            yield as_batch(*augmentation(self.source[rows], tokens[rows], rng), device)


def bucketed(source: NDArray[np.int64], size: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Rows of minibatches of `size` in random order, sources ``(examples, source)`` of like length together.

    A minibatch is as wide as its longest source; chosen at random it would be a third padding.
    """
    order = rng.permutation(len(source))
    lengths = (source != PAD).sum(1)
    batches = []
    for start in range(0, len(order), POOL * size):
        pool = order[start : start + POOL * size]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches += [pool[first : first + size] for first in range(0, len(pool), size)]
    return [batches[place] for place in rng.permutation(len(batches))]


def as_batch(
    source: NDArray[np.int64], tokens: NDArray[np.int64], device: torch.device | str = "cpu"
) -> tuple[AnswerBatch, torch.Tensor]:
    """Whole answers ``(answers, time)`` to sources ``(answers, source)``, and their tokens ``(rows,)``."""
    ids = torch.as_tensor(tokens, device=device)
    answer, time = (ids != PAD).nonzero(as_tuple=True)
    asked = torch.arange(len(ids), device=device)
    batch = AnswerBatch(torch.as_tensor(source, device=device), asked, ids, answer, time, None)
    return batch, ids[answer, time]


def negative_log_likelihood(policy: LMActorCriticPolicy, data: Supervised, size: int = 256) -> float:
    """Mean over the tokens of ``-log pi(token)``, teacher-forced, `size` answers at a time."""
    total, count = 0.0, 0
    with torch.no_grad():
        for batch, tokens in data.batches(size, policy.device):
            total, count = total - float(policy.log_likelihood(batch, tokens).sum()), count + len(tokens)
    return total / count


def warm_start(
    policy: LMActorCriticPolicy,
    train: Supervised,
    validate: Callable[[], float],
    augmentation: Augmentation,
    config: WarmStartConfig,
    seed: int,
    report: Callable[[int, float, float], None] = lambda epoch, loss, validation: None,
) -> None:
    """Maximise the likelihood of the reference answers; keep the weights of the best validation.

    Args:
        policy: Trained in place, encoder included unless it is frozen.
        train: The labelled questions.
        validate: Tells how far the policy is from perfect on other questions, for early stopping.
        augmentation: Changes the labelled questions anew in each epoch.
        config: Settings.
        seed: Of the order of the minibatches.
        report: Called after each epoch with the training loss (nats a token) and what `validate` told.
    """
    rng = np.random.default_rng(seed)
    epochs = (
        train.shuffled(config.batch_size, augmentation, rng, policy.device, config.references)
        for _ in range(config.epochs)
    )
    maximise_likelihood(policy, epochs, validate, config, report)


def maximise_likelihood(
    policy: LMActorCriticPolicy,
    epochs: Iterable[Iterable[tuple[AnswerBatch, torch.Tensor]]],
    validate: Callable[[], float],
    config: WarmStartConfig,
    report: Callable[[int, float, float], None],
) -> None:
    """Teacher forcing; the weights of the best validation are kept.

    Args:
        policy: Its language model is trained in place.
        epochs: The minibatches of each epoch.
        validate: Tells how far the policy is from perfect on other questions.
        config: The learning rate and its decay, dropout, and patience.
        report: As for `warm_start`.
    """
    optimizer = make_optimizer(policy.lm, config.learning_rate)
    best, least, waited = copy.deepcopy(policy.lm.state_dict()), np.inf, 0
    for epoch, batches in enumerate(epochs):
        policy.set_training_mode(True)
        with policy.lm.dropping(config.dropout):
            losses = [_step(policy, optimizer, *batch) for batch in batches]
        policy.set_training_mode(False)
        missing = validate()
        report(epoch, float(np.mean(losses)), missing)
        if missing < least:
            best, least, waited = copy.deepcopy(policy.lm.state_dict()), missing, 0
        else:
            waited += 1
            for group in optimizer.param_groups:
                group["lr"] *= config.rate_decay
            if waited > config.patience:
                break
    policy.lm.load_state_dict(best)


def _step(
    policy: LMActorCriticPolicy, optimizer: torch.optim.Optimizer, batch: AnswerBatch, tokens: torch.Tensor
) -> float:
    """One gradient step on a minibatch; its loss before."""
    loss = -policy.log_likelihood(batch, tokens).mean()
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(policy.lm.parameters(), 1.0)
    optimizer.step()
    return loss.item()
