from __future__ import annotations

import numpy as np
import pytest

from agents.decoding import Limits
from agents.renaming import Renaming
from agents.warm_start import Supervised
from qa_env.datasets import QAExample
from qa_env.vocabulary import EOS, PAD, SEP, Kind, Vocabulary

WORDS = "What is the capital of ? The capital city of is . people live in".split()
NAMES = ("Zyxolia", "Qwvport", "Tokyo", "Estonia")
SPELLED = (Kind.WORD, Kind.INSIDE, Kind.NUMBER, Kind.DIGIT, Kind.DECIMAL)


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    """The words are single tokens; the names, which it has never seen, are spelled in pieces."""
    texts = [" ".join(np.random.default_rng(i).permutation(WORDS)) for i in range(40)]
    texts += [f"{i % 10}.{i // 10} {i // 10},{i % 10}" for i in range(100)]
    vocabulary = Vocabulary.train(texts, 400)
    assert all(len(vocabulary.encode(word)) == 1 for word in WORDS)
    assert all(len(vocabulary.encode(name)) > 2 for name in NAMES)
    return vocabulary


@pytest.fixture(scope="module")
def data(vocabulary: Vocabulary) -> Supervised:
    examples = [
        QAExample(
            f"{name}",
            f"What is the capital of {name}?",
            f"The capital city of {other} is Minsk. The capital city of {name} is {city}. "
            f"1204 people live in {city}. 1.2 and 3,4 people live in {other}.",
            (f"The capital of {name} is {city}.",),
        )
        for name, other, city in zip(
            NAMES, NAMES[1:] + NAMES[:1], ("Ruvia", "Belmopan", "Xo", "Rome"), strict=True
        )
    ]
    return Supervised.from_examples(examples, vocabulary, Limits(120, 40))


def rename(vocabulary: Vocabulary, data: Supervised, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    return Renaming(vocabulary)(data.source, data.tokens, np.random.default_rng(seed))


def test_names_and_numbers_change_and_whole_words_stay(vocabulary: Vocabulary, data: Supervised) -> None:
    source, tokens = rename(vocabulary, data)
    kept = [vocabulary.encode(word)[0] for word in WORDS]
    for old, new in ((data.source, source), (data.tokens, tokens)):
        assert new.shape == old.shape and new.dtype == old.dtype
        same = np.isin(old, [*kept, PAD, EOS, SEP])
        np.testing.assert_array_equal(new[same], old[same])
        spelled = np.isin(vocabulary.kinds[old], SPELLED) & ~same
        np.testing.assert_array_equal(new[~spelled], old[~spelled])  # punctuation stays too
        assert (new[spelled] != old[spelled]).mean() > 0.8
    for row, name in zip(source, NAMES, strict=True):
        assert name not in vocabulary.decode(row)
        assert "1204" not in vocabulary.decode(row)


def test_special_tokens_are_neither_renamed_nor_made(vocabulary: Vocabulary, data: Supervised) -> None:
    for seed in range(5):
        source, tokens = rename(vocabulary, data, seed)
        for special in range(4):
            np.testing.assert_array_equal(source == special, data.source == special)
            np.testing.assert_array_equal(tokens == special, data.tokens == special)


def test_pieces_stay_of_their_kind(vocabulary: Vocabulary, data: Supervised) -> None:
    source, tokens = rename(vocabulary, data)
    for old, new in ((data.source, source), (data.tokens, tokens)):
        np.testing.assert_array_equal(vocabulary.kinds[old], vocabulary.kinds[new])
        assert set(SPELLED) - {Kind.WORD} <= set(vocabulary.kinds[data.source].flat)  # what can be renamed is


def test_the_answer_stays_copyable(vocabulary: Vocabulary, data: Supervised) -> None:
    source, tokens = rename(vocabulary, data)
    for row in range(len(NAMES)):
        before = data.tokens[row][:, None] == data.source[row][None]
        after = tokens[row][:, None] == source[row][None]
        inside = (data.tokens[row] > EOS)[:, None] & (data.source[row] > SEP)[None]
        # Where a piece of the answer stood in the source, its new spelling stands now.
        assert (after | ~before)[inside].all()
        named = before[inside.any(1)].any(1)
        assert named.sum() > 8


def test_a_name_is_spelled_alike_wherever_it_stands(vocabulary: Vocabulary, data: Supervised) -> None:
    source, tokens = rename(vocabulary, data)
    for row, name in enumerate(NAMES):
        pieces = vocabulary.encode(name)
        new = set()
        count = 0
        for old, renamed in ((data.source[row], source[row]), (data.tokens[row], tokens[row])):
            for start in range(len(old) - len(pieces) + 1):
                if old[start : start + len(pieces)].tolist() == pieces:
                    new.add(tuple(renamed[start : start + len(pieces)].tolist()))
                    count += 1
        assert count >= 3 and len(new) == 1


def test_each_example_is_renamed_in_a_way_of_its_own(vocabulary: Vocabulary, data: Supervised) -> None:
    twice = np.repeat(data.source[:1], 2, axis=0), np.repeat(data.tokens[:1], 2, axis=0)
    source, tokens = Renaming(vocabulary)(*twice, np.random.default_rng(0))
    assert (source[0] != source[1]).any() and (tokens[0] != tokens[1]).any()


def test_the_same_seed_renames_the_same_way(vocabulary: Vocabulary, data: Supervised) -> None:
    for one, two in zip(rename(vocabulary, data, 3), rename(vocabulary, data, 3), strict=True):
        np.testing.assert_array_equal(one, two)


def test_the_originals_are_left_as_they_were(vocabulary: Vocabulary, data: Supervised) -> None:
    source, tokens = data.source.copy(), data.tokens.copy()
    rename(vocabulary, data)
    list(data.shuffled(2, Renaming(vocabulary), 1.0, np.random.default_rng(0)))
    np.testing.assert_array_equal(data.source, source)
    np.testing.assert_array_equal(data.tokens, tokens)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_share_says_how_many_examples_are_renamed(
    vocabulary: Vocabulary, data: Supervised, share: float
) -> None:
    original = {row.tobytes() for row in data.source}
    rows = [
        row.numpy().tobytes()
        for batch, _ in data.shuffled(3, Renaming(vocabulary), share, np.random.default_rng(0))
        for row in batch.source
    ]
    assert len(rows) == len(NAMES)
    assert (set(rows) == original) if share == 0 else not (set(rows) & original)
