"""Text to token ids and back: a byte-level BPE from the `tokenizers` library, fixed once made."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from enum import IntEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from qa_env.errors import QAError
from qa_env.foreign_tokenizer import in_bytes, lay_out

PAD, BOS, EOS, SEP = range(4)
"""Ids of the special tokens, the same in every vocabulary, so that networks can name them.

PAD fills up arrays, BOS starts an answer, EOS ends it, SEP stands between question and context.
"""
SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>", "<sep>")
FORBIDDEN = (PAD, BOS, SEP)
"""Tokens that never stand in an answer: every action mask excludes them."""

SENTENCE_ENDS = (".", "?", "!")
DIGITS = tuple("0123456789")

# A word takes the blank before it along, so "Tokyo" in a question and in a passage is the same
# token; digits are split off singly, because numbers are copied digit by digit; punctuation apart.
_WORDS = Regex(r" ?\p{L}[\p{L}\p{M}'’]*| ?\p{N}|[.,]\p{N}| ?[^\s\p{L}\p{N}]+|\s+")


class Kind(IntEnum):
    """What a token is to the spelling of a text."""

    OTHER = 0
    WORD = 1
    """Letters with a blank in front: a word or the start of one."""
    INSIDE = 2
    """Letters that go on with a word."""
    NUMBER = 3
    """A digit with a blank in front."""
    DIGIT = 4
    """A further digit."""
    DECIMAL = 5
    """A point or comma with the digit behind it."""
    END = 6
    """The end of a sentence."""


class Vocabulary:
    """A tokenizer with fixed ids for PAD, BOS, EOS and SEP.

    One that is made here is a byte-level BPE (Sennrich et al. 2016; Radford et al. 2019): any Unicode text
    has an encoding and there is no unknown token, so every answer can be spelled. One that is adopted writes
    what it can, which may be lower case only.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        for token_id, token in enumerate(SPECIAL_TOKENS):
            if tokenizer.token_to_id(token) != token_id:
                raise QAError(
                    f"a vocabulary needs the special tokens {SPECIAL_TOKENS} as ids 0 to 3; "
                    f"this tokenizer has {token!r} as {tokenizer.token_to_id(token)}"
                )
        tokenizer.encode_special_tokens = True  # "<eos>" in somebody's text is text; not kept in the file
        self.tokenizer = tokenizer
        self._spelling = _spelling(tokenizer) if isinstance(tokenizer.decoder, decoders.ByteLevel) else None

    @classmethod
    def train(cls, texts: Iterable[str], size: int = 2048) -> Vocabulary:
        """Learn a vocabulary of at most `size` tokens from `texts`, deterministically.

        Pieces are merged only if they stand together in about one text in fifty: common words become
        tokens, while the names in the training texts stay spelled in pieces, as unseen names will be. A
        network that never met a name as one token has to learn how to copy it.

        Raises:
            QAError: If `size` cannot hold the 256 bytes and the special tokens.
        """
        smallest = 256 + len(SPECIAL_TOKENS)
        if size < smallest:
            raise QAError(
                f"vocabulary size must be at least {smallest} (256 bytes + special tokens), got {size}"
            )
        texts = [" " + text.strip() for text in texts]  # as they are encoded
        tokenizer = Tokenizer(models.BPE())
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(_WORDS, behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=size,
            min_frequency=max(2, len(texts) // 50),
            special_tokens=list(SPECIAL_TOKENS),
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        return cls(tokenizer)

    @classmethod
    def load(cls, path: str | Path) -> Vocabulary:
        """Read a vocabulary that `save` wrote.

        Raises:
            QAError: If there is no such file or it holds no tokenizer.
        """
        return cls(_read(path))

    @classmethod
    def adopt(cls, tokenizer: Tokenizer | str | Path) -> Vocabulary:
        """The vocabulary of a tokenizer that was made elsewhere, or of its file ``tokenizer.json``.

        Its tokens keep their order behind PAD, BOS, EOS and SEP; see `lay_out`.

        Raises:
            QAError: If there is no such file, it holds no tokenizer, or one of a kind that is not known.
        """
        found = tokenizer if isinstance(tokenizer, Tokenizer) else _read(tokenizer)
        return cls(lay_out(found, SPECIAL_TOKENS))

    def save(self, path: str | Path) -> None:
        """Write the vocabulary as JSON."""
        self.tokenizer.save(str(path), pretty=False)

    @property
    def fingerprint(self) -> str:
        """A short hash that differs between vocabularies; a checkpoint keeps it."""
        return hashlib.sha256(self.tokenizer.to_str().encode()).hexdigest()[:16]

    def __len__(self) -> int:
        return int(self.tokenizer.get_vocab_size())

    @property
    def kinds(self) -> NDArray[np.int64]:
        """What kind of token each one is, a `Kind`, shape ``(vocabulary,)``."""
        tokens = in_bytes(self.tokenizer, self.tokens)
        return np.array([_kind(token) for token in tokens], dtype=np.int64)

    @property
    def tokens(self) -> list[str]:
        """Every token as the tokenizer itself writes it."""
        return [str(self.tokenizer.id_to_token(i)) for i in range(len(self))]

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, without special tokens."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text.

        A blank is put in front, so that a word has the same ids at the start and inside of a text.
        """
        batch = self.tokenizer.encode_batch([" " + text.strip() for text in texts], add_special_tokens=False)
        if self._spelling is not None:  # which spells "<eos>" in bytes
            return [encoding.ids for encoding in batch]
        return [[token for token in encoding.ids if token >= len(SPECIAL_TOKENS)] for encoding in batch]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; special tokens and a blank in front are left out.

        Bytes that spell no character become U+FFFD.
        """
        return self.decode_batch(np.array([[*ids]], dtype=np.int64))[0]

    def decode_batch(self, ids: NDArray[np.int64]) -> list[str]:
        """The text of each row of `ids`, shape ``(batch, time)``."""
        if self._spelling is None:
            texts = self.tokenizer.decode_batch(ids.tolist(), skip_special_tokens=True)
            return [text.strip() for text in texts]
        # The same as the library's, at a quarter of its time.
        return [b"".join(row).decode("utf-8", "replace").strip() for row in self._spelling[ids].tolist()]


def _read(path: str | Path) -> Tokenizer:
    """The tokenizer in a file; a QAError if there is none."""
    if not Path(path).is_file():
        raise QAError(f"no vocabulary file {path}")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise QAError(f"{path} is no tokenizer file: {error!s:.100}") from None


def _spelling(tokenizer: Tokenizer) -> NDArray[np.object_]:
    """The bytes that each id of a byte-level tokenizer stands for, none for special tokens.

    In the byte-level alphabet (Radford et al. 2019) a character stands for each byte: the byte's own where
    it can be printed, else the next one from 256 on. An added token may be written in other characters.
    """
    alphabet = frozenset(pre_tokenizers.ByteLevel.alphabet())
    unprintable = [byte for byte in range(256) if chr(byte) not in alphabet]
    byte_of = {chr(byte): byte for byte in range(256)}
    byte_of |= {chr(256 + place): byte for place, byte in enumerate(unprintable)}
    special = {token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special}
    tokens = tokenizer.get_vocab()
    spelling = np.full(max(tokens.values()) + 1, b"", dtype=object)
    for token, token_id in tokens.items():
        if token not in special:
            written = alphabet.issuperset(token)
            spelling[token_id] = bytes(byte_of[c] for c in token) if written else token.encode()
    return spelling


def _kind(token: str) -> Kind:
    """The kind of a token, written in the byte-level alphabet ("Ġ" is a blank)."""
    piece = token.removeprefix("Ġ")
    blank = piece != token
    if token in SENTENCE_ENDS:
        return Kind.END
    if piece and all(character in DIGITS for character in piece):
        return Kind.NUMBER if blank else Kind.DIGIT
    if piece[:1] in (".", ",") and piece[1:] in DIGITS:
        return Kind.DECIMAL
    if piece and token not in SPECIAL_TOKENS and all(_is_letter(c) for c in piece):
        return Kind.WORD if blank else Kind.INSIDE
    return Kind.OTHER


def _is_letter(character: str) -> bool:
    """Whether a character of the byte-level alphabet stands for a letter or a byte of one.

    Bytes above 127 belong to letters of other scripts and letters with accents; the characters 256 to 289
    stand for control bytes and the blank.
    """
    if character.isascii():
        return character.isalpha()
    return not 256 <= ord(character) <= 289
