"""What is left of passages that are longer than what a model reads: does an answer still stand in it?

    python benchmarks/long_passages.py dev.jsonl.gz --room 60 100 150

Compares the sentences that `qa_env.layout.pick_sentences` keeps with the beginning of the passage. Only
questions count that have a reference in their passage, and a passage with more tokens than there is room for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
import tyro
from main_job import RESULTS, write_csv

from agents.commands import parse, run_command
from qa_env.datasets import load_examples
from qa_env.errors import QAError
from qa_env.layout import pick_sentences
from qa_env.vocabulary_making import VocabularyConfig, make_vocabulary

FIELDS = ("room", "questions", "median_tokens", "sentences", "beginning")


@dataclass(frozen=True)
class LongPassagesCommand:
    """Measure how often a reference stands in what is left of a passage."""

    data: Annotated[str, tyro.conf.Positional]
    """A file of questions with contexts and references."""
    room: tuple[int, ...] = (60, 100, 150)
    """Tokens of a passage that are kept."""
    questions: int = 600
    """At most so many."""
    vocabulary: VocabularyConfig = field(default_factory=lambda: VocabularyConfig(size=4000))
    out: str = str(RESULTS / "long_passages.csv")
    """The CSV file: shares from 0 to 1."""


def main(arguments: Sequence[str]) -> None:
    """Measure, write, print."""
    command = parse(LongPassagesCommand, arguments, prog="python benchmarks/long_passages.py")
    examples = [e for e in load_examples(command.data) if e.context and e.answers][: command.questions]
    vocabulary = make_vocabulary(
        [t for e in examples for t in (e.question, e.context or "")], command.vocabulary
    )
    examples = [e for e in examples if any(answer in (e.context or "") for answer in e.answers)]
    questions = vocabulary.encode_batch([e.question for e in examples])
    contexts = vocabulary.encode_batch([e.context or "" for e in examples])
    rows = []
    for room in command.room:
        long = [i for i, context in enumerate(contexts) if len(context) > room]
        if not long:
            raise QAError(f"no passage is longer than {room} tokens: give less --room")
        picked = [pick_sentences(questions[i], contexts[i], vocabulary.kinds, room) for i in long]
        left = {"sentences": picked, "beginning": [contexts[i][:room] for i in long]}
        row = {
            "room": room,
            "questions": len(long),
            "median_tokens": np.median([len(contexts[i]) for i in long]),
        }
        for name, parts in left.items():
            texts = vocabulary.decode_batch(parts)
            row[name] = np.mean(
                [any(a in text for a in examples[i].answers) for i, text in zip(long, texts, strict=True)]
            )
        rows.append(row)
        print(", ".join(f"{name} {row[name]:.3g}" for name in FIELDS))
    write_csv(command.out, FIELDS, rows)


if __name__ == "__main__":
    run_command(main)
