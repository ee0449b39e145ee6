"""Pre-training alone, and another run's weights as the start of a run."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch

from agents import pretrain
from agents.config import InitConfig, TrainConfig
from agents.loading import PRETRAINED, read_language_model
from agents.runs import Run
from agents.transfer import check_transfer, find_weights, part_of, transfer
from policies.language_model import LMConfig, LSTMAttentionLM
from qa_env.errors import QAError
from qa_env.vocabulary import SPECIAL_TOKENS, Vocabulary
from qa_env.vocabulary_making import train_words

TEXTS = [
    f"The {animal} sleeps in the {place}. {animal} and {place}."
    for animal in ("cat", "dog", "cow")
    for place in ("house", "barn", "street")
]
LANGUAGE = ("--cloze", "0", "--language", "1")
TINY = ("--lm.embedding", "8", "--lm.encoder-hidden", "6", "--lm.hidden", "10", "--limits.max-source", "48")
LM = LMConfig(embedding=8, encoder_hidden=6, hidden=10)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `python -m agents.pretrain lm` makes."""
    folder = tmp_path_factory.mktemp("pretrained")
    (folder / "a.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    sizes = (
        "--lm.embedding 8 --lm.encoder-hidden 6 --lm.hidden 10 --limits.max-source 48 --vocabulary.size 300"
    )
    steps = "--steps 4 --check-every 2 --batch-size 4 --cloze 0 --language 1 --spans 1"
    pretrain.main(["lm", str(folder / "a.txt"), "--out", str(folder / "run"), *sizes.split(), *steps.split()])
    return folder / "run"


@pytest.fixture
def vocabulary() -> Vocabulary:
    return train_words([*TEXTS, *(f"{word} {word}" for word in ("zebra", "yak"))], 340)


def new(vocabulary: Vocabulary, lm: LMConfig = LM) -> LSTMAttentionLM:
    return LSTMAttentionLM(lm, len(vocabulary), vocabulary.kinds)


def config(source: Path, **chosen: bool) -> TrainConfig:
    return TrainConfig(lm=LM, init_from=str(source), init=InitConfig(**chosen))


def test_pretraining_alone_makes_a_run_that_tells_its_perplexity(source: Path) -> None:
    run = Run.open(source)
    told = run.read_json("pretrain.json")
    assert told["steps"] == 4 and set(told["before"]) == set(told["after"]) == {"language", "spans"}
    assert run.config().pretraining.steps == 4 and run.config().lm == LM
    assert list(source.glob("events.out.tfevents.*")) and not list(source.glob("*.tmp"))
    vocabulary, lm = read_language_model(run, PRETRAINED)
    assert lm.vocabulary == len(vocabulary) > 260


def test_tokens_of_the_same_text_keep_their_rows(source: Path, vocabulary: Vocabulary) -> None:
    theirs_vocabulary, theirs = read_language_model(Run.open(source), PRETRAINED)
    lm = new(vocabulary)
    before = lm.embedding.weight.detach().clone()
    told = transfer(lm, vocabulary, config(source))
    rows = {piece: row for row, piece in enumerate(theirs_vocabulary.pieces)}
    found = 0
    for token, piece in enumerate(vocabulary.pieces):
        if piece in rows:
            found += 1
            assert torch.equal(lm.embedding.weight[token], theirs.embedding.weight[rows[piece]])
            assert lm.output_bias[token] == theirs.output_bias[rows[piece]]
        else:
            assert torch.equal(lm.embedding.weight[token], before[token]) and lm.output_bias[token] == 0
    moved = [vocabulary.pieces.index(p) != rows[p] for p in (" cat", " house") if p in rows]
    assert {*SPECIAL_TOKENS, "e"} <= {*rows} and any(moved) and 260 <= found < len(vocabulary)
    anew = len(vocabulary) - found
    assert str(told).endswith(f"{found} of {len(vocabulary)} tokens found again, {anew} start anew")
    for part in ("encoder", "decoder"):
        ours, copied = part_of(lm, part), part_of(theirs, part)
        assert ours.keys() == copied.keys() and all(torch.equal(ours[name], copied[name]) for name in ours)


def test_every_weight_belongs_to_one_part(vocabulary: Vocabulary) -> None:
    lm = new(vocabulary)
    parts = [*part_of(lm, "encoder").values(), *part_of(lm, "decoder").values()]
    of_tokens = [lm.embedding.weight, lm.output_bias]
    assert sorted(map(id, (*parts, *of_tokens))) == sorted(map(id, lm.parameters()))


@pytest.mark.parametrize("part", ["encoder", "decoder", "embedding"])
def test_a_part_is_taken_over_alone(part: str, source: Path, vocabulary: Vocabulary) -> None:
    chosen = {name: name == part for name in ("encoder", "decoder", "embedding")}
    lm, untouched = new(vocabulary), new(vocabulary)
    untouched.load_state_dict(lm.state_dict())
    told = str(transfer(lm, vocabulary, config(source / PRETRAINED, **chosen)))
    assert f": {part}" in told and ("tokens found again" in told) == (part == "embedding")
    changed = {
        "encoder": not torch.equal(lm.encoder.residual.weight, untouched.encoder.residual.weight),
        "decoder": not torch.equal(lm.output.weight, untouched.output.weight),
        "embedding": not torch.equal(lm.embedding.weight, untouched.embedding.weight),
    }
    assert changed == chosen


