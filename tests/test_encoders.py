from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from qa_env.encoders import (
    FEATURES,
    LONGEST_PHRASE,
    EncoderConfig,
    LSTMEncoder,
    SentencePool,
    reversal,
    sentences,
    source_features,
)
from qa_env.errors import QAError
from qa_env.vocabulary import PAD, SEP, Kind

FULL_STOP = 14
KINDS = np.zeros(20, dtype=np.int64)
KINDS[[5, 6, 7, 8, 9, FULL_STOP]] = (
    Kind.WORD,
    Kind.INSIDE,
    Kind.NUMBER,
    Kind.DIGIT,
    Kind.DECIMAL,
    Kind.END,
)
SENTENCE = slice(2, 5)
PHRASE = slice(5, 5 + LONGEST_PHRASE)
SPELLING = slice(5 + LONGEST_PHRASE, FEATURES)
ROWS = ([5, 6, 7, SEP, 6, FULL_STOP, 9, 5], [8], [5, 6, SEP, 5], [9, 9, 9, 9, SEP, 9, 9])


def batch(*rows: list[int], width: int | None = None) -> np.ndarray:
    width = width or max(map(len, rows))
    return np.array([row + [PAD] * (width - len(row)) for row in rows], dtype=np.int64)


@pytest.fixture(params=[True, False], ids=["features", "no features"])
def encoder(request: pytest.FixtureRequest) -> LSTMEncoder:
    torch.manual_seed(0)
    encoder = LSTMEncoder(EncoderConfig(20, 6, 5, features=request.param), KINDS)
    with torch.no_grad():
        encoder.embedding.weight[PAD].fill_(1.0)  # a tied output layer trains this row too
    return encoder


def test_output_depends_neither_on_padding_nor_on_other_rows(encoder: LSTMEncoder) -> None:
    together = encoder.encode(batch(*ROWS))
    padded = encoder.encode(batch(*ROWS, width=15))
    assert together.shape == (4, 8, encoder.width) and padded.shape == (4, 15, encoder.width)
    for i, row in enumerate(ROWS):
        alone = encoder.encode(batch(row))[0]
        np.testing.assert_allclose(together[i, : len(row)], alone, atol=1e-6)
        np.testing.assert_allclose(padded[i, : len(row)], alone, atol=1e-6)
    order = np.array([2, 0, 3, 1])
    np.testing.assert_allclose(encoder.encode(batch(*ROWS)[order]), together[order], atol=1e-6)


def test_output_without_a_question_does_not_depend_on_other_rows() -> None:
    torch.manual_seed(0)
    encoder = LSTMEncoder(EncoderConfig(20, 6, 5), KINDS)
    row = [SEP, 5, 6]
    together = encoder.encode(batch(row, [7, 8, 9, 11, SEP, 5]))
    np.testing.assert_allclose(together[0, :3], encoder.encode(batch(row))[0], atol=1e-6)


def test_output_is_zero_exactly_at_padding(encoder: LSTMEncoder) -> None:
    source = batch(*ROWS, width=12)
    output = encoder.encode(source)
    assert output.dtype == np.float32
    np.testing.assert_array_equal((output != 0).any(2), source != PAD)
    np.testing.assert_array_equal(encoder.encode(batch([PAD] * 3)), 0)


def without_pools(encoder: LSTMEncoder) -> LSTMEncoder:
    """The encoder, its sentence pools silenced."""
    with torch.no_grad():
        for pool in (encoder.pool_words, encoder.pool_outputs):
            pool.output.weight.zero_()
    return encoder


def test_both_directions_are_read(encoder: LSTMEncoder) -> None:
    encoder = without_pools(encoder)
    before, after = encoder.encode(batch([5, 6, 7])), encoder.encode(batch([5, 6, 8]))
    half = encoder.width // 2
    np.testing.assert_allclose(before[0, 0, :half], after[0, 0, :half], atol=1e-7)
    assert np.abs(before[0, 0, half:] - after[0, 0, half:]).max() > 1e-4


