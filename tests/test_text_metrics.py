from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from qa_env.datasets.example import QAExample
from qa_env.feedback.text import (
    contains_value,
    exact_match,
    mentions,
    normalise,
    token_f1,
    tokens,
    value_accuracy,
    words,
)

TEXTS = st.text(st.sampled_from("aAzßé東7 .,+-'’/x\u200b½"), max_size=20) | st.text(max_size=20)
SENTENCES = st.lists(st.sampled_from(["Oslo", "is", "in", "東", "x"]), min_size=1).map(" ".join)
steady = settings(derandomize=True, deadline=None, database=None)
JAPAN = QAExample(
    "japan",
    "What is the capital of Japan?",
    answers=("The capital of Japan is Tokyo.",),
    metadata={"value": "Tokyo", "distractors": ("Kyoto", "Osaka", "Tokyo", "Japan")},
)


def with_value(value: str, *distractors: str, question: str = "Which one is it?") -> QAExample:
    return QAExample("x", question, metadata={"value": value, "distractors": distractors})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  Cat sat, on a mat!", "cat sat on mat"),
        ("ＴＯＫＹＯ", "tokyo"),
        ("Straße", "strasse"),
        ("Sa\u0303o Tome\u0301", "são tomé"),
        ("“Tokyo” — «Kyoto»", "tokyo kyoto"),
        ("Sana'a and Nukuʻalofa", "sanaa and nukualofa"),
        ("the U.S. and J.R.R. Tolkien", "us and jrr tolkien"),
        ("Ky\u200boto", "kyoto"),
        ("line\nbreak", "line break"),
        ("!?…", ""),
    ],
)
def test_normalisation_drops_case_articles_and_unicode_punctuation(text: str, expected: str) -> None:
    assert normalise(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The code is +376.", "code is +376"),
        ("(+376)", "+376"),
        ("It is .jp.", "it is .jp"),
        ("About 6.94%, or 1,234.", "about 6.94 or 1,234"),
        ("−5 °C", "-5 c"),
        ("UTC+5", "utc+5"),
        ("1939–1945", "1939 1945"),
        ("1939-1945", "1939 1945"),
    ],
)
def test_normalisation_keeps_the_signs_that_are_part_of_a_value(text: str, expected: str) -> None:
    assert normalise(text) == expected


def test_a_text_of_articles_alone_is_not_emptied() -> None:
    assert exact_match("The", ["A"]) == 0.0


