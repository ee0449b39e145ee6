"""A run's language model, and the BERT model that its encoder may read with."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from agents.config import TrainConfig
from agents.runs import Run
from policies.language_model import LSTMAttentionLM
from qa_env.bert import BertReader, KeptOutputs, empty_reader, load_reader
from qa_env.bert.loading import load_tokenizer
from qa_env.errors import QAError
from qa_env.vocabulary import PAD, Vocabulary

DESCRIPTION = "bert.json"
WARM_START = "warm_start.safetensors"
FREEZING = ("frozen", "frozen-bert")
"""The settings of `TrainConfig.encoder` that need the warm start's weights beside those of RL."""
SPREAD = 0.3
"""Standard deviation of the embeddings that training begins with, as without BERT."""


def make_language_model(
    config: TrainConfig, vocabulary: Vocabulary, run: Run, outputs: Path | None = None
) -> LSTMAttentionLM:
    """An untrained language model of the config's sizes for the vocabulary.

    With BERT, the embeddings of the tokens begin as BERT's own. A BERT that is fine-tuned is in the run's
    files of weights, once there are any; one that is not is read from where the config says.

    Args:
        config: The run's settings.
        vocabulary: The run's tokens.
        run: Says whether training has begun, and with which BERT.
        outputs: Where a frozen BERT's outputs are kept; None keeps none.

    Raises:
        QAError: If the BERT model cannot be read, or is not the one that the run began with.
    """
    make = partial(LSTMAttentionLM, config.lm, len(vocabulary), vocabulary.kinds, abstain=vocabulary.abstain)
    if not config.lm.bert:
        return make()
    fine_tuned = config.lm.bert_rate > 0
    if fine_tuned and run.has(WARM_START):
        reader = empty_reader(run.read_json(DESCRIPTION)["model"], len(vocabulary), config.lm.bert_rate)
        return make(contextual=reader)
    reader = _read(config, vocabulary, run)
    contextual = reader if fine_tuned else KeptOutputs(reader, outputs)
    lm = make(contextual=contextual)
    if run.has(WARM_START):
        return lm
    with torch.no_grad():
        lm.embedding.weight.copy_(SPREAD * reader.word_embeddings(config.lm.embedding))
        lm.embedding.weight[PAD].zero_()
    return lm


def _read(config: TrainConfig, vocabulary: Vocabulary, run: Run) -> BertReader:
    """The model that the config names, which must be the one that the run began with."""
    name = config.lm.bert
    begun = run.has(DESCRIPTION)
    try:
        reader = load_reader(name, vocabulary, config.lm.bert_rate)
    except QAError as error:
        told = f" ({run.folder} holds no copy of it; its config.json says where it is: lm.bert)"
        raise QAError(f"{error}{told if begun else ''}") from None
    if not begun:
        run.write_json(DESCRIPTION, {"model": reader.describe(), "fingerprint": reader.fingerprint})
    elif run.read_json(DESCRIPTION).get("fingerprint") != reader.fingerprint:
        raise QAError(f"{name} is not the BERT model that {run.folder} was trained with: its weights differ")
    return reader


def freeze(lm: LSTMAttentionLM, config: TrainConfig, outputs: Path | None = None) -> None:
    """Cut off from training what RL leaves as the warm start has made it (`TrainConfig.encoder`).

    A frozen BERT reads each source once from now on. It is no part of the language model any more, nor of its
    files of weights.

    Args:
        lm: Changed in place.
        config: The run's settings.
        outputs: Where a frozen BERT's outputs are kept; None keeps none.
    """
    if config.encoder == "frozen":
        lm.freeze_encoder()
    reader = lm.encoder.contextual
    if config.encoder in FREEZING and isinstance(reader, BertReader):
        del lm.encoder.contextual  # a module cannot be replaced by what is none
        lm.encoder.contextual = KeptOutputs(reader, outputs)


def take_over_bert(lm: LSTMAttentionLM, other: LSTMAttentionLM) -> None:
    """Give the BERT that a language model reads with what another's has learned.

    Args:
        lm: Changed in place if its BERT is fine-tuned. One that is not must know the same already.
        other: Reads with a BERT too.

    Raises:
        QAError: If the other is of another kind or size, or has learned what this one cannot.
    """
    ours, theirs = _reader_of(lm), _reader_of(other)
    weights, known = theirs.model.state_dict(), ours.model.state_dict()
    if {name: w.shape for name, w in weights.items()} != {name: w.shape for name, w in known.items()}:
        raise QAError("the run to start from reads with a BERT model of other sizes: give --init.no-encoder")
    if isinstance(lm.encoder.contextual, BertReader):
        ours.model.load_state_dict(weights)
    elif not all(torch.equal(w, known[name]) for name, w in weights.items()):
        raise QAError(
            "the run to start from reads with another BERT model than lm.bert, or has fine-tuned it: "
            "fine-tune it here too, --lm.bert-rate 0.03, or give --init.no-encoder"
        )


def _reader_of(lm: LSTMAttentionLM) -> BertReader:
    contextual = lm.encoder.contextual
    reader = contextual.reader if isinstance(contextual, KeptOutputs) else contextual
    assert isinstance(reader, BertReader)
    return reader


def write_outputs(lm: LSTMAttentionLM) -> None:
    """Write what a frozen BERT has said of sources and is not yet on disk."""
    if isinstance(lm.encoder.contextual, KeptOutputs):
        lm.encoder.contextual.write()


def check_bert(config: TrainConfig) -> None:
    """Look up the BERT model that a config names, before any work is done.

    Raises:
        QAError: If it is not there, or of another kind.
    """
    if config.lm.bert:
        load_tokenizer(config.lm.bert)
