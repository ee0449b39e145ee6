"""What pre-training makes of a passage: a source to read, and tokens to write."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import chain

import numpy as np

from agents.config import PretrainConfig
from agents.decoding import Limits
from agents.plain_text import Passage, Word
from qa_env.vocabulary import BOS, EOS, SEP, Kind, Vocabulary

MASK = BOS
"""Stands in a source for what is missing. It begins every answer, and sources hold it nowhere else; so each
vocabulary has it, whatever tokens there are."""
SHUFFLED = 3.0
"""A word of a cloze question moves by fewer places than this."""
NEARBY = 10
"""At most so many words on each side of what is missing are in a cloze question."""
LONGEST = 6
"""Words by which a recurring span goes on to each side of a word that recurs."""

Pair = tuple[list[int], list[int]]
"""Source ids ``question SEP context``, and the ids to write, with EOS."""


class Denoising:
    """Makes pairs of source and answer from passages, in the layout of a question with its context.

    - ``language``: the decoder writes the passage, with nothing to read.
    - ``spans``: span corruption (Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a
      Unified Text-to-Text Transformer", section 3.1.4). The source is the passage with a `MASK` for each
      missing span; the answer is those spans, an EOS behind each of them.
    - ``order``: sentence permutation (Lewis et al. 2020, "BART", section 2.2). The source is the passage with
      its sentences in random order, the answer the passage.
    - ``cloze``: the question is a sentence without one of its spans, the answer that span. If a span stands
      in two sentences, one of them is the question, and the context is the passage without it: recurring
      span selection (Ram et al. 2021, "Few-Shot Question Answering by Pretraining Span Selection", section
      3). Else the context is the whole passage, and copying the span means to find the sentence again. It
      would be there word by word; so a cloze question is noised: some of its words are missing and the rest
      slightly shuffled (Lewis et al. 2019, "Unsupervised Question Answering by Cloze Translation", section
      2.4).

    Args:
        vocabulary: Of the passages.
        config: Shares and noise.
        limits: Of sources and answers.
        frequent: Words that say little, none of which begins or ends what a cloze question asks for.
    """

    def __init__(
        self, vocabulary: Vocabulary, config: PretrainConfig, limits: Limits, frequent: Iterable[Word]
    ) -> None:
        self.vocabulary, self.config, self.limits = vocabulary, config, limits
        self.shares = {name: share for name, share in config.shares().items() if share > 0}
        self._frequent = frozenset(frequent)
        self._kinds = vocabulary.kinds.tolist()
        self._make: dict[str, Callable[[Passage, np.random.Generator], Pair | None]] = {
            "language": self._language,
            "spans": self._spans,
            "order": self._order,
            "cloze": self._cloze,
        }

    def pairs(self, name: str, passages: Sequence[Passage], rng: np.random.Generator) -> list[Pair]:
        """A pair of each passage that the objective `name` suits, noised anew at each call."""
        made = (self._make[name](passage, rng) for passage in passages)
        return [pair for pair in made if pair is not None]

    def _language(self, passage: Passage, rng: np.random.Generator) -> Pair:
        return [SEP], [*flat(chain(*passage)), EOS]

    def _order(self, passage: Passage, rng: np.random.Generator) -> Pair | None:
        if len(passage) < 2:
            return None
        shuffled = [passage[place] for place in rng.permutation(len(passage))]
        return [SEP, *flat(chain(*shuffled))], [*flat(chain(*passage)), EOS]

    def _spans(self, passage: Passage, rng: np.random.Generator) -> Pair | None:
        words = [word for sentence in passage for word in sentence]
        missing = max(1, round(len(words) * self.config.noise_density))
        spans = max(1, round(missing / self.config.mean_span))
        if len(words) - missing <= spans:
            return None
        kept, left_out = segments(len(words) - missing, spans + 1, rng), segments(missing, spans, rng)
        source, answer, place = [SEP, *flat(words[: kept[0]])], [], kept[0]
        for span, behind in zip(left_out, kept[1:], strict=True):
            answer += [*flat(words[place : place + span]), EOS]
            source += [MASK, *flat(words[place + span : place + span + behind])]
            place += span + behind
        return source, answer

    def _cloze(self, passage: Passage, rng: np.random.Generator) -> Pair | None:
        found = self._recurring(passage, rng)
        context = passage
        if found is None:
            found = self._any_span(passage, rng)
        else:
            context = [sentence for place, sentence in enumerate(passage) if place != found[0]]
        if found is None:
            return None
        number, start, end = found
        question = self._question(passage[number], start, end, rng)
        answer = flat(passage[number][start:end])
        if not question or len(answer) >= self.limits.max_answer:
            return None
        room = self.limits.max_source - sum(map(len, chain(*context))) - 1
        return [*question[: max(room, 0)], SEP, *flat(chain(*context))], [*answer, EOS]

    def _question(self, words: list[Word], start: int, end: int, rng: np.random.Generator) -> list[int]:
        """A sentence's words around a span, noised; nothing marks where it was, as in real questions."""
        before, behind = rng.integers(1, NEARBY + 1, 2)
        near = [*words[max(start - before, 0) : start], *words[end : end + behind]]
        kept = [word for word in near if rng.random() >= self.config.dropped]
        order = np.argsort(np.arange(len(kept)) + rng.uniform(0, SHUFFLED, len(kept)))
        return flat(kept[place] for place in order)

    def _recurring(self, passage: Passage, rng: np.random.Generator) -> tuple[int, int, int] | None:
        """A span that stands in another sentence too: its sentence, and where it starts and ends there."""
        places: dict[Word, list[tuple[int, int]]] = defaultdict(list)
        for number, sentence in enumerate(passage):
            for place, word in enumerate(sentence):
                if self._says_something(word):
                    places[word].append((number, place))
        recurring = [at for at in places.values() if len({number for number, _ in at}) > 1]
        if not recurring:
            return None
        at = recurring[rng.integers(len(recurring))]
        number, place = at[rng.integers(len(at))]
        elsewhere = [other for other in at if other[0] != number]
        other, there = elsewhere[rng.integers(len(elsewhere))]
        here, twin = passage[number], passage[other]
        before = shared(here[:place][::-1], twin[:there][::-1])
        behind = shared(here[place:], twin[there:])
        return self._trimmed(number, here, place - before, place + behind)

    def _any_span(self, passage: Passage, rng: np.random.Generator) -> tuple[int, int, int] | None:
        """A span of random length that begins with a word that says something."""
        starts = [
            (number, place)
            for number, sentence in enumerate(passage)
            for place, word in enumerate(sentence)
            if self._says_something(word)
        ]
        if not starts:
            return None
        number, start = starts[rng.integers(len(starts))]
        sentence = passage[number]
        end = min(start + int(rng.geometric(1 / self.config.mean_span)), len(sentence))
        return self._trimmed(number, sentence, start, end)

    def _trimmed(self, number: int, sentence: list[Word], start: int, end: int) -> tuple[int, int, int]:
        """A span without the words at its ends that say little; at least one of its words says something."""
        telling = [place for place in range(start, end) if self._says_something(sentence[place])]
        return number, telling[0], telling[-1] + 1

    def _says_something(self, word: Word) -> bool:
        return self._kinds[word[0]] in (Kind.WORD, Kind.NUMBER) and word not in self._frequent


def flat(words: Iterable[Word]) -> list[int]:
    """The ids of words in a row."""
    return [token for word in words for token in word]


def shared(one: Sequence[Word], other: Sequence[Word]) -> int:
    """With how many words, at most `LONGEST`, both begin alike."""
    length = 0
    while length < min(len(one), len(other), LONGEST) and one[length] == other[length]:
        length += 1
    return length


def segments(total: int, parts: int, rng: np.random.Generator) -> list[int]:
    """The lengths of so many parts of a whole, each at least 1, all ways of cutting it equally likely."""
    cuts = np.sort(rng.choice(total - 1, parts - 1, replace=False)) + 1
    return np.diff([0, *cuts, total]).tolist()  # type: ignore[no-any-return]
