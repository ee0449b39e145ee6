from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models

from qa_env.errors import QAError
from qa_env.vocabulary import BOS, EOS, FORBIDDEN, PAD, SEP, SPECIAL_TOKENS, Kind, Vocabulary
from qa_env.vocabulary_making import VocabularyConfig, make_vocabulary, train_characters, train_words

TEXTS = ["The capital of Peru is Lima.", "Lima is the capital of Peru.", "What is the capital of Peru?"]
SMALL = Vocabulary.train(TEXTS, 300)
NUMBERS = Vocabulary.train([f"word {i % 10}.{i // 10} {i // 10},{i % 10}" for i in range(100)], 400)
NUMERIC = (Kind.NUMBER, Kind.DIGIT, Kind.DECIMAL)


@given(st.text())
@settings(max_examples=300, deadline=None)
def test_any_unicode_text_survives_encoding(text: str) -> None:
    assert SMALL.decode(SMALL.encode(text)) == unicodedata.normalize("NFC", text).strip()


@given(st.text())
@settings(max_examples=100, deadline=None)
def test_text_never_becomes_a_special_token(text: str) -> None:
    assert not set(SMALL.encode(text)) & {PAD, BOS, EOS, SEP}


@pytest.mark.parametrize("name", SPECIAL_TOKENS)
def test_the_name_of_a_special_token_in_a_text_is_plain_text(name: str, tmp_path: Path) -> None:
    SMALL.save(tmp_path / "v.json")
    for vocabulary in (SMALL, Vocabulary.load(tmp_path / "v.json")):
        ids = vocabulary.encode(f"what does {name} mean?")
        assert not set(ids) & {PAD, BOS, EOS, SEP}
        assert vocabulary.decode(ids) == f"what does {name} mean?"


def test_special_tokens_have_fixed_ids() -> None:
    assert (PAD, BOS, EOS, SEP) == (0, 1, 2, 3)
    assert [SMALL.tokenizer.id_to_token(i) for i in range(4)] == list(SPECIAL_TOKENS)
    assert set(FORBIDDEN) == {PAD, BOS, SEP}


def test_decoding_leaves_out_special_tokens() -> None:
    ids = SMALL.encode("Lima")
    assert SMALL.decode([BOS, *ids, EOS, PAD, PAD]) == "Lima"
    assert SMALL.decode(np.array([*ids, EOS])) == "Lima"
    assert SMALL.decode([]) == ""


def with_added_tokens() -> Vocabulary:
    """The trained tokens, and further ones that are special or hold characters beyond the alphabet."""
    tokenizer = Tokenizer.from_str(SMALL.tokenizer.to_str())
    tokenizer.add_special_tokens(["<more>"])
    tokenizer.add_tokens(["añadido €", AddedToken("Ã", normalized=False), "plain"])
    return Vocabulary(tokenizer)


@pytest.mark.parametrize("vocabulary", [SMALL, NUMBERS, with_added_tokens()])
@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_any_ids_are_decoded_as_the_tokenizer_decodes_them(
    vocabulary: Vocabulary, data: st.DataObject
) -> None:
    some = st.integers(0, len(vocabulary) - 1)
    byte = st.integers(len(SPECIAL_TOKENS), len(SPECIAL_TOKENS) + 255)  # most sequences spell no character
    ids = data.draw(st.lists(some | byte) | st.lists(byte))
    assert vocabulary.decode(ids) == vocabulary.tokenizer.decode(ids, skip_special_tokens=True).strip()


def test_a_tokenizer_with_another_decoder_decodes_in_its_own_way() -> None:
    words = {name: i for i, name in enumerate((*SPECIAL_TOKENS, "▁Lima", "▁is", "ñ"))}
    tokenizer = Tokenizer(models.WordLevel(words, "ñ"))
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    tokenizer.decoder = decoders.Metaspace()
    vocabulary = Vocabulary(tokenizer)
    assert vocabulary.decode([4, 5, EOS, 6]) == "Lima isñ"
    assert vocabulary.decode_batch(np.array([[4, 5, EOS, 6], [5, EOS, PAD, PAD]])) == ["Lima isñ", "is"]


def test_batch_decoding_is_decoding_row_by_row() -> None:
    rows = np.random.default_rng(0).integers(0, len(NUMBERS), size=(50, 7))
    assert NUMBERS.decode_batch(rows) == [NUMBERS.decode(row) for row in rows]
    assert NUMBERS.decode_batch(rows[:0]) == []


def test_a_word_has_the_same_ids_at_the_start_and_inside() -> None:
    word = SMALL.encode("Bolivia")
    inside = SMALL.encode("What is Bolivia?")
    assert any(inside[i : i + len(word)] == word for i in range(len(inside)))
    assert SMALL.encode("  Bolivia ") == word


def test_batch_encoding_is_encoding_one_by_one() -> None:
    assert SMALL.encode_batch(TEXTS) == [SMALL.encode(text) for text in TEXTS]


