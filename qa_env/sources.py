"""Where questions come from: files, the hub, task generators, a function of one's own, the built-in facts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from qa_env.datasets import FactsConfig, QAExample, load_examples, make_facts
from qa_env.datasets.hub import HUB, check_hub, load_hub
from qa_env.datasets.reasoning import REASONING, check_reasoning, load_reasoning
from qa_env.errors import QAError
from qa_env.feedback import load_object

FACTS = "facts"


def load_data(data: str | Path | Sequence[QAExample], abstain: bool = False) -> tuple[QAExample, ...]:
    """The questions that `data` names.

    Args:
        data: ``"facts"``; a path to a data file (`load_examples`); ``"hf:NAME:SPLIT"``, a data set of Hugging
            Face (`load_hub`); ``"reasoning-gym:TASK"`` (`load_reasoning`); ``"module:attr"``, a function that
            returns examples; several of the latter four, joined by commas; or the examples themselves.
        abstain: Whether a list of answers that is there and empty says that the question is unanswerable.

    Returns:
        The questions in this order. Where two sources use an id, that of the later one is put behind the
        source's name.

    Raises:
        QAError: If one is missing, empty or malformed.
    """
    if not isinstance(data, (str, Path)):
        return _checked(data, "data")
    if isinstance(data, str) and data == FACTS:
        return make_facts(FactsConfig()).unlabelled
    found: list[QAExample] = []
    ids: set[str] = set()
    for name in source_names(data):
        examples = [replace(e, id=f"{name}:{e.id}") if e.id in ids else e for e in _load_one(name, abstain)]
        found += examples
        ids |= {example.id for example in examples}
    return tuple(found)


def source_names(data: str | Path) -> list[str]:
    """The names that are joined by commas in `data`, unless it is the path of a file as it stands.

    Raises:
        QAError: If a name is missing or stands there twice.
    """
    if os.path.exists(data):  # which a Path would not answer for a long list of names
        return [str(data)]
    names = [name.strip() for name in str(data).split(",")]
    for name in names:
        if not name:
            raise QAError(f"expected names of data joined by commas, got {str(data)!r}; a name is missing")
        if names.count(name) > 1:
            raise QAError(f"{name} is named twice in {str(data)!r}; name it once")
        if name == FACTS and len(names) > 1:
            raise QAError(f"the built-in {FACTS} cannot be joined with other data: name them alone")
    return names


def check_sources(data: str) -> None:
    """Look up what can be looked up without reading it.

    Raises:
        QAError: If a file, a library or a task is missing, or a name is malformed.
    """
    for name in source_names(data):
        if name.startswith(HUB):
            check_hub(name)
        elif name.startswith(REASONING):
            check_reasoning(name)
        elif not _is_object(name) and not Path(name).is_file():
            raise QAError(f"{name}: no such file; check the path")


def _load_one(name: str, abstain: bool) -> Sequence[QAExample]:
    if name.startswith(HUB):
        return load_hub(name, abstain)
    if name.startswith(REASONING):
        return load_reasoning(name)
    if _is_object(name):
        return _checked(load_object(name)(), name)
    return load_examples(name, abstain)


def _is_object(name: str) -> bool:
    return ":" in name and not os.path.exists(name)


def _checked(examples: Any, name: str) -> tuple[QAExample, ...]:
    """`examples` as a tuple, or a QAError that says what was given instead."""
    items = tuple(examples) if isinstance(examples, Sequence) else ()
    if not items or not all(isinstance(item, QAExample) for item in items):
        raise QAError(f"{name} must be a non-empty sequence of QAExample, got {type(examples).__name__}")
    return items
