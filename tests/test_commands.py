"""The command lines from end to end, at tiny sizes: train, stop, go on, answer, evaluate, and be refused."""

from __future__ import annotations

import csv
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from stable_baselines3 import PPO
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from trainer_process import QUICKER

import agents.reports
import agents.training
import train
from agents import answer, evaluate
from agents.algorithms import ALGORITHMS
from agents.callbacks import FeedbackLog
from agents.commands import run_command
from agents.data import load_dataset
from agents.evaluation import METRICS
from agents.loading import BEST, WARM_START, load_policy
from agents.offline import OfflineAlgorithm
from agents.offline_algorithms import OFFLINE
from agents.passages import PassageIndex
from agents.q_learning import AnswerDQN
from agents.runs import Run
from agents.self_imitation import SelfImitation
from qa_env.datasets import FactsConfig, QAExample, make_facts
from qa_env.feedback.labels import Rating
from qa_env.feedback.store import AnswerRecord, FeedbackEvent, Query, Store

ROOT = Path(__file__).parents[1]
SIZES = (
    "--vocabulary.size 400 --lm.embedding 16 --lm.encoder-hidden 12 --lm.hidden 20 --warm-start.epochs 2 "
    "--warm-start.critic-rollouts 1 --rl.timesteps 800 --rl.n-envs 8 --rl.n-steps 24 --rl.batch-size 64 "
    "--rl.n-epochs 1 --rl.eval-every 2 --limits.max-source 96 --limits.max-answer 24"
).split()
FACTS = (
    "--facts.labelled 20 --facts.unlabelled 60 --facts.validation 20 --facts.test 20 --facts.max-statements 2"
).split()
TINY = (*SIZES, *FACTS)

Main = Callable[[Sequence[str]], None]


def run(main: Main, *arguments: object) -> int:
    """Calls a command as its command line does; the exit status."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["command", *map(str, arguments)])
        try:
            run_command(main)
        except SystemExit as stop:
            assert isinstance(stop.code, int)
            return stop.code
    return 0


def only_run(log_dir: Path) -> Run:
    (folder,) = log_dir.iterdir()
    return Run.open(folder)


def train_run(log_dir: Path, *arguments: object) -> Run:
    assert run(train.main, *arguments, "--log-dir", log_dir) == 0
    return only_run(log_dir)


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """What was printed, with its line breaks as blanks: a narrow terminal has more of them."""
    return " ".join(capsys.readouterr().out.split())


class Refused:
    """Calls a command that must fail: exit status 2, and one line that says why."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, main: Main, *arguments: object) -> str:
        self.capsys.readouterr()
        status = run(main, *arguments)
        lines = self.capsys.readouterr().err.splitlines()
        assert status == 2
        assert len(lines) == 1 and lines[0].startswith("error: "), lines
        return lines[0]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    return Refused(capsys)


@pytest.fixture(scope="module", autouse=True)
def quicker() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for (module, name), value in QUICKER.items():
            patch.setattr(module, name, value)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(agents.reports, "MAPS", 1)
        return train_run(tmp_path_factory.mktemp("runs"), *TINY)


@pytest.fixture
def warm(finished: Run, tmp_path: Path) -> Run:
    """A run that has come to the end of its warm start."""
    made = Run.open(shutil.copytree(finished.folder, tmp_path / "warm" / finished.folder.name))
    shutil.rmtree(made.path("checkpoint"))
    for name in ("model.safetensors", "results.json"):
        made.path(name).unlink()
    return made


@pytest.fixture
def copied(finished: Run, tmp_path: Path) -> Run:
    """A copy of the finished run, to be spoiled."""
    return Run.open(shutil.copytree(finished.folder, tmp_path / "copy"))


# Users' own data: 200 questions on the colours of flags.


