"""Looking up passages for a question that comes without a context."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from agents.runs import Run
from qa_env.errors import QAError
from qa_env.feedback.text import tokens


class PassageIndex:
    """A collection that is searched by BM25 on the words that the answers' metrics use.

    Robertson & Zaragoza (2009, "The Probabilistic Relevance Framework: BM25 and Beyond").

    Args:
        collection: The passages, at least one.
    """

    def __init__(self, collection: Sequence[str]) -> None:
        with warnings.catch_warnings():
            # bm25s tries the optional packages it finds (jax, numba), and those may warn when imported.
            warnings.simplefilter("ignore")
            import bm25s
        self.collection = tuple(collection)
        self._index = bm25s.BM25()
        self._index.index([tokens(passage) or [""] for passage in collection], show_progress=False)

    def find(self, question: str, count: int) -> list[str]:
        """The passages that share the most telling words with the question, the best first.

        Equals stay in the collection's order; passages that share no word are not returned.
        """
        known = [word for word in tokens(question) if word in self._index.vocab_dict]
        if not known:
            return []
        scores = self._index.get_scores(known)
        order = np.argsort(-scores, kind="stable")[:count]
        return [self.collection[i] for i in order if scores[i] > 0]


def collection_of(run: Run, otherwise: str) -> PassageIndex:
    """The run's collection, to be searched.

    Args:
        run: The run.
        otherwise: What to do without one, for the error's text.

    Raises:
        QAError: If it is empty, or the run never learned to read a context.
    """
    config = run.config()
    if config.data == "facts" and not config.facts.open_book:
        raise QAError(
            f"{run.folder} was trained closed book and has not learned to read passages: {otherwise}"
        )
    collection = run.collection()
    if not collection:
        raise QAError(f"{run.folder} has no collection of passages: {otherwise}")
    return PassageIndex(collection)