def test_features_change_the_output() -> None:
    torch.manual_seed(0)
    encoder = LSTMEncoder(EncoderConfig(vocabulary=20, embedding=6, hidden=5))
    source = batch([5, 6, SEP, 7])
    before = encoder.encode(source)
    with torch.no_grad():
        encoder.feature_embedding.weight.zero_()
    assert np.abs(encoder.encode(source) - before).max() > 1e-4


def test_a_saved_encoder_is_the_same_when_loaded_and_frozen(encoder: LSTMEncoder, tmp_path: Path) -> None:
    encoder.save(tmp_path / "e.safetensors")
    loaded = LSTMEncoder.load(tmp_path / "e.safetensors")
    assert loaded.config == encoder.config and loaded.width == encoder.width
    np.testing.assert_array_equal(loaded.encode(batch(*ROWS)), encoder.encode(batch(*ROWS)))
    assert torch.equal(loaded.kinds, torch.from_numpy(KINDS))
    assert not any(p.requires_grad for p in loaded.parameters())


def test_without_kinds_every_token_is_of_no_kind() -> None:
    encoder = LSTMEncoder(EncoderConfig(20, 6, 5))
    assert torch.equal(encoder.kinds, torch.full((20,), int(Kind.OTHER)))
    assert "kinds" in encoder.state_dict() and "kinds" not in dict(encoder.named_parameters())


def test_a_missing_encoder_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(QAError, match=r"no encoder file .*none"):
        LSTMEncoder.load(tmp_path / "none")


@pytest.mark.parametrize("content", [b"", b"rubbish", b"\x00" * 64])
def test_a_file_that_is_not_safetensors_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "broken.safetensors"
    path.write_bytes(content)
    with pytest.raises(QAError, match=r"broken\.safetensors is no encoder file"):
        LSTMEncoder.load(path)


def test_tensors_of_something_else_are_refused(tmp_path: Path, encoder: LSTMEncoder) -> None:
    path = tmp_path / "other.safetensors"
    config = '{"vocabulary": 20, "embedding": 6, "hidden": 5, "features": true}'
    for metadata in (
        None,
        {"encoder_config": "{"},
        {"encoder_config": '{"x": 1}'},
        {"encoder_config": config},
    ):
        save_file({"weight": torch.zeros(2)}, str(path), metadata=metadata)
        with pytest.raises(QAError, match="is no encoder file"):
            LSTMEncoder.load(path)


def features(*rows: list[int], width: int | None = None) -> torch.Tensor:
    return source_features(torch.tensor(batch(*rows, width=width)), torch.from_numpy(KINDS))


def test_features_tell_the_segment() -> None:
    found = features([5, 6, SEP, 7, 8], [5, 6, 7], [SEP, 5], width=6)
    assert found.shape == (3, 6, FEATURES)
    assert found[:, :, 0].tolist() == [[1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0]]
    assert found[:, :, 1].tolist() == [[0, 0, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0]]


def phrase_lengths(row: list[int]) -> list[int]:
    """The shared-phrase feature of each token as a number, 0 for none."""
    shared = features(row)[0, :, PHRASE]
    assert shared.sum(1).max() <= 1
    return [int(one_hot.argmax()) + 1 if one_hot.any() else 0 for one_hot in shared]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ([5, 6, SEP, 7, 8], [0, 0, 0, 0, 0]),  # nothing shared
        ([5, 6, SEP, 6, 5], [0, 0, 0, 1, 1]),  # single tokens, in another order
        ([5, 6, 7, SEP, 9, 5, 6], [0, 0, 0, 0, 0, 2, 2]),
        ([5, 6, 7, SEP, 5, 6, 7, 5], [0, 0, 0, 0, 3, 3, 3, 1]),
        ([5, 6, 7, 8, SEP, 5, 6, 7, 8], [0, 0, 0, 0, 0, 4, 4, 4, 4]),
        ([5, 6, 7, 8, 9, 4, SEP, 5, 6, 7, 8, 9, 4], [0] * 7 + [4] * 6),  # longer is not told apart
        ([5, 6, 5, 7, SEP, 5, 7], [0, 0, 0, 0, 0, 2, 2]),  # the longest of several matches
        ([5, 5, SEP], [0, 0, 0]),  # a repetition within the question is no shared phrase
        ([5, SEP, 5, SEP, 5], [0, 0, 1, 0, 1]),  # a second separator belongs to the context
    ],
)
def test_features_tell_the_length_of_the_phrase_shared_with_the_question(
    row: list[int], expected: list[int]
) -> None:
    assert LONGEST_PHRASE == 4
    assert phrase_lengths(row) == expected
    padded = features(row, [7] * 20)[0]
    assert torch.equal(padded[: len(row)], features(row)[0])
    assert not padded[len(row) :, : SPELLING.start].any()


