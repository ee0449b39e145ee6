"""Runs whose encoder reads with BERT, frozen or fine-tuned: trained, resumed, and asked."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import agents.reports
import agents.training
import train
from agents import answer, evaluate
from agents.bert import make_language_model
from agents.commands import run_command
from agents.config import TrainConfig
from agents.loading import load_policy, read_language_model
from agents.runs import Run
from agents.transfer import transfer
from policies.language_model import LSTMAttentionLM
from qa_env.bert import KeptOutputs
from qa_env.datasets import FactsConfig, make_facts
from qa_env.errors import QAError
from tests.bert_models import make_model
from tests.test_resume import stopped_in

pytest.importorskip("transformers", reason="needs the extra bert")

TINY = (
    "--lm.embedding 12 --lm.encoder-hidden 8 --lm.hidden 12 --warm-start.epochs 1 "
    "--warm-start.critic-rollouts 1 "
    "--rl.n-envs 4 --rl.n-steps 16 --rl.batch-size 32 --rl.eval-every 1 --rl.timesteps 190 "
    "--limits.max-source 96 --limits.max-answer 24 --imitation.threshold -1 --imitation.batches 1 "
    "--imitation.epochs 1 --facts.labelled 12 --facts.unlabelled 24 --facts.validation 8 --facts.test 8 "
    "--facts.max-statements 2"
).split()
WAYS = {
    "as it is": [],
    "fine-tuned": ["--lm.bert-rate", "0.1"],
    "frozen after the warm start": ["--lm.bert-rate", "0.1", "--encoder", "frozen"],
    "frozen after the warm start, its LSTM trained": ["--lm.bert-rate", "0.1", "--encoder", "frozen-bert"],
}


def command(main: Any, *arguments: object) -> int:
    """Calls a command as its command line does; the exit status."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["command", *map(str, arguments)])
        patch.setattr(agents.reports, "MAPS", 1)
        try:
            run_command(main)
        except SystemExit as stop:
            assert isinstance(stop.code, int)
            return stop.code
    return 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    questions = make_facts(FactsConfig(labelled=400, unlabelled=0, validation=0, test=0)).labelled
    texts = [text for e in questions for text in (e.question, e.context or "", *e.answers)]
    return make_model(tmp_path_factory.mktemp("bert"), texts=texts, max_position_embeddings=48)


def only_run(log_dir: Path) -> Run:
    (folder,) = log_dir.glob("QA-v0*")
    return Run.open(folder)


