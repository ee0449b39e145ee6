"""Plain text to pre-train on: the passages of training questions, without questions and answers.

    python benchmarks/real_data_text.py FOLDER --out TEXT.txt

writes a line for each passage of the data sets named, each once; see `real_data.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from agents.commands import parse, run_command
from qa_env.datasets import load_examples


@dataclass(frozen=True)
class TextCommand:
    """Write the passages of some data sets as plain text."""

    folder: Annotated[str, tyro.conf.Positional]
    """Where the folders of the data sets are."""
    out: str
    """The file to write."""
    data: tuple[str, ...] = ("squad11/train", "squad-newwiki/train", "fairytaleqa/train")
    """Files of the folder, without their ending."""


def main(arguments: Sequence[str]) -> None:
    """Read the files and write their passages."""
    command = parse(TextCommand, arguments, prog="python benchmarks/real_data_text.py")
    examples = [e for name in command.data for e in load_examples(Path(command.folder) / f"{name}.jsonl.gz")]
    passages = dict.fromkeys(" ".join(e.context.split()) for e in examples if e.context)
    Path(command.out).write_text("\n".join(passages) + "\n", encoding="utf-8")
    print(f"{len(passages)} passages written to {command.out}")


if __name__ == "__main__":
    run_command(main)
