"""See into a store, and files out of it and in: `python -m qa_env.feedback.store stats feedback.db`."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro
from tyro.conf import Positional, arg, subcommand

from qa_env.commands import run_command, unboxed
from qa_env.errors import QAError
from qa_env.feedback.store.exchange import Format, export_file, import_file
from qa_env.feedback.store.store import Store

Url = Annotated[Positional[str], arg(metavar="STORE")]
File = Annotated[Positional[str], arg(metavar="FILE")]


@dataclass(frozen=True)
class StatsCommand:
    """Show what a store holds."""

    store: Url
    """A path, or a URL: sqlite:///feedback.db, postgresql://user@host/database."""

    def run(self) -> None:
        """Print the numbers, a line each."""
        with Store(self.store, must_exist=True) as store:
            stats, vocabulary = store.stats(), store.vocabulary
        median = stats.latency_median
        disabled = sum(rater.disabled is not None for rater in stats.raters)
        experts = sum(rater.role == "expert" for rater in stats.raters)
        counts = ", ".join(f"{form} {number}" for form, number in stats.labels.items()) or "none"
        print(f"raters       {len(stats.raters)} ({experts} experts, {disabled} disabled)")
        print(f"questions    {stats.questions}")
        print(f"answers      {stats.answers}")
        print(f"queries      {stats.queries} ({stats.open} open)")
        print(f"labels       {counts}")
        print(f"skips        {stats.skips}")
        print(f"superseded   {stats.superseded}")
        print(f"latency      {'not known' if median is None else f'{median:.1f} s (median)'}")
        print(f"vocabulary   {vocabulary or 'any'}")


@dataclass(frozen=True)
class ExportCommand:
    """Write a store's feedback to a file."""

    store: Url
    """A path or a URL."""
    file: File
    """The file; one that is there is replaced."""
    format: Format | None = None
    """jsonl: everything; csv: labels as a table; trl: preferences. By the file's ending if left out."""

    def run(self) -> None:
        """Write the file and print how much it holds."""
        with Store(self.store, must_exist=True) as store:
            print(f"{export_file(store, self.file, self.format)} written to {self.file}")


@dataclass(frozen=True)
class ImportCommand:
    """Read feedback from a file into a store, which is made if it is missing."""

    store: Url
    """A path or a URL."""
    file: File
    """The file."""
    format: Format | None = None
    """jsonl: everything; csv: labels as a table; trl: preferences. By the file's ending if left out."""
    rater: str | None = None
    """With trl: whose the preferences are."""
    add_raters: bool = False
    """Add raters that the store does not know; otherwise they are errors."""

    def run(self) -> None:
        """Read the file and print what was new."""
        with Store(self.store) as store:
            done = import_file(store, self.file, self.format, rater=self.rater, add_raters=self.add_raters)
        print(f"{done.labels} labels read from {self.file}, {done.new} of them new")


Command = (
    Annotated[StatsCommand, subcommand("stats")]
    | Annotated[ExportCommand, subcommand("export")]
    | Annotated[ImportCommand, subcommand("import")]
)


def main(arguments: Sequence[str]) -> None:
    """Run one of the commands.

    Raises:
        QAError: If an argument does not fit, or the command fails.
    """
    _parse(arguments).run()


def _parse(arguments: Sequence[str]) -> StatsCommand | ExportCommand | ImportCommand:
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            command: StatsCommand | ExportCommand | ImportCommand = tyro.cli(
                Command,
                args=list(arguments),
                prog="python -m qa_env.feedback.store",
                description=__doc__,
            )
            return command
    except SystemExit as stop:
        if stop.code in (0, None):
            raise  # --help
    raise QAError(unboxed(printed.getvalue()))


if __name__ == "__main__":
    run_command(main)
