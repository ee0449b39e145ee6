from __future__ import annotations

import gzip
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch

from agents.config import PretrainConfig, TrainConfig
from agents.decoding import Limits
from agents.denoising import MASK, NEARBY, Denoising, flat, segments
from agents.loading import new_policy
from agents.plain_text import (
    Passage,
    check_texts,
    cut_passages,
    frequent_words,
    learned_texts,
    lines,
    pretraining_texts,
)
from agents.pretraining import Corpus, Pretrained, pretrain
from policies.language_model import LMConfig, LSTMAttentionLM
from qa_env.datasets import QADataset, QAExample
from qa_env.errors import QAError
from qa_env.vocabulary import EOS, PAD, SEP, Vocabulary
from qa_env.vocabulary_making import train_characters

LIMITS = Limits(48, 12)
ALL = PretrainConfig(language=1, spans=1, order=1, cloze=1)
TOWNS = "Lima Quito Bern Oslo Rome Cairo Delhi Hanoi Minsk Riga Sofia Tunis".split()
ANIMALS = "cat dog horse cow goat sheep pig duck hen fox owl bear".split()
PLACES = "kitchen garden stable barn cellar yard attic field forest shed tower cave".split()
TEXTS = [
    f"The {ANIMALS[i * 5 % 12]} of {TOWNS[i % 12]} sleeps in the {PLACES[(i * 7 + i // 12) % 12]}. "
    f"In the morning {TOWNS[i % 12]} wakes and so does the {ANIMALS[i * 5 % 12]}."
    for i in range(24)
]


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary.train(TEXTS, 400)


@pytest.fixture
def passages(vocabulary: Vocabulary) -> list[Passage]:
    return cut_passages(TEXTS, vocabulary, 36)


@pytest.fixture
def denoising(vocabulary: Vocabulary, passages: list[Passage]) -> Denoising:
    return Denoising(vocabulary, ALL, LIMITS, frequent_words(passages))


def whole(passage: Passage) -> list[int]:
    return flat(chain(*passage))


# Text and passages


def test_passages_are_short_and_say_all_that_the_text_says(vocabulary: Vocabulary) -> None:
    text = f"{' '.join(TEXTS)} {'an endless sentence ' * 30}"
    passages = cut_passages([text], vocabulary, 36)
    assert max(len(whole(passage)) for passage in passages) <= 36
    assert [token for passage in passages for token in whole(passage)] == vocabulary.encode(text)
    first = [vocabulary.decode(flat(sentence)) for sentence in passages[0]]
    assert len(first) == 3 and " ".join(first).startswith(TEXTS[0])


def test_a_word_is_all_its_tokens_and_short_texts_are_left_out(vocabulary: Vocabulary) -> None:
    ((words,),) = cut_passages(["Zanzibar owes 1,250 euros", "Too short here"], vocabulary, 36)
    assert [vocabulary.decode(word) for word in words] == ["Zanzibar", "owes", "1,250", "euros"]


def test_chinese_characters_are_words_and_go_missing() -> None:
    text = "北京是中国的首都。上海在东海之滨。"
    ((first, second),) = cut_passages([text], train_characters([text, f"{text} "], 400), 36)
    assert len(first) == 9 and len(second) == 8
    vocabulary = train_characters([text, f"{text} "], 400)
    denoising = Denoising(vocabulary, ALL, LIMITS, ())
    for name in ("language", "spans", "order", "cloze"):
        ((_, answer),) = denoising.pairs(name, [[first, second]], np.random.default_rng(0))
        assert set(vocabulary.decode(answer)) <= set(text) and answer[-1] == EOS


