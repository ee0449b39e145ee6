"""Text to token ids and back: a byte-level BPE from the `tokenizers` library, fixed once made."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from enum import IntEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from qa_env.errors import QAError
from qa_env.foreign_tokenizer import lay_out, with_blanks

PAD, BOS, EOS, SEP = range(4)
"""Ids of the special tokens, the same in every vocabulary, so that networks can name them.

PAD fills up arrays, BOS starts an answer, EOS ends it, SEP stands between question and context.
"""
SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>", "<sep>")
ABSTAIN_TOKEN = "<abstain>"
"""The last token of a vocabulary that has it. It is an answer of its own, which says that there is none."""
SMALLEST = 256 + len(SPECIAL_TOKENS)
"""Tokens that every vocabulary learned from texts has: those and the bytes."""
FORBIDDEN = (PAD, BOS, SEP)
"""Tokens that never stand in an answer: every action mask excludes them.

With an abstain token it excludes EOS at an answer's first place and the abstain token at all others.
"""

SENTENCE_ENDS = (".", "?", "!")
WIDE_SENTENCE_ENDS = ("。", "？", "！")
"""Of Chinese and Japanese; a closing quotation mark behind them belongs to the sentence."""
DIGITS = tuple("0123456789０１２３４５６７８９")

CJK = "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
"""Han, Hiragana and Katakana, for a character class: written without blanks, so a word is a character."""

# A word takes the blank before it along, so "Tokyo" in a question and in a passage is the same
# token; digits are split off singly, because numbers are copied digit by digit; punctuation apart.
_PIECES = (
    rf" ?[\p{{L}}&&[^{CJK}]][[\p{{L}}\p{{M}}INSIDE]&&[^{CJK}]]*| ?\p{{N}}|[.,]\p{{N}}|[{CJK}]"
    r"| ?[^\s\p{L}\p{N}]+|\s+"
)
WORDS = Regex(_PIECES.replace("INSIDE", "'’"))
"""The pieces of a text, none of which a token reaches across: "Tokyo's" is one."""
WORDS_APART = Regex(rf"['’](?:s|t|re|ve|m|ll|d)(?![\p{{L}}\p{{M}}])|{_PIECES.replace('INSIDE', '')}")
"""The same with "'s", "'t", ... apart (Radford et al. 2019): "Tokyo" can be copied from "Tokyo's"."""
_STARTS_WITHOUT_BLANK = re.compile(f"[{CJK}]")


class Kind(IntEnum):
    """What a token is to the spelling of a text."""

    OTHER = 0
    WORD = 1
    """Letters with a blank in front, a word or the start of one; Chinese and Japanese characters."""
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

    Attributes:
        tokenizer: Of the `tokenizers` library.
        abstain: The token that an answer without words consists of: the abstain token, or EOS where there is
            none.
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
        last = tokenizer.get_vocab_size() - 1
        self.abstain = last if tokenizer.token_to_id(ABSTAIN_TOKEN) == last else EOS
        self._spelling = _spelling(tokenizer) if isinstance(tokenizer.decoder, decoders.ByteLevel) else None

    @classmethod
    def train(cls, texts: Iterable[str], size: int = 2048, pieces: Regex = WORDS) -> Vocabulary:
        """Learn a vocabulary of at most `size` tokens from `texts`, deterministically, within the `pieces`.

        Byte pairs are merged only if they stand together in about one text in fifty: common words become
        tokens, while the names in the training texts stay spelled in several, as unseen names will be. A
        network that never met a name as one token has to learn how to copy it.

        Raises:
            QAError: If `size` cannot hold the 256 bytes and the special tokens.
        """
        if size < SMALLEST:
            raise QAError(
                f"vocabulary size must be at least {SMALLEST} (256 bytes + special tokens), got {size}"
            )
        texts = [as_encoded(text) for text in texts]
        tokenizer = byte_level_tokenizer(models.BPE(), pieces)
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

    def with_abstain(self) -> Vocabulary:
        """The same tokens and the abstain token behind them."""
        if self.abstain != EOS:
            return self
        tokenizer = Tokenizer.from_str(self.tokenizer.to_str())
        tokenizer.add_special_tokens([ABSTAIN_TOKEN])
        return Vocabulary(tokenizer)

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
    def spelling_tokens(self) -> range:
        """The ids of the tokens that text is made of: all but the special ones."""
        return range(len(SPECIAL_TOKENS), len(self) - (self.abstain != EOS))

    @property
    def kinds(self) -> NDArray[np.int64]:
        """What kind of token each one is, a `Kind`, shape ``(vocabulary,)``."""
        return np.array([_kind(text) for text in self._texts()], dtype=np.int64)

    @property
    def pieces(self) -> list[str]:
        """What each token writes, whoever made the vocabulary: a word with its blank in front.

        Bytes of unfinished characters are surrogates; a special token, which writes nothing, is its name.
        """
        return [text or name for text, name in zip(self._texts(), self.tokens, strict=True)]

    def _texts(self) -> list[str]:
        if self._spelling is None:
            return with_blanks(self.tokenizer, self.tokens)
        return [token.decode("utf-8", "surrogateescape") for token in self._spelling]

    @property
    def tokens(self) -> list[str]:
        """Every token as the tokenizer itself writes it."""
        return [str(self.tokenizer.id_to_token(i)) for i in range(len(self))]

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, without special tokens."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text.

        A blank is put in front, so that a word has the same ids at the start and inside of a text; before
        a Chinese or Japanese character none stands inside either.
        """
        batch = self.tokenizer.encode_batch([as_encoded(text) for text in texts], add_special_tokens=False)
        if self._spelling is not None:  # which spells "<eos>" in bytes
            return [encoding.ids for encoding in batch]
        spelling = self.spelling_tokens
        return [[token for token in encoding.ids if token in spelling] for encoding in batch]

    def encode_answers(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of whole answers: the text's and EOS, or of a blank text the `abstain` token alone."""
        encoded = zip(texts, self.encode_batch(texts), strict=True)
        return [[*ids, EOS] if text.strip() else [self.abstain] for text, ids in encoded]

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


def byte_level_tokenizer(model: models.Model, pieces: Regex) -> Tokenizer:
    """A tokenizer that spells in bytes: NFC, then `pieces`, each of them put into tokens by the `model`."""
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(pieces, behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


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


def _kind(text: str) -> Kind:
    """The kind of a token from its text, bytes of unfinished characters as surrogates in it."""
    piece = text.removeprefix(" ")
    blank = piece != text
    if text in SENTENCE_ENDS or text.startswith(WIDE_SENTENCE_ENDS):
        return Kind.END
    if piece and all(character in DIGITS for character in piece):
        return Kind.NUMBER if blank else Kind.DIGIT
    if piece[:1] in (".", ",") and piece[1:] in DIGITS:
        return Kind.DECIMAL
    if piece and all(map(_is_letter, piece)):
        return Kind.WORD if blank or starts_without_blank(text) else Kind.INSIDE
    return Kind.OTHER


def _is_letter(character: str) -> bool:
    """Whether a character is a letter, an accent or a byte of a character, most of which are letters."""
    return character.isalpha() or unicodedata.category(character) in ("Mn", "Mc", "Cs")


def starts_without_blank(text: str) -> bool:
    """Whether a text begins with a Chinese or Japanese character, before which no blank is written."""
    return _STARTS_WITHOUT_BLANK.match(text) is not None


def as_encoded(text: str) -> str:
    """The text with a blank in front, where one would stand inside of a text."""
    text = text.strip()
    return text if starts_without_blank(text) else " " + text
