"""The BERT model of a run, as a folder that other runs can name: what the run's warm start made of it.

    python benchmarks/real_data_bert.py RUN --out FOLDER

A run that names the folder as its `lm.bert` reads with it as it is, so each source once; see `real_data.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from agents.bert import WARM_START
from agents.commands import parse, run_command
from agents.loading import read_language_model
from agents.runs import Run
from qa_env.bert import BertReader
from qa_env.bert.loading import load_tokenizer
from qa_env.errors import QAError


@dataclass(frozen=True)
class BertCommand:
    """Write a run's fine-tuned BERT as a model of its own."""

    run: Annotated[str, tyro.conf.Positional]
    """The folder of a run with `lm.bert` and `lm.bert_rate`."""
    out: str
    """The folder to write, in the form of transformers."""


def main(arguments: Sequence[str]) -> None:
    """Read the run's warm start and write its BERT and its tokenizer."""
    command = parse(BertCommand, arguments, prog="python benchmarks/real_data_bert.py")
    run = Run.open(command.run)
    _, lm = read_language_model(run, WARM_START)
    reader = lm.encoder.contextual
    if not isinstance(reader, BertReader):
        raise QAError(f"{run.folder} has no BERT of its own: expected one with lm.bert and lm.bert_rate")
    reader.model.save_pretrained(command.out)
    load_tokenizer(run.config().lm.bert).save_pretrained(command.out)
    print(f"written to {command.out}")


if __name__ == "__main__":
    run_command(main)
