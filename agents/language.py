"""The vocabulary that a run writes with, and the judge of its wording."""

from __future__ import annotations

from collections.abc import Sequence

from agents.config import TrainConfig
from agents.word_vectors import first_words
from qa_env.bert import load_vocabulary_of
from qa_env.feedback.fluency import FluencyModel
from qa_env.vocabulary import Vocabulary
from qa_env.vocabulary_making import make_vocabulary

LARGE = 8192
"""Tokens from which on a vocabulary counts as large."""


def choose_vocabulary(config: TrainConfig, texts: Sequence[str]) -> Vocabulary:
    """The vocabulary that the config asks for; `texts` is what it may be learned from.

    Raises:
        QAError: If a file or a model that it should come from cannot be read.
    """
    vocabulary = _choose(config, texts)
    return vocabulary.with_abstain() if config.abstain else vocabulary


def _choose(config: TrainConfig, texts: Sequence[str]) -> Vocabulary:
    if config.lm.bert:
        return load_vocabulary_of(config.lm.bert)
    settings = config.vocabulary
    uses_vectors = config.vectors and settings.kind == "words"
    known = first_words(config.vectors, settings.size) if uses_vectors else ()
    return make_vocabulary(texts, settings, known)


def fit_fluency(sentences: Sequence[str], vocabulary: Vocabulary, seed: int) -> FluencyModel:
    """The judge of wording for answers that are written with a vocabulary.

    Where a vocabulary is large, the judge has a small one of its own: it cannot learn tens of thousands of
    tokens from a few thousand sentences. It learns the sentences as an answer would be written, since a
    vocabulary may know no capital letters.
    """
    if len(vocabulary) <= LARGE:
        return FluencyModel.fit(sentences, vocabulary, seed=seed)
    written = [vocabulary.decode(ids) for ids in vocabulary.encode_batch(sentences)]
    return FluencyModel.fit(written, Vocabulary.train(written), seed=seed)
