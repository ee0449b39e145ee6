"""A run that was killed and goes on equals one that was not: the same weights, figures, labels and events."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trainer_process
from forked import start
from safetensors.torch import load_file

import agents.learning
import train
from agents.callbacks import FeedbackLog, Validation
from agents.checkpoints import with_arrays, without_arrays
from agents.commands import run_command
from agents.human_feedback import HumanFeedback
from agents.journal import Journal, Taken
from agents.reward_model import RewardModel
from agents.runs import Run
from agents.self_imitation import SelfImitation
from agents.training import START
from qa_env.errors import QAError
from qa_env.feedback.base import Score
from qa_env.feedback.store import Store
from qa_env.vector_env import QAVectorEnv

KILLS = int(os.environ.get("QA_ENV_TEST_TRAINER_KILLS", "10"))
"""How many times a process that trains is killed."""
TINY = (
    "--vocabulary.size 400 --lm.embedding 16 --lm.encoder-hidden 12 --lm.hidden 20 --warm-start.epochs 3 "
    "--warm-start.critic-rollouts 1 --rl.n-envs 8 --rl.n-steps 16 --rl.batch-size 64 --rl.eval-every 2 "
    "--rl.timesteps 1100 --rl.temperature 0.4 --limits.max-source 96 --limits.max-answer 16 "
    "--facts.labelled 16 --facts.unlabelled 60 --facts.validation 8 --facts.test 8 --facts.max-statements 2 "
    "--imitation.threshold -1 --imitation.batches 2 --imitation.epochs 1"
).split()
LABELLED = (
    "--feedback reward-model --labels 40 --ask.annotators lapse10 --ask.crowd 2 --ask.kind ratings-and-pairs "
    "--ask.selector disagreement --ask.refits 3 --budget.initial 0.3 --budget.share 0.5 "
    "--reward-model.epochs 2 --reward-model.members 2"
).split()
WAYS = {
    "rated": ["--rl.max-kl", "0"],  # so that it backs off
    "labelled": LABELLED,
    "dqn": (
        "--rl.algorithm dqn --rl.q.gradient-steps 2 --rl.q.buffer-size 400 --rl.q.target-update-interval 300"
    ).split(),
    "frozen": [*LABELLED, "--encoder", "frozen"],
}


def run(*arguments: object) -> int:
    """Calls `train.py`; the exit status."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train.py", *map(str, arguments)])
        for (module, name), value in trainer_process.QUICKER.items():
            patch.setattr(module, name, value)
        try:
            run_command(train.main)
        except SystemExit as stop:
            assert isinstance(stop.code, int)
            return stop.code
    return 0


