"""Laying out questions and passages, and what stays of a passage that is too long."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qa_env.datasets import QAExample
from qa_env.layout import encode_sources, pick_sentences
from qa_env.task import encode_examples
from qa_env.vocabulary import SEP, SPECIAL_TOKENS, Kind, Vocabulary

END = 9
KINDS = np.full(40, Kind.WORD)
KINDS[END] = Kind.END


def test_sources_are_laid_out_as_question_separator_context() -> None:
    rows, cut = encode_sources([[5, 6], [7], [5, 6, 7], [8]], [[9], None, [9, 9], []], 4, KINDS)
    assert rows.tolist() == [[5, 6, SEP, 9], [7, 0, 0, 0], [5, 6, 7, SEP], [8, SEP, 0, 0]]
    assert rows.dtype == np.int64
    assert cut == 1


def test_a_question_that_is_too_long_is_cut_at_its_end() -> None:
    rows, cut = encode_sources([[5, 6, 7, 8, 9]], [[10, END]], 4, KINDS)
    assert rows.tolist() == [[5, 6, 7, 8]]
    assert cut == 1


def test_the_sentences_that_say_most_of_the_question_stay_in_their_order() -> None:
    named, other, told = [20, 21, END], [22, 23, END], [24, 21, 20, END]
    assert pick_sentences([20, 24], [*other, *told, *other], KINDS, 4) == told
    assert pick_sentences([20, 24], [*named, *other, *told], KINDS, 7) == [*named, *told]


def test_a_rare_word_counts_for_more_than_common_ones() -> None:
    common, rare = [20, 21, END], [25, 26, END]
    assert pick_sentences([20, 25], [*common, *common, *common, *rare], KINDS, 3) == rare


def test_the_sentence_beside_the_one_that_is_asked_about_comes_before_others() -> None:
    far, asked, beside = [22, 23, END], [20, 21, END], [26, 27, END]
    assert pick_sentences([20], [*far, *far, *asked, *beside, *far], KINDS, 6) == [*far, *asked]
    assert pick_sentences([20], [*asked, *beside, *far, *far], KINDS, 6) == [*asked, *beside]


@given(
    st.lists(st.integers(20, 30), max_size=5),
    st.lists(st.integers(20, 30) | st.just(END), min_size=1, max_size=40),
    st.integers(0, 39),
)
def test_what_stays_is_a_part_of_the_context_and_fills_the_room(
    question: list[int], context: list[int], room: int
) -> None:
    room = min(room, len(context) - 1)
    kept = pick_sentences(question, context, KINDS, room)
    assert len(kept) == room
    rest = iter(context)
    assert all(token in rest for token in kept)  # in the same order


@pytest.mark.parametrize("position", [0, 30, 59])
def test_a_passage_of_six_hundred_words_keeps_what_is_asked_for(position: int) -> None:
    sentences = [f"The weather of day {i} was dull, and nobody wrote a line on it." for i in range(60)]
    sentences[position] = "Ada Lovelace signed the letter in 1843."
    example = QAExample("long", "Who signed the letter?", " ".join(sentences), ("Ada Lovelace",))
    assert example.context is not None
    vocabulary = Vocabulary.train([example.question, example.context], 400)
    sources, cut = encode_examples([example], vocabulary, 60)
    assert cut == 1
    assert "Ada Lovelace signed the letter in 1843." in vocabulary.decode(sources[0])
    whole, none = encode_examples([example], vocabulary, 2000)
    assert none == 0
    assert (whole >= len(SPECIAL_TOKENS)).sum() > 600
