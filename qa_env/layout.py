"""Questions and passages as rows of ids; of a passage that is too long, the sentences that stay."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qa_env.vocabulary import PAD, SEP, Kind

NEIGHBOUR = 0.25
"""How much a sentence counts for what those beside it say of the question: "she" is who was named before."""


def encode_sources(
    questions: Sequence[list[int]],
    contexts: Sequence[list[int] | None],
    max_source: int,
    kinds: NDArray[np.int64],
) -> tuple[NDArray[np.int64], int]:
    """Lay out ``question SEP context`` rows of at most `max_source` ids.

    Of a context that is too long the sentences that say most of the question are kept (`pick_sentences`).

    Args:
        questions: Token ids.
        contexts: Token ids; None where there is no context.
        max_source: Width of a row.
        kinds: The kind of every token of the vocabulary (`Vocabulary.kinds`), ``(vocabulary,)``.

    Returns:
        The ids, PAD behind, shape ``(examples, max_source)``, and the number of rows that lack something.
    """
    rows = np.full((len(questions), max_source), PAD, dtype=np.int64)
    cut = 0
    for row, question, context in zip(rows, questions, contexts, strict=True):
        ids = question if context is None else [*question, SEP, *context]
        if len(ids) > max_source:
            cut += 1
            if context is not None and len(question) < max_source:
                room = max_source - len(question) - 1
                ids = [*question, SEP, *pick_sentences(question, context, kinds, room)]
        row[: min(len(ids), max_source)] = ids[:max_source]
    return rows, cut


def pick_sentences(
    question: Sequence[int], context: Sequence[int], kinds: NDArray[np.int64], room: int
) -> list[int]:
    """The sentences of a context that say most of the question, in their order, in at most `room` tokens.

    A sentence counts each token of the question that it has, by the inverse of the number of the context's
    sentences that have it (Spärck Jones 1972, "A statistical interpretation of term specificity and its
    application in retrieval"), and `NEIGHBOUR` times what the sentences beside it count. The best are taken,
    the earlier first among equals, until there is no room; the last of them is cut at its end.

    Args:
        question: Token ids.
        context: Token ids.
        kinds: The kind of every token of the vocabulary, ``(vocabulary,)``: a sentence ends with a token of
            `Kind.END`.
        room: Greatest number of tokens to keep.
    """
    ends = np.flatnonzero(kinds[np.asarray(context)] == Kind.END) + 1
    sentences = [part.tolist() for part in np.split(np.asarray(context), ends) if len(part)]
    said = [set(question) & set(sentence) for sentence in sentences]
    number = Counter(token for tokens in said for token in tokens)
    own = np.array([sum(1 / number[token] for token in tokens) for tokens in said])
    beside = np.pad(own, 1)
    scores = own + NEIGHBOUR * (beside[:-2] + beside[2:])
    kept: dict[int, list[int]] = {}
    for place in np.argsort(-scores, kind="stable").tolist():
        kept[place] = sentences[place][: max(room, 0)]
        room -= len(kept[place])
    return [token for place in sorted(kept) for token in kept[place]]