def only_run(log_dir: Path) -> Run:
    (folder,) = log_dir.iterdir()
    return Run.open(folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Runs that nobody interrupted, by the way of training."""
    made: dict[str, Run] = {}

    def get(way: str) -> Run:
        if way not in made:
            log_dir = tmp_path_factory.mktemp("whole")
            assert run(*TINY, *WAYS[way], "--log-dir", log_dir) == 0
            made[way] = only_run(log_dir)
        return made[way]

    yield get


@contextmanager
def stopped_in(owner: Any, name: str, call: int, behind: bool = False) -> Iterator[None]:
    """Something stops the process in a call of a function, counted from 1: before it, or behind it."""
    calls = 0
    original = getattr(owner, name)

    def stopping(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call and not behind:
            raise KeyboardInterrupt
        result = original(*arguments, **named)
        if calls == call:
            raise KeyboardInterrupt
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, stopping)
        yield


def assert_equal(found: Run, expected: Run) -> None:
    """Two finished runs are the same, to the last bit, but for their times."""
    for name in ("warm_start.safetensors", "model.safetensors", "checkpoint/policy.safetensors"):
        one, other = load_file(found.path(name)), load_file(expected.path(name))
        assert one.keys() == other.keys()
        assert [key for key in one if not torch.equal(one[key], other[key])] == [], name
    results, wanted = found.read_json("results.json"), expected.read_json("results.json")
    for key in ("before", "after", "episodes", "labels"):
        assert results[key] == wanted[key]
    state, goal = (untimed(each.read_json("checkpoint/state.json")) for each in (found, expected))
    assert state == goal
    with (
        np.load(found.path("checkpoint/arrays.npz")) as arrays,
        np.load(expected.path("checkpoint/arrays.npz")) as others,
    ):
        assert arrays.files == others.files
        for name in arrays.files:
            np.testing.assert_array_equal(arrays[name], others[name], name)
    assert events(found) == events(expected)
    assert not list(found.folder.glob("*.tmp")) and not list(found.folder.glob("*.old"))


def untimed(state: dict[str, Any]) -> dict[str, Any]:
    del state["seconds"]
    if "people" in state:
        del state["people"]["people"]["worked_until"], state["people"]["people"]["free"]
    return state


def events(of: Run) -> list[tuple[object, ...]]:
    """All that was said, in its order, without the time of day."""
    if not of.has("feedback.db"):
        return []
    with Store(of.path("feedback.db"), must_exist=True) as store:
        return [
            (e.seq, e.event.uuid, e.event.query, e.event.rater, e.event.label, e.answers, e.purpose)
            for e in store.events()
        ]


def test_the_tiny_runs_do_what_is_to_be_resumed(whole: Any) -> None:
    rated, labelled = (whole(way).read_json("checkpoint/state.json") for way in ("rated", "labelled"))
    assert rated["rollouts"] >= 7 and rated["consolidated"] >= 1100 and rated["validation"]["backed_off"] > 1
    assert len(events(whole("labelled"))) == whole("labelled").read_json("results.json")["labels"] > 30
    assert labelled["people"]["models"]["last"] > 1
    with np.load(whole("dqn").path("checkpoint/arrays.npz")) as arrays:
        replay = {name: arrays[f"algorithm/replay/{name}"] for name in ("sources", "asked")}
    assert len(replay["sources"]) > len(np.unique(replay["asked"]))  # it has forgotten answers


STOPS: dict[str, list[tuple[Any, str, int, bool]]] = {
    "rated": [
        (agents.learning, "warm_up_critic", 1, True),
        (FeedbackLog, "_on_rollout_end", 4, False),
        (Validation, "_on_rollout_start", 3, True),
        (SelfImitation, "consolidate", 1, True),
    ],
    "labelled": [
        (HumanFeedback, "prepare", 1, True),
        (HumanFeedback, "_on_rollout_end", 4, True),
        (Store, "lease", 4, True),
        (Journal, "add", 2, True),
    ],
    "dqn": [(FeedbackLog, "_on_rollout_end", 6, False)],
    "frozen": [(FeedbackLog, "_on_rollout_end", 4, False), (HumanFeedback, "_on_rollout_end", 3, True)],
}


@pytest.mark.parametrize("way", WAYS)
def test_a_run_that_is_stopped_again_and_again_ends_as_one_that_is_not(
    way: str, whole: Any, tmp_path: Path
) -> None:
    arguments: list[object] = [*TINY, *WAYS[way], "--log-dir", tmp_path]
    for stop in STOPS[way]:
        with stopped_in(*stop):
            assert run(*arguments) == 130, stop
        arguments = ["--resume", only_run(tmp_path).folder]
    assert run(*arguments) == 0
    assert_equal(only_run(tmp_path), whole(way))


def test_a_run_that_began_at_the_mean_of_the_trunks_goes_on_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RewardModel, "trusted", True)
    assert run(*TINY, *LABELLED, "--log-dir", tmp_path / "whole") == 0
    whole = only_run(tmp_path / "whole")
    start, warm = (load_file(whole.path(name)) for name in (START, "warm_start.safetensors"))
    assert any(not torch.equal(start[name], warm[name]) for name in warm)
    arguments: list[object] = [*TINY, *LABELLED, "--log-dir", tmp_path / "stopped"]
    for stop in ((agents.learning, "warm_up_critic", 1, False), (HumanFeedback, "_on_rollout_end", 4, True)):
        with stopped_in(*stop):
            assert run(*arguments) == 130, stop
        arguments = ["--resume", only_run(tmp_path / "stopped").folder]
    assert run(*arguments) == 0
    assert_equal(only_run(tmp_path / "stopped"), whole)


def test_a_process_killed_at_any_moment_leaves_a_run_that_goes_on_exactly(whole: Any, tmp_path: Path) -> None:
    dice, kills = random.Random(0), 0
    ways = ("labelled", "rated")
    seconds = {way: whole(way).read_json("results.json")["seconds"]["total"] for way in ways}
    for number in itertools.count():
        way = ways[number % 2]
        log_dir = tmp_path / str(number)
        for again in range(min(1 + number % 4, KILLS - kills)):
            took = killed(arguments(way, log_dir), dice.uniform(0, seconds[way]))
            if took is None:
                kills += 1
                continue
            if not again:  # the machine is faster than when the run was measured
                seconds[way] = min(seconds[way], took)
            break
        if not list(log_dir.glob("*/results.json")):
            assert run(*arguments(way, log_dir)) == 0
        assert_equal(only_run(log_dir), whole(way))
        if way == "labelled":
            check_store(only_run(log_dir).path("feedback.db"))
        if kills >= KILLS:
            break
    print(f"{kills} processes killed, in {number + 1} runs")


def arguments(way: str, log_dir: Path) -> list[object]:
    """Those of `train.py` that take the run in the folder up again, or begin one."""
    if list(log_dir.glob("*/config.json")):
        return ["--resume", only_run(log_dir).folder]
    shutil.rmtree(log_dir, ignore_errors=True)
    return [*TINY, *WAYS[way], "--log-dir", log_dir]


def killed(arguments: list[object], seconds: float) -> float | None:
    """Start `train.py`, and kill it so many seconds later; the seconds it took if it has ended before."""
    process, begun = start(trainer_process.train_quickly, list(map(str, arguments)))
    assert begun.recv() == "begun"
    clock = time.perf_counter()
    process.join(seconds)
    took = time.perf_counter() - clock
    process.kill()
    process.join()
    begun.close()
    assert process.exitcode in (-signal.SIGKILL, 0)
    return None if process.exitcode else took


def check_store(path: Path) -> None:
    """The database is sound, and holds every label once."""
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
    with Store(path, must_exist=True) as store:
        said = [(stored.event.query, stored.event.rater) for stored in store.events()]
    assert len(set(said)) == len(said) > 30


# Files


@pytest.fixture
def copied(whole: Any, tmp_path: Path) -> Run:
    """A copy of a run that has only to be evaluated."""
    run = Run.open(shutil.copytree(whole("labelled").folder, tmp_path / "copy"))
    run.path("results.json").unlink()
    return run


def refusal(capsys: pytest.CaptureFixture[str], of: Run) -> str:
    capsys.readouterr()
    assert run("--resume", of.folder) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


def test_a_truncated_file_of_a_checkpoint_is_named_in_one_line(
    copied: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    files = sorted(copied.path("checkpoint").iterdir())
    assert {file.suffix for file in files} == {".json", ".npz", ".pt", ".safetensors"} and len(files) > 4
    for file in files:
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2])
        assert str(file) in refusal(capsys, copied)
        file.write_bytes(content)


def test_a_checkpoint_of_another_format_is_refused(copied: Run, capsys: pytest.CaptureFixture[str]) -> None:
    state = copied.read_json("checkpoint/state.json")
    copied.write_json("checkpoint/state.json", {**state, "format": 1})
    assert "is of format 1, this version reads 3" in refusal(capsys, copied)


def test_a_process_killed_while_a_checkpoint_is_renamed_goes_on(copied: Run, whole: Any) -> None:
    copied.path("checkpoint").rename(copied.path("checkpoint.old"))
    copied.path("checkpoint.tmp").mkdir()
    assert run("--resume", copied.folder) == 0
    copied.path("checkpoint.tmp").rmdir()
    assert_equal(copied, whole("labelled"))


def test_a_new_folder_replaces_the_old_one_whole(tmp_path: Path) -> None:
    of = Run(tmp_path)
    for name in ("one", "two"):
        with of.new_folder("kept") as folder:
            of.write_json(f"{folder}/{name}.json", {})
    with pytest.raises(KeyboardInterrupt), of.new_folder("kept") as folder:
        of.write_json(f"{folder}/three.json", {})
        raise KeyboardInterrupt
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["two.json"]


def test_the_journal_tells_once_what_was_taken_in_and_forgets_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "taken_in.jsonl"
    for taken in (Taken(0, 5, None), Taken(0, 7, {"calls": 1}), Taken(1, 9, None)):
        Journal(path).add(taken)
    with path.open("a") as file:
        file.write('{"rollout": 2, "cur')
    journal = Journal(path)
    assert [journal.before(0), journal.before(0)] == [Taken(0, 7, {"calls": 1}), None]
    assert [journal.before(1), journal.before(2)] == [Taken(1, 9, None), None]
    journal.add(Taken(2, 11, None))
    assert Journal(path).before(2) == Taken(2, 11, None)
    path.write_text("nothing\n")
    with pytest.raises(QAError, match="is no journal"):
        Journal(path)


def test_a_transaction_of_the_store_keeps_all_or_nothing(tmp_path: Path) -> None:
    with Store(tmp_path / "feedback.db") as store, Store(tmp_path / "feedback.db") as other:
        with pytest.raises(KeyboardInterrupt), store.transaction():
            store.add_rater("ann")
            assert [rater.name for rater in store.raters()] == ["ann"] and not other.raters()
            raise KeyboardInterrupt
        assert not store.raters()
        with store.transaction(), store.transaction():
            store.add_rater("ann")
        store.add_rater("bob")
        assert [rater.name for rater in other.raters()] == ["ann", "bob"]


# The environment


@pytest.mark.parametrize("setting", ["trained", "tokens"])
def test_an_environment_goes_on_from_its_state(new_task: Any, setting: str) -> None:
    _, task = new_task(setting)
    env, other = (QAVectorEnv(6, samples_per_question=4, retry=0.5, **task, feedback=noisy) for _ in range(2))
    actions = np.random.default_rng(0).integers(0, len(task["vocabulary"]), (60, 6))
    env.reset(seed=3)
    for step in actions[:25]:
        env.step(step)
    env.rate(env.task.sources[:3], env.answers.tokens[:3])
    arrays: dict[str, Any] = {}
    state = json.loads(json.dumps(without_arrays(env.state(), "", arrays)))
    observation = other.load_state(with_arrays(state, {name: array.copy() for name, array in arrays.items()}))
    for step in actions[25:]:
        expected, found = env.step(step), other.step(step)
        for one, two in zip(found[:4], expected[:4], strict=True):
            np.testing.assert_equal(one, two)
    assert observation.keys() == expected[0].keys()
    rated = [each.rate(each.task.sources[:3], each.answers.tokens[:3]) for each in (env, other)]
    np.testing.assert_array_equal(rated[0], rated[1])
    assert env.task.graded == other.task.graded


class Noisy:
    """Rewards that the lanes' generators draw."""

    name = "noisy"

    def score(self, examples: Any, answers: Any, rngs: Any) -> Score:
        """A random number each."""
        return Score(np.array([rng.random() for rng in rngs]), {})


noisy = Noisy()
