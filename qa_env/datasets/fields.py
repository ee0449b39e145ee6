"""Checks one record of a file and makes it a question."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from qa_env.datasets.example import QAExample
from qa_env.errors import QAError

Placed = tuple[str, QAExample]
"""A question and where it stands, for messages."""
_FIELDS = ("id", "question", "context", "answers", "answer")


def as_example(row: Mapping[str, Any], where: str, made_id: str, abstain: bool = False) -> QAExample:
    """Makes a record a question.

    Args:
        row: The record's fields.
        where: File and line, for messages.
        made_id: The id of a record that has none.
        abstain: Whether a list of answers that is there and empty says that the question is unanswerable.

    Returns:
        The question, its text in Unicode's form NFC.

    Raises:
        QAError: A field is missing or of the wrong type.
    """
    question = row.get("question")
    if not isinstance(question, str) or not question.strip():
        raise QAError(
            f"{where}: expected 'question' to be a text that is not empty, got {shown(question)}; write one"
        )
    context = row.get("context")
    if context is not None and not isinstance(context, str):
        raise QAError(
            f"{where}: expected 'context' to be a text or null, got {shown(context)}; put it in quotes"
        )
    value = row.get("value")
    if value is not None and not isinstance(value, str):
        raise QAError(f"{where}: expected 'value' to be a text, got {shown(value)}; put it in quotes")
    metadata = {key: _nfc(field) for key, field in row.items() if key not in _FIELDS and field is not None}
    answers = _answers(row, where)
    if not isinstance(metadata.get("unanswerable", False), bool):
        raise QAError(
            f"{where}: expected 'unanswerable' to be true or false, got {shown(row['unanswerable'])}; "
            "write it without quotes"
        )
    if metadata.get("unanswerable") and answers:
        raise QAError(
            f"{where}: expected no answers to an unanswerable question, got {shown(answers)}; drop one"
        )
    if abstain and row.get("answers") == []:
        metadata.setdefault("unanswerable", True)
    return QAExample(
        id=_id(row.get("id"), where, made_id),
        question=_nfc(question.strip()),
        context=_nfc(context.strip()) or None if context else None,
        answers=answers,
        metadata=metadata,
    )


def _id(found: object, where: str, made_id: str) -> str:
    if found is None or found == "":
        return made_id
    if isinstance(found, bool) or not isinstance(found, str | int):
        raise QAError(f"{where}: expected 'id' to be a text or a whole number, got {shown(found)}; quote it")
    return str(found)


def _answers(row: Mapping[str, Any], where: str) -> tuple[str, ...]:
    found = row.get("answers")
    if found is None:
        single = row.get("answer")
        if single is not None and not isinstance(single, str):
            raise QAError(f"{where}: expected 'answer' to be a text, got {shown(single)}; put it in quotes")
        found = [single] if single and single.strip() else []
    if not isinstance(found, list) or not all(isinstance(answer, str) and answer.strip() for answer in found):
        raise QAError(
            f"{where}: expected 'answers' to be a list of texts that are not empty, got {shown(found)}; "
            'write ["..."], or [] if there is none'
        )
    return tuple(dict.fromkeys(_nfc(answer.strip()) for answer in found))


def _nfc(text: Any) -> Any:
    """Normalises a text, or all texts in a list or an object."""
    if isinstance(text, str):
        return unicodedata.normalize("NFC", text)
    if isinstance(text, list):
        return [_nfc(item) for item in text]
    if isinstance(text, dict):
        return {key: _nfc(item) for key, item in text.items()}
    return text


def distinct(placed: Sequence[Placed]) -> list[QAExample]:
    """Returns the examples of one source.

    Raises:
        QAError: Two have the same id.
    """
    first: dict[str, str] = {}
    for where, example in placed:
        if example.id in first:
            raise QAError(
                f"{where}: expected an id of its own, got {example.id!r}, which {first[example.id]} has too; "
                "change or remove one of them"
            )
        first[example.id] = where
    return [example for _, example in placed]


def shown(found: object) -> str:
    """Writes what was found for a message: short and on one line."""
    if found is None:
        return "nothing"
    text = repr(found)
    return text if len(text) <= 60 else text[:57] + "..."
