from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qa_env.errors import QAError
from qa_env.feedback.labels import (
    KINDS,
    LABELS,
    Correction,
    Judgement,
    Label,
    Pair,
    Percent,
    Ranking,
    Rating,
    Skip,
    Thumb,
    answer_id,
    check_number,
    form,
    from_json,
    question_id,
    to_json,
)

GRADES = st.tuples(st.integers(1, 5), st.integers(1, 5)).map(sorted)
SHARES = st.tuples(*[st.floats(0, 100)] * 2).map(sorted)
ANY_LABEL = st.one_of(
    GRADES.map(lambda ends: Rating(*ends)),
    SHARES.map(lambda ends: Percent(*ends)),
    st.builds(Thumb, st.booleans()),
    st.builds(Pair, st.sampled_from(["first", "second", "tie", "both_wrong"]), st.sampled_from([1, 2, 3])),
    st.lists(st.integers(1, 9), min_size=2, max_size=6).map(lambda ranks: Ranking(tuple(ranks))),
    st.text(min_size=1).filter(str.strip).map(Correction),
    st.builds(Skip, st.text()),
)
EXAMPLES: list[tuple[Label, int]] = [
    (Rating(3, 4), 1),
    (Percent(12.5, 12.5), 1),
    (Thumb(True), 1),
    (Correction("Tokyo."), 1),
    (Pair("tie"), 2),
    (Ranking((1, 2, 2)), 3),
]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(ANY_LABEL)
def test_a_label_comes_back_from_json_as_it_was(label: Label) -> None:
    text = to_json(label)
    assert from_json(text) == label and type(from_json(text)) is type(label)
    assert to_json(from_json(text)) == text
    assert json.loads(text)["form"] == form(label)


def test_the_written_form_stays_as_it_is() -> None:
    assert to_json(Thumb(True)) == '{"form": "thumb", "up": true}'
    assert to_json(Ranking((2, 1))) == '{"form": "ranking", "ranks": [2, 1]}'
    assert to_json(Correction("東京")) == '{"form": "correction", "text": "東京"}'
    assert from_json('{"form": "pair", "choice": "first"}') == Pair("first", 1)


def test_each_kind_of_query_has_its_form_and_any_may_be_skipped() -> None:
    assert set(LABELS) == {*KINDS, "skip"}
    assert {form(label) for label, _ in EXAMPLES} == set(KINDS)


@pytest.mark.parametrize(
    "text",
    [
        '{"form": "rating", "low": 0, "high": 3}',
        '{"form": "rating", "low": 3, "high": 6}',
        '{"form": "rating", "low": 4, "high": 3}',
        '{"form": "rating", "low": 3.5, "high": 4}',
        '{"form": "rating", "low": "3", "high": "3"}',
        '{"form": "rating", "low": true, "high": true}',
        '{"form": "rating", "low": null, "high": 3}',
        '{"form": "percent", "low": -0.1, "high": 3}',
        '{"form": "percent", "low": 3, "high": 100.5}',
        '{"form": "percent", "low": 60, "high": 40}',
        '{"form": "percent", "low": NaN, "high": NaN}',
        '{"form": "percent", "low": 0, "high": Infinity}',
        '{"form": "thumb", "up": 1}',
        '{"form": "thumb", "up": "yes"}',
        '{"form": "pair", "choice": "third"}',
        '{"form": "pair", "choice": ["first"]}',
        '{"form": "pair", "choice": {"first": 1}}',
        '{"form": "pair", "choice": "first", "strength": 0}',
        '{"form": "pair", "choice": "first", "strength": 4}',
        '{"form": "pair", "choice": "first", "strength": 1.5}',
        '{"form": "pair", "choice": "first", "strength": 2.0}',
        '{"form": "pair", "choice": "first", "strength": true}',
        '{"form": "pair", "choice": "first", "strength": [1]}',
        '{"form": "ranking", "ranks": [1]}',
        '{"form": "ranking", "ranks": []}',
        '{"form": "ranking", "ranks": [0, 1]}',
        '{"form": "ranking", "ranks": [1, 1.5]}',
        '{"form": "ranking", "ranks": [1, true]}',
        '{"form": "ranking", "ranks": "12"}',
        '{"form": "ranking", "ranks": 3}',
        '{"form": "ranking", "ranks": null}',
        '{"form": "correction", "text": ""}',
        '{"form": "correction", "text": " \\n"}',
        '{"form": "correction", "text": 3}',
        '{"form": "skip", "reason": 3}',
    ],
)
def test_values_outside_their_scale_are_refused(text: str) -> None:
    with pytest.raises(QAError) as caught:
        from_json(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be JSON"),
        ("{", "must be JSON"),
        ("[]", "JSON object"),
        ("null", "JSON object"),
        ('"thumb"', "JSON object"),
        ("{}", "form must be one of rating"),
        ('{"form": "stars", "low": 1, "high": 1}', "form must be one of rating.*'stars'"),
        ('{"form": 3}', "form must be one of"),
        ('{"form": ["thumb"], "up": true}', "form must be one of"),
        ('{"form": {}, "up": true}', "form must be one of"),
        ('{"form": "thumb"}', "has the fields up; got none"),
        ('{"form": "rating", "low": 1}', "has the fields low, high; got low"),
        ('{"form": "thumb", "up": true, "down": false}', "has the fields up; got up, down"),
    ],
)
def test_what_is_no_label_is_refused(text: str, message: str) -> None:
    with pytest.raises(QAError, match=message):
        from_json(text)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.dictionaries(
        st.sampled_from(["form", "low", "high", "up", "choice", "strength", "ranks", "text", "reason"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from([*LABELS, "first", ""]),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
            ),
            max_leaves=4,
        ),
    )
)
def test_any_other_object_is_a_label_or_refused(values: dict) -> None:
    try:
        label = from_json(json.dumps(values))
    except QAError:
        return
    assert from_json(to_json(label)) == label
    hash(label)


@pytest.mark.parametrize(("label", "number"), EXAMPLES)
def test_a_label_is_about_so_many_answers(label: Label, number: int) -> None:
    names = ("a", "b", "c", "d")
    assert Judgement("r", names[:number], label).label is label
    for other in {0, 1, 2, 3, 4} - {number}:
        with pytest.raises(QAError, match=f"a {form(label)} of {number} answers .* query of {other}"):
            Judgement("r", names[:other], label)


def test_a_skip_is_about_any_number_of_answers() -> None:
    for number in range(4):
        check_number(Skip(), number)


def test_a_whole_rating_is_the_same_however_json_writes_it() -> None:
    label = from_json('{"form": "rating", "low": 3.0, "high": 4}')
    assert label == Rating(3, 4) and to_json(label) == to_json(Rating(3, 4))


def test_labels_are_equal_by_value_and_can_be_keys() -> None:
    assert len({Rating(3, 3), Rating(3, 3), Rating(3, 4)}) == 2
    assert Ranking([1, 2]) == Ranking((1, 2)) and hash(Ranking([1, 2]))


def test_ids_depend_on_question_context_and_answer_and_nothing_else() -> None:
    ids = {
        question_id("Who?", None),
        question_id("Who?", "Ada."),
        question_id("Why?", None),
        answer_id("Who?", None, "Ada"),
        answer_id("Who?", None, "Ada "),
        answer_id("Who?", "Ada", "Ada"),
        answer_id("Who?Ada", None, ""),
    }
    assert len(ids) == 7 and all(len(one) == 32 for one in ids)
    assert question_id("Who?", None) == question_id("Who?", "")
    assert answer_id("Who?", None, "Ada") == answer_id("Who?", None, "Ada")