@steady
@given(TEXTS)
def test_normalising_twice_changes_nothing(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@steady
@given(st.text(st.characters(max_codepoint=127), max_size=20))
def test_plain_ascii_is_read_like_any_other_text(text: str) -> None:
    assert words(f"{text} ß") == [*words(text), "ss"]


def test_words_count_articles_and_cjk_characters() -> None:
    assert words("The capital: 東京") == ["the", "capital", "東", "京"]
    assert tokens("The capital: 東京") == ("capital", "東", "京")


def test_exact_match_accepts_any_reference() -> None:
    assert exact_match("tokyo.", ["Kyoto", "Tokyo"]) == 1.0
    assert exact_match("Tokyo Bay", ["Kyoto", "Tokyo"]) == 0.0


def test_f1_counts_words_as_a_multiset() -> None:
    assert token_f1("tokyo tokyo", ["tokyo"]) == pytest.approx(2 / 3)
    assert token_f1("in Tokyo", ["Kyoto", "Tokyo"]) == pytest.approx(2 / 3)


def test_f1_compares_text_without_blanks_by_character() -> None:
    assert token_f1("東京", ["東京都"]) == pytest.approx(0.8)


@pytest.mark.parametrize("metric", [exact_match, token_f1])
@pytest.mark.parametrize(
    ("answer", "references"), [("Tokyo", [""]), ("?", ["!"]), ("Tokyo", []), ("", ["Tokyo"])]
)
def test_without_words_or_references_nothing_is_earned(metric, answer, references) -> None:
    assert metric(answer, references) == 0.0


@steady
@given(st.lists(SENTENCES, min_size=2, max_size=4))
def test_f1_is_the_harmonic_mean_of_precision_and_recall_by_the_best_reference(texts: list[str]) -> None:
    said, *references = (Counter(tokens(text)) for text in texts)
    best = 0.0
    for reference in references:
        overlap = (said & reference).total()
        precision, recall = overlap / said.total(), overlap / reference.total()
        best = max(best, 2 * precision * recall / (precision + recall) if overlap else 0.0)
    assert token_f1(texts[0], texts[1:]) == pytest.approx(best)


@steady
@given(TEXTS, TEXTS)
def test_f1_is_symmetric_and_bounded(one: str, other: str) -> None:
    assume(tokens(one) or tokens(other))  # else only an empty reference counts as one
    assert token_f1(one, [other]) == token_f1(other, [one])
    assert 0.0 <= token_f1(one, [other]) <= 1.0


@steady
@given(TEXTS, st.lists(TEXTS, max_size=4))
def test_an_exact_match_has_full_f1(answer: str, others: list[str]) -> None:
    for references in (others, [*others, answer]):
        if exact_match(answer, references):
            assert token_f1(answer, references) == 1.0


@steady
@given(TEXTS, st.lists(TEXTS, max_size=4), st.randoms(use_true_random=False))
def test_the_order_of_references_does_not_matter(
    answer: str, references: list[str], rng: random.Random
) -> None:
    shuffled = rng.sample(references, len(references))
    assert token_f1(answer, shuffled) == token_f1(answer, references)
    assert exact_match(answer, shuffled) == exact_match(answer, references)


@steady
@given(TEXTS)
def test_every_text_with_words_contains_itself(text: str) -> None:
    assert contains_value(text, text) == bool(tokens(text))


@pytest.mark.parametrize(
    ("answer", "value", "expected"),
    [
        ("The capital is Andorra la Vella.", "andorra la vella", True),
        ("Andorra has la Vella", "Andorra la Vella", False),
        ("It is Nigeria", "Niger", False),
        ("The code is 376", "+376", False),
        ("The code is +376", "376", False),
        ("It covers 1,234 km²", "1,234", True),
        ("Tokyo's harbour", "Tokyo", True),
        ("首都は東京です", "東京", True),
        ("Tokyo", "", False),
        ("", "Tokyo", False),
    ],
)
def test_a_value_is_found_as_whole_contiguous_words(answer: str, value: str, expected: bool) -> None:
    assert contains_value(answer, value) is expected


@pytest.mark.parametrize(
    ("answer", "hidden"),
    [
        (".jp.kr", ".kr"),
        ("+376+81", "+81"),
        ("81,82", "82"),
        ("Tokyo'Kyoto", "Kyoto"),
        ("Tokyo/Kyoto", "Kyoto"),
    ],
)
def test_signs_between_values_hide_none_of_them(answer: str, hidden: str) -> None:
    assert mentions(answer, hidden)


def test_right_value_in_any_wording_is_right() -> None:
    assert value_accuracy(JAPAN, "tokyo") == 1.0
    assert value_accuracy(JAPAN, "Japan is governed from Tokyo") == 1.0


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "Kyoto",
        "Tokyo, Kyoto and Osaka",
        "Tokyo Kyoto.Osaka",
        "Tokyo not Kyoto's",
        "What is the capital of Japan?",
    ],
)
def test_wrong_or_hedged_values_are_wrong(answer: str) -> None:
    assert value_accuracy(JAPAN, answer) == 0.0


def test_a_distractor_that_is_part_of_the_right_value_is_ignored() -> None:
    example = with_value("Guinea-Bissau", "Guinea", "Equatorial Guinea")
    assert value_accuracy(example, "It is Guinea-Bissau") == 1.0
    assert value_accuracy(example, "It is Guinea") == 0.0


def test_a_longer_name_around_the_right_value_is_another_value() -> None:
    assert value_accuracy(with_value("Guinea", "Equatorial Guinea"), "Equatorial Guinea") == 0.0


def test_a_distractor_that_a_reference_says_is_ignored() -> None:
    example = QAExample(
        "x", "Where?", answers=("Tokyo, once Edo",), metadata={"value": "Tokyo", "distractors": ["Edo"]}
    )
    assert value_accuracy(example, "Tokyo, once Edo") == 1.0


def test_repeating_a_question_that_names_the_right_value_earns_nothing() -> None:
    example = with_value("Luxembourg", "Paris", question="What is the capital of Luxembourg?")
    assert value_accuracy(example, "What is the capital of Luxembourg?") == 0.0
    assert value_accuracy(example, "What is the capital of Luxembourg? Luxembourg") == 1.0
    assert value_accuracy(example, "The capital of Luxembourg is Luxembourg") == 1.0


def test_without_a_marked_value_any_reference_will_do() -> None:
    example = QAExample("x", "Who?", answers=("Ada Lovelace", "Lovelace"))
    assert value_accuracy(example, "It was Lovelace") == 1.0
    assert value_accuracy(example, "It was Ada") == 0.0


def test_bytes_that_spell_no_character_part_words() -> None:
    assert normalise("Rome\ufffdOslo \ufffd 1\ufffd2") == "rome oslo 1 2"
