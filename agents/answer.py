"""Ask a finished run a question: `python -m agents.answer RUN "What is the capital of Japan?"`."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
from rich.console import Console
from tyro.conf import Positional, arg

from agents.commands import parse, run_command
from agents.decoding import DecodingConfig
from agents.loading import LoadedRun, load_policy
from agents.runs import Run
from qa_env.datasets import QAExample
from qa_env.errors import QAError
from qa_env.feedback.text import tokens
from qa_env.task import encode_examples
from qa_env.vocabulary import EOS


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
        found = best_passages(command.question, passages_of(run, loaded), command.passages)
        tell("\n".join(["passages:", *(f"  {passage}" for passage in found)]))
        context = " ".join(found)
    example = QAExample("question", command.question.strip(), context)
    _, cut = encode_examples([example], loaded.vocabulary, loaded.config.limits.max_source)
    if cut:
        limit = loaded.config.limits.max_source
        print(f"note: question and context are longer than {limit} tokens; the end was cut", file=sys.stderr)
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


def passages_of(run: Run, loaded: LoadedRun) -> list[str]:
    """The run's collection.

    Raises:
        QAError: If it is empty, or the run never learned to read a context.
    """
    ways = "give a text to read by --context, or --passages 0 to answer without one"
    if loaded.config.data == "facts" and not loaded.config.facts.open_book:
        raise QAError(f"{run.folder} was trained closed book and has not learned to read passages: {ways}")
    collection = run.collection()
    if not collection:
        raise QAError(f"{run.folder} has no collection of passages: {ways}")
    return collection


def best_passages(question: str, collection: Sequence[str], count: int) -> list[str]:
    """The passages that share the most telling words with the question, the best first.

    BM25 (Robertson & Zaragoza 2009) on the words that the answers' metrics use. Equals stay in the
    collection's order; passages that share no word are not returned.

    Raises:
        QAError: If no passage shares a word.
    """
    with warnings.catch_warnings():
        # bm25s tries the optional packages it finds (jax, numba), and those may warn when imported.
        warnings.simplefilter("ignore")
        import bm25s
    index = bm25s.BM25()
    index.index([tokens(passage) or [""] for passage in collection], show_progress=False)
    known = [word for word in tokens(question) if word in index.vocab_dict]
    scores = index.get_scores(known) if known else np.zeros(len(collection))
    order = np.argsort(-scores, kind="stable")[:count]
    found = [collection[i] for i in order if scores[i] > 0]
    if not found:
        raise QAError("no passage of the collection shares a word with the question; give --context")
    return found


if __name__ == "__main__":
    run_command(main)
