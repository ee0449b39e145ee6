from __future__ import annotations

import numpy as np
import pytest

from agents.augmentation import Augmentation, AugmentationConfig
from agents.decoding import Limits
from agents.warm_start import Supervised, bucketed
from qa_env.datasets import QAExample
from qa_env.errors import QAError
from qa_env.vocabulary import EOS, PAD, SEP, SPECIAL_TOKENS, Kind, Vocabulary

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
    return augmentation(vocabulary).rename(data.source, data.tokens, np.random.default_rng(seed))


def augmentation(vocabulary: Vocabulary, renamed: float = 1.0, replaced: float = 0.0) -> Augmentation:
    return Augmentation(vocabulary, AugmentationConfig(renamed, replaced))


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
    source, tokens = augmentation(vocabulary)(*twice, np.random.default_rng(0))
    assert (source[0] != source[1]).any() and (tokens[0] != tokens[1]).any()


def test_the_same_seed_renames_the_same_way(vocabulary: Vocabulary, data: Supervised) -> None:
    for one, two in zip(rename(vocabulary, data, 3), rename(vocabulary, data, 3), strict=True):
        np.testing.assert_array_equal(one, two)


def test_the_originals_are_left_as_they_were(vocabulary: Vocabulary, data: Supervised) -> None:
    source, tokens = data.source.copy(), data.tokens.copy()
    rename(vocabulary, data)
    list(data.shuffled(2, augmentation(vocabulary, 1.0, 1.0), np.random.default_rng(0)))
    np.testing.assert_array_equal(data.source, source)
    np.testing.assert_array_equal(data.tokens, tokens)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_share_says_how_many_examples_are_renamed(
    vocabulary: Vocabulary, data: Supervised, share: float
) -> None:
    original = {row.tobytes() for row in data.source}
    rows = [
        row.numpy().tobytes()
        for batch, _ in data.shuffled(3, augmentation(vocabulary, share), np.random.default_rng(0))
        for row in batch.source
    ]
    assert len(rows) == len(NAMES)
    assert (set(rows) == original) if share == 0 else not (set(rows) & original)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_share_says_how_many_words_are_replaced_and_nothing_else_is(
    vocabulary: Vocabulary, data: Supervised, share: float
) -> None:
    many = np.repeat(data.source, 50, axis=0), np.repeat(data.tokens, 50, axis=0)
    source, tokens = augmentation(vocabulary, 0.0, share)(*many, np.random.default_rng(0))
    np.testing.assert_array_equal(tokens, many[1])
    words = vocabulary.kinds[many[0]] == Kind.WORD
    np.testing.assert_array_equal(source[~words], many[0][~words])
    assert (source[words] != many[0][words]).mean() == pytest.approx(share, abs=0.02)
    assert (source[words] >= len(SPECIAL_TOKENS)).all()


@pytest.mark.parametrize("shares", [(-0.1, 0.0), (0.5, 1.2)])
def test_shares_out_of_range_are_refused(shares: tuple[float, float]) -> None:
    with pytest.raises(QAError, match="shares from 0 to 1"):
        AugmentationConfig(*shares)


def test_minibatches_hold_every_example_once_and_like_lengths_together() -> None:
    lengths = np.random.default_rng(1).integers(1, 41, size=100)
    source = np.where(np.arange(40) < lengths[:, None], 7, PAD)
    batches = bucketed(source, 10, np.random.default_rng(0))
    assert sorted(np.concatenate(batches)) == list(range(100))
    assert [len(batch) for batch in batches] == [10] * 10
    widest = [lengths[batch].max() for batch in batches]
    assert np.mean(widest) < 1.15 * lengths.mean()
    assert widest != sorted(widest)  # the order of the minibatches is random


def test_the_last_minibatch_may_be_smaller() -> None:
    batches = bucketed(np.ones((7, 3), dtype=np.int64), 3, np.random.default_rng(0))
    assert sorted(map(len, batches)) == [1, 3, 3]
    assert sorted(np.concatenate(batches)) == list(range(7))
