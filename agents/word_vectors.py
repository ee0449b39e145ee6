"""Word vectors from a file (GloVe, word2vec, fastText) as the start of a language model's embedding."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray

from policies.language_model import LSTMAttentionLM
from qa_env.errors import QAError
from qa_env.vocabulary import SPECIAL_TOKENS, Kind, Vocabulary

FloatArray = NDArray[np.float32]

LONGEST_LINE = 1 << 20
"""Bytes; a file with a longer one holds something else."""


@dataclass(frozen=True)
class Coverage:
    """How much of a vocabulary, and of a text, has a vector of its own.

    Attributes:
        found: Tokens of the vocabulary with a vector.
        tokens: Tokens of the vocabulary, special ones left out.
        running: Share of the text's tokens that have one, each counted as often as it stands there.
    """

    found: int
    tokens: int
    running: float

    def __str__(self) -> str:
        return (
            f"word vectors for {self.found} of {self.tokens} tokens, "
            f"{self.running:.1%} of the tokens in the training texts"
        )


def start_from_vectors(
    lm: LSTMAttentionLM, vocabulary: Vocabulary, path: str | Path, texts: Sequence[str]
) -> Coverage:
    """Put the vectors of a file into the model's embedding; tokens without one keep their start.

    The vectors' numbers are scaled to the spread that the embedding has had before. If the embedding is
    wider than the vectors, its further columns keep their start as well.

    Args:
        lm: Its embedding is changed in place.
        vocabulary: Of the model.
        path: The file of vectors.
        texts: What the coverage is measured on.

    Raises:
        QAError: If the file is missing, broken or has wider vectors than the embedding, or if it has a
            vector for no token.
    """
    check_width(path, lm.config.embedding)
    spellings = word_spellings(vocabulary)
    vectors = read_vectors(path, {word for words in spellings.values() for word in words})
    known = {token: next((w for w in words if w in vectors), None) for token, words in spellings.items()}
    found = [token for token, word in known.items() if word is not None]
    if not found:
        raise QAError(f"{path} has a vector for none of the {len(vocabulary)} tokens of the vocabulary")
    chosen = np.stack([vectors[word] for word in known.values() if word is not None])
    weight = lm.embedding.weight
    with torch.no_grad():
        spread = weight[len(SPECIAL_TOKENS) :].std() / max(float(chosen.std()), 1e-8)
        weight[found, : chosen.shape[1]] = torch.from_numpy(chosen).to(weight) * spread
    has = np.zeros(len(vocabulary), dtype=bool)
    has[found] = True
    ids = np.array([token for row in vocabulary.encode_batch(texts) for token in row], dtype=np.int64)
    return Coverage(
        len(found), len(vocabulary) - len(SPECIAL_TOKENS), float(has[ids].mean()) if len(ids) else 0.0
    )


def check_width(path: str | Path, embedding: int) -> None:
    """Raise a QAError if a file cannot be read or its vectors are wider than an embedding."""
    first = next(vectors_in(path), None)
    if first is None:
        raise QAError(f"{path} holds no vector")
    if len(first[1]) > embedding:
        raise QAError(
            f"{path} has vectors of {len(first[1])} dimensions, the embedding has {embedding}: "
            f"give --lm.embedding {len(first[1])} or more"
        )


def word_spellings(vocabulary: Vocabulary) -> dict[int, tuple[str, ...]]:
    """How each token that may be a word is looked up: as it is, then in lower case.

    Pieces that go on with a word are left out: "er" in "Tokyoer" is not the word "er".
    """
    texts = vocabulary.decode_batch(np.arange(len(vocabulary))[:, None])
    kinds = vocabulary.kinds
    return {
        token: (text, text.lower())
        for token, text in enumerate(texts)
        if text and kinds[token] != Kind.INSIDE and not text.isspace() and "\ufffd" not in text
    }


def read_vectors(path: str | Path, words: Collection[str]) -> dict[str, FloatArray]:
    """The vectors ``(dimensions,)`` of those of the `words` that a file has; the first one of each counts.

    Raises:
        QAError: If the file cannot be read.
    """
    found: dict[str, FloatArray] = {}
    for word, vector in vectors_in(path, frozenset(words)):
        found.setdefault(word, vector)
    return found


def first_words(path: str | Path, most: int) -> list[str]:
    """The first words of a file, which are the most frequent ones in all that are published.

    Raises:
        QAError: If the file cannot be read.
    """
    return [word for word, _ in islice(vectors_in(path), most)]


def vectors_in(path: str | Path, words: frozenset[str] | None = None) -> Iterator[tuple[str, FloatArray]]:
    """The words and vectors of a file one by one; the file itself may be larger than the memory.

    GloVe's text (a word and its numbers, a line each), the text of word2vec and fastText (the same behind a
    line with the number of words and of dimensions), word2vec's binary format, and each of them gzipped: the
    content says which it is.

    Args:
        path: The file.
        words: Those that are wanted; None: all.

    Raises:
        QAError: If the file is missing, empty or broken; the line (or word) is named.
    """
    if not Path(path).is_file():
        raise QAError(f"no file of word vectors {path}")
    try:
        with _opened(Path(path)) as file:
            yield from _entries(file, str(path), words)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise QAError(f"{path} is a broken gzip file: {error}") from None


def write_vectors(path: str | Path, words: Sequence[str], vectors: FloatArray) -> None:
    """Write ``vectors (words, dimensions)`` as word2vec's text, gzipped if the name ends with ``.gz``."""
    lines = [f"{len(words)} {vectors.shape[1]}"]
    lines += [f"{word} {' '.join(f'{x:.5g}' for x in row)}" for word, row in zip(words, vectors, strict=True)]
    content = ("\n".join(lines) + "\n").encode()
    target, partial = Path(path), Path(f"{path}.partial")
    try:
        partial.write_bytes(gzip.compress(content, mtime=0) if target.suffix == ".gz" else content)
        partial.replace(target)
    except OSError as error:
        raise QAError(f"cannot write {path}: {error.strerror}") from None


