"""Transfer between runs: another run's encoder, decoder or embedding as the start of a language model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from agents.bert import WARM_START, take_over_bert
from agents.config import TrainConfig
from agents.loading import BEST, PRETRAINED, read_language_model
from agents.runs import Run
from policies.language_model import LSTMAttentionLM
from qa_env.errors import QAError
from qa_env.vocabulary import Vocabulary

SIZES = {
    "encoder": ("embedding", "encoder_hidden", "features"),
    "decoder": ("embedding", "encoder_hidden", "hidden", "attention", "copy"),
    "embedding": ("embedding",),
}
"""The settings of the language model that each part must have in common."""


@dataclass(frozen=True)
class Transferred:
    """What was taken over.

    Attributes:
        path: The file of weights.
        parts: What of it.
        found: Tokens of the vocabulary whose text is a token there too.
        tokens: Tokens of the vocabulary.
    """

    path: Path
    parts: tuple[str, ...]
    found: int
    tokens: int

    def __str__(self) -> str:
        told = f"started from {self.path}: {', '.join(self.parts)}"
        if "embedding" not in self.parts:
            return told
        return (
            f"{told}; {self.found:,} of {self.tokens:,} tokens found again, "
            f"{self.tokens - self.found:,} start anew"
        )


def find_weights(path: str | Path) -> tuple[Run, str]:
    """The run and the name of the file that a path to either means; of a run its furthest weights.

    Raises:
        QAError: If there is no such run, or no weights in it.
    """
    place = Path(path)
    if place.is_file():
        return Run.open(place.parent), place.name
    if not place.is_dir():
        raise QAError(f"no run folder or file of weights {path}")
    run = Run.open(place)
    for name in (BEST, WARM_START, PRETRAINED):
        if run.has(name):
            return run, name
    raise QAError(f"{run.folder} holds no weights yet: neither {BEST}, {WARM_START} nor {PRETRAINED}")


def check_transfer(config: TrainConfig) -> None:
    """Look up what a config wants to start from, before any work is done.

    Raises:
        QAError: If it is not there, or its parts have other sizes than the config's.
    """
    if not config.init_from:
        return
    parts = config.init.parts()
    if not parts:
        raise QAError("init leaves no part to start from: give one of encoder, decoder, embedding")
    run, _ = find_weights(config.init_from)
    theirs, ours = asdict(run.config().lm), asdict(config.lm)
    if "encoder" in parts and bool(theirs["bert"]) != bool(ours["bert"]):
        one, other = ("with", "without") if ours["bert"] else ("without", "with")
        raise QAError(
            f"the encoder reads {one} BERT (lm.bert), that of {config.init_from} {other}: "
            "give --init.no-encoder"
        )
    names = dict.fromkeys(name for part in parts for name in SIZES[part] if theirs[name] != ours[name])
    if names:
        expected = ", ".join(f"lm.{name} {ours[name]!r}" for name in names)
        came = ", ".join(f"{theirs[name]!r}" for name in names)
        mend = " ".join(option(name, theirs[name]) for name in names)
        raise QAError(
            f"{config.init_from} is of another architecture: expected {expected}, got {came}; give {mend}, "
            f"or leave parts out (--init.no-encoder, --init.no-decoder, --init.no-embedding)"
        )


def option(name: str, value: object) -> str:
    """The command line's option that gives a setting of the language model this value."""
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--lm.{flag}" if value else f"--lm.no-{flag}"
    return f"--lm.{flag} {value}"


def transfer(lm: LSTMAttentionLM, vocabulary: Vocabulary, config: TrainConfig) -> Transferred:
    """Put the parts that the config chooses of another run's language model into this one.

    Recurrent and attention weights are copied as they are, those of a fine-tuned BERT too. Tokens are found
    by their text, so that the vocabularies may differ: their rows of the embedding, which is the output layer
    too, and their output biases are copied; other tokens keep their start.

    Args:
        lm: Changed in place.
        vocabulary: Of the model.
        config: Its `init_from` and `init`.

    Raises:
        QAError: If there are no such weights, or of other sizes.
    """
    check_transfer(config)
    run, name = find_weights(config.init_from)
    with torch.random.fork_rng():  # what follows is to draw the same numbers, whoever was loaded
        their_vocabulary, theirs = read_language_model(run, name)
    parts = config.init.parts()
    if "encoder" in parts and config.lm.bert:
        take_over_bert(lm, theirs)
    for part in ("encoder", "decoder"):
        if part in parts:
            weights = part_of(theirs, part)
            with torch.no_grad():
                for key, parameter in part_of(lm, part).items():
                    parameter.copy_(weights[key])
    places = {piece: token for token, piece in enumerate(numbered(their_vocabulary.pieces))}
    pairs = [
        (token, places.get(piece, places[piece[0], 0]))
        for token, piece in enumerate(numbered(vocabulary.pieces))
        if (piece[0], 0) in places
    ]
    if "embedding" in parts:
        ours, there = map(list, zip(*pairs, strict=True))
        with torch.no_grad():
            lm.embedding.weight[ours] = theirs.embedding.weight[there].to(lm.embedding.weight)
            lm.output_bias[ours] = theirs.output_bias[there].to(lm.output_bias)
    return Transferred(run.path(name), parts, len(pairs), len(vocabulary))


def numbered(pieces: Sequence[str]) -> list[tuple[str, int]]:
    """Each piece with how many before it are the same text, as BERT has "." within words and between them."""
    seen: Counter[str] = Counter()
    result = []
    for piece in pieces:
        result.append((piece, seen[piece]))
        seen[piece] += 1
    return result


def part_of(lm: LSTMAttentionLM, part: str) -> dict[str, nn.Parameter]:
    """The encoder's weights or the decoder's by name, all but BERT's and those that belong to tokens."""
    if part == "encoder":
        apart = ("embedding.weight", "contextual.")
        return {name: p for name, p in lm.encoder.named_parameters() if not name.startswith(apart)}
    of_tokens = ("embedding.weight", "output_bias")
    return {
        name: p
        for name, p in lm.named_parameters()
        if not name.startswith("encoder.") and name not in of_tokens
    }
