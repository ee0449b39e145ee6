from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from agents import pretrain
from agents.skip_gram import SkipGramConfig, skip_gram_pairs, train_vectors
from agents.word_vectors import vectors_in
from qa_env.errors import QAError

SMALL = SkipGramConfig(
    dimensions=8, window=2, min_count=1, epochs=10, batch_size=64, subsampling=1.0, learning_rate=0.02
)


def rhymes() -> list[str]:
    """Fruit and animals stand among words of their own; no fruit stands near another."""
    rng = np.random.default_rng(0)
    words = (
        (("apple", "pear", "plum"), ("sweet", "ripe", "juicy")),
        (("dog", "cat", "cow"), ("barks", "runs", "eats")),
    )
    lines = []
    for _ in range(300):
        things, said = words[rng.integers(2)]
        lines.append(f"{rng.choice(said)} {rng.choice(things)} {rng.choice(said)}")
    return lines


def test_words_of_like_contexts_get_like_vectors() -> None:
    learned = train_vectors(rhymes(), SMALL)
    vectors = dict(
        zip(learned.words, learned.vectors / np.linalg.norm(learned.vectors, axis=1)[:, None], strict=True)
    )
    fruit = min(vectors["apple"] @ vectors[other] for other in ("pear", "plum"))
    assert fruit > max(vectors["apple"] @ vectors[other] for other in ("dog", "cat", "cow")) + 0.3


def test_training_lowers_the_loss_and_is_the_same_each_time() -> None:
    losses: list[float] = []
    first = train_vectors(rhymes(), SMALL, lambda epoch, loss: losses.append(loss))
    assert len(losses) == 10 and losses[-1] < losses[0] - 0.3
    assert np.array_equal(train_vectors(rhymes(), SMALL).vectors, first.vectors)


def test_pairs_stay_within_a_text_and_a_window() -> None:
    running = [np.array([0, 1, 2, 3]), np.array([4, 5]), np.array([], dtype=np.int64)]
    keep = np.ones(6)
    pairs = {
        pair
        for seed in range(50)
        for pair in map(tuple, skip_gram_pairs(running, keep, 2, np.random.default_rng(seed)).tolist())
    }
    near = {(0, 1), (1, 2), (2, 3), (0, 2), (1, 3), (4, 5)}
    assert pairs == near | {(b, a) for a, b in near}


def test_frequent_words_are_left_out_and_draw_the_others_together() -> None:
    running = [np.array([1, 0, 2])] * 20
    pairs = skip_gram_pairs(running, np.array([0.0, 1.0, 1.0]), 1, np.random.default_rng(0)).tolist()
    assert sorted(pairs) == [[1, 2]] * 20 + [[2, 1]] * 20


def test_words_are_those_of_a_vocabulary_of_words() -> None:
    learned = train_vectors(["Tokyo's 12 (big) towers, 东京"] * 3, SMALL)
    assert set(learned.words) == {"tokyo", "'s", "1", "2", "(", "big", ")", "towers", ",", "东", "京"}


def test_rare_words_get_no_vector() -> None:
    texts = ["often often seldom", "often other", "other"]
    learned = train_vectors(texts, SkipGramConfig(dimensions=2, min_count=2, epochs=1))
    assert learned.words == ["often", "other"]
    with pytest.raises(QAError, match="only 1 words stand 3 times or more"):
        train_vectors(texts, SkipGramConfig(min_count=3))


@pytest.mark.parametrize(
    "setting", [{"dimensions": 0}, {"negatives": 0}, {"subsampling": 0.0}, {"learning_rate": -1.0}]
)
def test_settings_out_of_range_are_refused(setting: dict[str, float]) -> None:
    with pytest.raises(QAError, match=next(iter(setting))):
        SkipGramConfig(**setting)  # type: ignore[arg-type]


def test_the_command_trains_on_text_files_and_writes_vectors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text("\n\n".join(rhymes()), encoding="utf-8")
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress("Größe und Größe\n".encode()))
    files = [str(tmp_path / name) for name in ("a.txt", "b.txt.gz", "v.vec.gz")]
    options = "--dimensions 6 --epochs 1 --min-count 2 --out".split()
    pretrain.main(["vectors", *files[:2], *options, files[2]])
    found = dict(vectors_in(files[2]))
    assert "größe" in found and "apple" in found and found["apple"].shape == (6,)
    assert f"{len(found)} words with 6 dimensions written" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["vector"], "unknown command vector; did you mean 'vectors'"),
        (["vectors", "none.txt", "--out", "v.vec"], "no text file none.txt"),
        (["vectors", "latin.txt", "--out", "v.vec"], "latin.txt, line 2: not UTF-8"),
        (["vectors", "broken.gz", "--out", "v.vec"], "broken.gz is a broken gzip file"),
        (["vectors", "few.txt", "--out", "v.vec"], "only 0 words stand 3 times"),
        (["vectors", "few.txt", "--out", "no/v.vec"], "there is no such folder"),
        (["vectors", "few.txt", "--outs", "v.vec"], "unknown option --outs"),
        (["vectors", "few.txt", "--out", "v.vec", "--epochs", "0"], "epochs must be 1 or more"),
    ],
)
def test_the_command_tells_what_is_wrong_and_writes_nothing(
    arguments: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("latin.txt").write_bytes(b"fine\nGr\xf6\xdfe\n")
    Path("broken.gz").write_bytes(b"\x1f\x8b nothing")
    Path("few.txt").write_text("a few words", encoding="utf-8")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(QAError, match=told):
        pretrain.main(arguments)
    assert sorted(tmp_path.iterdir()) == before


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    pretrain.main([])
    assert "vectors" in capsys.readouterr().out
