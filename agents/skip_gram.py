"""Word vectors from one's own text: skip-gram with negative sampling (Mikolov et al. 2013)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from qa_env.errors import QAError
from qa_env.vocabulary_making import words_of

IntArray = NDArray[np.int64]

NOISE_POWER = 0.75
"""Negative samples are drawn by a word's frequency to this power (Mikolov et al. 2013, section 2.2)."""


@dataclass(frozen=True)
class SkipGramConfig:
    """Settings of the training of word vectors."""

    dimensions: int = 100
    window: int = 5
    """At most so many words on either side of a word are its context."""
    negatives: int = 5
    """Random words that a true context word is told from."""
    min_count: int = 3
    """Words that stand less often in the text get no vector."""
    words: int = 30_000
    """At most so many words get one, the most frequent."""
    subsampling: float = 1e-3
    """Frequency above which a word is left out now and then."""
    epochs: int = 5
    batch_size: int = 2048
    """Pairs of a word and a context word in a gradient step."""
    learning_rate: float = 5e-3
    """At the start; it falls linearly to a tenth."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise a QAError if a setting is out of its range."""
        for name in ("dimensions", "window", "negatives", "min_count", "words", "epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise QAError(f"{name} must be 1 or more, got {getattr(self, name)}")
        for name in ("subsampling", "learning_rate"):
            if not getattr(self, name) > 0:
                raise QAError(f"{name} must be greater than 0, got {getattr(self, name)}")


class SkipGram(NamedTuple):
    """What was learned.

    Attributes:
        words: In lower case, the most frequent first.
        vectors: ``(words, dimensions)``.
    """

    words: list[str]
    vectors: NDArray[np.float32]


class _Network(nn.Module):
    """Scores how likely words stand near one another, ``u_c^T v_w``."""

    def __init__(self, words: int, dimensions: int) -> None:
        super().__init__()
        self.word = nn.Embedding(words, dimensions)
        self.context = nn.Embedding(words, dimensions)
        nn.init.uniform_(self.word.weight, -0.5 / dimensions, 0.5 / dimensions)  # as word2vec does
        nn.init.zeros_(self.context.weight)

    def forward(self, word: Tensor, context: Tensor, noise: Tensor) -> Tensor:
        """The loss: ``-log sigmoid(u_c^T v_w) - sum_n log sigmoid(-u_n^T v_w)``, a mean over the pairs.

        Mikolov et al. 2013, "Distributed Representations of Words and Phrases and their Compositionality",
        equation 4.

        Args:
            word: Ids, ``(batch,)``.
            context: Ids of words that stand near them, ``(batch,)``.
            noise: Ids of random words, ``(batch, negatives)``.
        """
        vectors = self.word(word)
        near = (self.context(context) * vectors).sum(1)
        far = torch.bmm(self.context(noise), vectors.unsqueeze(2)).squeeze(2)
        loss: Tensor = nn.functional.softplus(-near) + nn.functional.softplus(far).sum(1)
        return loss.mean()


def train_vectors(
    texts: Iterable[str],
    config: SkipGramConfig,
    report: Callable[[int, float], None] = lambda epoch, loss: None,
) -> SkipGram:
    """Learn vectors of the words in `texts`, in lower case.

    Words are those of a vocabulary of the kind "words", so that its tokens find their vectors. No context
    reaches beyond a text.

    Args:
        texts: Sentences, lines or passages.
        config: Settings.
        report: Called after each epoch with the mean loss of a pair.

    Raises:
        QAError: If fewer than two words stand often enough in the texts.
    """
    split = [words_of(text.lower()) for text in texts]
    counts = Counter(word for words in split for word in words)
    kept = [(w, n) for w, n in counts.most_common(config.words) if n >= config.min_count]
    if len(kept) < 2:
        raise QAError(
            f"only {len(kept)} words stand {config.min_count} times or more in the text: give more of it, or "
            "a smaller --min-count"
        )
    ids = {word: place for place, (word, _) in enumerate(kept)}
    running = [np.array([ids[word] for word in words if word in ids], dtype=np.int64) for words in split]
    frequency = np.array([count for _, count in kept], dtype=np.float64) / sum(count for _, count in kept)
    torch.manual_seed(config.seed)
    network = _Network(len(kept), config.dimensions)
    _fit(network, running, frequency, config, report)
    return SkipGram(list(ids), network.word.weight.detach().numpy())


def _fit(
    network: _Network,
    running: Sequence[IntArray],
    frequency: NDArray[np.float64],
    config: SkipGramConfig,
    report: Callable[[int, float], None],
) -> None:
    rng = np.random.default_rng(config.seed)
    noise = np.cumsum(frequency**NOISE_POWER)
    # word2vec's own formula, which the paper rounds: the share of a word's places that are kept.
    ratio = config.subsampling / frequency
    keep = np.sqrt(ratio) + ratio
    optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    for epoch in range(config.epochs):
        pairs = skip_gram_pairs(running, keep, config.window, rng)
        steps = range(0, len(pairs), config.batch_size)
        losses = []
        for start in steps:
            done = (epoch + start / len(pairs)) / config.epochs
            optimizer.param_groups[0]["lr"] = config.learning_rate * (1 - 0.9 * done)
            chosen = pairs[start : start + config.batch_size]
            drawn = np.searchsorted(noise, rng.random((len(chosen), config.negatives)) * noise[-1], "right")
            word, context = torch.from_numpy(chosen).unbind(1)
            loss = network(word, context, torch.from_numpy(drawn))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        report(epoch, float(np.mean(losses)) if losses else 0.0)


def skip_gram_pairs(
    running: Sequence[IntArray], keep: NDArray[np.float64], window: int, rng: np.random.Generator
) -> IntArray:
    """Pairs of a word and a word near it, in random order, ``(pairs, 2)``.

    Frequent words are left out at random first, which draws the others nearer together; then each word's
    window is drawn from 1 to `window`, so that near words count more (both as in word2vec).

    Args:
        running: The words' ids, a text each.
        keep: Share of each word's places that is kept, ``(words,)``.
        window: The largest window.
        rng: Draws.
    """
    text = np.repeat(np.arange(len(running)), [len(ids) for ids in running])
    words = np.concatenate([*running, np.empty(0, dtype=np.int64)])
    kept = rng.random(len(words)) < keep[words]
    text, words = text[kept], words[kept]
    reach = rng.integers(1, window + 1, len(words))
    pairs = []
    for distance in range(1, window + 1):
        same = text[distance:] == text[:-distance]
        ahead, behind = slice(distance, None), slice(None, -distance)
        for word, context in ((ahead, behind), (behind, ahead)):
            near = same & (reach[word] >= distance)
            pairs.append(np.stack((words[word][near], words[context][near]), axis=1))
    return rng.permutation(np.concatenate(pairs))
