"""The settings of an evaluation: which questions are asked, and what the policy reads with them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from agents.config import TrainConfig
from agents.data import load_dataset, usable
from agents.passages import PassageIndex
from qa_env.datasets import QAExample
from qa_env.errors import QAError
from qa_env.sources import load_data, source_names

Reads = Literal["contexts", "nothing", "passages"]
TEST = "test"
"""Stands for the run's own test questions where a file is expected."""
OPTIONS: dict[Reads, str] = {"contexts": "--data", "nothing": "--closed-book", "passages": "--look-up"}
"""The option of the command for each, in the order of the columns."""
_SUFFIX: dict[Reads, str] = {"contexts": "", "nothing": ", closed book", "passages": ", looked up"}


@dataclass(frozen=True)
class Setting:
    """A column of the table.

    Attributes:
        name: Its heading; "" if the user gave none.
        data: What `load_data` takes, or `TEST`.
        reads: The questions' own contexts, nothing, or passages that are looked up.
    """

    name: str
    data: str
    reads: Reads

    @classmethod
    def parse(cls, text: str, reads: Reads) -> Setting:
        """Read ``FILE`` or ``NAME=FILE``.

        What is there as a file is a file, and a name has no slash or colon: so a path with "=" in it is a
        path, and hf:NAME:question=COLUMN is a data set.

        Raises:
            QAError: If the name or the file is empty.
        """
        name, equals, data = text.partition("=")
        if not equals or any(sign in name for sign in "/\\:") or Path(text).is_file():
            name, data = "", text
        elif not name.strip():
            raise QAError(
                f"{OPTIONS[reads]} {text}: expected NAME=FILE, got an empty name; write a name before the "
                "equals sign, or the file alone"
            )
        if not data.strip():
            raise QAError(f"{OPTIONS[reads]} {text}: expected FILE or NAME=FILE, got no file; name one")
        return cls(name.strip(), data.strip(), reads)

    def questions(self, config: TrainConfig) -> tuple[QAExample, ...]:
        """Its questions as the data has them.

        Raises:
            QAError: If the data is missing, empty or malformed.
        """
        return load_dataset(config).test if self.data == TEST else load_data(self.data, config.abstain)

    def sources(
        self, examples: Sequence[QAExample], index: PassageIndex | None, count: int
    ) -> list[QAExample]:
        """The questions with what is read along with them.

        Args:
            examples: The questions.
            index: Where passages are looked up.
            count: How many, at most.
        """
        if self.reads == "contexts":
            return list(examples)
        if index is None or self.reads == "nothing":
            return [dataclasses.replace(example, context=None) for example in examples]
        found = [" ".join(index.find(example.question, count)) for example in examples]
        return [
            dataclasses.replace(example, context=context or None)
            for example, context in zip(examples, found, strict=True)
        ]


def named(settings: Sequence[Setting], config: TrainConfig) -> list[Setting]:
    """The settings, each with a name of its own: that of the file, with its folder if need be.

    Raises:
        QAError: If two have the same name.
    """

    def name(setting: Setting, whole: bool) -> str:
        if setting.name:
            return setting.name
        data = config.split.test_data or config.data if setting.data == TEST else setting.data
        heading = data if whole else ",".join(Path(file).name for file in source_names(data))
        return heading + (":test" if setting.data == TEST else "") + _SUFFIX[setting.reads]

    short = Counter(name(setting, whole=False) for setting in settings)
    result = [
        dataclasses.replace(setting, name=name(setting, whole=short[name(setting, whole=False)] > 1))
        for setting in settings
    ]
    for taken, count in Counter(setting.name for setting in result).items():
        if count > 1:
            raise QAError(f"{count} settings are named '{taken}': give each a name of its own, NAME=FILE")
    return result


def with_references(name: str, examples: Sequence[QAExample]) -> tuple[QAExample, ...]:
    """The examples with something to measure by: reference answers, or the mark that there is none.

    Unanswerable questions count for a run that cannot abstain too: it gets them wrong.

    Raises:
        QAError: If none has.
    """
    measurable = usable(examples, abstain=True, measured=True)
    if not measurable:
        raise QAError(f"{name}: none of its {len(examples)} questions has a reference answer to measure by")
    return measurable
