from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from agents.word_vectors import (
    check_width,
    first_words,
    read_vectors,
    start_from_vectors,
    vectors_in,
    write_vectors,
)
from policies.language_model import LMConfig, LSTMAttentionLM
from qa_env.errors import QAError
from qa_env.vocabulary import SPECIAL_TOKENS, Vocabulary
from qa_env.vocabulary_making import train_words

VECTORS = {"the": [0.5, -1.25, 2.0], "tokyo": [1.0, 0.0, -3.5], "é中": [-0.5, 0.25, 0.125]}
LINES = [f"{word} {' '.join(map(str, vector))}" for word, vector in VECTORS.items()]
TEXTS = ["Tokyo is the city", "The city is Tokyo", "The sea is the sea"]


def glove() -> bytes:
    return "".join(f"{line}\n" for line in LINES).encode()


def word2vec_text() -> bytes:
    return b"3 3\n" + glove()


def fast_text() -> bytes:  # a blank ends each line
    return b"3 3\n" + glove().replace(b"\n", b" \n")


def word2vec_binary(end: bytes = b"\n") -> bytes:
    entries = [word.encode() + b" " + struct.pack("<3f", *vector) + end for word, vector in VECTORS.items()]
    return b"3 3\n" + b"".join(entries)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    "content", [glove(), word2vec_text(), fast_text(), word2vec_binary(), word2vec_binary(b""), glove()[:-1]]
)
def test_every_format_is_read(content: bytes, packed: bool, tmp_path: Path) -> None:
    path = tmp_path / "vectors"
    path.write_bytes(gzip.compress(content) if packed else content)
    assert {word: vector.tolist() for word, vector in vectors_in(path)} == VECTORS
    assert list(read_vectors(path, ["tokyo", "Paris"])) == ["tokyo"]
    assert first_words(path, 2) == ["the", "tokyo"]


