"""Questions from data sets of Hugging Face, by way of the `datasets` library."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from qa_env.datasets.example import QAExample
from qa_env.datasets.fields import as_example, distinct, shown
from qa_env.errors import QAError

HUB = "hf:"
"""What the names of these data sets begin with."""
COLUMNS = {
    "id": ("id",),
    "question": ("question", "query"),
    "context": ("context", "passage", "paragraph"),
    "answers": ("answers", "answer"),
}
"""Which columns are looked for, by what they hold; the first that is there is taken."""
_FORM = "hf:NAME:SPLIT, hf:NAME:CONFIGURATION:SPLIT or hf:FOLDER"


class HubName(NamedTuple):
    """A name in its parts.

    Attributes:
        name: Of a data set on the hub, or a folder.
        config: Which configuration of it, or None.
        split: Which split, or None.
        columns: Columns that were named, by what they hold.
    """

    name: str
    config: str | None
    split: str | None
    columns: Mapping[str, str]

    @classmethod
    def parse(cls, text: str) -> HubName:
        """Takes a name apart.

        Args:
            text: ``hf:NAME[:CONFIGURATION][:SPLIT]``, and behind it ``:question=COLUMN`` and the like. It may
                be a part of a split, as `datasets` writes it: ``train[:1000]``.

        Raises:
            QAError: It is of another form.
        """
        name, *parts = re.split(r":(?![^\[]*\])", text.removeprefix(HUB))
        columns = dict(part.split("=", 1) for part in parts if "=" in part)
        places = [part for part in parts if "=" not in part]
        if not name or len(places) > 2 or not all(places):
            raise QAError(f"expected {_FORM}, got '{text}'")
        for field, column in columns.items():
            if field not in COLUMNS or not column:
                raise QAError(f"{text}: expected {'=COLUMN, '.join(COLUMNS)}=COLUMN, got '{field}={column}'")
        split = places[-1] if places else None
        if split is None and not Path(name).is_dir():
            raise QAError(f"'{text}' names no split: expected {_FORM}, such as {HUB}{name}:train")
        return cls(name, places[0] if len(places) == 2 else None, split, columns)


def check_hub(text: str) -> None:
    """Look up what can be looked up without reading the data.

    Raises:
        QAError: The name is of another form, or the library is missing.
    """
    HubName.parse(text)
    _library()


def load_hub(text: str, abstain: bool = False) -> list[QAExample]:
    """Loads questions from a data set on the hub or in a folder.

    The columns are those of SQuAD, or others of the names in `COLUMNS`, or those that are named behind the
    split. Answers may be a text, a number, a list of these, or SQuAD's ``{"text": [...]}`` or TriviaQA's
    ``{"value": ..., "aliases": [...]}``. SQuAD's without a text, and a column ``is_impossible``, mark
    unanswerable questions. All other columns go to the metadata.

    Args:
        text: See `HubName.parse`. A folder is what ``save_to_disk`` wrote, or holds files of data.
        abstain: Whether an empty list of answers says that the question is unanswerable too.

    Returns:
        The examples, in their order.

    Raises:
        QAError: There is no such data set, or a column is missing or of another type.
    """
    name = HubName.parse(text)
    data = _read(_library(), name, text)
    columns = _columns(data.column_names, name.columns, text)
    placed = []
    for number, row in enumerate(data, start=1):
        where = f"{text}, row {number}"
        placed.append((where, as_example(_fields(row, columns, where), where, f"row-{number}", abstain)))
    return distinct(placed)


def _library() -> ModuleType:
    try:
        return import_module("datasets")
    except ImportError:
        raise QAError(f'{HUB} needs the package datasets: pip install "qa-env-rl[hub]"') from None


def _read(datasets: ModuleType, name: HubName, text: str) -> Any:
    """The split, from the disk or from the hub."""
    folder = Path(name.name)
    try:
        if folder.is_dir() and any((folder / f).exists() for f in ("state.json", "dataset_dict.json")):
            data = datasets.load_from_disk(name.name)
            return _of_split(data, name, text) if isinstance(data, Mapping) else data
        if not folder.is_dir():
            _reach(datasets, name.name)
        return _of_split(datasets.load_dataset(name.name, name.config, split=name.split), name, text)
    except QAError:
        raise
    except Exception as error:  # the library raises many kinds
        raise QAError(f"cannot read {text}: {' '.join(str(error).split()):.200}") from None


def _of_split(data: Any, name: HubName, text: str) -> Any:
    """The split itself, where there are several."""
    if not isinstance(data, Mapping):
        return data
    if name.split not in data:
        raise QAError(f"{text}: expected one of the splits {', '.join(data)}, got {shown(name.split)}")
    return data[name.split]


def _reach(datasets: ModuleType, name: str) -> None:
    """Take what was loaded before if the hub does not answer, instead of asking again and again."""
    hub = import_module("huggingface_hub")
    try:
        hub.HfApi().dataset_info(name, timeout=10)
    except hub.errors.HfHubHTTPError:
        raise QAError(f"no data set '{name}' on the hub that may be read") from None
    except Exception:
        datasets.config.HF_HUB_OFFLINE = True


def _columns(there: Sequence[str], named: Mapping[str, str], text: str) -> dict[str, str]:
    """Which column holds what."""
    found = {field: [n for n in names if n in there][:1] for field, names in COLUMNS.items()}
    columns = {field: names[0] for field, names in found.items() if names} | dict(named)
    missing = [column for column in columns.values() if column not in there]
    if missing or "question" not in columns:
        wanted = f"a column '{missing[0]}'" if missing else "a column 'question'"
        raise QAError(
            f"{text}: expected {wanted}, found {', '.join(there)}; name those that hold question, context "
            "and answers: ...:question=COLUMN:answers=COLUMN"
        )
    return columns


def _fields(row: Mapping[str, Any], columns: Mapping[str, str], where: str) -> dict[str, Any]:
    """A row as a record of `as_example`."""
    fields = {key: value for key, value in row.items() if key not in columns.values()}
    fields |= {field: row[column] for field, column in columns.items()}
    answers = fields.get("answers")
    impossible = fields.pop("is_impossible", None) is True
    if impossible or (isinstance(answers, Mapping) and "answer_start" in answers and not answers.get("text")):
        return {**fields, "answers": [], "unanswerable": True}
    if answers is not None:
        fields["answers"] = _texts(answers, where)
    return fields


def _texts(found: Any, where: str) -> list[str]:
    """The texts of the answers, in whatever form they come."""
    if isinstance(found, str):
        return [found] if found.strip() else []
    if isinstance(found, Mapping) and "text" in found:
        return _texts(found["text"], where)
    if isinstance(found, Mapping) and "value" in found:
        return _texts([found["value"], *(found.get("aliases") or ())], where)
    if isinstance(found, Sequence):
        return [text for item in found for text in _texts(item, where)]
    if isinstance(found, int | float) and not isinstance(found, bool):
        return [str(found)]
    raise QAError(f"{where}: expected answers to be texts, got {shown(found)}; name another column")
