"""Which vocabulary a run has: byte pairs, words or characters of its texts, or read from a file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from qa_env.errors import QAError
from qa_env.vocabulary import (
    SMALLEST,
    SPECIAL_TOKENS,
    WORDS_APART,
    Vocabulary,
    as_encoded,
    byte_level_tokenizer,
)

FEWEST = 2
"""A word or character that stands less often in the texts is spelled in pieces, as unseen ones will be."""


@dataclass(frozen=True)
class VocabularyConfig:
    """What the tokens of a run are."""

    kind: Literal["bpe", "words", "characters", "file"] = "bpe"
    """"bpe": byte pairs of common words; "words": the most frequent words, the rest in byte pairs;
    "characters": for languages without blanks; "file": a tokenizer that is there already."""
    size: int = 2048
    """At most so many tokens are learned from the training texts; unused for a file."""
    file: str = ""
    """The tokenizer's file, for the kind "file"."""


def make_vocabulary(texts: Iterable[str], config: VocabularyConfig, known: Sequence[str] = ()) -> Vocabulary:
    """The vocabulary that `config` asks for.

    Args:
        texts: What it may be learned from.
        config: The kind and the size.
        known: Words that have vectors, the most frequent first; for the kind "words".

    Raises:
        QAError: If the size is too small, or the file is missing or no tokenizer.
    """
    if (config.kind == "file") != bool(config.file):
        raise QAError(
            "vocabulary.kind and vocabulary.file go together: give --vocabulary.kind file "
            f"--vocabulary.file PATH; got kind '{config.kind}' and file '{config.file}'"
        )
    match config.kind:
        case "file":
            return Vocabulary.adopt(config.file)
        case "bpe":
            return Vocabulary.train(texts, config.size)
        case "words":
            return train_words(texts, config.size, known)
        case "characters":
            return train_characters(texts, config.size)


def train_words(texts: Iterable[str], size: int, known: Sequence[str] = ()) -> Vocabulary:
    """A vocabulary in which the most frequent words are single tokens.

    All other text is spelled in byte pairs, for which at most a quarter of the tokens is set aside: there
    is no unknown token, and a rare name can be written and copied. A word takes the blank before it along;
    "'s" and the like are words of their own; of a language without blanks each character is a word.

    Args:
        texts: The texts; the most frequent of their words come first.
        size: At most so many tokens.
        known: Words that fill the rest, in this order, each as it is and with a capital letter: words that
            have vectors can be understood although no text of the training has them.

    Raises:
        QAError: If `size` cannot hold the 256 bytes and the special tokens.
    """
    texts = list(dict.fromkeys(texts))
    pairs = Vocabulary.train(texts, max(size // 4, min(size, SMALLEST)), WORDS_APART).tokenizer
    content = json.loads(pairs.to_str())
    # A piece that is a token as a whole is one; only others are put together from byte pairs.
    content["model"]["ignore_merges"] = True
    ids = content["model"]["vocab"]
    _add(ids, _frequent_pieces(pairs, texts), size)
    _add(ids, _whole_pieces(pairs, (form for word in known for form in (word, word.capitalize()))), size)
    return Vocabulary(Tokenizer.from_str(json.dumps(content)))


def train_characters(texts: Iterable[str], size: int) -> Vocabulary:
    """A vocabulary in which each character is a token, the rarest ones in bytes; blanks are characters too.

    Raises:
        QAError: If `size` cannot hold the 256 bytes and the special tokens.
    """
    texts = list(dict.fromkeys(texts))
    alphabet = Vocabulary.train((), min(size, SMALLEST)).tokenizer.get_vocab()
    model = models.BPE(vocab=alphabet, merges=[], ignore_merges=True)
    tokenizer = byte_level_tokenizer(model, Regex(r"[\s\S]"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Strip()])
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    content = json.loads(tokenizer.to_str())
    _add(content["model"]["vocab"], _frequent_pieces(tokenizer, texts), size)
    return Vocabulary(Tokenizer.from_str(json.dumps(content)))


def _add(ids: dict[str, int], pieces: Iterable[str], size: int) -> None:
    """Fill the `ids` up to `size` with the pieces that they lack."""
    for piece in pieces:
        if len(ids) < size:
            ids.setdefault(piece, len(ids))


def _frequent_pieces(tokenizer: Tokenizer, texts: Iterable[str]) -> list[str]:
    """The pieces of the texts, the most frequent first."""
    counts = Counter(piece for text in texts for piece in _pieces(tokenizer, text))
    return sorted((piece for piece, n in counts.items() if n >= FEWEST), key=lambda p: (-counts[p], p))


def _whole_pieces(tokenizer: Tokenizer, words: Iterable[str]) -> Iterator[str]:
    """The words that the tokenizer takes as one piece each."""
    for word in words:
        pieces = _pieces(tokenizer, word)
        if len(pieces) == 1:
            yield pieces[0]


def words_of(text: str) -> list[str]:
    """The words and signs of a text as in a vocabulary of words, without their blanks; digits singly."""
    pieces = pre_tokenizers.Split(WORDS_APART, behavior="isolated").pre_tokenize_str(as_encoded(text))
    return [word for piece, _ in pieces if (word := piece.strip())]


def _pieces(tokenizer: Tokenizer, text: str) -> list[str]:
    """What the tokenizer's model is given of a text, in the byte-level alphabet."""
    normal = tokenizer.normalizer.normalize_str(as_encoded(text))
    return [piece for piece, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normal)]
