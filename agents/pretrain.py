"""Learn from plain text, before any question: `python -m agents.pretrain vectors TEXT... --out FILE`."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Protocol

from tyro.conf import OmitArgPrefixes, Positional, arg

from agents.commands import parse, run_command
from agents.config import suggest
from agents.skip_gram import SkipGramConfig, train_vectors
from agents.word_vectors import write_vectors
from qa_env.errors import QAError


class Command(Protocol):
    """What a subcommand's arguments are parsed into."""

    def run(self) -> None:
        """Do it."""


@dataclass(frozen=True)
class VectorsCommand:
    """Train word vectors by skip-gram with negative sampling."""

    texts: Annotated[Positional[tuple[str, ...]], arg(metavar="TEXT...")]
    """Files of plain text, or .gz of it; a line is a text of its own."""
    out: str
    """The file to write, word2vec's text format; .gz packs it. For `train.py --vectors`."""
    settings: OmitArgPrefixes[SkipGramConfig] = field(default_factory=SkipGramConfig)

    def run(self) -> None:
        """Read, train, write."""
        if not Path(self.out).absolute().parent.is_dir():
            raise QAError(f"cannot write {self.out}: there is no such folder")
        learned = train_vectors(
            [line for path in self.texts for line in lines(path)],
            self.settings,
            lambda epoch, loss: print(f"epoch {epoch + 1}: loss {loss:.3f}", flush=True),
        )
        write_vectors(self.out, learned.words, learned.vectors)
        print(f"{len(learned.words)} words with {learned.vectors.shape[1]} dimensions written to {self.out}")


COMMANDS: dict[str, type[Command]] = {"vectors": VectorsCommand}


def main(arguments: Sequence[str]) -> None:
    """Run one of the commands."""
    name, *rest = arguments or ("--help",)
    if name in ("--help", "-h"):
        print("usage: python -m agents.pretrain COMMAND ...; a command's --help tells its options")
        print("\n".join(f"  {known:<10} {kind.__doc__}" for known, kind in COMMANDS.items()))
        return
    if name not in COMMANDS:
        raise QAError(f"unknown command {name}{suggest(name, list(COMMANDS))}")
    parse(COMMANDS[name], rest, prog=f"python -m agents.pretrain {name}").run()


def lines(path: str) -> Iterator[str]:
    """The lines of a text file that are not empty.

    Raises:
        QAError: If it is missing, or no text in UTF-8.
    """
    if not Path(path).is_file():
        raise QAError(f"no text file {path}")
    try:
        with gzip.open(path, "rb") if path.endswith(".gz") else open(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    text = line.decode("utf-8-sig").strip()
                except UnicodeDecodeError:
                    raise QAError(f"{path}, line {number}: not UTF-8") from None
                if text:
                    yield text
    except (EOFError, gzip.BadGzipFile) as error:
        raise QAError(f"{path} is a broken gzip file: {error}") from None


if __name__ == "__main__":
    run_command(main)
