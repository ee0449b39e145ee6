"""Plain text to learn from: read from files, and cut into passages of sentences of words."""

from __future__ import annotations

import gzip
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from agents.config import TrainConfig
from agents.data import SENTENCE_BREAK, training_texts
from qa_env.datasets import QADataset
from qa_env.errors import QAError
from qa_env.sources import source_names
from qa_env.vocabulary import Kind, Vocabulary

OWN = "data"
"""Stands for the run's own passages among the texts of `TrainConfig.pretrain`."""
GOES_ON = (Kind.INSIDE, Kind.DIGIT, Kind.DECIMAL)
"""Kinds of tokens that go on with the word before them."""
FREQUENT = 0.1
"""Share of the passages above which a word that stands in them says little by itself: "the", "of"."""
SHORTEST = 4
"""Words of the shortest passage: nothing can be missing from one that is shorter."""

Word = tuple[int, ...]
"""A word's token ids."""
Passage = list[list[Word]]
"""Sentences of words."""


def lines(path: str) -> Iterator[str]:
    """The lines of a text file that are not empty.

    Raises:
        QAError: If it is missing or empty, or no text in UTF-8.
    """
    if not Path(path).is_file():
        raise QAError(f"no text file {path}")
    empty = True
    try:
        with gzip.open(path, "rb") if path.endswith(".gz") else open(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    text = line.decode("utf-8-sig").strip()
                except UnicodeDecodeError:
                    raise QAError(f"{path}, line {number}: not UTF-8") from None
                if text:
                    empty = False
                    yield text
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise QAError(f"{path} is a broken gzip file: {error}") from None
    if empty:
        raise QAError(f"{path} is empty: expected text, a line each")


def names_of(config: TrainConfig) -> list[str]:
    """The texts that a config names for pre-training, one by one."""
    return source_names(config.pretrain) if config.pretrain else []


def check_texts(config: TrainConfig) -> None:
    """Read the texts that a config names for pre-training, before any work is done.

    Raises:
        QAError: If one is missing or empty, or no text in UTF-8.
    """
    for name in names_of(config):
        if name != OWN:
            for _ in lines(name):
                pass


def pretraining_texts(config: TrainConfig, data: QADataset) -> list[str]:
    """The texts that the config names for pre-training, each once.

    The run's own are the contexts of its labelled and unlabelled questions. Where there are none, they are
    all that training may read: no reference answer but the labelled ones.
    """
    own = [e.context for e in (*data.labelled, *data.unlabelled) if e.context] or training_texts(data)
    texts = (text for name in names_of(config) for text in (own if name == OWN else lines(name)))
    return list(dict.fromkeys(texts))


def learned_texts(config: TrainConfig, data: QADataset) -> list[str]:
    """All the text that a run learns from, that of pre-training included, for making a vocabulary."""
    texts = training_texts(data)
    known = set(texts)
    return texts + [text for text in pretraining_texts(config, data) if text not in known]


def cut_passages(texts: Iterable[str], vocabulary: Vocabulary, size: int) -> list[Passage]:
    """Cut texts into passages of at most `size` tokens, between sentences where that is possible.

    A sentence that is longer than a passage is cut in two. Passages of fewer than `SHORTEST` words are left
    out.
    """
    kinds = vocabulary.kinds.tolist()
    passages: list[Passage] = []
    seen: dict[Word, Word] = {}  # one tuple for all the places where a word stands
    for text in texts:
        passage: Passage = []
        room = size
        for ids in vocabulary.encode_batch([s for s in SENTENCE_BREAK.split(text) if s]):
            for sentence in _pieces(words_of_ids(ids, kinds), size):
                length = sum(map(len, sentence))
                if length > room:
                    passages.append(passage)
                    passage, room = [], size
                passage.append([seen.setdefault(word, word) for word in sentence])
                room -= length
        passages.append(passage)
    return [passage for passage in passages if sum(map(len, passage)) >= SHORTEST]


def words_of_ids(ids: Sequence[int], kinds: Sequence[int]) -> list[Word]:
    """Token ids as words: a token of a kind that goes on with a word belongs to the one before it.

    So does a sign between two digits: "1,250" is one word.
    """
    goes_on = [kinds[token] in GOES_ON for token in ids]
    for place in range(1, len(ids) - 1):
        before, behind = kinds[ids[place - 1]], kinds[ids[place + 1]]
        goes_on[place] |= before in (Kind.NUMBER, Kind.DIGIT) and behind == Kind.DIGIT
    starts = [place for place, on in enumerate(goes_on) if place == 0 or not on]
    return [tuple(ids[start:end]) for start, end in zip(starts, [*starts[1:], len(ids)], strict=True)]


def frequent_words(passages: Sequence[Passage]) -> frozenset[Word]:
    """The words that say little, since more than `FREQUENT` of the passages have them.

    Found by counting, so that it works in any language.
    """
    counts = Counter(word for passage in passages for word in {w for sentence in passage for w in sentence})
    return frozenset(word for word, count in counts.items() if count > FREQUENT * len(passages))


def _pieces(words: Sequence[Word], size: int) -> Iterator[list[Word]]:
    """The words in lists of at most `size` tokens; a single word that is longer is cut off."""
    piece: list[Word] = []
    room = size
    for word in words:
        word = word[:size]
        if len(word) > room:
            yield piece
            piece, room = [], size
        piece.append(word)
        room -= len(word)
    if piece:
        yield piece
