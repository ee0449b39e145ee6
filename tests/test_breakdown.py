from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from agents.breakdown import (
    FEW,
    SHOWN,
    by_type,
    check_field,
    error_lines,
    types_of,
    types_table,
    wrong_answers,
)
from agents.question_types import interrogative
from qa_env.datasets import QAExample
from qa_env.errors import QAError


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Who's there?", "who"),
        ("To whom does it belong, and whose was it?", "who"),
        ("In what year did she say who won?", "what"),
        ("what’s up?", "what"),
        ("WHEN was it?", "when"),
        ("The river flows where?", "where"),
        ("Why?", "why"),
        ("Which one?", "which"),
        ("How did it end?", "how"),
        ("How many towns are there?", "how many"),
        ("How  much is it?", "how many"),
        ("Is Fred in the kitchen?", "other"),
        ("Show me the whole somewhat known Howard.", "other"),
        ("¿Dónde vive?", "other"),
        ("谁杀了司马晏？", "who"),
        ("誰是總統？", "who"),
        ("他的职业是什么？", "what"),
        ("什么时候开通？", "when"),
        ("在哪一年去世？", "when"),
        ("位于哪里？", "where"),
        ("為什麼被抓？", "why"),
        ("因何得名？", "why"),
        ("他被称为什么？", "what"),
        ("由哪家公司运营？", "which"),
        ("全长多少公里？", "how many"),
        ("有几个机场？", "how many"),
        ("怎么灭亡的？", "how"),
        ("桥有多长？", "how"),
        ("几内亚的首都是什么？", "what"),
        ("任何人都可以吗？", "other"),
        ("请简述它的重要性？", "other"),
    ],
)
def test_the_first_interrogative_word_is_the_type(question: str, expected: str) -> None:
    assert interrogative(question) == expected


def example(number: int, question: str = "Who?", **metadata: Any) -> QAExample:
    return QAExample(f"q{number}", question, answers=("Ada", "Ada L.", "A. L.", "Lady L."), metadata=metadata)


def test_a_field_of_the_data_gives_the_type() -> None:
    examples = [example(0, task="qa1"), example(1, task=7), example(2, task=["a", "b"]), example(3)]
    assert types_of(examples, "task") == ["qa1", "7", "a, b", "(no task)"]
    assert types_of(examples, None) == ["who"] * 4


def test_an_unknown_field_is_refused_with_those_that_there_are() -> None:
    examples = [example(0, task="x"), example(1, relation="y")]
    check_field(None, examples)
    check_field("relation", examples)
    with pytest.raises(QAError, match=r"--by tasks: no question has this field; did you mean 'task'\?"):
        check_field("tasks", examples)
    with pytest.raises(QAError, match="known: relation, task"):
        check_field("zzz", examples)
    with pytest.raises(QAError, match="the data has no fields but"):
        check_field("zzz", [example(0)])


def test_each_type_has_its_count_means_and_interval() -> None:
    types = ["a"] * 20 + ["b"] * 30 + ["c"] * (FEW - 1)
    f1 = np.array([0.0, 1.0] * 10 + [1.0] * 30 + [0.5] * (FEW - 1))
    found = by_type(types, {"f1": f1})
    assert {kind: numbers["examples"] for kind, numbers in found.items()} == {"b": 30, "a": 20, "c": FEW - 1}
    assert [numbers["f1"] for numbers in found.values()] == [1.0, 0.5, 0.5]
    assert 0.2 < found["a"]["f1_low"] < 0.5 < found["a"]["f1_high"] < 0.8
    assert "f1_low" not in found["c"]  # resamples of so few are too much alike


def test_types_of_one_size_are_in_the_order_of_their_numbers() -> None:
    assert [*by_type(["qa10", "x", "qa9", "qa1"], {"f1": np.zeros(4)})] == ["qa1", "qa9", "qa10", "x"]


def shown(settings: dict[str, Any], width: int) -> str:
    file = io.StringIO()
    console = Console(file=file, width=width)
    console.print(types_table(settings, "by task", console))
    return file.getvalue()


def test_the_table_has_the_settings_one_below_the_other_and_its_most_frequent_types() -> None:
    types = [f"[b]{n % (SHOWN + 5)}" for n in range(20 * (SHOWN + 5))]
    measured = {name: np.arange(len(types)) % 2.0 for name in ("accuracy", "exact_match", "f1")}
    settings = {
        "in-domain": by_type(types, measured),
        "[red]": by_type(["x"] * 20, {m: measured[m][:20] for m in measured}),
    }
    wide = shown(settings, 160)
    assert wide.count("in-domain") == wide.count("[red]") == 1
    assert f"[b]{SHOWN - 1} " in wide and f"[b]{SHOWN} " not in wide
    assert "(5 more types)" in wide and " 100 " in wide
    narrow = shown(settings, 80)
    assert max(map(len, narrow.splitlines())) <= 80
    assert narrow.count("]") == wide.count("]")  # no interval is broken
    assert "in-domain" not in shown({"in-domain": settings["in-domain"]}, 160)


def wrong(count: int, f1: list[float], questions: list[str]) -> list[dict[str, Any]]:
    examples = [example(n, question) for n, question in enumerate(questions)]
    right = np.array(f1) == 1
    measured = {"f1": np.array(f1), "accuracy": 1.0 * right, "exact_match": 1.0 * right}
    answers = [f"answer {n}" for n in range(len(f1))]
    return wrong_answers(examples, answers, types_of(examples, None), measured, count)


def test_wrong_answers_take_turns_by_type_the_worst_first() -> None:
    questions = ["Who?"] * 4 + ["When?"] * 2 + ["Why?"]
    errors = wrong(10, [0.5, 0.2, 1.0, 0.8, 0.3, 0.1, 1.0], questions)
    assert [(e["type"], e["f1"]) for e in errors] == [
        ("who", 0.2),
        ("when", 0.1),
        ("who", 0.5),
        ("when", 0.3),
        ("who", 0.8),
    ]
    assert errors[0]["id"] == "q1" and errors[0]["answer"] == "answer 1"
    assert wrong(2, [0.5, 0.2, 1.0, 0.8, 0.3, 0.1, 1.0], questions) == errors[:2]
    assert wrong(0, [0.5], ["Who?"]) == []


def test_wrong_answers_that_are_as_bad_as_each_other_come_from_all_over_the_file() -> None:
    errors = wrong(10, [0.0] * 1000, ["Who?"] * 1000)
    places = [int(error["id"][1:]) for error in errors]
    assert errors == wrong(10, [0.0] * 1000, ["Who?"] * 1000)
    assert max(places) - min(places) > 300


def test_an_error_is_printed_with_all_there_is_to_know() -> None:
    (error,) = wrong(1, [0.25], ["Who was it?"])
    assert error_lines(error).splitlines() == [
        "Q [who]: Who was it?",
        "   answer:    answer 0",
        "   reference: Ada | Ada L. | A. L. | … 1 more",
        "   F1:        0.250",
    ]
    empty = error_lines({**error, "answer": "", "references": [""]})
    assert "answer:    (none)" in empty and "reference: (unanswerable)" in empty
