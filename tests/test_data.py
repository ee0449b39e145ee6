"""Where a run's questions come from and how they are split; see `test_loaders` for the files themselves."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from agents.config import SplitConfig, TrainConfig, load_config
from agents.data import check_data, load_dataset
from qa_env.datasets import QAExample, set_apart
from qa_env.errors import QAError
from qa_env.sources import load_data
from qa_env.task import QATask

SPLITS = ("labelled", "unlabelled", "validation", "test")


def records(passages: Sequence[int], each: int = 2, **changes: Any) -> list[dict[str, Any]]:
    return [
        {"question": f"Question {q}?", "context": f"Passage {p}.", "answers": ["A"], **changes}
        for p in passages
        for q in range(each)
    ]


def write(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def config(data: str, labelled: int = 4, **split: Any) -> TrainConfig:
    return TrainConfig(data=data, split=SplitConfig(labelled, **split))


def contexts(examples: Sequence[QAExample]) -> set[str]:
    return {str(example.context) for example in examples}


def in_any_order(examples: Sequence[QAExample]) -> list[str]:
    return sorted(map(repr, examples))


def test_splits_that_are_given_are_taken_as_they_are(tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", records(range(10)))
    dev = write(tmp_path / "dev.jsonl", records(range(20, 23)))
    test = write(tmp_path / "test.jsonl", records(range(30, 35)))
    data = load_dataset(config(train, validation_data=dev, test_data=test))
    assert in_any_order(data.validation) == in_any_order(load_data(dev)) and data.test == load_data(test)
    assert len(data.labelled) == 4
    assert len(data.labelled) + len(data.unlabelled) == 20
    assert contexts((*data.labelled, *data.unlabelled)) == contexts(load_data(train))
    assert set(data.collection) == contexts(load_data(f"{train},{dev},{test}"))
    assert data.notes == ()


def test_the_first_validation_questions_are_of_all_files_alike(tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", records(range(10)))
    dev = [write(tmp_path / f"dev{i}.jsonl", records(range(i, i + 50))) for i in (100, 200)]
    settings = config(train, validation_data=",".join(dev), test=0.2)
    data = load_dataset(settings)
    assert len({repr(e) for e in data.validation}) == len(data.validation) == 200
    first = [str(e.context) for e in data.validation[:100]]
    assert 35 <= sum(context.startswith("Passage 1") for context in first) <= 65
    assert load_dataset(settings).validation == data.validation


@pytest.mark.parametrize("part", ["validation", "test"])
def test_a_split_that_is_not_given_is_a_share_of_the_rest(part: str, tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", records(range(10)))
    other = write(tmp_path / "other.jsonl", records(range(20, 23)))
    data = load_dataset(config(train, **{f"{part}_data": other}, validation=0.2, test=0.2))
    assert in_any_order(getattr(data, part)) == in_any_order(load_data(other))
    (shared,) = {"validation", "test"} - {part}
    assert len(getattr(data, shared)) == 4
    assert contexts(getattr(data, shared)) < contexts(load_data(train))
    assert sum(len(getattr(data, split)) for split in SPLITS) == 26


def test_passages_of_the_evaluation_are_kept_out_of_training_and_it_is_said(tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", records([*range(10), 30, 20]))
    dev = write(tmp_path / "dev.jsonl", records([20, 21, 30]))
    test = write(tmp_path / "test.jsonl", [*records([30, 31]), {"question": "Open?", "answers": ["A"]}])
    data = load_dataset(config(train, validation_data=dev, test_data=test))
    assert contexts((*data.labelled, *data.unlabelled)) == {f"Passage {p}." for p in range(10)}
    assert contexts(data.validation) == {"Passage 20.", "Passage 21."}
    assert data.test == load_data(test)
    assert data.notes == (
        "2 of 6 validation questions are on passages of the test data: left out",
        "4 of 24 training questions are on passages of the test and validation data: left out",
    )


def test_case_and_blanks_do_not_make_another_passage() -> None:
    kept = [QAExample("a", "Who?", "One passage."), QAExample("b", "Which one?")]
    same = [QAExample("c", "Else?", "one  PASSAGE.\n"), QAExample("d", "which one? ")]
    other = QAExample("e", "One passage.")  # a question, not a context
    apart, lines = set_apart({"test": kept, "training": [*same, other]})
    assert apart == {"test": kept, "training": [other]}
    assert lines == ["2 of 3 training questions are on passages of the test data: left out"]


def test_questions_to_evaluate_that_have_no_answer_are_left_out_and_it_is_said(tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", records(range(10)))
    test = write(tmp_path / "test.jsonl", [*records([30, 31]), *records([32], answers=[])])
    data = load_dataset(config(train, test_data=test, validation=0.2))
    assert len(data.test) == 4
    assert data.notes == ("2 of 6 test questions have no reference answer: left out",)


def test_several_files_are_joined_and_no_two_questions_have_one_id(tmp_path: Path) -> None:
    first = write(tmp_path / "a.jsonl", records(range(3)))
    second = write(tmp_path / "b.jsonl", [{**row, "id": "own"} for row in records(range(5, 6), each=1)])
    third = write(tmp_path / "c.jsonl", records(range(6, 8)))
    examples = load_data(f"{first}, {second},{third}")
    assert [example.context for example in examples] == [
        f"Passage {p}." for p in (0, 0, 1, 1, 2, 2, 5, 6, 6, 7, 7)
    ]
    assert [example.id for example in examples[5:9]] == [
        "line-6",
        "own",
        f"{third}:line-1",
        f"{third}:line-2",
    ]
    assert len({example.id for example in examples}) == len(examples)
    assert len(load_dataset(config(f"{first},{second},{third}", test=0.3, validation=0.2)).collection) == 6
    assert QATask(f"{first},{third}", encoder=None).examples == load_data(f"{first},{third}")


def test_a_file_may_have_a_comma_in_its_name(tmp_path: Path) -> None:
    path = write(tmp_path / "a,b.jsonl", records(range(3)))
    assert len(load_data(path)) == 6


def test_a_config_file_names_data_as_the_command_line_does(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("data: a.jsonl,b.csv\nsplit:\n  test_data: t.json\n")
    read = load_config(tmp_path / "run.yaml")
    assert read == dataclasses.replace(
        TrainConfig(), data="a.jsonl,b.csv", split=SplitConfig(test_data="t.json")
    )


@pytest.mark.parametrize(
    ("data", "split", "reason"),
    [
        ("{train}", {"test_data": "{tmp}/none.jsonl"}, "none.jsonl: no such file"),
        ("{train}", {"validation_data": "{tmp}/none.jsonl"}, "none.jsonl: no such file"),
        ("{train},{tmp}/none.jsonl", {}, "none.jsonl: no such file"),
        ("{train},", {}, "a name is missing"),
        ("{train},{train}", {}, "is named twice"),
        ("{train},facts", {}, "facts cannot be joined with other data"),
        ("facts", {"test_data": "{train}"}, "the built-in facts have their own splits"),
    ],
)
def test_data_that_is_not_there_is_told_before_any_work(
    data: str, split: dict[str, str], reason: str, tmp_path: Path
) -> None:
    places = {"train": write(tmp_path / "train.jsonl", records(range(10))), "tmp": str(tmp_path)}
    named = {name: source.format(**places) for name, source in split.items()}
    with pytest.raises(QAError, match=reason) as caught:
        check_data(config(data.format(**places), **named))
    assert "\n" not in str(caught.value)


def test_splits_without_a_question_that_can_be_used_are_refused(tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", records(range(10)))
    blank = write(tmp_path / "blank.jsonl", records([30], answers=[]))
    with pytest.raises(QAError, match=r"blank\.jsonl: none of its 2 questions can be used"):
        load_dataset(config(train, test_data=blank))
    with pytest.raises(QAError, match=r"each question of .*train\.jsonl is on a passage of the test"):
        load_dataset(config(train, test_data=write(tmp_path / "same.jsonl", records(range(12)))))
