"""The data of a run: the splits that a config names, and the text that training may read."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

import numpy as np

from agents.config import TrainConfig
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
    data = make_facts(config.facts) if config.data == FACTS else _own_data(config)
    for split in ("labelled", "unlabelled", "validation", "test"):
        if not getattr(data, split):
            raise QAError(f"the {split} split of {config.data} is empty: give more data or other shares")
    return data


def _own_data(config: TrainConfig) -> QADataset:
    """The splits that are given by name, and shares of the data for those that are not."""
    split = config.split
    notes: list[str] = []
    named = {"test": split.test_data, "validation": split.validation_data, "training": config.data}
    loaded: dict[str, tuple[QAExample, ...]] = {}
    contexts: list[str | None] = []
    for part, source in named.items():
        if source:
            examples = load_data(source, config.abstain)
            contexts += (example.context for example in examples)
            loaded[part] = usable(examples, config.abstain, measured=part != "training")
            notes += left_out(examples, loaded[part], f"{part} questions")
            if not loaded[part]:
                raise QAError(
                    f"{source}: none of its {len(examples)} questions can be used: they have no answer"
                )
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
        abstain=config.abstain,
    )
    validation = apart.get("validation", ())
    order = np.random.default_rng(split.seed).permutation(len(validation))
    return dataclasses.replace(
        divided,
        validation=(*divided.validation, *(validation[place] for place in order)),
        test=(*divided.test, *apart.get("test", ())),
        collection=tuple(dict.fromkeys(context for context in contexts if context)),
        notes=(*notes, *lines),
    )


def usable(examples: Sequence[QAExample], abstain: bool, measured: bool) -> tuple[QAExample, ...]:
    """The questions that a run can use.

    Args:
        examples: All the questions.
        abstain: Whether the run uses unanswerable ones.
        measured: Whether it can use none that has no reference answer.
    """
    allowed = (example for example in examples if abstain or not example.unanswerable)
    return tuple(example for example in allowed if example.references or not measured)


def left_out(examples: Sequence[QAExample], kept: Sequence[QAExample], what: str) -> list[str]:
    """Lines that say why `usable` kept so few of the examples; none if it kept all."""
    unanswerable = sum(e.unanswerable for e in examples) - sum(e.unanswerable for e in kept)
    others = len(examples) - len(kept) - unanswerable
    lines = []
    if unanswerable:
        told = f"{unanswerable} of {len(examples)} {what} are unanswerable: left out"
        lines.append(f"{told} (a run with --abstain uses them)")
    if others:
        lines.append(f"{others} of {len(examples)} {what} have no reference answer: left out")
    return lines


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
    if config.data == FACTS and config.abstain:
        raise QAError("all of the built-in facts can be answered: abstain needs data of your own")
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