def test_training_twice_gives_the_same_vocabulary() -> None:
    assert Vocabulary.train(TEXTS, 300).fingerprint == SMALL.fingerprint
    assert Vocabulary.train(iter(TEXTS), 300).fingerprint == SMALL.fingerprint
    assert Vocabulary.train(TEXTS, 270).fingerprint != SMALL.fingerprint
    assert Vocabulary.train(["Other words, other words"], 300).fingerprint != SMALL.fingerprint


def test_a_saved_vocabulary_is_the_same_when_loaded(tmp_path: Path) -> None:
    SMALL.save(tmp_path / "v.json")
    loaded = Vocabulary.load(tmp_path / "v.json")
    assert loaded.fingerprint == SMALL.fingerprint
    assert len(loaded) == len(SMALL)
    assert loaded.encode("Lima, año 1535") == SMALL.encode("Lima, año 1535")


def test_frequent_words_become_tokens_and_rare_names_stay_in_pieces() -> None:
    texts = [f"The capital of {chr(65 + i % 26)}{chr(97 + i // 26) * 3}land is near." for i in range(600)]
    vocabulary = Vocabulary.train(texts, 600)
    assert len(vocabulary.encode("capital")) == 1
    assert len(vocabulary.encode("Qqqqland")) > 1
    assert len(vocabulary) < 600


def test_words_at_the_start_of_training_texts_become_tokens() -> None:
    vocabulary = Vocabulary.train(["Which river is long?", "Which city is big?", " Which one?\n"], 400)
    assert len(vocabulary.encode("Which")) == 1


def test_digits_are_tokens_of_their_own() -> None:
    assert len(SMALL.encode("1535")) - len(SMALL.encode("1")) == 3
    assert SMALL.kinds[SMALL.encode("x7")[-1]] == Kind.DIGIT
    assert not np.isin(SMALL.kinds[SMALL.encode("capital")], NUMERIC).any()


def test_a_point_or_comma_is_one_token_with_the_digit_behind_it() -> None:
    assert [NUMBERS.decode([token]) for token in NUMBERS.encode("13.57 2,46 x.")][:6] == [
        "1",
        "3",
        ".5",
        "7",
        "2",
        ",4",
    ]
    (stop,) = NUMBERS.encode("x.")[-1:]
    assert NUMBERS.decode([stop]) == "." and NUMBERS.kinds[stop] == Kind.END


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("word", [Kind.WORD]),
        ("wordx", [Kind.WORD, Kind.INSIDE]),
        ("7", [Kind.NUMBER]),
        ("74.5,6", [Kind.NUMBER, Kind.DIGIT, Kind.DECIMAL, Kind.DECIMAL]),
        ("word.", [Kind.WORD, Kind.END]),
        ("word?", [Kind.WORD, Kind.END]),
        ("word!", [Kind.WORD, Kind.END]),
        ("word;", [Kind.WORD, Kind.OTHER]),
        ("word,", [Kind.WORD, Kind.OTHER]),
        ("wordé", [Kind.WORD, Kind.INSIDE, Kind.INSIDE]),  # two bytes
    ],
)
def test_kinds_tell_what_a_token_is_to_the_spelling(text: str, expected: list[Kind]) -> None:
    assert NUMBERS.kinds[NUMBERS.encode(text)].tolist() == expected


def test_every_token_has_a_kind_and_special_tokens_are_other() -> None:
    for vocabulary in (SMALL, NUMBERS):
        kinds = vocabulary.kinds
        assert kinds.shape == (len(vocabulary),) and kinds.dtype == np.int64
        assert set(kinds) <= set(Kind)
        assert (kinds[: len(SPECIAL_TOKENS)] == Kind.OTHER).all()
    assert set(NUMBERS.kinds) == set(Kind)


@pytest.mark.parametrize("blank", ["\n", "\t", "  "])
def test_blanks_are_no_letters(blank: str) -> None:
    vocabulary = Vocabulary.train([f"word{blank}word"] * 9, 400)
    first, *between, last = vocabulary.encode(f"word{blank}word")
    assert Kind.WORD in (vocabulary.kinds[first], vocabulary.kinds[last])
    inner = [token for token in between if not vocabulary.decode([token]).strip()]
    assert inner and (vocabulary.kinds[inner] == Kind.OTHER).all()


def test_a_size_too_small_for_all_bytes_is_refused() -> None:
    Vocabulary.train(TEXTS, 260)
    with pytest.raises(QAError, match="at least 260"):
        Vocabulary.train(TEXTS, 259)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(QAError, match=r"no vocabulary file .*none\.json"):
        Vocabulary.load(tmp_path / "none.json")
    with pytest.raises(QAError, match="no vocabulary file"):
        Vocabulary.load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{}", b"not json", b"\xff\xfe"])
def test_a_broken_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(QAError, match=r"broken\.json"):
        Vocabulary.load(path)


def test_a_tokenizer_without_the_special_tokens_is_refused(tmp_path: Path) -> None:
    Tokenizer(models.BPE()).save(str(tmp_path / "other.json"))
    with pytest.raises(QAError, match="special tokens"):
        Vocabulary.load(tmp_path / "other.json")


