"""The data of a run: the splits that a config names, and the text that training may read."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

import numpy as np

from agents.config import SplitConfig, TrainConfig
from qa_env.datasets import QADataset, QAExample, make_facts, set_apart, split_dataset
from qa_env.errors import QAError
from qa_env.sources import FACTS, check_sources, load_data

FLUENCY_SENTENCES = 3000
"""At most so many sentences train the judge of wording."""

SENTENCE_BREAK = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])(?![”’」』])\s*|(?<=[。！？][”’」』])\s*")
"""Behind the end of a sentence: Chinese and Japanese have no blank there."""


def load_dataset(config: TrainConfig) -> QADataset:
    """The four splits of the data that the config names.

    Raises:
        QAError: If the data is missing, empty or malformed.
    """
    data = make_facts(config.facts) if config.data == FACTS else _own_data(config.data, config.split)
    for split in ("labelled", "unlabelled", "validation", "test"):
        if not getattr(data, split):
            raise QAError(f"the {split} split of {config.data} is empty: give more data or other shares")
    return data


def _own_data(data: str, split: SplitConfig) -> QADataset:
    """The splits that are given by name, and shares of `data` for those that are not."""
    named = {"test": split.test_data, "validation": split.validation_data, "training": data}
    loaded = {part: load_data(source) for part, source in named.items() if source}
    notes: list[str] = []
    for part in [part for part in loaded if part != "training"]:
        loaded[part] = _measurable(loaded[part], named[part], part, notes)
    apart, lines = set_apart(loaded)
    for part, questions in apart.items():
        if not questions:
            raise QAError(f"each question of {named[part]} is on a passage of the test or validation data")
    divided = split_dataset(
        apart["training"],
        labelled=split.labelled,
        validation=0.0 if "validation" in apart else split.validation,
        test=0.0 if "test" in apart else split.test,
        seed=split.seed,
    )
    contexts = (example.context for questions in apart.values() for example in questions)
    return dataclasses.replace(
        divided,
        validation=(*divided.validation, *apart.get("validation", ())),
        test=(*divided.test, *apart.get("test", ())),
        collection=tuple(dict.fromkeys(context for context in contexts if context)),
        notes=(*notes, *lines),
    )


def _measurable(
    examples: Sequence[QAExample], source: str, part: str, notes: list[str]
) -> tuple[QAExample, ...]:
    """The questions that have reference answers; a line is added to the notes if others have none."""
    answered = tuple(example for example in examples if example.answers)
    if not answered:
        raise QAError(f"{source}: none of its {len(examples)} questions has an answer to measure by")
    if len(answered) < len(examples):
        left_out = len(examples) - len(answered)
        notes.append(f"{left_out} of {len(examples)} {part} questions have no answer to measure by: left out")
    return answered


def check_data(config: TrainConfig) -> None:
    """Look up the data that a config names, before any work is done.

    Raises:
        QAError: If some is not there.
    """
    own = [source for source in (config.split.validation_data, config.split.test_data) if source]
    if config.data == FACTS and own:
        raise QAError(
            "the built-in facts have their own splits: leave out split.validation-data and test-data"
        )
    for source in own if config.data == FACTS else (config.data, *own):
        check_sources(source)


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