def test_frequent_words_are_found_by_counting(vocabulary: Vocabulary) -> None:
    passages = cut_passages(
        [*TEXTS, *(f"{'the the of of ' * 90} word{i:03}" for i in range(20))], vocabulary, 36
    )
    found = {vocabulary.decode(word) for word in frequent_words(passages)}
    assert {"the", "of"} <= found and not {"Lima", "stable"} & found


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("none.txt", None, "no text file .*none.txt"),
        ("empty.txt", b"\n \n", "empty.txt is empty"),
        ("latin.txt", b"fine\nGr\xf6\xdfe\n", "latin.txt, line 2: not UTF-8"),
        ("broken.gz", gzip.compress(b"text" * 99, mtime=0)[:-9], "broken.gz is a broken gzip file"),
        (
            "garbled.gz",
            gzip.compress(b"text" * 99, mtime=0)[:12] + b"\xff" * 40,
            "garbled.gz is a broken gzip file",
        ),
    ],
)
def test_text_that_cannot_be_read_is_refused(
    name: str, content: bytes | None, told: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(QAError, match=told):
        check_texts(TrainConfig(pretrain=f"data,{tmp_path / name}"))


def test_pretraining_reads_passages_and_files_but_no_reference_of_unlabelled_questions(
    tmp_path: Path,
) -> None:
    (tmp_path / "a.txt.gz").write_bytes(
        gzip.compress("\ufeffEin Satz.\n\nNoch ein Satz.\nlabelled passage\n".encode())
    )
    labelled = (QAExample("1", "q1", "labelled passage", ("seen",)),)
    unlabelled = (QAExample("2", "q2", "other passage", ("hidden",)),)
    file = str(tmp_path / "a.txt.gz")
    config, data = TrainConfig(pretrain=f"data,{file}"), QADataset(labelled, unlabelled, (), ())
    assert [*lines(file)] == ["Ein Satz.", "Noch ein Satz.", "labelled passage"]
    found = ["labelled passage", "other passage", "Ein Satz.", "Noch ein Satz."]
    assert pretraining_texts(config, data) == found
    assert {*learned_texts(config, data)} == {*found, "q1", "q2", "seen"}
    alone = QADataset(
        (QAExample("1", "q1", None, ("seen",)),), (QAExample("2", "q2", None, ("hidden",)),), (), ()
    )
    assert pretraining_texts(config, alone)[:3] == ["q1", "q2", "seen"]


# Objectives


def test_missing_spans_put_back_give_the_passage(denoising: Denoising, passages: list[Passage]) -> None:
    rng = np.random.default_rng(0)
    missing = total = 0
    for passage in passages * 4:
        ((source, answer),) = denoising.pairs("spans", [passage], rng)
        assert source[0] == SEP and answer[-1] == EOS and source.count(MASK) == answer.count(EOS)
        spans = "".join(map(chr, answer)).split(chr(EOS))[:-1]
        restored = [
            span for token in source[1:] for span in ([*map(ord, spans.pop(0))] if token == MASK else [token])
        ]
        assert restored == whole(passage) and not spans
        missing, total = missing + len(answer) - answer.count(EOS), total + len(whole(passage))
    assert missing / total == pytest.approx(0.15, abs=0.04)


def test_sentences_are_shuffled_and_written_in_order(denoising: Denoising, passages: list[Passage]) -> None:
    pairs = denoising.pairs("order", passages, np.random.default_rng(0))
    assert len(pairs) == len(passages)
    sources = []
    for (source, answer), passage in zip(pairs, passages, strict=True):
        assert answer == [*whole(passage), EOS]
        sources.append(source == [SEP, *whole(passage)])
        assert sources[-1] or source == [SEP, *whole(passage[::-1])]
    assert {*sources} == {True, False}
    assert denoising.pairs("order", [passages[0][:1]], np.random.default_rng(0)) == []


def test_language_modelling_reads_nothing(denoising: Denoising, passages: list[Passage]) -> None:
    (pair,) = denoising.pairs("language", passages[:1], np.random.default_rng(0))
    assert pair == ([SEP], [*whole(passages[0]), EOS])


def test_a_span_that_recurs_is_asked_for_by_one_sentence_and_found_in_the_other(
    denoising: Denoising, passages: list[Passage], vocabulary: Vocabulary
) -> None:
    rng = np.random.default_rng(0)
    answers = set()
    for _ in range(30):
        ((source, answer),) = denoising.pairs("cloze", passages[:1], rng)
        question, context = source[: source.index(SEP)], source[source.index(SEP) + 1 :]
        other = next(s for s in passages[0] if flat(s) != context)
        assert context == flat(next(s for s in passages[0] if s is not other))
        written = vocabulary.decode(answer)
        answers.add(written)
        assert written in vocabulary.decode(context) and written in vocabulary.decode(flat(other))
        assert {*question} <= {*flat(other)} and not {*question} & {*answer}
    assert answers == {TOWNS[0], ANIMALS[0]}


def test_any_other_span_is_copied_from_its_own_sentence(
    denoising: Denoising, passages: list[Passage], vocabulary: Vocabulary
) -> None:
    passage = [passages[0][0]]
    pairs = [p for _ in range(30) for p in denoising.pairs("cloze", [passage], np.random.default_rng(_))]
    for source, answer in pairs:
        question = source[: source.index(SEP)]
        assert source[len(question) + 1 :] == whole(passage)
        start = "".join(map(chr, whole(passage))).index("".join(map(chr, answer[:-1])))
        assert start >= 0 and len(question) <= 2 * NEARBY * 8
        assert not vocabulary.decode(answer).startswith("the ")
    assert len({tuple(answer) for _, answer in pairs}) > 4
    assert len({tuple(source) for source, _ in pairs}) > 20


def test_what_is_too_long_for_the_limits_is_no_cloze_question(
    vocabulary: Vocabulary, passages: list[Passage]
) -> None:
    denoising = Denoising(vocabulary, ALL, Limits(36, 3), frequent_words(passages))
    pairs = denoising.pairs("cloze", passages, np.random.default_rng(0))
    assert pairs and max(len(source) for source, _ in pairs) <= 36 and max(len(a) for _, a in pairs) <= 3


@pytest.mark.parametrize(("total", "parts"), [(1, 1), (5, 5), (9, 3)])
def test_segments_make_up_the_whole(total: int, parts: int) -> None:
    found = {tuple(segments(total, parts, np.random.default_rng(seed))) for seed in range(200)}
    assert all(sum(each) == total and len(each) == parts and min(each) >= 1 for each in found)
    assert len(found) == {(1, 1): 1, (5, 5): 1, (9, 3): 28}[total, parts]


# Training


def run_once(
    vocabulary: Vocabulary, config: PretrainConfig
) -> tuple[LSTMAttentionLM, Pretrained, list[float]]:
    torch.manual_seed(0)
    lm = LSTMAttentionLM(LMConfig(16, 12, 20), len(vocabulary), vocabulary.kinds)
    corpus = Corpus.from_texts(TEXTS, vocabulary, config, LIMITS, 0)
    told: list[float] = []
    report = lambda step, figures: told.append(step)  # noqa: E731
    done = pretrain(new_policy(lm, vocabulary, LIMITS), corpus, config, 0, report)
    return lm, done, told


def test_each_objective_lowers_its_held_out_perplexity(vocabulary: Vocabulary) -> None:
    config = PretrainConfig(1, 0, 1, 1, steps=25, check_every=10, batch_size=8, learning_rate=1e-2)
    _, done, steps = run_once(vocabulary, config)
    assert steps == [0, 10, 20, 25] and done.steps == 25
    assert set(done.before) == set(done.after) == {"language", "order", "cloze"}
    assert all(done.after[name] < 0.8 * done.before[name] for name in done.before), done
    config = PretrainConfig(0, 1, 0, 0, steps=12, check_every=6, batch_size=8, learning_rate=1e-2)
    _, done, _ = run_once(vocabulary, config)
    assert done.after["spans"] < 0.8 * done.before["spans"]


def test_the_same_seed_gives_the_same_weights(vocabulary: Vocabulary) -> None:
    config = PretrainConfig(1, 1, 1, 1, steps=4, check_every=2, batch_size=4)
    (lm, done, _), (same, again, _) = (run_once(vocabulary, config) for _ in range(2))
    assert again == done
    assert all(torch.equal(a, b) for a, b in zip(lm.parameters(), same.parameters(), strict=True))
    other, _, _ = run_once(vocabulary, PretrainConfig(1, 1, 1, 1, steps=2, check_every=2, batch_size=4))
    assert not torch.equal(lm.embedding.weight, other.embedding.weight)


def test_it_stops_early_and_keeps_the_best_weights(vocabulary: Vocabulary) -> None:
    config = PretrainConfig(steps=400, check_every=1, patience=2, batch_size=4, learning_rate=0.5)
    lm, done, steps = run_once(vocabulary, config)
    assert done.steps < 400 and steps[-1] == done.steps
    policy = new_policy(lm, vocabulary, LIMITS)
    corpus = Corpus.from_texts(TEXTS, vocabulary, config, LIMITS, 0)
    assert corpus.perplexities(policy, 4) == pytest.approx(done.after)


def test_what_is_held_out_is_not_learned_from(vocabulary: Vocabulary) -> None:
    config = PretrainConfig(language=1, cloze=0, held_out=0.3)
    corpus = Corpus.from_texts(TEXTS, vocabulary, config, LIMITS, 0)
    held_out = {tuple(row[row != PAD]) for row in corpus.held_out["language"].tokens}
    stream = corpus.batches(2, np.random.default_rng(0))
    seen = {tuple(row[row != PAD].tolist()) for _ in range(40) for row in next(stream)[0].tokens}
    assert len(held_out) == round(0.3 * len(TEXTS)) and len(seen) == len(TEXTS) - len(held_out)
    assert not held_out & seen


def test_a_passage_is_noised_anew_each_time(vocabulary: Vocabulary) -> None:
    corpus = Corpus.from_texts(TEXTS, vocabulary, PretrainConfig(), LIMITS, 0)
    stream = corpus.batches(len(TEXTS), np.random.default_rng(0))
    first, second = ({tuple(row.tolist()) for row in next(stream)[0].source} for _ in range(2))
    assert len(first - second) > len(first) // 2


def test_too_little_text_is_refused(vocabulary: Vocabulary) -> None:
    for texts in (["A single text of one passage."], ["Short"], ["no two sentences in any text"] * 9):
        with pytest.raises(
            QAError, match=r"too little text to pre-train on: \d+ passages.*--pretraining.order 0"
        ):
            Corpus.from_texts(texts, vocabulary, PretrainConfig(order=1, cloze=0), LIMITS, 0)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"cloze": 0.0}, "one of them greater than 0"),
        ({"spans": -1.0}, "shares of 0 or more"),
        ({"noise_density": 1.0}, "pretraining.noise_density must be between 0 and 1"),
        ({"held_out": 0.0}, "pretraining.held_out"),
        ({"dropped": 1.0}, "pretraining.dropped"),
        ({"mean_span": 0.5}, "pretraining.mean_span must be 1 or more"),
        ({"steps": 0}, "pretraining.steps"),
        ({"learning_rate": 0.0}, "pretraining.learning_rate"),
    ],
)
def test_settings_out_of_range_are_refused(setting: dict[str, float], told: str) -> None:
    with pytest.raises(QAError, match=told):
        PretrainConfig(**setting)  # type: ignore[arg-type]
