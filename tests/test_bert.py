"""BERT models as readers of sources: special tokens, segments, windows; their outputs on disk; bad input."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from policies.language_model import LMConfig, LSTMAttentionLM
from policies.optimizers import make_optimizer
from qa_env.bert import BertReader, KeptOutputs, empty_reader, load_reader, load_vocabulary_of
from qa_env.bert.loading import FAMILY
from qa_env.bert.outputs import FILE_TOKENS
from qa_env.bert.windows import windows
from qa_env.encoders import EncoderConfig, LSTMEncoder
from qa_env.errors import QAError
from qa_env.layout import encode_sources
from qa_env.vocabulary import SEP, Vocabulary
from tests.bert_models import TEXTS, make_model

transformers = pytest.importorskip("transformers", reason="needs the extra bert")

QUESTION, CONTEXT = "Who signed the letter?", "Ada Lovelace signed the well-known letter in Lima."
LONG = " ".join(TEXTS)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="session")
def words(folder: Path) -> Vocabulary:
    return load_vocabulary_of(str(folder))


@pytest.fixture
def reader(folder: Path, words: Vocabulary) -> BertReader:
    return load_reader(str(folder), words)


def sources(words: Vocabulary, *pairs: tuple[str, str | None], width: int = 200) -> torch.Tensor:
    questions = words.encode_batch([question for question, _ in pairs])
    contexts = [None if context is None else words.encode(context) for _, context in pairs]
    return torch.from_numpy(encode_sources(questions, contexts, width, words.kinds)[0])


# --- reading ---


def test_a_source_is_read_as_bert_was_trained_to_read(
    folder: Path, words: Vocabulary, reader: BertReader
) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.no_truncation()
    question, context = (
        tokenizer(text, add_special_tokens=False)["input_ids"] for text in (QUESTION, CONTEXT)
    )
    ids = [2, *question, 3, *context, 3]
    segments = [0] * (len(question) + 2) + [1] * (len(context) + 1)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        expected = model(
            input_ids=torch.tensor([ids]), token_type_ids=torch.tensor([segments])
        ).last_hidden_state[0, 1:-1]
        outputs = reader(sources(words, (QUESTION, CONTEXT)))[0]
    assert torch.allclose(outputs[: len(expected)], expected, atol=1e-5)
    assert (outputs[len(expected) :] == 0).all()


@pytest.mark.parametrize("kind", FAMILY)
def test_every_kind_of_the_family_can_read(kind: str, tmp_path: Path) -> None:
    name = str(make_model(tmp_path, kind))
    words = load_vocabulary_of(name)
    reader = load_reader(name, words)
    with torch.no_grad():
        outputs = reader(sources(words, (QUESTION, CONTEXT), (QUESTION, None), (QUESTION, LONG)))
    assert outputs.shape == (3, 200, 16) and outputs.isfinite().all()
    assert (outputs[1, words.encode(QUESTION).__len__() :] == 0).all()


def test_bert_reads_with_a_vocabulary_that_has_a_token_to_abstain_with(
    folder: Path, words: Vocabulary, reader: BertReader
) -> None:
    able = words.with_abstain()
    same = load_reader(str(folder), able)
    source = sources(words, (QUESTION, CONTEXT))
    with torch.no_grad():
        torch.testing.assert_close(same(source), reader(source))
    assert same.word_embeddings(8).shape == (len(words) + 1, 8)


def test_a_row_does_not_depend_on_the_others(words: Vocabulary, reader: BertReader) -> None:
    pairs = [(QUESTION, CONTEXT), ("Which city?", None), (QUESTION, LONG), ("Lima?", "Lima.")]
    with torch.no_grad():
        together = reader(sources(words, *pairs))
        for row, pair in zip(together, pairs, strict=True):
            assert torch.allclose(row, reader(sources(words, pair))[0], atol=1e-5)


@pytest.mark.parametrize("length", [10, 62, 63, 64, 100, 150, 600])
@pytest.mark.parametrize("question", [0, 5, 30, 31, 100])
def test_windows_give_each_token_one_vector_with_all_the_question_in_view(length: int, question: int) -> None:
    source = np.full(length, 9)
    if 0 < question < length:
        source[question] = SEP
    kept = []
    for window in windows(source, 64):
        assert len(window.places) <= 62 and len(window.kept) == len(window.places)
        kept += window.places[window.kept].tolist()
        if length > 62 and 0 < question < 31:
            assert window.places[: question + 1].tolist() == list(range(question + 1))
    assert sorted(kept) == list(range(length))


def test_a_token_is_taken_from_the_window_in_which_most_stands_around_it() -> None:
    source = np.full(200, 9)
    parts = windows(source, 64)
    for token in range(200):
        around = [min(token - w.places[0], w.places[-1] - token) for w in parts]
        chosen = [number for number, w in enumerate(parts) if token in w.places[w.kept]]
        inner = [a for a, w in zip(around, parts, strict=True) if token in w.places]
        if 31 <= token < 169:  # nearer to an end there is one window, or the text itself ends
            assert around[chosen[0]] >= max(inner) - 1
    assert len(parts) == 6


def test_in_a_long_source_every_part_tells_what_a_token_means(words: Vocabulary, reader: BertReader) -> None:
    with torch.no_grad():
        long = reader(sources(words, (QUESTION, LONG)))[0]
        other = reader(sources(words, ("Which city is it?", LONG)))[0]
    tokens = len(words.encode(LONG))
    assert tokens > 100  # more than the model's 64 positions
    shift = len(words.encode("Which city is it?")) - len(words.encode(QUESTION))
    last = len(words.encode(QUESTION)) + tokens
    assert not torch.allclose(long[last], other[last + shift], atol=1e-3)  # the question is read with it


def test_dropout_is_off_in_training_too(words: Vocabulary, reader: BertReader) -> None:
    reader.train()
    source = sources(words, (QUESTION, CONTEXT))
    assert torch.equal(reader(source), reader(source))


def test_word_embeddings_keep_what_tells_tokens_apart(reader: BertReader) -> None:
    own = reader.model.get_input_embeddings().weight.detach()[reader.pretrained_ids]
    whole, few, more = (reader.word_embeddings(width) for width in (16, 4, 20))
    scale = (own - own.mean(0)).std()
    assert torch.allclose(torch.cdist(whole, whole) * scale, torch.cdist(own, own), atol=1e-3)
    assert few.shape == (len(own), 4) and torch.isclose(few.std(), torch.tensor(1.0))
    assert torch.equal(more[:, :16], whole) and (more[:, 16:] == 0).all()


def test_a_description_makes_a_reader_of_the_same_sizes(reader: BertReader, words: Vocabulary) -> None:
    description = json.loads(json.dumps(reader.describe()))
    other = empty_reader(description, len(words))
    assert other.fingerprint != reader.fingerprint
    other.load_state_dict(reader.state_dict())
    assert other.fingerprint == reader.fingerprint
    source = sources(words, (QUESTION, CONTEXT), (QUESTION, LONG))
    assert torch.equal(other(source), reader(source))


# --- in the encoder ---


def test_the_encoder_is_told_what_bert_says(words: Vocabulary, reader: BertReader) -> None:
    encoder = LSTMEncoder(EncoderConfig(len(words), 8, 6), words.kinds, reader)
    source = sources(words, (QUESTION, CONTEXT), ("Lima?", None))
    before = encoder(source)
    assert before.shape == (2, 200, 12)
    with torch.no_grad():
        reader.model.get_input_embeddings().weight.mul_(2)
    assert not torch.allclose(before, encoder(source), atol=1e-3)
    before.sum().backward()
    for name, parameter in reader.named_parameters():
        assert parameter.grad is not None, name


def test_bert_learns_at_its_share_of_the_rate(words: Vocabulary, folder: Path) -> None:
    reader = load_reader(str(folder), words, rate=0.1)
    lm = LSTMAttentionLM(LMConfig(8, 6, 10), len(words), words.kinds, reader)
    optimizer = make_optimizer(lm, 1.0, torch.optim.SGD)
    for group in optimizer.param_groups:
        group["lr"] = 0.5  # as Stable-Baselines3 does
    before = {name: p.detach().clone() for name, p in lm.named_parameters()}
    for parameter in lm.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    for name, parameter in lm.named_parameters():
        step = 0.05 if name.startswith("encoder.contextual.") else 0.5
        assert torch.allclose(before[name] - parameter, torch.tensor(step), atol=1e-5), name
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.5]


# --- outputs on disk ---


@pytest.fixture
def kept(reader: BertReader, tmp_path: Path) -> KeptOutputs:
    return KeptOutputs(reader, tmp_path)


def test_a_source_is_read_once(kept: KeptOutputs, words: Vocabulary) -> None:
    source = sources(words, (QUESTION, CONTEXT), (QUESTION, LONG), (QUESTION, CONTEXT))
    first = kept(source)
    assert kept.read == 2
    with torch.no_grad():
        assert torch.allclose(first, kept.reader(source), atol=5e-3)  # 16 bits a number
    assert torch.equal(kept(source[:, :150]), first[:, :150])  # with other padding
    kept.write()
    assert torch.equal(kept(source), first)
    assert kept.read == 2


def test_another_process_finds_what_was_written(
    kept: KeptOutputs, reader: BertReader, words: Vocabulary, tmp_path: Path
) -> None:
    source = sources(words, (QUESTION, CONTEXT), ("Lima?", None))
    first = kept(source)
    assert torch.equal(KeptOutputs(reader, tmp_path)(source), first)  # not written yet: read anew
    kept.write()
    kept(sources(words, ("Which city?", None)))
    kept.write()
    other = KeptOutputs(reader, tmp_path)
    assert torch.equal(other(source), first) and other.read == 0
    assert len(list(tmp_path.glob("*/*.safetensors"))) == 2
    assert not list(tmp_path.glob("*/*.tmp"))


def test_much_is_written_without_being_asked(
    kept: KeptOutputs, words: Vocabulary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert FILE_TOKENS > 1000
    monkeypatch.setattr("qa_env.bert.outputs.FILE_TOKENS", 10)
    kept(sources(words, (QUESTION, CONTEXT)))
    assert len(list(tmp_path.glob("*/*.safetensors"))) == 1


def test_outputs_of_another_model_are_not_used(
    kept: KeptOutputs, reader: BertReader, words: Vocabulary, tmp_path: Path
) -> None:
    source = sources(words, (QUESTION, CONTEXT))
    first = kept(source)
    kept.write()
    other = copy.deepcopy(reader)
    with torch.no_grad():
        other.model.get_input_embeddings().weight.mul_(2)
    changed = KeptOutputs(other, tmp_path)
    assert not torch.allclose(changed(source), first, atol=1e-2) and changed.read == 1


@pytest.mark.parametrize("content", [b"", b"\x00" * 40, None])
def test_a_broken_file_counts_for_nothing(
    kept: KeptOutputs, reader: BertReader, words: Vocabulary, tmp_path: Path, content: bytes | None
) -> None:
    source = sources(words, (QUESTION, CONTEXT))
    first = kept(source)
    kept.write()
    (path,) = tmp_path.glob("*/*.safetensors")
    path.write_bytes(path.read_bytes()[:-100] if content is None else content)
    other = KeptOutputs(reader, tmp_path)
    assert torch.equal(other(source), first) and other.read == 1


def test_a_process_killed_while_writing_leaves_no_half_of_a_file(
    kept: KeptOutputs, reader: BertReader, words: Vocabulary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    kept(sources(words, (QUESTION, CONTEXT)))
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", killed)
        with pytest.raises(KeyboardInterrupt):
            kept.write()
    assert not list(tmp_path.glob("*/*.safetensors"))
    assert KeptOutputs(reader, tmp_path)(sources(words, (QUESTION, CONTEXT))).isfinite().all()


def test_without_a_folder_nothing_is_kept(reader: BertReader, words: Vocabulary) -> None:
    kept = KeptOutputs(reader)
    source = sources(words, (QUESTION, CONTEXT))
    assert torch.equal(kept(source), kept(source)) and kept.read == 2
    kept.write()


def test_a_language_model_shares_the_kept_outputs_with_its_copies_and_saves_none(
    kept: KeptOutputs, words: Vocabulary
) -> None:
    lm = LSTMAttentionLM(LMConfig(8, 6, 10), len(words), words.kinds, kept)
    assert copy.deepcopy(lm).encoder.contextual is kept
    assert not any("contextual.reader" in name or "model" in name for name in lm.state_dict())
    lm.requires_grad_(True)
    assert not any(p.requires_grad for p in kept.reader.parameters())


# --- bad input ---


def refused(name: str, words: Vocabulary, match: str) -> None:
    with pytest.raises(QAError, match=match) as raised:
        load_reader(name, words)
    assert "\n" not in str(raised.value)


def test_a_folder_that_is_not_there_is_refused(words: Vocabulary, tmp_path: Path) -> None:
    refused(f"{tmp_path}/none", words, "no such folder of a BERT model; check the path")


def test_a_folder_without_a_model_is_refused(words: Vocabulary, tmp_path: Path) -> None:
    refused(str(tmp_path), words, "cannot read a BERT model from")


def test_a_model_of_another_kind_is_refused(words: Vocabulary, tmp_path: Path) -> None:
    transformers.GPT2Config(vocab_size=40, n_embd=8, n_layer=1, n_head=1).save_pretrained(tmp_path)
    refused(str(tmp_path), words, "is a model of type gpt2; one of these is needed: albert, bert")


@pytest.mark.parametrize("missing", ["model.safetensors", "tokenizer.json"])
def test_a_folder_that_lacks_a_file_is_refused(missing: str, words: Vocabulary, tmp_path: Path) -> None:
    folder = make_model(tmp_path)
    (folder / missing).unlink()
    refused(str(folder), words, "cannot read a BERT model from|no tokenizer")


def test_a_vocabulary_of_another_model_is_refused(folder: Path, vocabulary: Vocabulary) -> None:
    refused(
        str(folder), vocabulary, "the vocabulary is not that of .*: .* of its .* tokens are unknown there"
    )


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)


@pytest.mark.usefixtures("no_network")
def test_a_name_of_the_hub_without_a_network_is_refused(words: Vocabulary) -> None:
    refused(
        "nobody/no-such-model",
        words,
        "no model 'nobody/no-such-model' in the local cache and no network; give a folder",
    )


def test_without_transformers_it_is_said_what_to_install(
    words: Vocabulary, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    refused(str(folder), words, r'BERT needs the package transformers: pip install "qa-env-rl\[bert\]"')