def test_a_run_may_bring_its_own_vocabulary(tmp_path: Path) -> None:
    SMALL.save(tmp_path / "v.json")
    brought = VocabularyConfig("file", file=str(tmp_path / "v.json"))
    assert make_vocabulary(TEXTS * 2, brought).fingerprint == SMALL.fingerprint
    assert make_vocabulary(TEXTS, VocabularyConfig(size=300)).fingerprint == SMALL.fingerprint


@pytest.mark.parametrize("config", [VocabularyConfig("file"), VocabularyConfig("bpe", file="v.json")])
def test_a_vocabulary_file_needs_the_kind_file(config: VocabularyConfig) -> None:
    with pytest.raises(QAError, match=r"--vocabulary\.kind file"):
        make_vocabulary(TEXTS, config)


CHINESE = ["北京是中国的首都。", "中国的首都是哪里？", "首都在北京！", "Chris 1998年在北京。"]
KINDS = {
    "bpe": SMALL,
    "words": train_words([*TEXTS, *CHINESE], 300, ["tower"]),
    "characters": train_characters([*TEXTS, *CHINESE], 300),
}


@pytest.mark.parametrize("kind", KINDS)
@given(text=st.text() | st.text("aé中。 '’\t\u0301\u2000\x1c0９.A"))
@settings(max_examples=300, deadline=None)
def test_any_text_survives_every_kind_of_vocabulary(kind: str, text: str) -> None:
    ids = KINDS[kind].encode(text)
    assert KINDS[kind].decode(ids) == unicodedata.normalize("NFC", text.strip()).strip()
    assert not set(ids) & {PAD, BOS, EOS, SEP}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_kept_in_its_file(kind: str, tmp_path: Path) -> None:
    KINDS[kind].save(tmp_path / "v.json")
    loaded = Vocabulary.load(tmp_path / "v.json")
    assert loaded.fingerprint == KINDS[kind].fingerprint
    assert loaded.encode_batch([*TEXTS, *CHINESE]) == KINDS[kind].encode_batch([*TEXTS, *CHINESE])


def test_frequent_words_are_tokens_and_others_are_spelled() -> None:
    words = KINDS["words"]
    assert words.kinds[words.encode("capital of Peru")].tolist() == [Kind.WORD] * 3
    assert len(words.encode("capitals")) > 1  # no text has it
    assert len(words.encode("Chris")) > 1  # one text has it, once
    assert [words.decode([token]) for token in words.encode("Lima's")] == ["Lima", "'", "s"]
    apart = train_words(["it's Lima's", "Lima's too"], 300)
    assert [apart.decode([token]) for token in apart.encode("Lima's")] == ["Lima", "'s"]


def test_words_that_have_vectors_fill_the_vocabulary() -> None:
    known = ["the", "a b", "Peru", "towers", "sea"]
    words = train_words(TEXTS, 280, known)
    assert all(len(words.encode(word)) == 1 for word in ("towers", "Towers", "sea", "Sea", "The"))
    assert len(train_words(TEXTS, 280, known[:3])) == len(words) - 4
    assert len(words.encode("A b")) > 1  # two words
    small = train_words(TEXTS, len(words) - 2, known)  # the first ones only
    assert len(small.encode("Towers")) == 1 < len(small.encode("sea"))


def test_the_most_frequent_words_come_first() -> None:
    words = train_words(["often often often rarely rarely", "once"], 261)
    assert len(words) == 261 and len(words.encode("often")) == 1 < len(words.encode("rarely"))


def test_each_character_of_the_texts_is_a_token() -> None:
    characters = KINDS["characters"]
    assert [characters.decode([token]) for token in characters.encode("在北京 12。")] == [
        *("在", "北", "京", "", "1", "2", "。")
    ]
    assert len(characters.encode("𠀀")) == 4  # no text has it: its bytes
    small = train_characters(CHINESE, 262)
    assert len(small) == 262 and len(small.encode("北")) == 1 < len(small.encode("是"))


@pytest.mark.parametrize("kind", ["words", "characters"])
def test_an_answer_in_chinese_has_the_ids_of_its_place_in_the_text(kind: str) -> None:
    vocabulary = KINDS[kind]
    text, answer = vocabulary.encode("中国的首都在北京。"), vocabulary.encode("首都")
    assert any(text[i : i + 2] == answer for i in range(len(text)))
    assert vocabulary.kinds[text].tolist() == [Kind.WORD] * 8 + [Kind.END]


@pytest.mark.parametrize("end", ["。", "？", "！"])
def test_chinese_sentence_ends_and_digits_have_their_kinds(end: str) -> None:
    vocabulary = train_characters([f"１{end}１{end}"], 300)
    assert vocabulary.kinds[vocabulary.encode(f"1１{end}")].tolist() == [Kind.DIGIT, Kind.DIGIT, Kind.END]


@pytest.mark.parametrize("kind", ["words", "characters"])
def test_every_kind_needs_room_for_all_bytes(kind: str) -> None:
    with pytest.raises(QAError, match="at least 260"):
        make_vocabulary(TEXTS, VocabularyConfig(kind, 259))  # type: ignore[arg-type]
