"""BERT models from a folder or from the hub, by way of the `transformers` library."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from qa_env.bert.reader import BertReader
from qa_env.errors import QAError
from qa_env.vocabulary import BOS, EOS, PAD, SEP, Vocabulary

FAMILY = ("albert", "bert", "camembert", "distilbert", "electra", "mpnet", "roberta", "xlm-roberta")
"""Types of models that read both ways and take ids, an attention mask and perhaps segments."""


def load_vocabulary_of(name: str) -> Vocabulary:
    """The vocabulary that a BERT model's tokenizer makes.

    Args:
        name: A folder in the form of transformers, or a model's name on the hub.

    Raises:
        QAError: If there is no such model or it has no tokenizer of its own.
    """
    return Vocabulary.adopt(load_tokenizer(name).backend_tokenizer)


def load_reader(name: str, vocabulary: Vocabulary, rate: float = 0.0) -> BertReader:
    """A pretrained model as a reader of the vocabulary that `load_vocabulary_of` made of its tokenizer.

    Args:
        name: A folder in the form of transformers, or a model's name on the hub.
        vocabulary: Of the sources.
        rate: See `BertReader`.

    Raises:
        QAError: If there is no such model, or it is of another kind or of another vocabulary.
    """
    tokenizer = load_tokenizer(name)
    ids = tokenizer.get_vocab()
    special = {
        vocabulary.abstain: tokenizer.sep_token_id,
        PAD: tokenizer.pad_token_id,
        BOS: tokenizer.cls_token_id,
        EOS: tokenizer.sep_token_id,
        SEP: tokenizer.sep_token_id,
    }
    if None in special.values():
        raise QAError(f"the tokenizer of {name} lacks one of [PAD], [CLS] and [SEP]: it is no BERT's")
    tokens = vocabulary.tokens
    unknown = [tokens[i] for i in vocabulary.spelling_tokens if tokens[i] not in ids]
    if unknown:
        raise QAError(
            f"the vocabulary is not that of {name}: {len(unknown)} of its {len(vocabulary)} tokens are "
            f"unknown there, such as {unknown[0]!r}"
        )
    model = _from_pretrained("AutoModel", name, dtype=torch.float32)
    ids_there = [special[i] if i in special else ids[token] for i, token in enumerate(tokens)]
    pretrained = np.array(ids_there, dtype=np.int64)
    size = model.get_input_embeddings().num_embeddings
    if pretrained.max() >= size:
        raise QAError(f"the tokenizer of {name} has ids up to {pretrained.max()}, its model {size} tokens")
    return BertReader(model, pretrained, rate)


def empty_reader(config: Mapping[str, Any], vocabulary: int, rate: float = 0.0) -> BertReader:
    """A reader of the sizes of `BertReader.describe`, whose weights are still to be read from a file."""
    transformers = _transformers()
    with torch.device("cpu"), _quiet(transformers):
        model = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(**config))
    return BertReader(model.float(), np.zeros(vocabulary, dtype=np.int64), rate)


def load_tokenizer(name: str) -> Any:
    """A model's tokenizer, if it is one of the `tokenizers` library.

    Raises:
        QAError: If there is no such model, or none of a kind that is known, or it has no such tokenizer.
    """
    kind = _from_pretrained("AutoConfig", name).model_type
    if kind not in FAMILY:
        raise QAError(f"{name} is a model of type {kind}; one of these is needed: {', '.join(FAMILY)}")
    tokenizer = _from_pretrained("AutoTokenizer", name)
    if not isinstance(getattr(tokenizer, "backend_tokenizer", None), Tokenizer):
        raise QAError(f"{name} has no tokenizer of the tokenizers library: a tokenizer.json is needed")
    return tokenizer


def _from_pretrained(kind: str, name: str, **options: Any) -> Any:
    """What transformers reads of a model: its folder, the local cache, and at last the network."""
    transformers = _transformers()
    load = getattr(transformers, kind).from_pretrained
    folder = Path(name).is_dir()
    if not folder and (name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise QAError(f"{name}: no such folder of a BERT model; check the path")
    with _quiet(transformers):
        try:
            return load(name, local_files_only=True, **options)
        except Exception as error:  # transformers raises many kinds
            if folder:
                raise QAError(f"cannot read a BERT model from {name}: {_line(error)}") from None
        _reach(name)
        try:
            return load(name, **options)
        except Exception as error:
            raise QAError(f"cannot read the model '{name}' of the hub: {_line(error)}") from None


def _reach(name: str) -> None:
    """Raise a QAError if the hub has no such model or does not answer; transformers would try for long."""
    hub = import_module("huggingface_hub")
    try:
        hub.HfApi().model_info(name, timeout=10)
    except hub.errors.HfHubHTTPError as error:  # which answered
        raise QAError(f"no model '{name}' in the local cache nor on the hub: {_line(error)}") from None
    except Exception:
        raise QAError(f"no model '{name}' in the local cache and no network; give a folder") from None


def _transformers() -> ModuleType:
    try:
        return import_module("transformers")
    except ImportError:
        raise QAError('BERT needs the package transformers: pip install "qa-env-rl[bert]"') from None


@contextmanager
def _quiet(transformers: ModuleType) -> Iterator[None]:
    """No progress bars and no advice while a model is read."""
    logging = transformers.utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _line(error: Exception) -> str:
    return f"{' '.join(str(error).split()):.150}"
