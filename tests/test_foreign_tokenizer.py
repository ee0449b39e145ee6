"""Tokenizers that were made elsewhere become vocabularies: ids, special tokens, spelling, kinds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from qa_env.errors import QAError
from qa_env.vocabulary import ABSTAIN_TOKEN, BOS, EOS, PAD, SEP, SPECIAL_TOKENS, Kind, Vocabulary
from qa_env.vocabulary_making import VocabularyConfig, make_vocabulary

TEXTS = [
    "Who wrote Anne's well-known letter, in 1984?",
    "Lima is the capital of Peru. It has 10,500 streets (more or less); it costs $6.50 a day.",
    "The U.S. and the U.K. signed a treaty; don't ask me why!",
    "unbelievable unbelievers believe 12345 things at 12:30, since 1984. 1843 was before, 37.5 is less",
] * 5
NAMES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def word_pieces() -> Tokenizer:
    """As that of an uncased BERT, with a fixed length in the file."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.train_from_iterator(
        TEXTS, trainers.WordPieceTrainer(vocab_size=500, special_tokens=list(NAMES), show_progress=False)
    )
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.enable_padding(length=128)
    tokenizer.enable_truncation(5)
    return tokenizer


def byte_pairs() -> Tokenizer:
    """As that of RoBERTa, which has a <pad> of its own at another id, with a token added behind."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.add_special_tokens(["<mask>"])
    return tokenizer


def unigrams() -> Tokenizer:
    """As that of XLM-RoBERTa: SentencePiece, whose own vocabulary knows <pad>."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=150,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        unk_token="<unk>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


KINDS: dict[str, Callable[[], Tokenizer]] = {
    "word pieces": word_pieces,
    "byte pairs": byte_pairs,
    "unigrams": unigrams,
}


@pytest.fixture(params=list(KINDS))
def foreign(request: pytest.FixtureRequest) -> Tokenizer:
    return KINDS[request.param]()


def test_special_tokens_come_first_and_the_others_keep_their_order(foreign: Tokenizer) -> None:
    before = foreign.get_vocab()
    vocabulary = Vocabulary.adopt(foreign)
    assert vocabulary.tokens[:4] == list(SPECIAL_TOKENS)
    others = [before[token] for token in vocabulary.tokens[4:]]
    assert others == sorted(others)
    assert set(vocabulary.tokens) == {*before, *SPECIAL_TOKENS}
    assert foreign.get_vocab() == before


def test_a_text_has_the_same_tokens_as_before(foreign: Tokenizer) -> None:
    vocabulary = Vocabulary.adopt(foreign)
    foreign.no_padding()
    foreign.no_truncation()
    for text in TEXTS[:4]:
        expected = foreign.encode(" " + text, add_special_tokens=False).tokens
        assert [vocabulary.tokens[i] for i in vocabulary.encode(text)] == expected


def test_texts_come_back_as_they_are_written(foreign: Tokenizer) -> None:
    vocabulary = Vocabulary.adopt(foreign)
    lower = isinstance(foreign.model, models.WordPiece)
    for text in TEXTS[:4]:
        assert vocabulary.decode([*vocabulary.encode(text), EOS]) == (text.lower() if lower else text)


def test_the_names_of_special_tokens_in_a_text_do_not_become_them(foreign: Tokenizer) -> None:
    vocabulary = Vocabulary.adopt(foreign)
    for name in (*SPECIAL_TOKENS, *NAMES, "<s>", "</s>"):
        assert not {PAD, BOS, EOS, SEP} & set(vocabulary.encode(f"Lima {name} is{name}"))


def test_an_adopted_vocabulary_is_saved_and_read_as_any_other(foreign: Tokenizer, tmp_path: Path) -> None:
    vocabulary = Vocabulary.adopt(foreign)
    vocabulary.save(tmp_path / "vocabulary.json")
    for read in (Vocabulary.load, Vocabulary.adopt):
        again = read(tmp_path / "vocabulary.json")
        assert again.fingerprint == vocabulary.fingerprint
        assert again.decode(again.encode(TEXTS[1])) == vocabulary.decode(vocabulary.encode(TEXTS[1]))


def test_an_adopted_vocabulary_can_have_a_token_to_abstain_with(foreign: Tokenizer) -> None:
    plain = Vocabulary.adopt(foreign)
    able = plain.with_abstain()
    assert able.tokens == [*plain.tokens, ABSTAIN_TOKEN] and able.abstain == len(plain)
    assert able.abstain not in able.encode(f"the {ABSTAIN_TOKEN} letter")
    assert able.decode([able.abstain]) == ""
    assert able.encode("the letter") == plain.encode("the letter")


def test_gaps_between_ids_are_closed() -> None:
    content = json.loads(word_pieces().to_str())
    ids = content["model"]["vocab"]
    content["model"]["vocab"] = {token: 2 * i if i >= len(NAMES) else i for token, i in ids.items()}
    vocabulary = Vocabulary.adopt(Tokenizer.from_str(json.dumps(content)))
    assert len(vocabulary) == len(ids) + 4
    assert max(vocabulary.encode(TEXTS[0])) < len(vocabulary)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("capital", [Kind.WORD]),
        ("unbelievable", [Kind.WORD]),
        ("limaa", [Kind.WORD, Kind.INSIDE]),
        ("1984", [Kind.NUMBER]),
        ("capital?", [Kind.WORD, Kind.END]),
        ("capital;", [Kind.WORD, Kind.OTHER]),
    ],
)
def test_word_pieces_have_kinds(text: str, expected: list[Kind]) -> None:
    vocabulary = Vocabulary.adopt(word_pieces())
    assert vocabulary.kinds[vocabulary.encode(text)].tolist() == expected
    assert (vocabulary.kinds[: len(NAMES) + 4] == Kind.OTHER).all()


def test_pieces_of_sentencepiece_have_kinds() -> None:
    vocabulary = Vocabulary.adopt(unigrams())
    kinds = vocabulary.kinds[vocabulary.encode("capital")]
    assert kinds[0] == Kind.WORD and set(kinds[1:]) <= {Kind.INSIDE}
    assert vocabulary.kinds[vocabulary.encode("capital.")[-1]] in (Kind.END, Kind.OTHER)


def test_a_run_can_take_its_vocabulary_from_a_file(foreign: Tokenizer, tmp_path: Path) -> None:
    foreign.save(str(tmp_path / "tokenizer.json"))
    config = VocabularyConfig("file", file=str(tmp_path / "tokenizer.json"))
    assert make_vocabulary([], config).fingerprint == Vocabulary.adopt(foreign).fingerprint


def test_a_file_that_is_not_there_or_no_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(QAError, match=r"no vocabulary file .*none\.json"):
        Vocabulary.adopt(tmp_path / "none.json")
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(QAError, match=r"other\.json is no tokenizer file"):
        Vocabulary.adopt(tmp_path / "other.json")
