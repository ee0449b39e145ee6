"""Ask a finished run a question: `python -m agents.answer RUN "What is the capital of Japan?"`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from rich.console import Console
from tyro.conf import Positional, arg

from agents.commands import parse, run_command
from agents.decoding import DecodingConfig
from agents.loading import load_policy
from agents.passages import collection_of
from agents.runs import Run
from qa_env.datasets import QAExample
from qa_env.errors import QAError
from qa_env.task import encode_examples
from qa_env.vocabulary import EOS

WITHOUT_COLLECTION = "give a text to read by --context, or --passages 0 to answer without one"


@dataclass(frozen=True)
class AnswerCommand:
    """Answer a question with the policy of a run."""

    run: Annotated[Positional[str], arg(metavar="RUN")]
    """The run's folder."""
    question: Annotated[Positional[str], arg(metavar="QUESTION")]
    """The question."""
    context: str | None = None
    """The text to read; without it, passages are looked up in the run's collection."""
    passages: int = 6
    """How many passages to look up; 0: answer without a context. The default model was trained on
    contexts of 2 to 6 statements."""
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    feedback: str | None = None
    """With --decoding.method best-of-n, who chooses: a built-in reward that needs no reference answer
    (length, repetition), or module:attr."""


def main(arguments: Sequence[str]) -> None:
    """Print the passages, if any were looked up, and the answer."""
    command = parse(AnswerCommand, arguments, prog="python -m agents.answer")
    if not command.question.strip():
        raise QAError("the question is empty; ask something")
    if command.passages < 0:
        raise QAError(f"--passages must be 0 or more, got {command.passages}")
    run = Run.open(command.run)
    loaded = load_policy(run)
    context = command.context
    if context is None and command.passages:
        found = collection_of(run, WITHOUT_COLLECTION).find(command.question, command.passages)
        if not found:
            raise QAError("no passage of the collection shares a word with the question; give --context")
        tell("\n".join(["passages:", *(f"  {passage}" for passage in found)]))
        context = " ".join(found)
    example = QAExample("question", command.question.strip(), context)
    _, cut = encode_examples([example], loaded.vocabulary, loaded.config.limits.max_source)
    if cut:
        limit = loaded.config.limits.max_source
        told = f"question and context are longer than {limit} tokens; some sentences are left out"
        print(f"note: {told}", file=sys.stderr)
    (answer,) = loaded.answers([example], command.decoding, command.feedback)
    can_abstain = loaded.vocabulary.abstain != EOS
    tell(f"answer: {'(none: the text does not say)' if can_abstain and not answer else answer}")


def tell(text: str) -> None:
    """Print a text; a terminal's lines are broken between words, or at its edge where there are no blanks.

    Chinese and Japanese characters take two columns each, which rich knows. Into a file or a pipe the text
    goes as it is.
    """
    console = Console()
    console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=not console.is_terminal)


if __name__ == "__main__":
    run_command(main)
