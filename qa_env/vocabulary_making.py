"""Which vocabulary a run has: learned from its texts, or read from a file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from qa_env.errors import QAError
from qa_env.vocabulary import Vocabulary


@dataclass(frozen=True)
class VocabularyConfig:
    """What the tokens of a run are."""

    kind: Literal["bpe", "file"] = "bpe"
    """"bpe": byte pairs, learned from the training texts; "file": a tokenizer that is there already."""
    size: int = 2048
    """At most so many tokens are learned; unused for a file."""
    file: str = ""
    """The tokenizer's file, for the kind "file"."""


def make_vocabulary(texts: Iterable[str], config: VocabularyConfig) -> Vocabulary:
    """The vocabulary that `config` asks for; `texts` is what it may be learned from.

    Raises:
        QAError: If the size is too small, or the file is missing or no tokenizer.
    """
    if (config.kind == "file") != bool(config.file):
        raise QAError(
            "vocabulary.kind and vocabulary.file go together: give --vocabulary.kind file "
            f"--vocabulary.file PATH; got kind '{config.kind}' and file '{config.file}'"
        )
    match config.kind:
        case "file":
            return Vocabulary.adopt(config.file)
        case "bpe":
            return Vocabulary.train(texts, config.size)
