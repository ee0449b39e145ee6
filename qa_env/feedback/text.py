"""Pure text metrics: how well an answer's words agree with the reference answers.

Normalisation, exact match and token F1 follow SQuAD (Rajpurkar et al. 2016, "SQuAD: 100,000+
Questions for Machine Comprehension of Text", EMNLP). What is different here, and why:

* Unicode: text is NFKC-normalised and case-folded, and punctuation is what Unicode says it is, not
  only the 32 ASCII signs. Accents stay: "Sao" is not "São".
* Signs that are part of a value stay: "." and "," between digits ("6.94", "1,234"), a leading "."
  (".jp"), "+" before digits ("+376", "UTC+5") and a leading "-" before digits ("-5").
* Other punctuation becomes a blank; SQuAD deletes it, which would glue "Tokyo/Kyoto" to one word
  and so hide a wrong value. Apostrophes are deleted as in SQuAD ("Sana'a" is "Sanaa"), and
  so are the dots of abbreviations ("U.S." is "US").
* Chinese and Japanese are written without blanks, so their words are single characters, while Latin words
  and numbers among them stay whole: the mixed segmentation of CMRC 2018 (Cui et al. 2019, "A Span-Extraction
  Dataset for Chinese Machine Reading Comprehension", EMNLP). Its own F1 counts the longest common run of
  such words; here F1 is that of SQuAD, so that one metric serves every language. Blanks between them do
  not count, so "约翰·史密斯" is "约翰史密斯".
* An answer without any word scores 0, even against a reference without words. Only where the reference
  is empty, since the question is unanswerable, it is right, and any other answer wrong (Rajpurkar et al.
  2018, "Know What You Don't Know: Unanswerable Questions for SQuAD", ACL).
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from qa_env.datasets.example import QAExample
from qa_env.vocabulary import CJK

ARTICLES = frozenset({"a", "an", "the"})

# Apostrophes and the letters used as such (the ʻokina of "Nukuʻalofa"). They go before NFKC, which
# would turn the acute accent sign into a blank and a combining mark.
_APOSTROPHES: dict[int, int | None] = dict.fromkeys(map(ord, "'’‘ʼʻ′´`"))
_MINUS: dict[int, int | None] = dict.fromkeys(map(ord, "‐‑−"), ord("-"))
_NO_CHARACTER = "\ufffd"  # for bytes that spell nothing: an untrained policy's answers are full of it
_VALUE_SIGNS = frozenset(".,+-")
_ABBREVIATION = re.compile(r"(?<![\w.])(?:[^\W\d]\.)+(?:[^\W\d](?!\w))?")
_LOOSE_SIGN = re.compile(
    r"[.,+-](?!"
    r"(?<=\d[.,])\d"  # inside a number
    r"|(?<=\.)(?<![\w.]\.)\w"  # leading dot: an internet domain or ".5"
    r"|(?<=\+)(?<!\d\+)\d"  # a dialling code, an offset
    r"|(?<=-)(?<![\w-]-)\.?\d)"  # a negative number
)
_CJK = re.compile(f"([{CJK}])")
# Each turns signs that can glue two values together into a break; see `mentions`.
_READINGS = ((re.compile(r"['’‘ʼʻ′´`,.]"), " "), (re.compile(r"[.+]"), r" \g<0>"))


class _Visible(dict[int, int | None]):
    """For `str.translate`: takes zero-width characters out, which would give a word two spellings."""

    def __missing__(self, code: int) -> int | None:
        self[code] = None if unicodedata.category(chr(code)) == "Cf" else code
        return self[code]


class _Plain(dict[int, int | None]):
    """For `str.translate`: a blank for punctuation, symbols and control characters."""

    def __missing__(self, code: int) -> int | None:
        char = chr(code)
        plain = char in _VALUE_SIGNS or unicodedata.category(char)[0] not in "PSZC"
        self[code] = code if plain else ord(" ")
        return self[code]


_VISIBLE, _PLAIN = _Visible(_APOSTROPHES), _Plain(_APOSTROPHES | _MINUS)
# For `bytes.translate`, which is quicker: lower case and `_PLAIN` in one, save that it deletes nothing.
_ASCII = bytes(ord(chr(code).lower().translate(_PLAIN) or " ") for code in range(128)).ljust(256)


class _Text(NamedTuple):
    """A text as the metrics read it: case-folded words without punctuation, a blank between them.

    Strings, not the words themselves, since thousands of texts are remembered.
    """

    written: str
    """Articles included, CJK in one piece."""
    normal: str
    """Without articles, unless there is nothing else."""
    spaced: str
    """The same with blanks around each CJK character."""


@lru_cache(maxsize=1 << 14)
def _read(text: str) -> _Text:
    every = _split(text)
    written = normal = " ".join(every)
    if not ARTICLES.isdisjoint(every):
        normal = " ".join([word for word in every if word not in ARTICLES]) or written
    spaced = normal if normal.isascii() else " ".join(_by_character(normal).split())
    return _Text(written, normal, spaced)


def _split(text: str) -> list[str]:
    """Return the words of `text`, articles included, CJK in one piece."""
    text = text.replace(_NO_CHARACTER, " ")
    if text.isascii():  # which NFKC leaves as it is
        text = text.encode().translate(_ASCII, b"'`").decode()
    else:
        text = unicodedata.normalize("NFKC", text.translate(_VISIBLE))
        text = unicodedata.normalize("NFKC", text.casefold()).translate(_PLAIN)
    if "." in text:
        text = _ABBREVIATION.sub(lambda match: f" {match[0].replace('.', '')} ", text)
    return _LOOSE_SIGN.sub(" ", text).split()


def normalise(text: str) -> str:
    """Return `text` in lower case, without punctuation and articles, blanks squeezed.

    SQuAD's normalisation (Rajpurkar et al. 2016) with the changes listed at the top of this module.
    A text of nothing but articles keeps them, so that "A" and "The" stay different answers.
    """
    return _read(text).normal


def tokens(text: str) -> tuple[str, ...]:
    """Return the words of the normalised `text` (no articles); each CJK character is a word."""
    return tuple(_read(text).spaced.split())


def words(text: str) -> list[str]:
    """Return the words of `text` as written, articles included: what length is counted in."""
    return _by_character(_read(text).written).split()


def _by_character(text: str) -> str:
    """Return `text` with blanks around each CJK character."""
    return text if text.isascii() else _CJK.sub(r" \1 ", text)


class _References(NamedTuple):
    """Reference answers as the metrics compare them."""

    spaced: frozenset[str]
    """Without those that hold nothing but punctuation."""
    lengths: tuple[int, ...]
    """Words in each reference."""
    counts: dict[str, tuple[int, ...]]
    """How often each word stands in each reference."""


@lru_cache(maxsize=1 << 14)
def _read_references(references: tuple[str, ...]) -> _References:
    said = [tokens(reference) for reference in references]
    every = map(sys.intern, frozenset().union(*said))  # saves memory
    counts = {word: tuple([one.count(word) for one in said]) for word in every}
    spaced = frozenset(" ".join(one) for one, text in zip(said, references, strict=True) if one or not text)
    return _References(spaced, tuple(map(len, said)), counts)


def exact_match(answer: str, references: Iterable[str]) -> float:
    """Return 1.0 if the words of the normalised answer are those of any normalised reference, else 0.0.

    Source: Rajpurkar et al. (2016). No references: 0.0. An answer without words matches an empty reference
    (Rajpurkar et al. 2018).
    """
    return float(_read(answer).spaced in _read_references(tuple(references)).spaced)


def token_f1(answer: str, references: Iterable[str]) -> float:
    """Return the F1 of the answer's and a reference's words as multisets, the best over references.

    Source: Rajpurkar et al. (2016). No references: 0.0. An answer without words: 1.0 if a reference is empty
    too, else 0.0 (Rajpurkar et al. 2018).
    """
    said, known = tokens(answer), _read_references(tuple(references))
    if not said:
        return float("" in known.spaced)
    shared = known.counts.keys() & said
    if not shared:
        return 0.0
    overlaps = [0] * len(known.lengths)
    for word in shared:
        count, theirs = said.count(word), known.counts[word]
        overlaps = [n + (m if m < count else count) for n, m in zip(overlaps, theirs, strict=True)]
    size = len(said)
    return max([2.0 * n / (size + length) for n, length in zip(overlaps, known.lengths, strict=True)])


def contains_value(answer: str, value: str) -> bool:
    """Return whether the normalised value's words stand contiguously in the normalised answer.

    A value without words stands nowhere. "Tokyo" stands in "Tokyo's harbour".
    """
    return any(_stands_in(value, reading) for reading in (answer, re.sub(r"['’]s\b", " ", answer)))


def mentions(answer: str, value: str) -> bool:
    """Return whether `value` stands in `answer` on a reading that lets nothing hide it.

    Like `contains_value`, but "81,82", "Kyoto'Osaka", ".jp.kr" and "+376+81" also count as two
    values each: otherwise a policy could list every candidate, glued by such signs.
    """
    readings = (answer, *(sign.sub(gap, answer) for sign, gap in _READINGS))
    return any(_stands_in(value, reading) for reading in readings)


def _stands_in(value: str, text: str) -> bool:
    sought = _read(value).spaced
    return bool(sought) and f" {sought} " in f" {_read(text).spaced} "


def value_accuracy(example: QAExample, answer: str) -> float:
    """Return 1.0 if the right value stands in the answer and no distractor does, else 0.0.

    The right value is ``example.metadata["value"]``, else any of the reference answers. Listing all
    the candidates earns nothing, since ``metadata["distractors"]`` are among them; a distractor is
    ignored where a right answer may well say it: it is part of the value or of a reference, or the
    question itself mentions it. The question, repeated word for word, is not part of the answer
    ("What is the capital of Luxembourg?" names the right value). To an unanswerable question an answer
    without words is right, and no other.
    """
    if example.unanswerable:
        return float(abstains_rightly(example, answer))
    value = example.metadata.get("value")
    rights = example.answers if value is None else (str(value),)
    said = _without_question(answer, example.question)
    if not any(contains_value(said, right) for right in rights):
        return 0.0
    allowed = (*rights, *example.answers, example.question)
    for distractor in map(str, example.metadata.get("distractors", ())):
        if mentions(said, distractor) and not any(mentions(text, distractor) for text in allowed):
            return 0.0
    return 1.0


def abstains_rightly(example: QAExample, answer: str) -> bool:
    """Return whether the question is unanswerable and the answer says nothing."""
    return example.unanswerable and not words(answer)


def _without_question(answer: str, question: str) -> str:
    """Return `answer` unchanged, or its words less the question's where it repeats the question."""
    asked, said = f" {_read(question).spaced} ", f" {_read(answer).spaced} "
    return said.replace(asked, " ") if asked.strip() and asked in said else answer