def _opened(path: Path) -> BinaryIO:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if packed else path.open("rb")  # type: ignore[return-value]


def _entries(file: BinaryIO, name: str, wanted: frozenset[str] | None) -> Iterator[tuple[str, FloatArray]]:
    """The wanted words and their vectors, in the file's order."""
    first = file.readline(LONGEST_LINE)
    fields = first.split()
    if not fields:
        raise QAError(f"{name} is empty: expected a word and its numbers in each line")
    if len(fields) != 2 or not all(field.isdigit() for field in fields):  # no header of word2vec
        file.seek(0)
        yield from _text(file, name, 1, _width(first), wanted)
        return
    behind = file.tell()
    second = file.readline(LONGEST_LINE)
    file.seek(behind)
    words, dimensions = map(int, fields)
    if not 1 <= dimensions <= LONGEST_LINE // 4:
        raise QAError(f"{name}, line 1: expected the numbers of words and of dimensions, got {dimensions}")
    if second.partition(b" ")[2].strip().decode("ascii", "replace").isprintable():
        yield from _text(file, name, 2, dimensions, wanted)
    else:
        yield from _binary(file, name, words, dimensions, wanted)


def _width(line: bytes) -> int:
    """The numbers behind the first word of a line."""
    return len(line.rstrip().split(b" ")) - 1


def _text(
    file: BinaryIO, name: str, first: int, dimensions: int, wanted: frozenset[str] | None
) -> Iterator[tuple[str, FloatArray]]:
    """The wanted lines; the numbers are counted from the right, since a word of GloVe's may hold a blank."""
    if dimensions < 1:
        raise QAError(f"{name}, line {first}: expected a word and its numbers, with blanks between them")
    for number, line in zip(count(first), file):
        word, *values = line.rstrip().rsplit(b" ", dimensions)
        if len(values) < dimensions or (b" " in word and _is_number(word.rpartition(b" ")[2])):
            raise QAError(
                f"{name}, line {number}: expected a word and {dimensions} numbers, got {_width(line)}"
            )
        try:
            text = word.decode()
        except UnicodeDecodeError:
            raise QAError(f"{name}, line {number}: the word is not UTF-8: {word!r:.40}") from None
        if wanted is None or text in wanted:
            yield text, _finite(values, f"{name}, line {number}")


def _binary(
    file: BinaryIO, name: str, words: int, dimensions: int, wanted: frozenset[str] | None
) -> Iterator[tuple[str, FloatArray]]:
    """The wanted words of word2vec's binary format: a word, a blank, the floats, perhaps a line's end."""
    for number in range(1, words + 1):
        word = b"".join(iter(lambda: file.read(1).strip(b" "), b""))
        values = file.read(4 * dimensions)
        if len(values) < 4 * dimensions:
            raise QAError(f"{name} ends within word {number} of {words}: the file was cut off")
        try:
            text = word.lstrip(b"\n").decode()
        except UnicodeDecodeError:
            raise QAError(f"{name}, word {number}: it is not UTF-8: {word!r:.40}") from None
        if wanted is None or text in wanted:
            yield text, _finite(np.frombuffer(values, dtype="<f4"), f"{name}, word {number}")


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _finite(values: Sequence[bytes] | FloatArray, where: str) -> FloatArray:
    """A vector of the values.

    Raises:
        QAError: If one is no finite number.
    """
    try:
        vector = np.array(values, dtype=np.float32)
    except ValueError as error:
        raise QAError(f"{where}: {error!s:.80}") from None
    if not np.isfinite(vector).all():
        raise QAError(f"{where}: a number is not finite")
    return vector
