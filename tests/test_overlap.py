from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qa_env.datasets.example import QAExample
from qa_env.errors import QAError
from qa_env.feedback import as_feedback, score_checked
from qa_env.feedback.overlap import chrf, rouge_l
from qa_env.feedback.text import token_f1, tokens

steady = settings(derandomize=True, deadline=None, database=None)
SENTENCES = st.lists(
    st.sampled_from(["Oslo", "is", "in", "Rome,", "the", "東", "京"]), min_size=1, max_size=9
)
TEXTS = SENTENCES.map(" ".join)
METRICS = [rouge_l, chrf]


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("police killed the gunman", "Police kill the gunman", 2 / 3),  # Lin's example; no article
        ("the gunman kill police", "police kill the gunman", 1 / 3),
        ("A cat sat down!", "the cat sat", 0.8),
        ("東京都", "東京", 0.8),
        ("Oslo", "Rome", 0.0),
    ],
)
def test_rouge_l_is_the_f_measure_of_the_longest_common_subsequence(
    answer: str, reference: str, expected: float
) -> None:
    assert rouge_l(answer, [reference]) == pytest.approx(expected)


@steady
@given(TEXTS, st.lists(TEXTS, min_size=1, max_size=3))
def test_rouge_l_is_that_of_the_package_of_this_name_on_our_words(answer: str, references: list[str]) -> None:
    from rouge_score.rouge_scorer import RougeScorer  # takes seconds

    class Words:
        def tokenize(self, text: str) -> list[str]:
            return list(tokens(text))

    scorer = RougeScorer(["rougeL"], tokenizer=Words())
    expected = scorer.score_multi(references, answer)["rougeL"].fmeasure
    assert rouge_l(answer, references) == pytest.approx(expected)


@steady
@given(TEXTS, TEXTS)
def test_rouge_l_is_f1_for_which_order_counts(answer: str, reference: str) -> None:
    assert rouge_l(answer, [reference]) <= token_f1(answer, [reference]) + 1e-9


def f2_of_characters(answer: str, reference: str) -> float:
    """ChrF by its definition (Popović 2015), over the orders that both texts are long enough for."""
    precisions, recalls = [], []
    for order in range(1, 7):
        said, asked = (
            Counter(text[i : i + order] for i in range(len(text) - order + 1))
            for text in ("".join(answer.split()), "".join(reference.split()))
        )
        if said and asked:
            shared = (said & asked).total()
            precisions.append(shared / said.total())
            recalls.append(shared / asked.total())
    precision, recall = float(np.mean(precisions)), float(np.mean(recalls))
    return 5 * precision * recall / (4 * precision + recall) if precision + recall else 0.0


@steady
@given(TEXTS, st.lists(TEXTS, min_size=1, max_size=3))
def test_chrf_is_the_f2_of_character_n_grams_by_the_best_reference(
    answer: str, references: list[str]
) -> None:
    expected = max(f2_of_characters(answer, reference) for reference in references)
    assert chrf(answer, references) == pytest.approx(expected)


def test_chrf_sees_word_forms_that_words_do_not() -> None:
    assert token_f1("children", ["child"]) == 0.0
    assert chrf("children", ["child"]) > 0.5


@pytest.mark.parametrize("metric", METRICS)
def test_the_best_reference_counts(metric) -> None:
    assert metric("Ada Lovelace", ["nobody", "Ada Lovelace"]) == 1.0


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("answer", "references", "expected"),
    [
        ("", ["Oslo"], 0.0),
        ("?", ["?"], 0.0),
        ("", [], 0.0),
        ("Oslo", [], 0.0),
        ("Oslo", [""], 0.0),
        ("", [""], 1.0),
        ("?", [""], 1.0),
    ],
)
def test_an_answer_without_words_goes_with_an_empty_reference_alone(
    metric, answer, references, expected
) -> None:
    assert metric(answer, references) == expected


@pytest.mark.parametrize(("name", "metric"), [("rouge_l", rouge_l), ("chrf", chrf)])
def test_answers_in_free_wording_can_be_rewarded(name: str, metric) -> None:
    example = QAExample("q", "Why did she weep?", answers=("Her ring had fallen into the well.", "her ring"))
    answers = ["The ring fell into the well.", "her ring", ""]
    rngs = np.random.default_rng(0).spawn(3)
    score = score_checked(as_feedback(name), [example] * 3, answers, rngs)
    assert score.reward == pytest.approx([metric(answer, example.answers) for answer in answers])
    assert score.reward[1] == 1.0 > score.reward[0] > score.reward[2] == 0.0
    assert [*score.components] == [name]
    with pytest.raises(QAError, match=f"'{name}' needs a reference answer"):
        score_checked(as_feedback(name), [QAExample("q", "Why?")], ["x"], rngs[:1])