def slow_sentence_features(row: list[int]) -> list[list[float]]:
    """Of each token: how telling it is, how much of the question its sentence says, whether most."""
    cut = row.index(SEP)
    question, context = row[:cut], row[cut:]
    telling = [1 / context.count(t) if t in context and t in question else 0.0 for t in row]
    starts = [cut, *(i + 1 for i in range(cut, len(row)) if row[i] == FULL_STOP), len(row)]
    said = [set(row[a:b]) for a, b in itertools.pairwise(starts)]
    having = {t: sum(t in sentence for sentence in said) for t in question}
    sums = [sum(1 / having[t] for t in question if t in sentence) for sentence in said]
    shares = [0.0] * cut
    for total, (start, end) in zip(sums, itertools.pairwise(starts), strict=True):
        shares += [total / max(sums) if max(sums) else 0.0] * (end - start)
    return [[t, s, float(s == 1.0)] for t, s in zip(telling, shares, strict=True)]


@pytest.mark.parametrize(
    "row",
    [
        [5, 6, SEP, 7, 8],
        [5, 6, 7, SEP, 6, 6, 9, 5],
        [5, 5, SEP, 5, FULL_STOP, 5, 8],
        [5, 6, 7, 9, SEP, 9, 5, 11, FULL_STOP, 9, 6, 7, 12, FULL_STOP, 9, 13, FULL_STOP],
        [5, 6, FULL_STOP, 7, SEP, 5, FULL_STOP, 6, FULL_STOP, 8],
        [5, 6, 7, SEP, 5, 5, 5, FULL_STOP, 5, 7, FULL_STOP],  # saying a name again adds nothing
    ],
)
def test_features_tell_rare_shared_tokens_and_the_sentence_that_has_most_of_them(row: list[int]) -> None:
    found = features(row, [9] * 30)[0, : len(row), SENTENCE]
    torch.testing.assert_close(found, torch.tensor(slow_sentence_features(row)))


@pytest.mark.parametrize("row", ROWS)
def test_features_tell_the_kind_of_a_token_and_of_the_next(row: list[int]) -> None:
    kinds = torch.from_numpy(KINDS)
    found = features(row, [7] * 12)[0, : len(row), SPELLING]
    now, behind = found.split(len(Kind), dim=1)
    assert torch.equal(now, torch.nn.functional.one_hot(kinds[row], len(Kind)).float())
    follows = torch.cat((kinds[row[1:]], torch.tensor([Kind.OTHER])))
    assert torch.equal(behind, torch.nn.functional.one_hot(follows, len(Kind)).float())


def slow_alignment(encoder: LSTMEncoder, row: list[int]) -> torch.Tensor:
    """The formula of the class, token by token."""
    embedded = encoder.embedding(torch.tensor(row))
    aligned = torch.zeros_like(embedded)
    cut = row.index(SEP) if SEP in row else len(row)
    question = torch.relu(embedded[:cut] @ encoder.alignment.weight.T + encoder.alignment.bias)
    for i in range(cut, len(row)):
        key = torch.relu(encoder.alignment.weight @ embedded[i] + encoder.alignment.bias)
        weights = torch.stack([key @ other for other in question]).softmax(0)
        aligned[i] = encoder.aligned.weight @ sum(w * e for w, e in zip(weights, embedded[:cut], strict=True))
    return aligned


