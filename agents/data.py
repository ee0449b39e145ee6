"""The data of a run: the splits that a config names, and the text that training may read."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np

from agents.config import TrainConfig
from qa_env.datasets import QADataset, load_examples, make_facts, split_dataset
from qa_env.errors import QAError
from qa_env.task import load_data

FLUENCY_SENTENCES = 3000
"""At most so many sentences train the judge of wording."""

SENTENCE_BREAK = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])(?![”’」』])\s*|(?<=[。！？][”’」』])\s*")
"""Behind the end of a sentence: Chinese and Japanese have no blank there."""


def load_dataset(config: TrainConfig) -> QADataset:
    """The four splits of the data that the config names.

    Raises:
        QAError: If the data is missing, empty or malformed.
    """
    if config.data == "facts":
        data = make_facts(config.facts)
    else:
        examples = load_data(config.data) if ":" in config.data else load_examples(Path(config.data))
        data = split_dataset(list(examples), **dataclasses.asdict(config.split))
    for split in ("labelled", "unlabelled", "validation", "test"):
        if not getattr(data, split):
            raise QAError(f"the {split} split of {config.data} is empty: give more data or other shares")
    return data


def training_texts(data: QADataset) -> list[str]:
    """All text that training may read: no reference answer but the labelled ones."""
    texts = [text for e in (*data.labelled, *data.unlabelled) for text in (e.question, e.context) if text]
    return texts + [answer for e in data.labelled for answer in e.answers]


def fluency_sentences(data: QADataset) -> list[str]:
    """Sentences that show what well-worded answers look like: labelled answers, then contexts'."""
    contexts = [e.context for e in (*data.labelled, *data.unlabelled) if e.context]
    sentences = [s for context in contexts for s in SENTENCE_BREAK.split(context)]
    answers = [answer for e in data.labelled for answer in e.answers]
    rng = np.random.default_rng(0)
    distinct = list(dict.fromkeys(sentences))
    chosen = rng.permutation(len(distinct))[:FLUENCY_SENTENCES]
    texts = list(dict.fromkeys(answers)) + [distinct[i] for i in chosen]
    if not texts:
        raise QAError("the data holds no sentence to judge wording by: it needs labelled answers or contexts")
    return texts