def test_who_is_loaded_does_not_change_the_numbers_drawn_behind(source: Path, vocabulary: Vocabulary) -> None:
    lm = new(vocabulary)
    before = torch.get_rng_state()
    transfer(lm, vocabulary, config(source))
    assert torch.equal(torch.get_rng_state(), before)


def test_another_architecture_is_refused_unless_its_parts_are_left_out(source: Path) -> None:
    wide = dataclasses.replace(config(source), lm=dataclasses.replace(LM, hidden=12, copy=False))
    with pytest.raises(QAError) as caught:
        check_transfer(wide)
    told = str(caught.value)
    assert "expected lm.hidden 12, lm.copy False, got 10, True" in told
    assert "give --lm.hidden 10 --lm.copy, or" in told and "\n" not in told
    check_transfer(dataclasses.replace(wide, init=InitConfig(decoder=False)))
    bert = dataclasses.replace(wide, lm=dataclasses.replace(LM, bert="model"))
    with pytest.raises(QAError, match=r"give --init\.no-encoder"):
        check_transfer(bert)
    with pytest.raises(QAError, match="init leaves no part"):
        check_transfer(config(source, encoder=False, decoder=False, embedding=False))


def test_what_is_no_run_is_refused(source: Path, tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").write_bytes(b"")
    for path, told in (
        (tmp_path / "none", "no run folder or file of weights .*none"),
        (tmp_path, "is no run folder: it has no config.json"),
        (tmp_path / "weights.safetensors", "is no run folder: it has no config.json"),
    ):
        with pytest.raises(QAError, match=told):
            check_transfer(config(path))
    bare = Run(shutil.copytree(source, tmp_path / "bare"))
    bare.path(PRETRAINED).unlink()
    with pytest.raises(QAError, match="holds no weights yet"):
        check_transfer(config(bare.folder))


def test_a_broken_file_of_weights_is_refused(source: Path, tmp_path: Path, vocabulary: Vocabulary) -> None:
    spoiled = Run(shutil.copytree(source, tmp_path / "spoiled"))
    spoiled.path(PRETRAINED).write_bytes(spoiled.path(PRETRAINED).read_bytes()[:100])
    with pytest.raises(QAError, match="does not fit this model or is broken"):
        transfer(new(vocabulary), vocabulary, config(spoiled.folder))


def test_a_run_means_its_furthest_weights(source: Path, tmp_path: Path) -> None:
    run = Run(shutil.copytree(source, tmp_path / "run"))
    for name in (PRETRAINED, "warm_start.safetensors", "model.safetensors"):
        shutil.copyfile(source / PRETRAINED, run.path(name))
        assert find_weights(run.folder)[1] == name
    assert find_weights(run.path(PRETRAINED))[1] == PRETRAINED


def test_pretraining_alone_starts_from_word_vectors(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    (tmp_path / "v.vec").write_text(
        f"the{' 0.5' * 4}{' -0.5' * 4}\nhouse{' -0.5' * 4}{' 0.5' * 4}\n", encoding="utf-8"
    )
    options = f"--vectors {tmp_path / 'v.vec'} --vocabulary.kind words --steps 1 --learning-rate 1e-9".split()
    places = ("--out", str(tmp_path / "run"))
    pretrain.main(["lm", str(tmp_path / "a.txt"), *places, *options, *TINY, *LANGUAGE])
    vocabulary, lm = read_language_model(Run.open(tmp_path / "run"), PRETRAINED)
    the, house = (lm.embedding.weight[vocabulary.pieces.index(word)] for word in (" the", " house"))
    assert torch.allclose(the, -house) and (the[:4] > 0).all() and (the[4:] < 0).all()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["lm", "none.txt", "--out", "run"], "no text file none.txt"),
        (["lm", "empty.txt", "--out", "run"], "empty.txt is empty"),
        (["lm", "data", "--out", "run"], "name files of text"),
        (["lm", "few.txt", "--out", "run"], "too little text"),
        (["lm", "few.txt", "--out", "run", "--cloze", "0"], "shares of 0 or more"),
        (
            ["lm", "many.txt", "--out", "many.txt", *"--cloze 0 --spans 1".split()],
            "cannot make the run folder .*another --out",
        ),
        (["lm", "many.txt", "--out", "run", "--lm.bert", "model"], "lm.bert has read much text already"),
        (["lm", "many.txt", "--out", "run", "--vectors", "none.vec", *TINY, *LANGUAGE], "none.vec"),
        (["lm", "many.txt", "--out", "run", "--vectors", "wide.vec", *TINY, *LANGUAGE], "wide.vec.* 9 .*8"),
        (["lm", "many.txt", "--out", "run", "--vectors", "cut.vec", *TINY, *LANGUAGE], "cut.vec, line 2"),
    ],
)
def test_the_command_tells_what_is_wrong_and_writes_nothing(
    arguments: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.txt").touch()
    Path("few.txt").write_text("a few words", encoding="utf-8")
    Path("many.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    Path("wide.vec").write_text(f"the{' 0.5' * 9}\n", encoding="utf-8")
    Path("cut.vec").write_text(f"the{' 0.5' * 8}\nhouse 0.5\n", encoding="utf-8")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(QAError, match=told):
        pretrain.main(arguments)
    assert sorted(tmp_path.iterdir()) == before
