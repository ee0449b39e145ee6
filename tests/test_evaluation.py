from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from agents.evaluation import (
    METRICS,
    OF_ABSTAINING,
    Judge,
    bootstrap_interval,
    checkpoint_score,
    fitting_tables,
    report,
    results_table,
)
from qa_env.datasets import QAExample
from qa_env.feedback import SimulatedUsers, SimulatedUsersConfig
from qa_env.feedback.overlap import chrf, rouge_l
from qa_env.feedback.text import exact_match, token_f1

FLUENT: Any = SimpleNamespace(score=lambda texts: np.ones(len(texts)))
JUDGE = Judge(FLUENT, SimulatedUsers(SimulatedUsersConfig(), FLUENT))
ANSWERABLE = [
    QAExample("a", "Who wrote it?", answers=("Ada Lovelace",)),
    QAExample("b", "Where did she live?", answers=("in London",)),
    QAExample("c", "她住在哪里？", answers=("北京市",)),
]
UNANSWERABLE = [
    QAExample(name, "When did she fly?", metadata={"unanswerable": True}) for name in ("d", "e", "f", "g")
]
COMPARED = ("accuracy", "exact_match", "f1", "rouge_l", "chrf")


def printed(*tables: Any, width: int = 200) -> str:
    file = io.StringIO()
    for table in tables:
        Console(file=file, width=width).print(table)
    return file.getvalue()


def report_of(examples: Sequence[QAExample], answers: Sequence[str]) -> dict[str, float]:
    return report(JUDGE.measure(examples, answers), examples, answers)


def test_every_metric_is_that_of_the_text() -> None:
    answers = ["Lovelace, Ada", "London", "北京"]
    measured = JUDGE.measure(ANSWERABLE, answers)
    for name, metric in {
        "exact_match": exact_match,
        "f1": token_f1,
        "rouge_l": rouge_l,
        "chrf": chrf,
    }.items():
        expected = [metric(a, e.answers) for e, a in zip(ANSWERABLE, answers, strict=True)]
        assert measured[name] == pytest.approx(expected)
    assert measured["rouge_l"] == pytest.approx([0.5, 2 / 3, 0.8])  # Chinese by character
    assert {*measured, "distinct"} == set(METRICS)


def test_abstaining_is_an_answer_without_words() -> None:
    assert JUDGE.measure(ANSWERABLE, ["", "?!", "London"])["abstained"] == pytest.approx([1, 1, 0])


def test_to_abstain_is_right_on_an_unanswerable_question_and_there_alone() -> None:
    examples = [*ANSWERABLE[:2], *UNANSWERABLE]
    measured = JUDGE.measure(examples, ["Ada Lovelace", "", "", "", "", "in 1840"])
    for name in COMPARED:
        assert measured[name] == pytest.approx([1, 0, 1, 1, 1, 0])
    assert measured["abstain_accuracy"] == pytest.approx([1, 0, 1, 1, 1, 0])


def test_squad_2_figures_of_answerable_and_unanswerable_questions_alone() -> None:
    examples = [*ANSWERABLE[:2], *UNANSWERABLE]
    found = report_of(examples, ["Ada Lovelace", "", "", "", "", "in 1840"])
    assert found["f1"] == pytest.approx(4 / 6)
    assert found["has_answer_f1"] == found["has_answer_exact"] == 0.5
    assert found["no_answer_f1"] == 0.75
    assert found["abstained"] == pytest.approx(4 / 6)
    assert 0 <= found["no_answer_f1_low"] < 0.75 < found["no_answer_f1_high"] <= 1


def test_a_question_that_nobody_has_answered_is_not_unanswerable() -> None:
    assert not set(OF_ABSTAINING) & set(report_of(ANSWERABLE, ["Ada", "", "北京"]))


def test_without_answerable_questions_there_are_no_figures_of_them() -> None:
    found = report_of(UNANSWERABLE[:1], [""])
    assert found["no_answer_f1"] == 1.0 and "has_answer_f1" not in found
    assert "has_answer_f1" not in printed(results_table({"x": found}, ""))


def test_rows_that_apply_to_no_column_are_left_out() -> None:
    plain = report_of(ANSWERABLE, ["Ada", "London", "北京"])
    table = printed(results_table({"one": plain, "two": plain}, ""))
    assert not any(name in table for name in ("abstain", "has_answer", "no_answer", "questions"))
    assert all(name in table for name in METRICS[:-1])
    silent = report_of(ANSWERABLE, ["", "London", "北京"])
    assert "abstained" in printed(results_table({"one": plain, "two": silent}, ""))


def test_columns_that_a_row_does_not_apply_to_have_a_dash() -> None:
    plain = report_of(ANSWERABLE, ["Ada", "London", "北京"])
    both = report_of([*ANSWERABLE, *UNANSWERABLE], ["Ada", "London", "北京", "", "", "", ""])
    (line,) = [
        x for x in printed(results_table({"a": plain, "b": both}, "")).splitlines() if "no_answer" in x
    ]
    assert [part.strip() for part in line.split("│")[1:-1]] == ["no_answer_f1", "–", "1.000 [1.000–1.000]"]


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_numbers_are_never_broken_whatever_the_width(width: int) -> None:
    found = {**report_of(ANSWERABLE, ["Ada", "London", "北京"]), "examples": 3}
    columns = {f"a-long-name-{number}": found for number in range(6)}
    tables = [*fitting_tables(columns, "", Console(width=width))]
    shown = printed(*tables, width=width)
    assert max(map(len, shown.splitlines())) <= width
    interval = f"[{found['chrf_low']:.3f}–{found['chrf_high']:.3f}]"
    assert shown.count(interval) == 6  # `chrf` alone has it
    assert all(shown.count(name) == 1 for name in columns)
    assert len(tables) == {60: 4, 80: 2, 100: 2, 160: 1}[width]


def test_names_are_printed_as_they_are() -> None:
    found = report_of(ANSWERABLE, ["Ada", "London", "北京"])
    assert "[red]:smile:" in printed(results_table({"[red]:smile:": found}, ""))


def test_interval_holds_the_mean_and_narrows_with_more_answers() -> None:
    values = np.array([0.0, 1.0] * 20)
    low, high = bootstrap_interval(values)
    narrow_low, narrow_high = bootstrap_interval(np.tile(values, 25))
    assert low < narrow_low < 0.5 < narrow_high < high
    half = 1.96 * 0.5 / np.sqrt(1000)  # the normal approximation
    assert narrow_high - narrow_low == pytest.approx(2 * half, rel=0.1)


def test_a_marked_value_counts_as_before() -> None:
    marked = replace(ANSWERABLE[0], metadata={"value": "Ada", "distractors": ("Charles",)})
    assert JUDGE.measure([marked, marked], ["Ada", "Ada Charles"])["accuracy"] == pytest.approx([1, 0])


def test_the_checkpoint_is_chosen_by_f1_unless_right_values_are_marked() -> None:
    metrics = {"accuracy": 0.6, "exact_match": 0.2, "f1": 0.5}
    plain = QAExample("plain", "Who?", answers=("Ada",))
    marked = QAExample("marked", "Who?", answers=("Ada",), metadata={"value": "Ada"})
    assert checkpoint_score(metrics, [plain]) == 0.5
    assert checkpoint_score(metrics, [plain, marked]) == pytest.approx(0.4)