def own_records() -> list[dict[str, Any]]:
    colours = ("red", "green", "blue", "white", "black", "yellow", "brown")
    records = []
    for number in range(200):
        town = "".join("bdfgklmnprstvz"[number // 14**i % 14] + "aeiou"[number // 5**i % 5] for i in range(3))
        flag, tower = colours[number % 7], colours[(number // 7 + 3) % 7]
        reply = f"The flag of {town.title()} is {flag}."
        records.append(
            {
                "question": f"What colour is the flag of {town.title()}?",
                "context": f"{reply} The tower of {town.title()} is {tower}.",
                "answers": [reply, flag.title()],
            }
        )
    return records


def partly_answered() -> list[dict[str, Any]]:
    """Own records, every fourth one without an answer."""
    return [{**r, "answers": r["answers"] if i % 4 else []} for i, r in enumerate(own_records())]


def write_jsonl(path: Path, records: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def write_csv(path: Path, records: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["question", "context", "answers"])
        writer.writeheader()
        writer.writerows({**record, "answers": "|".join(record["answers"])} for record in records)


def write_squad(path: Path, records: list[dict[str, Any]]) -> None:
    paragraphs = [
        {
            "context": r["context"],
            "qas": [
                {"question": r["question"], "answers": [{"text": a, "answer_start": 0} for a in r["answers"]]}
            ],
        }
        for r in records
    ]
    path.write_text(json.dumps({"data": [{"title": "towns", "paragraphs": paragraphs}]}))


WRITERS = {"own.jsonl": write_jsonl, "own.csv": write_csv, "own.json": write_squad}


@pytest.fixture(scope="module")
def own_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("data")
    for name, write in WRITERS.items():
        write(folder / name, own_records())
    return {name: folder / name for name in WRITERS}


@pytest.fixture(scope="module")
def own_run(tmp_path_factory: pytest.TempPathFactory, own_files: dict[str, Path]) -> Run:
    data = ("--data", own_files["own.jsonl"])
    return train_run(
        tmp_path_factory.mktemp("own"), *SIZES, *data, "--rl.timesteps", 256, "--vocabulary.size", 330
    )


# A run's folder


def test_run_folder_holds_what_the_class_says(finished: Run) -> None:
    names = re.findall(r"^    (\S+)  +\w", Run.__doc__ or "", re.MULTILINE)
    assert len(names) >= 10
    assert [name for name in names if not list(finished.folder.glob(name.rstrip("/")))] == []
    assert not list(finished.folder.rglob("*.tmp"))
    assert finished.folder.name.startswith("QA-v0__ppo__0__")


def test_results_hold_both_reports_and_how_they_came_about(finished: Run) -> None:
    results = finished.read_json("results.json")
    for when in ("before", "after"):
        assert set(METRICS) <= set(results[when])
        assert all(isinstance(value, float) for value in results[when].values())
        assert results[when]["f1_low"] <= results[when]["f1"] <= results[when]["f1_high"]
    stages = results["seconds"]
    assert {"data", "warm_start", "rl", "evaluation", "total"} <= set(stages)
    assert stages["total"] == pytest.approx(sum(stages.values()) - stages["total"])
    assert results["episodes"] >= 8
    assert results["config"] == finished.read_json("config.json")


def test_same_seed_from_a_config_file_gives_the_same_results(finished: Run, tmp_path: Path) -> None:
    settings = {**finished.read_json("config.json"), "log_dir": str(tmp_path / "runs")}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    assert run(train.main, "--config", tmp_path / "config.yaml") == 0
    again, results = only_run(tmp_path / "runs").read_json("results.json"), finished.read_json("results.json")
    for key in ("before", "after", "episodes"):
        assert again[key] == results[key]


def test_options_override_the_config_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.yaml").write_text("seed: 3\nrl:\n  timesteps: 7\n")
    configs = []
    monkeypatch.setattr(train.Trainer, "train", lambda trainer: configs.append(trainer.config))
    run(train.main, f"--config={tmp_path / 'config.yaml'}", "--seed", 4, "--log-dir", tmp_path / "runs")
    assert (configs[0].seed, configs[0].rl.timesteps) == (4, 7)
    assert only_run(tmp_path / "runs").config() == configs[0]


# Loading again


def test_a_loaded_run_answers_as_the_trained_one(finished: Run) -> None:
    before = load_policy(finished, WARM_START)
    assert before.answers(load_dataset(before.config).test) == finished.read_json("before.json")["answers"]


def test_evaluation_of_a_loaded_run_repeats_its_report(
    finished: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = finished.read_json("results.json")
    for name, when in ((WARM_START, "before"), (BEST, "after")):
        out = tmp_path / "out.json"
        assert run(evaluate.main, finished.folder, "--checkpoint", name, "--out", out) == 0
        written = json.loads(out.read_text())
        assert written["checkpoint"] == name
        assert written["reports"] == {"facts:test": {**results[when], "examples": 20}}
        printed = said(capsys)
        shown = METRICS if results[when]["abstained"] else METRICS[:-1]
        assert all(word in printed for word in ("facts:test", *shown))


def test_frozen_encoder_survives_saving_and_loading(tmp_path: Path) -> None:
    frozen = train_run(tmp_path / "runs", *TINY, "--encoder", "frozen", "--rl.timesteps", 256)
    results = frozen.read_json("results.json")
    for name, when in ((WARM_START, "before"), (BEST, "after")):
        loaded = load_policy(frozen, name)
        test = load_dataset(loaded.config).test
        assert loaded.judge.report(test, loaded.answers(test)) == results[when]


def test_the_warm_start_can_be_chosen_by_what_it_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scores told are the metric that checkpoints are chosen by; the weights of the best are kept."""
    scores = iter([0.25, 0.5, 0.125, 0.0625])  # the last is that of RL's start
    kept: list[dict[str, torch.Tensor]] = []

    def validate(trainer: agents.training.Trainer, policy: Any) -> dict[str, float]:
        kept.append({name: weight.clone() for name, weight in policy.lm.state_dict().items()})
        return {"score": next(scores)}

    monkeypatch.setattr(agents.training.Trainer, "_validate", validate)
    only = ("--warm-start.choose-by", "score", "--warm-start.epochs", 3, "--rl.timesteps", 0)
    done = train_run(tmp_path, *TINY, *only)
    logged = EventAccumulator(str(done.folder)).Reload().Scalars("warm_start/validation_score")
    assert [point.value for point in logged] == [0.25, 0.5, 0.125]
    weights = load_file(done.path(WARM_START))
    assert all(torch.equal(weights[name], kept[1][name]) for name in weights)
    assert not all(torch.equal(weights[name], kept[2][name]) for name in weights)


def test_a_validation_answers_so_many_questions_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    answer_all = agents.training.answer_all

    def count(policy: Any, vocabulary: Any, examples: Sequence[QAExample], limits: Any) -> list[str]:
        asked.append(len(examples))
        return answer_all(policy, vocabulary, examples, limits)

    monkeypatch.setattr(agents.training, "answer_all", count)
    train_run(tmp_path, *TINY, "--rl.eval-questions", 7)
    before, *validations, after = asked
    assert before == after == 20 and set(validations) == {7}


def test_answers_a_question(finished: Run, capsys: pytest.CaptureFixture[str]) -> None:
    question = "What is the capital of Japan?"
    printed = []
    for _ in range(2):
        assert run(answer.main, finished.folder, question) == 0
        printed.append(capsys.readouterr())
    assert printed[0] == printed[1]
    lines = printed[0].out.splitlines()
    assert lines[:2] == ["passages:", "  The capital of Japan is Tokyo."]
    passages = " ".join(line.strip() for line in lines[1:7])
    (expected,) = load_policy(finished).answers([QAExample("q", question, passages)])
    assert printed[0].out.endswith(f"{lines[6]}\nanswer: {expected}\n")


@pytest.mark.parametrize("context", ["The capital of Japan is Tokyo.", None])
def test_answers_from_a_given_context_or_none(
    finished: Run, context: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--passages", 0) if context is None else ("--context", context)
    assert run(answer.main, finished.folder, "What is the capital of Japan?", *options) == 0
    (expected,) = load_policy(finished).answers([QAExample("q", "What is the capital of Japan?", context)])
    assert capsys.readouterr() == (f"answer: {expected}\n", "")


@pytest.mark.parametrize(
    "options",
    [
        "--decoding.method sample --decoding.top-p 0.9 --decoding.seed 3",
        "--decoding.method beam --decoding.beams 4",
        "--decoding.method best-of-n --decoding.n 3 --feedback length",
        "--decoding.method best-of-n --decoding.n 3 --feedback {module}:fine",
    ],
)
def test_answers_are_decoded_as_asked_for(
    options: str, finished: Run, feedback_module: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = options.format(module=feedback_module).split()
    printed = []
    for _ in range(2):
        assert run(answer.main, finished.folder, "Where?", "--passages", 0, *arguments) == 0
        printed.append(capsys.readouterr())
    assert printed[0] == printed[1] and printed[0].out.startswith("answer: ")
    out = tmp_path / "out.json"
    assert run(evaluate.main, finished.folder, *arguments, "--out", out) == 0
    written = json.loads(out.read_text())
    assert written["decoding"]["method"] in said(capsys)
    assert written["decoding"]["method"] == arguments[1]
    assert written["feedback"] == (arguments[-1] if "--feedback" in arguments else None)


def test_a_feedback_that_reads_references_chooses_in_evaluation(finished: Run, tmp_path: Path) -> None:
    f1 = {}
    for name, number in (("f1", 1), ("f1", 8), ("simulated", 2)):
        options = ("--decoding.method", "best-of-n", "--decoding.n", number, "--feedback", name)
        assert run(evaluate.main, finished.folder, *options, "--out", tmp_path / "out.json") == 0
        f1[number] = json.loads((tmp_path / "out.json").read_text())["reports"]["facts:test"]["f1"]
    assert f1[8] > f1[1]


def test_a_context_too_long_is_told(finished: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(answer.main, finished.folder, "Where?", "--context", "far away " * 100) == 0
    assert "longer than 96 tokens" in capsys.readouterr().err


def test_finds_the_passage_that_holds_the_fact() -> None:
    facts = make_facts(FactsConfig(labelled=1, unlabelled=0, validation=20, test=0, counterfactual=0.0))
    index = PassageIndex(facts.collection)
    assert index.find("What is the capital of Japan?", 6)[0] == "The capital of Japan is Tokyo."
    found = [
        any(example.metadata["value"] in passage for passage in index.find(example.question, 6))
        for example in facts.validation
    ]
    assert sum(found) / len(found) >= 0.85  # "What does one pay with in Spain?" shares but one word


def test_passages_of_equal_worth_keep_their_order() -> None:
    collection = ["?", "Red is a colour.", "A stone is hard.", "Green is a colour.", "東京は日本の首都です。"]
    index = PassageIndex(collection)
    assert index.find("Which COLOUR?", 9) == ["Red is a colour.", "Green is a colour."]
    assert index.find("日本", 1) == ["東京は日本の首都です。"]
    assert index.find("why", 2) == []


# Stopping and going on


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_an_interrupted_run_goes_on_and_finishes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    limits = ("--limits.max-source", 30, "--limits.max-answer", 12)
    rollouts = iter(range(4))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeedbackLog, "_on_rollout_end", lambda _: interrupt() if next(rollouts) == 3 else None)
        assert run(train.main, *TINY, *limits, "--log-dir", tmp_path / "runs") == 130
    stopped = only_run(tmp_path / "runs")
    out, err = capsys.readouterr()
    assert f"--resume {stopped.folder}" in err and "Traceback" not in err
    told = " ".join(out.split())
    assert re.search(r"\d+ of 20 labelled examples are longer than the limits \(30 source, 12 answer", told)
    assert re.search(
        r"\d+ of 60 unlabelled examples are longer than 30 source tokens: some sentences are left out", told
    )
    state = stopped.read_json("checkpoint/state.json")
    assert 0 < state["timesteps"] < 800 and not stopped.has("results.json")
    load_policy(stopped, "checkpoint/policy.safetensors")
    assert run(answer.main, stopped.folder, "What is the capital of Japan?") == 0

    capsys.readouterr()
    assert run(train.main, "--resume", stopped.folder) == 0
    assert f"resuming at {state['timesteps']} of 800" in said(capsys)
    assert only_run(tmp_path / "runs").has("results.json")
    assert stopped.read_json("checkpoint/state.json")["timesteps"] >= 800
    assert stopped.read_json("results.json")["episodes"] > state["episodes"]


def test_a_run_interrupted_in_the_warm_start_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(agents.training, "warm_start", interrupt)
        assert run(train.main, *TINY, "--rl.timesteps", 100, "--log-dir", tmp_path) == 130
    assert run(train.main, "--resume", only_run(tmp_path).folder) == 0
    # The critic's warm-up writes more than the 100 tokens, so RL has none left: still there is a model.
    assert only_run(tmp_path).has("results.json")
    load_policy(only_run(tmp_path))


def test_a_run_is_pretrained_once_and_goes_on_from_there(
    finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begun: list[dict[str, torch.Tensor]] = []

    def stop(policy: Any, *_: Any) -> None:
        begun.append(policy.lm.state_dict())
        interrupt()

    (tmp_path / "text.txt").write_text("\n".join(f"Town {i} lies on the river Yb{i}." for i in range(40)))
    text = ("--pretrain", f"data,{tmp_path / 'text.txt'}", "--pretraining.steps", 3, "--pretraining.spans", 1)
    tiny = (*TINY, "--rl.timesteps", 100, "--log-dir", tmp_path / "runs")
    with monkeypatch.context() as patch:
        patch.setattr(agents.training, "warm_start", stop)
        assert run(train.main, *tiny, *text, "--init-from", finished.folder) == 130
        told = said(capsys)
        assert re.search(
            r"started from \S+model.safetensors: encoder, decoder, embedding; \d+ of \d+ tokens", told
        )
        assert re.search(r"pre-training, step 3: loss \S+, spans perplexity \S+, cloze perplexity", told)
        stopped = only_run(tmp_path / "runs")
        shutil.move(tmp_path / "text.txt", tmp_path / "gone.txt")  # it is not needed any more
        assert run(train.main, "--resume", stopped.folder) == 130
        assert "pre-training" not in said(capsys)
    saved = load_file(stopped.path("pretrained.safetensors"))
    for weights in begun:
        assert all(torch.equal(weights[name], tensor) for name, tensor in saved.items())
    assert run(train.main, "--resume", stopped.folder) == 0
    results = stopped.read_json("results.json")
    assert results["pretrain"]["steps"] == 3 and results["seconds"]["pretrain"] > 0
    assert results["pretrain"]["after"].keys() == results["pretrain"]["before"].keys() == {"spans", "cloze"}
    logged = EventAccumulator(str(stopped.folder)).Reload().Tags()["scalars"]
    assert {"pretrain/loss", "pretrain/cloze_perplexity"} <= {*logged}


def test_weights_of_another_architecture_are_refused(finished: Run, tmp_path: Path, refused: Refused) -> None:
    error = refused(
        train.main, *TINY, "--lm.hidden", 24, "--init-from", finished.folder, "--log-dir", tmp_path
    )
    assert "expected lm.hidden 24, got 20; give --lm.hidden 20, or leave parts out" in error
    assert not list(tmp_path.iterdir())


def test_a_mistake_found_before_anything_is_made_leaves_no_run_behind(
    tmp_path: Path, refused: Refused
) -> None:
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("two 1 2\nthree 1 2 3\n")
    flags = ("--vocabulary.kind", "words", "--vectors", vectors, "--log-dir", tmp_path)
    assert "vectors.txt, line 2: expected a word and 2 numbers, got 3" in refused(train.main, *TINY, *flags)
    assert [*tmp_path.iterdir()] == [vectors]


def test_a_run_interrupted_in_its_last_passes_goes_on_with_them(
    warm: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ("--rl.timesteps", 600, "--imitation.threshold", -1, "--imitation.epochs", 2)
    with monkeypatch.context() as patch:
        patch.setattr(SelfImitation, "consolidate", interrupt)
        assert run(train.main, "--resume", warm.folder, *settings) == 130
    passes: list[int] = []
    consolidate = SelfImitation.consolidate

    def counted(imitation: SelfImitation) -> None:
        passes.append(len(imitation.best))
        consolidate(imitation)

    with monkeypatch.context() as patch:
        patch.setattr(SelfImitation, "consolidate", counted)
        patch.setattr(PPO, "learn", interrupt)
        assert run(train.main, "--resume", warm.folder) == 0
    assert len(passes) == 1 and passes[0] > 0
    assert warm.read_json("checkpoint/state.json")["consolidated"] >= 600


@contextmanager
def killed_at_the_end(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        process.kill()


def test_ctrl_c_leaves_a_checkpoint_and_status_130(tmp_path: Path) -> None:
    endless = ("--rl.timesteps", "1000000", "--rl.eval-every", "1")
    command = [sys.executable, "-W", "error", "train.py", *TINY, *endless]
    process = subprocess.Popen(
        [*command, "--log-dir", str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        # A shell's background jobs, and so their children, ignore the signal.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    with process, killed_at_the_end(process):
        deadline = time.monotonic() + 300
        while not list(tmp_path.glob("*/checkpoint/state.json")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert len(err.decode().splitlines()) == 1 and b"--resume" in err
    load_policy(only_run(tmp_path), "checkpoint/policy.safetensors")


def test_a_finished_run_is_not_resumed(finished: Run, refused: Refused) -> None:
    assert "is finished" in refused(train.main, "--resume", finished.folder)


# Algorithms


@pytest.mark.parametrize("algorithm", sorted(set(ALGORITHMS) - {"ppo"}))
def test_every_algorithm_trains_and_stops_at_the_budget_of_rated_answers(algorithm: str, warm: Run) -> None:
    made = warm
    assert run(train.main, "--resume", made.folder, "--rl.algorithm", algorithm, "--rl.max-rated", 30) == 0
    rated = made.read_json("results.json")["episodes"]
    assert 30 <= rated < 60
    (answer,) = load_policy(made).answers([QAExample("q", "What is the capital of Japan?")])
    assert isinstance(answer, str)
    load_policy(made, "checkpoint/policy.safetensors")


def test_q_learning_goes_on_with_its_replay_buffer(warm: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []

    def interrupt(self: AnswerDQN, *_: Any, **__: Any) -> None:
        held.append(self.replay_buffer.answers)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(AnswerDQN, "learn", interrupt)
        assert run(train.main, "--resume", warm.folder, "--rl.algorithm", "dqn") == 130
        assert run(train.main, "--resume", warm.folder) == 130
    assert held[0] == held[1] > 0


@pytest.fixture
def rated(finished: Run, tmp_path: Path) -> Iterator[Store]:
    """A store in which two answers to each of ten questions are rated, the reference well."""
    with Store(tmp_path / "rated.db") as store:
        store.add_rater("ann")
        for example in load_dataset(finished.config()).unlabelled[:10]:
            for text, stars in ((example.answers[0], 5), ("Nobody knows.", 1)):
                rate(store, example, text, stars)
        yield store


def rate(store: Store, example: QAExample, text: str, stars: int) -> None:
    answer = AnswerRecord(example.question, text, example.context, example.id)
    (query,) = store.ask([Query("rating", (answer,))])
    store.submit(FeedbackEvent.new(query, "ann", Rating(stars, stars)))


@pytest.mark.parametrize("algorithm", OFFLINE)
def test_stored_labels_are_learned_from_without_rl(
    algorithm: str, rated: Store, warm: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ("--rl.algorithm", algorithm, "--feedback-store", tmp_path / "rated.db")
    flags += ("--dpo.epochs", 2, "--dpo.batch-size", 4, "--filtered-bc.epochs", 2)
    other = shutil.copytree(warm.folder, tmp_path / "other")
    assert run(train.main, "--resume", warm.folder, *flags) == 0
    results = warm.read_json("results.json")
    assert (results["labels"], results["episodes"]) == (20, 0) and set(METRICS) <= set(results["after"])
    (text,) = load_policy(warm).answers([QAExample("q", "What is the capital of Japan?")])
    assert isinstance(text, str)
    # One that is stopped on the way goes on and ends alike.
    with monkeypatch.context() as patch:
        patch.setattr(OfflineAlgorithm, "_update_learning_rate", interrupt_at(2))
        assert run(train.main, "--resume", other, *flags) == 130
    assert run(train.main, "--resume", other) == 0
    found, expected = (load_file(each / "model.safetensors") for each in (other, warm.folder))
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert Run.open(other).read_json("results.json")["after"] == results["after"]


@pytest.mark.parametrize("algorithm", OFFLINE)
def test_stored_labels_that_nothing_can_be_learned_from_are_refused(
    algorithm: str, finished: Run, tmp_path: Path, refused: Refused
) -> None:
    flags = ("--rl.algorithm", algorithm, "--log-dir", tmp_path / "runs")
    assert f"rl.algorithm={algorithm} learns from labels that are there" in refused(train.main, *TINY, *flags)
    assert not (tmp_path / "runs").exists()
    flags += ("--feedback-store", tmp_path / "few.db")
    assert "there is no feedback store" in refused(train.main, *TINY, *flags)
    with Store(tmp_path / "few.db") as store:
        store.add_rater("ann")
        assert "holds no label to learn from" in refused(train.main, *TINY, *flags)
        rate(store, load_dataset(finished.config()).unlabelled[0], "Nobody knows.", 1)
    reason = {"dpo": "no preference in the store", "filtered-bc": "no good answer to learn from"}[algorithm]
    assert reason in refused(train.main, *TINY, *flags)


def interrupt_at(call: int) -> Callable[..., None]:
    """What stops a run when it is called for the n-th time, and does nothing before."""
    calls = iter(range(1, call))

    def stopping(*_: Any) -> None:
        if next(calls, None) is None:
            raise KeyboardInterrupt

    return stopping


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ("--rl.algorithm", "rloo", "--rl.samples-per-question", 1),
            "give --rl.samples-per-question 2",
        ),
        (("--rl.samples-per-question", 9), "rl.samples_per_question must be from 1 to rl.n_envs=8, got 9"),
        (("--rl.algorithm", "dqn", "--rl.q.scale", 0), "rl.q.scale must be greater than 0, got 0"),
        (("--rl.algorithm", "dqn", "--rl.q.buffer-size", 5), "buffer_size must hold an answer of 24 tokens"),
        (
            ("--rl.algorithm", "dqn", "--rl.q.exploration-final", 2),
            "rl.q.exploration_final must be from 0",
        ),
    ],
)
def test_settings_that_do_not_fit_an_algorithm_are_refused(
    flags: tuple[Any, ...], message: str, tmp_path: Path, refused: Refused
) -> None:
    assert message in refused(train.main, *TINY, *flags, "--log-dir", tmp_path)


# Data of one's own


def test_trains_on_jsonl_and_evaluates(
    own_run: Run, own_files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check_own(own_run, own_files["own.jsonl"], tmp_path, capsys)


@pytest.mark.parametrize("name", ["own.csv", "own.json"])
def test_trains_on_one_file_and_evaluates(
    name: str, own_files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = own_files[name]
    trained = train_run(tmp_path / "runs", *SIZES, "--data", file, "--rl.timesteps", 256)
    check_own(trained, file, tmp_path, capsys)


def check_own(trained: Run, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert set(METRICS) <= set(trained.read_json("results.json")["after"])
    capsys.readouterr()
    assert run(evaluate.main, trained.folder, "--data", file, "--out", tmp_path / "out.json") == 0
    assert file.name in said(capsys)
    assert json.loads((tmp_path / "out.json").read_text())["reports"][file.name]["examples"] == 200
    assert run(answer.main, trained.folder, "What colour is the flag of Baba?", "--passages", 2) == 0


def test_questions_that_users_cannot_rate_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_jsonl(tmp_path / "partly.jsonl", partly_answered())
    data = ("--data", tmp_path / "partly.jsonl")
    train_run(tmp_path / "runs", *SIZES, *data, "--split.labelled", 60, "--rl.timesteps", 256)
    assert re.search(r"50 of \d+ unlabelled questions have no reference answer", said(capsys))


def test_evaluates_any_run_on_several_files(
    finished: Run, own_files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = tmp_path / "long.jsonl"
    first = {"question": "Where?", "context": "far away " * 100, "answers": ["far"]}
    write_jsonl(long, [first, *partly_answered()[:5]])
    files = [item for file in (*own_files.values(), long) for item in ("--data", file)]
    assert run(evaluate.main, finished.folder, *files, "--out", tmp_path / "out.json") == 0
    told = said(capsys)
    assert "long.jsonl: 2 of 6 questions have no reference answer: left out" in told
    assert "long.jsonl: 1 of 4 sources are longer than 96 tokens: some sentences are left out" in told
    reports = json.loads((tmp_path / "out.json").read_text())["reports"]
    assert [*reports] == [*WRITERS, "long.jsonl"]
    assert reports["own.jsonl"] == reports["own.csv"] == reports["own.json"]


def test_files_of_one_name_are_told_apart(finished: Run, own_files: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    files = [own_files["own.jsonl"], tmp_path / "other" / "own.jsonl"]
    write_jsonl(files[1], own_records()[1:4])
    flags = [item for file in files for item in ("--data", file)]
    assert run(evaluate.main, finished.folder, *flags, "--out", tmp_path / "out.json") == 0
    assert [*json.loads((tmp_path / "out.json").read_text())["reports"]] == [str(file) for file in files]


def test_evaluates_settings_in_one_table(
    finished: Run, own_files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = (
        f"--data in-domain=test --data other={own_files['own.csv']} --closed-book test --look-up at=test"
    )
    arguments = (*settings.split(), "--errors", 2)
    for name in ("out.json", "out.csv"):
        assert run(evaluate.main, finished.folder, *arguments, "--out", tmp_path / name) == 0
    printed, told = capsys.readouterr().out, json.loads((tmp_path / "out.json").read_text())
    names = ["in-domain", "other", "facts:test, closed book", "at"]
    assert [*told["reports"]] == [*told["types"]] == [*told["errors"]] == names
    assert [setting["reads"] for setting in told["settings"].values()] == [
        "contexts",
        "contexts",
        "nothing",
        "passages",
    ]
    assert [*told["types"]["other"]] == ["what"]  # colour is the flag
    assert sum(numbers["examples"] for numbers in told["types"]["at"].values()) == 20
    for name in names:
        assert f"wrong answers, {name}:" in printed
        assert len(told["errors"][name]) == 2 and told["errors"][name][0]["f1"] < 1
    assert printed.count("   reference: ") == 2 * 8  # of two calls
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = {row.pop("figure"): row for row in csv.DictReader(file)}
    f1 = told["reports"]["other"]
    assert rows["other/f1"] == {
        **{key: str(f1[name]) for key, name in (("value", "f1"), ("low", "f1_low"), ("high", "f1_high"))},
        "unit": "share",
        "runs": "1",
    }
    assert rows["other/what/length"]["unit"] == "words" and rows["at/examples"]["value"] == "20"


def test_a_setting_reads_what_it_says(finished: Run, tmp_path: Path) -> None:
    loaded = load_policy(finished)
    questions = [replace(e, context=None) for e in load_dataset(loaded.config).test]
    index = PassageIndex(finished.collection())
    found = [replace(e, context=" ".join(index.find(e.question, 3))) for e in questions]
    arguments = ("--closed-book", "test", "--look-up", "test", "--passages", 3)
    assert run(evaluate.main, finished.folder, *arguments, "--out", tmp_path / "out.json") == 0
    reports = json.loads((tmp_path / "out.json").read_text())["reports"]
    for name, examples in (("facts:test, closed book", questions), ("facts:test, looked up", found)):
        expected = loaded.judge.report(examples, loaded.answers(examples))
        assert reports[name] == {**expected, "examples": 20}


def test_types_of_questions_by_a_field(
    finished: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [{**r, "task": f"t{i % 2}"} for i, r in enumerate(own_records()[:30])]
    write_jsonl(tmp_path / "own.jsonl", records)
    data = ("--data", tmp_path / "own.jsonl", "--by", "task", "--out", tmp_path / "out.json")
    assert run(evaluate.main, finished.folder, *data) == 0
    types = json.loads((tmp_path / "out.json").read_text())["types"]["own.jsonl"]
    assert {kind: numbers["examples"] for kind, numbers in types.items()} == {"t0": 15, "t1": 15}
    assert "by task" in said(capsys)


# Bad input: one line, status 2, and nothing trained


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--data", "{tmp}/missing.jsonl"], "no such file"),
        (["--data", "{tmp}/empty.jsonl"], "got an empty file"),
        (["--data", "{tmp}/malformed.jsonl"], "malformed.jsonl, line 17: "),
        (["--data", "{tmp}/unanswered.jsonl"], "no labelled question"),
        (["--data", "{tmp}/few.jsonl"], "too few questions with answers"),
        (["--data", "{tmp}/table.parquet"], "expected a file that ends in .jsonl"),
        (["--data", "no_such_module:examples"], "cannot import 'no_such_module'"),
        (["--rl.algorithm", "pppo"], "unknown algorithm 'pppo'; did you mean 'ppo'?"),
        (["--rl.algorithm", "no_such_module:make"], "cannot import 'no_such_module'"),
        (["--feedback", "f2"], "unknown feedback 'f2': did you mean 'f1'?"),
        (["--feedback", "no_such_module:reward"], "cannot import 'no_such_module'"),
        (["--feedback", "agents.config:LEAST"], "is no feedback"),
        (["--feedback", "agents.config:to_dic"], "did you mean 'to_dict'?"),
        (["--rl.timestep", "5"], "unknown option --rl.timestep; did you mean '--rl.timesteps'?"),
        (["--rl.timesteps", "many"], "--rl.timesteps"),
        (["--encoder", "froze"], "'froze'"),
        (["--users.lapse", "2"], "lapse is a probability"),
        (["--facts.level", "3"], "level must be 1"),
        (["--lm.attention", "sharp"], "attention must be one of"),
        (["--vocabulary.size", "9"], "vocabulary size must be at least"),
        (["--vocabulary.kind", "file"], "give --vocabulary.kind file --vocabulary.file PATH"),
        (["--vectors", "{tmp}/none.vec"], "no file of word vectors"),
        (["--vectors", "{tmp}/empty.jsonl"], "empty.jsonl is empty: expected a word and its numbers"),
        (["--pretrain", "data,{tmp}/none.txt"], "no text file"),
        (["--pretrain", "{tmp}/empty.jsonl"], "empty.jsonl is empty: expected text"),
        (["--pretrain", "{tmp}/table.parquet"], "table.parquet, line 1: not UTF-8"),
        (["--pretrain", "data", "--lm.bert", "model"], "leave out pretrain, or lm.bert"),
        (["--pretraining.cloze", "0"], "one of them greater than 0"),
        (["--init-from", "{tmp}"], "is no run folder"),
        (["--init-from", "{tmp}/none"], "no run folder or file of weights"),
        (["--limits.max-source", "0"], "max_source"),
        (["--limits.max-answer", "1"], "reference answers of at most 1 tokens"),
        (["--rl.n-envs", "0"], "n_envs"),
        (["--rl.batch-size", "0"], "batch_size"),
        (["--rl.learning-rate", "-1"], "learning_rate"),
        (["--rl.temperature", "0"], "rl.temperature must be"),
        (["--rl.top-k", "-1"], "rl.top_k must be"),
        (["--rl.top-p", "0"], "rl.top_p must be"),
        (["--rl.retry", "1"], "rl.retry must be less than 1"),
        (["--rl.samples-per-question", "0"], "samples_per_question"),
        (["--rl.samples-per-question", "9"], "samples_per_question"),
        (["--warm-start.batch-size", "0"], "batch_size"),
        (["--lm.hidden", "0"], "hidden"),
        (["--seed", "-1"], "seed"),
        (["--device", "abacus"], "device must be cpu, cuda or auto, got 'abacus'"),
        (["--log-dir", "{tmp}/empty.jsonl/runs"], "cannot make the run folder"),
        (["--config", "{tmp}/missing.yaml"], "no config file"),
        (["--config", "{tmp}/broken.yaml"], "is no YAML file"),
        (["--config", "{tmp}/typo.yaml"], "unknown field 'rl.timestep'; did you mean 'timesteps'?"),
        (["--config", "{tmp}/type.yaml"], "field 'rl.timesteps' must be of type int"),
        (["--config"], "--config needs a value"),
        (["--resume", "{tmp}/nowhere"], "is no run folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_of_training(arguments: list[str], reason: str, tmp_path: Path, refused: Refused) -> None:
    lines = [json.dumps(record) for record in own_records()]
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "malformed.jsonl").write_text("\n".join([*lines[:16], '{"question": ', *lines[17:]]))
    write_jsonl(tmp_path / "unanswered.jsonl", [{**record, "answers": []} for record in own_records()])
    write_jsonl(tmp_path / "few.jsonl", own_records()[:50])
    (tmp_path / "table.parquet").write_bytes(b"PAR1\xff")
    (tmp_path / "broken.yaml").write_text("rl: [")
    (tmp_path / "typo.yaml").write_text("rl:\n  timestep: 7\n")
    (tmp_path / "type.yaml").write_text("rl:\n  timesteps: many\n")
    arguments = [argument.replace("{tmp}", str(tmp_path)) for argument in arguments]
    assert reason in refused(train.main, *TINY, "--log-dir", tmp_path / "runs", *arguments)
    assert not list(tmp_path.rglob(WARM_START))


@pytest.fixture
def feedback_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    source = (
        "def scalar(examples, answers): return 1.0\n"
        "def nan(examples, answers): return [float('nan') for answer in answers]\n"
        "def words(examples, answers): return ['good' for answer in answers]\n"
        "def fine(examples, answers): return [float(len(answer)) for answer in answers]\n"
        "def reference(examples, answers): return [len(example.answers[0]) for example in examples]\n"
    )
    (tmp_path / "own_feedback.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    yield "own_feedback"
    sys.modules.pop("own_feedback", None)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("scalar", "one reward an answer; got ()"),
        ("nan", "returned NaN"),
        ("words", "numbers"),
    ],
)
def test_bad_feedback_functions(
    function: str, reason: str, feedback_module: str, tmp_path: Path, refused: Refused
) -> None:
    arguments = ("--feedback", f"{feedback_module}:{function}", "--log-dir", tmp_path / "runs")
    assert reason in refused(train.main, *TINY, *arguments)
    assert not list((tmp_path / "runs").iterdir())  # it is known before the warm start


def test_a_feedback_function_trains(feedback_module: str, tmp_path: Path) -> None:
    arguments = ("--feedback", f"{feedback_module}:fine", "--rl.timesteps", 256)
    assert train_run(tmp_path / "runs", *TINY, *arguments).has("results.json")


def test_bad_input_of_answering(finished: Run, tmp_path: Path, refused: Refused) -> None:
    folder = finished.folder
    assert "the question is empty" in refused(answer.main, folder, "  ")
    assert "is no run folder" in refused(answer.main, tmp_path, "Where?")
    assert "missing: QUESTION" in refused(answer.main, folder)
    assert "did you mean '--passages'?" in refused(answer.main, folder, "Where?", "--pasages", 3)
    assert "'three'" in refused(answer.main, folder, "Where?", "--passages", "three")
    assert "must be 0 or more" in refused(answer.main, folder, "Where?", "--passages", -1)
    assert "shares a word" in refused(answer.main, folder, "Qqqq?")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("--decoding.method beem", "invalid choice 'beem'"),
        ("--decoding.beam 3", "did you mean '--decoding.beams'?"),
        ("--decoding.beams 3", "error: decoding.beams is for decoding.method beam, not for greedy"),
        ("--decoding.method beam --decoding.beams 0", "decoding.beams must be 1 or more"),
        ("--decoding.method beam --decoding.beams 9999", "decoding.beams must be at most"),
        ("--decoding.method sample --decoding.top-p 2", "decoding.top_p must be greater than 0"),
        ("--decoding.method best-of-n", "best-of-n needs a feedback"),
        ("--feedback length", "greedy takes no feedback"),
        ("--decoding.method best-of-n --feedback f2", "unknown feedback 'f2': did you mean 'f1'?"),
        ("--decoding.method best-of-n --feedback f1", "'f1' needs a reference answer"),
        ("--decoding.method best-of-n --feedback simulated", "needs a reference answer"),
        ("--decoding.method best-of-n --feedback {module}:reference", "fails where there is no reference"),
    ],
)
def test_bad_ways_of_decoding(
    options: str, reason: str, finished: Run, feedback_module: str, refused: Refused
) -> None:
    arguments = options.format(module=feedback_module).split()
    assert reason in refused(answer.main, finished.folder, "Where?", "--passages", 0, *arguments)
    if "reference" not in reason:
        assert reason in refused(evaluate.main, finished.folder, *arguments)


def test_no_passages_to_look_up(copied: Run, refused: Refused) -> None:
    copied.save_vocabulary(copied.vocabulary(), ())
    assert "has no collection of passages" in refused(answer.main, copied.folder, "Where?")
    without = refused(evaluate.main, copied.folder, "--look-up", "test")
    assert "has no collection of passages: leave out --look-up" in without
    config = copied.read_json("config.json")
    copied.write_json("config.json", {**config, "facts": {**config["facts"], "open_book": False}})
    assert "trained closed book" in refused(answer.main, copied.folder, "Where?")
    assert run(answer.main, copied.folder, "Where?", "--passages", 0) == 0


def test_bad_input_of_evaluation(finished: Run, tmp_path: Path, refused: Refused) -> None:
    folder = finished.folder
    write_jsonl(tmp_path / "unanswered.jsonl", [{"question": "Where?"}])
    assert "has a reference answer" in refused(evaluate.main, folder, "--data", tmp_path / "unanswered.jsonl")
    assert "no such file" in refused(evaluate.main, folder, "--data", tmp_path / "missing.jsonl")
    assert "is missing" in refused(evaluate.main, folder, "--checkpoint", "none.safetensors")
    assert "there is no folder" in refused(evaluate.main, folder, "--out", tmp_path / "none" / "out.json")
    assert "cannot write" in refused(evaluate.main, folder, "--out", tmp_path)
    assert "did you mean '--data'?" in refused(evaluate.main, folder, "--dat", "x")
    assert "got an empty name" in refused(evaluate.main, folder, "--data", "=x.jsonl")
    assert "2 settings are named 'x'" in refused(
        evaluate.main, folder, "--data", "x=test", "--look-up", "x=test"
    )
    assert "--by relatio: no question has this field" in refused(evaluate.main, folder, "--by", "relatio")
    assert "--errors must be 0 or more" in refused(evaluate.main, folder, "--errors", -1)
    assert "--passages must be 1 or more" in refused(evaluate.main, folder, "--passages", 0)


def test_files_of_another_vocabulary_are_refused(
    finished: Run, own_run: Run, copied: Run, refused: Refused
) -> None:
    assert len(finished.vocabulary()) != len(own_run.vocabulary())
    shutil.copy(own_run.path(BEST), copied.path(BEST))
    for command in ((answer.main, copied.folder, "Where?"), (evaluate.main, copied.folder)):
        assert f"{copied.path(BEST)} was trained with another vocabulary" in refused(*command)
    shutil.copy(own_run.path("vocabulary.json"), copied.path("vocabulary.json"))
    assert "is another vocabulary" in refused(answer.main, copied.folder, "Where?")


def test_broken_files_are_refused(copied: Run, refused: Refused) -> None:
    weights = copied.path(BEST).read_bytes()
    for spoiled in (weights[:-100], weights[:100], b"", b"no weights"):
        copied.path(BEST).write_bytes(spoiled)
        assert f"{copied.path(BEST)} does not fit" in refused(answer.main, copied.folder, "Where?")
    for name in (
        "collection.json.gz",
        "fluency.safetensors",
        "fluency_vocabulary.json",
        "vocabulary.json",
        "versions.json",
        "config.json",
    ):
        copied.path(BEST).write_bytes(weights)
        kept = copied.path(name).read_bytes()
        copied.path(name).write_bytes(kept[: len(kept) // 2])
        assert name in refused(answer.main, copied.folder, "Where is Japan?")
        copied.path(name).write_bytes(kept)
    copied.path("results.json").unlink()
    copied.path("checkpoint/optimizer.pt").write_bytes(b"no optimizer")
    assert "optimizer.pt is missing or broken" in refused(train.main, "--resume", copied.folder)


def test_a_broken_checkpoint_of_good_answers_is_refused(copied: Run, refused: Refused) -> None:
    copied.path("results.json").unlink()
    copied.path("checkpoint/arrays.npz").write_bytes(b"no arrays")
    assert "arrays.npz is missing or broken" in refused(train.main, "--resume", copied.folder)


def test_a_resumed_run_keeps_its_data_and_network(copied: Run, refused: Refused) -> None:
    copied.path("results.json").unlink()
    before = copied.read_json("config.json")
    for flag, name in (
        ("--lm.hidden", "lm"),
        ("--limits.max-answer", "limits"),
        ("--facts.seed", "facts"),
        ("--init-from", "init_from"),
    ):
        error = refused(train.main, "--resume", copied.folder, flag, 7)
        assert f"--resume cannot change {name}" in error
    assert copied.read_json("config.json") == before