@pytest.fixture(scope="module", params=list(WAYS))
def trained(request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    log_dir = tmp_path_factory.mktemp("runs")
    arguments = (*TINY, "--lm.bert", folder, *WAYS[request.param], "--log-dir", log_dir)
    assert command(train.main, *arguments) == 0
    return only_run(log_dir)


def test_a_run_trains_and_reports(trained: Run) -> None:
    results = trained.read_json("results.json")
    assert 0 <= results["after"]["f1"] <= 1
    assert trained.read_json("bert.json")["model"]["model_type"] == "bert"


def test_a_bert_that_is_trained_is_saved_and_one_that_is_not_is_not(trained: Run) -> None:
    config = trained.config()
    files = {name: load_file(trained.path(f"{name}.safetensors")) for name in ("warm_start", "model")}
    holds = {name: any(".contextual.model." in key for key in weights) for name, weights in files.items()}
    assert holds["warm_start"] == (config.lm.bert_rate > 0)
    assert holds["model"] == (config.lm.bert_rate > 0 and config.encoder == "trained")


def test_a_loaded_run_answers_as_it_did(trained: Run, capsys: pytest.CaptureFixture[str]) -> None:
    loaded = load_policy(trained)
    config = trained.config()
    data = make_facts(config.facts)
    told = loaded.judge.report(data.test, loaded.answers(data.test))
    assert told == pytest.approx(trained.read_json("results.json")["after"])
    assert command(answer.main, trained.folder, "Who signed?", "--context", "Ada signed the letter.") == 0
    assert command(evaluate.main, trained.folder) == 0


def test_outputs_are_kept_beside_the_runs(trained: Run) -> None:
    config = trained.config()
    files = list((Path(config.log_dir) / agents.training.OUTPUTS).glob("*/*.safetensors"))
    assert bool(files) == (config.lm.bert_rate == 0 or config.encoder != "trained")


def test_a_loaded_run_reads_no_source_again_whose_outputs_are_kept(trained: Run) -> None:
    config = trained.config()
    if config.lm.bert_rate > 0 and config.encoder == "trained":
        return  # it has no outputs that stay
    questions = make_facts(config.facts).test
    counts = []
    for outputs in (None, Path(config.log_dir) / agents.training.OUTPUTS):
        loaded = load_policy(trained, outputs=outputs)
        loaded.answers(questions)
        contextual = loaded.policy.lm.encoder.contextual
        assert isinstance(contextual, KeptOutputs)
        counts.append(contextual.read)
    assert counts[0] > 0 and counts[1] == 0


def test_a_fine_tuned_run_needs_no_other_folder_and_a_frozen_one_says_which(
    trained: Run, folder: Path, tmp_path: Path
) -> None:
    run = Run(shutil.copytree(trained.folder, tmp_path / "run"))
    content = run.read_json("config.json")
    content["lm"]["bert"] = str(tmp_path / "moved")
    run.write_json("config.json", content)
    if run.config().lm.bert_rate > 0:
        assert load_policy(run).answers(make_facts(run.config().facts).test[:2])
        return
    with pytest.raises(QAError, match=r"moved: no such folder .* holds no copy of it"):
        load_policy(run)
    shutil.copytree(folder, tmp_path / "moved")
    load_policy(run)
    make_model(tmp_path / "moved", seed=1, texts=["another text"] * 3)
    with pytest.raises(QAError, match=r"the vocabulary is not that of"):
        load_policy(run)


def test_another_model_in_the_place_of_the_first_is_noticed(folder: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(folder, tmp_path / "model")
    log_dir = tmp_path / "runs"
    arguments = (*TINY, "--lm.bert", moved, "--log-dir", log_dir)
    with stopped_in(agents.training, "warm_start", 1):
        assert command(train.main, *arguments) == 130
    weights = load_file(moved / "model.safetensors")
    save_file({name: w + 1 for name, w in weights.items()}, moved / "model.safetensors", {"format": "pt"})
    with pytest.raises(QAError, match=r"is not the BERT model that .* was trained with"):
        train.main(["--resume", str(only_run(log_dir).folder)])


def start_from(run: Run, folder: Path, rate: float) -> tuple[LSTMAttentionLM, TrainConfig]:
    """A new language model after the transfer of a run's."""
    lm_config = dataclasses.replace(run.config().lm, bert=str(folder), bert_rate=rate)
    config = TrainConfig(lm=lm_config, init_from=str(run.folder))
    lm = make_language_model(config, run.vocabulary(), Run.make(folder.parent / f"new{rate}", config))
    transfer(lm, run.vocabulary(), config)
    return lm, config


def test_what_a_run_has_learned_is_taken_over_with_its_bert(
    trained: Run, folder: Path, tmp_path: Path
) -> None:
    model = shutil.copytree(folder, tmp_path / "model")
    lm, _ = start_from(trained, model, 0.1)
    _, theirs = read_language_model(trained, "model.safetensors")
    source = torch.randint(6, 60, (3, 20), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        told, expected = lm.encoder(source), theirs.encoder(source)
    assert torch.allclose(told, expected, atol=2e-2 * float(expected.abs().max()))  # kept in 16 bits there


def test_a_fine_tuned_bert_does_not_go_into_one_that_is_not(
    trained: Run, folder: Path, tmp_path: Path
) -> None:
    model = shutil.copytree(folder, tmp_path / "model")
    if trained.config().lm.bert_rate == 0:
        start_from(trained, model, 0.0)
        return
    with pytest.raises(QAError, match=r"has fine-tuned it: fine-tune it here too, --lm\.bert-rate 0\.03, or"):
        start_from(trained, model, 0.0)


def test_a_bert_of_other_sizes_is_refused(trained: Run, folder: Path, tmp_path: Path) -> None:
    import transformers

    model = shutil.copytree(folder, tmp_path / "model")

    deeper = transformers.AutoConfig.from_pretrained(model, num_hidden_layers=3)
    transformers.AutoModel.from_config(deeper).save_pretrained(model)
    with pytest.raises(QAError, match=r"of other sizes: give --init\.no-encoder"):
        start_from(trained, model, 0.1)


@pytest.mark.parametrize("way", [way for way in WAYS if way != "as it is"])
def test_a_run_that_was_stopped_goes_on(way: str, folder: Path, tmp_path: Path) -> None:
    arguments = (*TINY, "--lm.bert", folder, *WAYS[way], "--log-dir", tmp_path)
    with stopped_in(agents.training.Trainer, "_validate", 2):
        assert command(train.main, *arguments) == 130
    run = only_run(tmp_path)
    assert command(train.main, "--resume", run.folder) == 0
    assert run.has("results.json")


@pytest.mark.parametrize("arguments", [(), ("--lm.bert", "x")])
def test_only_a_bert_that_is_fine_tuned_can_be_frozen_after_the_warm_start(
    arguments: tuple[str, ...],
) -> None:
    with pytest.raises(
        QAError, match=r"frozen-bert needs a BERT that is fine-tuned: give lm\.bert and lm\.bert_rate"
    ):
        train.main([*arguments, "--encoder", "frozen-bert"])


def test_bert_and_another_vocabulary_exclude_each_other() -> None:
    with pytest.raises(QAError, match=r"lm\.bert brings its own vocabulary: leave out vocabulary\.kind"):
        train.main(["--lm.bert", "x", "--vocabulary.kind", "file", "--vocabulary.file", "y"])


def test_a_model_that_is_not_there_leaves_no_run_behind(tmp_path: Path) -> None:
    with pytest.raises(QAError, match="no such folder of a BERT model"):
        train.main(["--lm.bert", f"{tmp_path}/none", "--log-dir", f"{tmp_path}/runs"])
    assert not list(tmp_path.iterdir())