def test_the_lstm_reads_embedding_features_and_alignment_and_a_residual_goes_round_it() -> None:
    torch.manual_seed(0)
    encoder = without_pools(LSTMEncoder(EncoderConfig(20, 6, 5), KINDS).requires_grad_(False))
    for lstm in (encoder.forward_lstm, encoder.backward_lstm):
        for parameter in lstm.parameters():
            parameter.zero_()  # the LSTMs' outputs are zero
    together = encoder(torch.tensor(batch(*ROWS)))
    for i, row in enumerate(ROWS):
        told = features(row)[0] @ encoder.feature_embedding.weight.T
        read = encoder.embedding(torch.tensor(row)) + told + slow_alignment(encoder, row)
        expected = read @ encoder.residual.weight.T
        torch.testing.assert_close(together[i, : len(row)], expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("pool", ["pool_words", "pool_outputs"])
def test_each_pool_brings_a_later_word_of_the_sentence_to_an_earlier_one(pool: str) -> None:
    torch.manual_seed(0)
    encoder = without_pools(LSTMEncoder(EncoderConfig(20, 6, 5), KINDS).requires_grad_(False))
    half = encoder.width // 2  # of the forward LSTM, which by itself knows nothing of later words
    torch.nn.init.normal_(getattr(encoder, pool).output.weight)
    before, after = encoder.encode(batch([5, 6, 7])), encoder.encode(batch([5, 6, 8]))
    assert np.abs(before[0, 0, :half] - after[0, 0, :half]).max() > 1e-4


def test_reversal_turns_round_what_is_not_padding() -> None:
    valid = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0], [1, 0, 0, 0, 0]]).bool()
    flip = reversal(valid)
    assert flip.tolist() == [[2, 1, 0, 3, 4], [4, 3, 2, 1, 0], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4]]
    assert torch.equal(flip.gather(1, flip), torch.arange(5).expand(4, 5))


def test_encoding_for_the_environment_leaves_no_gradient(new_lm: Callable[..., torch.nn.Module]) -> None:
    encoder = new_lm().encoder
    assert encoder(torch.tensor(batch(*ROWS))).requires_grad
    assert isinstance(encoder.encode(batch(*ROWS)), np.ndarray)


def test_a_token_hears_of_its_whole_sentence_and_of_no_other() -> None:
    torch.manual_seed(0)
    pool = SentencePool(6)
    values, sentence = torch.randn(2, 7, 6), torch.tensor([[0, 0, 1, 1, 1, 2, 2], [0, 1, 1, 2, 3, 3, 3]])
    valid = torch.ones(2, 7, dtype=torch.bool)
    before = pool(values, sentence, valid)
    louder = values.clone()
    louder[0, 2] += 10 * torch.randn(6)
    changed = (pool(louder, sentence, valid) != before).any(2)
    assert changed.tolist() == [[False, False, True, True, True, False, False], [False] * 7]
    order = torch.tensor([0, 1, 4, 2, 3, 5, 6])  # the words of the second sentence in another order
    torch.testing.assert_close(pool(values[:1, order], sentence[:1], valid[:1]), before[:1, order])


def test_a_sentence_ends_behind_its_full_stop_and_the_context_begins_one() -> None:
    kinds = torch.zeros(20, dtype=torch.long)
    kinds[10] = Kind.END
    source = torch.tensor([[7, 10, SEP, 8, 9, 10, 7, 10, PAD], [7, 8, SEP, 10, 8, PAD, PAD, PAD, PAD]])
    assert sentences(source, kinds).tolist() == [[0, 0, 1, 1, 1, 1, 2, 2, 3], [0, 0, 1, 1, 2, 2, 2, 2, 2]]
