from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agents.config import SplitConfig, TrainConfig
from agents.held_out import TEST, Setting, named, with_references
from agents.passages import PassageIndex
from qa_env.datasets import FactsConfig, QAExample
from qa_env.errors import QAError

CONFIG = TrainConfig()


def settings(*pairs: tuple[str, Any]) -> list[Setting]:
    return [Setting.parse(text, reads) for text, reads in pairs]


@pytest.mark.parametrize(
    ("text", "name", "data"),
    [
        ("dev.jsonl", "", "dev.jsonl"),
        ("other-domain=dev.jsonl", "other-domain", "dev.jsonl"),
        (" other domain = dev.jsonl ", "other domain", "dev.jsonl"),
        ("x=a=b.jsonl", "x", "a=b.jsonl"),
        ("runs/lr=1/dev.jsonl", "", "runs/lr=1/dev.jsonl"),
        ("in-domain=test", "in-domain", TEST),
        ("hf:squad:train:question=q", "", "hf:squad:train:question=q"),
        ("hub=hf:squad:train:question=q", "hub", "hf:squad:train:question=q"),
    ],
)
def test_a_name_stands_before_the_equals_sign(text: str, name: str, data: str) -> None:
    assert Setting.parse(text, "contexts") == Setting(name, data, "contexts")


def test_what_is_there_as_a_file_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a=b.jsonl").touch()
    assert Setting.parse("a=b.jsonl", "nothing") == Setting("", "a=b.jsonl", "nothing")


@pytest.mark.parametrize(
    ("text", "reads", "reason"),
    [
        ("=dev.jsonl", "contexts", "--data =dev.jsonl: expected NAME=FILE, got an empty name"),
        ("  =dev.jsonl", "nothing", "--closed-book   =dev.jsonl: expected NAME=FILE, got an empty name"),
        ("name=", "passages", "--look-up name=: expected FILE or NAME=FILE, got no file"),
        ("", "contexts", "got no file"),
    ],
)
def test_an_empty_name_or_file_is_refused(text: str, reads: Any, reason: str) -> None:
    with pytest.raises(QAError, match=reason):
        Setting.parse(text, reads)


def test_settings_without_a_name_are_called_as_their_file_and_what_is_read() -> None:
    made = settings(
        ("a/dev.jsonl", "contexts"),
        ("a/dev.jsonl", "nothing"),
        ("b/train.csv", "passages"),
        ("x=a/dev.jsonl", "contexts"),
        ("test", "contexts"),
    )
    assert [setting.name for setting in named(made, CONFIG)] == [
        "dev.jsonl",
        "dev.jsonl, closed book",
        "train.csv, looked up",
        "x",
        "facts:test",
    ]


def test_own_test_data_and_joined_files_give_their_names() -> None:
    own = TrainConfig(data="a/train.jsonl", split=SplitConfig(test_data="a/test.jsonl"))
    made = settings(("test", "contexts"), ("a/x.jsonl,b/y.csv", "contexts"))
    assert [setting.name for setting in named(made, own)] == ["test.jsonl:test", "x.jsonl,y.csv"]


def test_files_of_one_name_are_told_apart_by_their_folders() -> None:
    made = settings(("a/dev.jsonl", "nothing"), ("b/dev.jsonl", "nothing"), ("c.csv", "contexts"))
    assert [setting.name for setting in named(made, CONFIG)] == [
        "a/dev.jsonl, closed book",
        "b/dev.jsonl, closed book",
        "c.csv",
    ]


@pytest.mark.parametrize("texts", [("x=a.csv", "x=b.csv"), ("a.csv", "a.csv"), ("test", "test")])
def test_the_same_name_twice_is_refused(texts: tuple[str, ...]) -> None:
    with pytest.raises(QAError, match=r"2 settings are named '.*': give each a name of its own, NAME=FILE"):
        named(settings(*((text, "contexts") for text in texts)), CONFIG)


def test_the_run_s_own_test_questions() -> None:
    facts = FactsConfig(labelled=1, unlabelled=1, validation=1, test=5)
    assert len(Setting("x", TEST, "contexts").questions(TrainConfig(facts=facts))) == 5


def test_contexts_are_read_or_withheld_or_looked_up() -> None:
    examples = [QAExample("a", "What is red?", "A rose.", ("rose",)), QAExample("b", "Why?", "So.", ("so",))]
    index = PassageIndex(["The red rose.", "Grass is green.", "A red, red sky is red."])

    def contexts(reads: Any) -> list[str | None]:
        sources = Setting("x", "x", reads).sources(examples, index, 2)
        assert [(e.id, e.question, e.answers) for e in sources] == [
            (e.id, e.question, e.answers) for e in examples
        ]
        return [example.context for example in sources]

    assert contexts("contexts") == ["A rose.", "So."]
    assert contexts("nothing") == [None, None]
    assert contexts("passages") == ["A red, red sky is red. The red rose.", None]


def test_questions_without_anything_to_measure_by_are_left_out() -> None:
    answered, unknown = QAExample("a", "Who?", answers=("Ada",)), QAExample("b", "Who?")
    unanswerable = QAExample("c", "Who?", metadata={"unanswerable": True})
    assert with_references("x", [answered, unknown, unanswerable]) == (answered, unanswerable)
    with pytest.raises(QAError, match=r"x: none of its 1 questions has a reference answer"):
        with_references("x", [unknown])