def test_a_word_may_hold_blanks_and_the_first_of_two_counts(tmp_path: Path) -> None:
    (tmp_path / "v.txt").write_bytes(b"the 1 2\n. . . 3 4\nthe 5 6\n\xc2\xa0 7 8\n")
    found = read_vectors(tmp_path / "v.txt", ["the", ". . .", "\xa0"])
    assert {word: vector.tolist() for word, vector in found.items()} == {
        "the": [1, 2],
        ". . .": [3, 4],
        "\xa0": [7, 8],
    }


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", r"is empty"),
        (b"\n", r"is empty"),
        (b"the\nof\n", r"line 1: expected a word and its numbers"),
        (b"the 1 2 3\nof 1 2\n", r"line 2: expected a word and 3 numbers, got 2"),
        (b"the 1 2 3\nof 1 2 3 4\n", r"line 2: expected a word and 3 numbers, got 4"),
        (b"the 1 2 3\n\nof 1 2 3\n", r"line 2: expected a word and 3 numbers, got 0"),
        (b"2 3\nthe 1 2 3\nof 1 2", r"line 3: expected a word and 3 numbers, got 2"),
        (b"2 2\nthe 1 2 3\n", r"line 2: expected a word and 2 numbers, got 3"),
        (b"2 0\nthe\n", r"line 1: expected the numbers of words and of dimensions"),
        (b"the 1 2 3\nof 1 x 3\n", r"line 2: .*x"),
        (b"the 1 2 3\nof 1 nan 3\n", r"line 2: a number is not finite"),
        (b"the 1 2 3\n\xff\xfe 1 2 3\n", r"line 2: the word is not UTF-8"),
        (word2vec_binary()[:-3], r"ends within word 3 of 3"),
        (b"4 3\n" + word2vec_binary()[4:], r"ends within word 4 of 4"),
        (b"1 2\n\xff " + struct.pack("<2f", 1, 2), r"word 1: it is not UTF-8"),
        (b"1 2\na " + struct.pack("<2f", 1, float("inf")), r"word 1: a number is not finite"),
        (gzip.compress(glove(), mtime=0)[:-20], r"broken gzip"),
        (b"\x1f\x8b" + b"\0" * 30, r"broken gzip"),
    ],
)
def test_a_broken_file_is_refused_in_one_line(content: bytes, told: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.vec"
    path.write_bytes(content)
    with pytest.raises(QAError, match=rf"broken\.vec.*{told}") as caught:
        list(vectors_in(path))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(QAError, match=r"no file of word vectors .*none\.txt"):
        read_vectors(tmp_path / "none.txt", ["the"])


@pytest.mark.parametrize("name", ["v.txt", "v.txt.gz"])
def test_what_is_written_is_read_again(name: str, tmp_path: Path) -> None:
    numbers = np.array(list(VECTORS.values()), dtype=np.float32)
    write_vectors(tmp_path / name, list(VECTORS), numbers)
    assert {word: vector.tolist() for word, vector in vectors_in(tmp_path / name)} == VECTORS
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_vectors_that_cannot_be_written_are_told(tmp_path: Path) -> None:
    with pytest.raises(QAError, match="cannot write"):
        write_vectors(tmp_path / "no" / "v.txt", ["a"], np.ones((1, 2), dtype=np.float32))


def started(
    tmp_path: Path, vocabulary: Vocabulary, embedding: int
) -> tuple[LSTMAttentionLM, torch.Tensor, str]:
    """A model that starts from vectors, its embedding before, and what is told of the coverage."""
    (tmp_path / "v.txt").write_bytes(glove())
    torch.manual_seed(0)
    lm = LSTMAttentionLM(LMConfig(embedding, 4, 8), len(vocabulary))
    before = lm.embedding.weight.detach().clone()
    return lm, before, str(start_from_vectors(lm, vocabulary, tmp_path / "v.txt", TEXTS))


def test_tokens_with_a_vector_start_from_it_in_lower_case_if_need_be(tmp_path: Path) -> None:
    vocabulary = train_words(TEXTS, 300)
    lm, before, told = started(tmp_path, vocabulary, 3)
    weight = lm.embedding.weight
    (tokyo,), (lower,), (capital,) = map(vocabulary.encode, ("Tokyo", "the", "The"))
    for token, word in ((tokyo, "tokyo"), (lower, "the"), (capital, "the")):
        expected = torch.tensor(VECTORS[word])
        assert torch.nn.functional.cosine_similarity(weight[token], expected, dim=0) > 0.9999
    changed = (weight != before).any(1).nonzero().flatten().tolist()
    assert sorted(changed) == sorted((tokyo, lower, capital))
    assert f"3 of {len(vocabulary) - 4} tokens, 46.2% of the tokens" in told  # 6 of 13 words


def test_vectors_are_scaled_to_the_spread_of_the_embedding(tmp_path: Path) -> None:
    vocabulary = train_words(TEXTS, 300)
    lm, before, _ = started(tmp_path, vocabulary, 3)
    rows = [vocabulary.encode(word)[0] for word in ("the", "The", "Tokyo")]
    assert lm.embedding.weight.detach()[rows].std(unbiased=False) == pytest.approx(
        float(before[len(SPECIAL_TOKENS) :].std()), rel=1e-4
    )


def test_further_columns_of_a_wider_embedding_keep_their_start(tmp_path: Path) -> None:
    lm, before, _ = started(tmp_path, train_words(TEXTS, 300), 5)
    assert torch.equal(lm.embedding.weight[:, 3:], before[:, 3:])
    assert not torch.equal(lm.embedding.weight[:, :3], before[:, :3])


def test_vectors_wider_than_the_embedding_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        QAError, match=r"vectors of 3 dimensions, the embedding has 2: give --lm\.embedding 3"
    ):
        started(tmp_path, train_words(TEXTS, 300), 2)


def test_a_file_without_a_vector_is_refused(tmp_path: Path) -> None:
    (tmp_path / "v.txt").write_bytes(b"0 3\n")
    with pytest.raises(QAError, match="holds no vector"):
        check_width(tmp_path / "v.txt", 3)


def test_vectors_for_no_token_are_refused(tmp_path: Path) -> None:
    with pytest.raises(QAError, match="a vector for none of the"):
        started(tmp_path, train_words(["nothing there"], 300), 3)
