"""Loads questions from JSON Lines, CSV and SQuAD files."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from qa_env.datasets.example import QAExample
from qa_env.datasets.fields import Placed, as_example, distinct, shown
from qa_env.errors import QAError

_ENDINGS = ".jsonl, .ndjson, .csv or .json (SQuAD), each also with .gz"


def load_examples(path: str | Path, abstain: bool = False) -> list[QAExample]:
    """Loads questions from a file.

    The ending says how to read it; each may be followed by ``.gz``:

    * ``.jsonl``, ``.ndjson``: one JSON object a line with ``question`` and, if you have them, ``id``,
      ``context``, ``answers`` (a list of strings; the first is the main one) or ``answer`` (a string),
      ``value``, and ``unanswerable`` (true or false).
    * ``.csv``: the same names in the header; several answers are separated by ``|``.
    * ``.json``: SQuAD 1.1 or 2.0. A question marked ``is_impossible`` gets no answers and the metadata
      ``unanswerable: True``.

    Other fields go to the metadata. Text is read as UTF-8 and brought to Unicode's form NFC. An example
    without an id is named by its place ("line-17"; in SQuAD files "question-17").

    Args:
        path: The file.
        abstain: In JSON Lines, whether a list of answers that is there and empty says that the question is
            unanswerable; else it says as little as none.

    Returns:
        The examples, in the order of the file.

    Raises:
        QAError: The file cannot be read, or something in it is not as above.
    """
    path = Path(path)
    name = path.name.lower().removesuffix(".gz")
    if name.endswith((".jsonl", ".ndjson")):
        placed = list(_read_jsonl(path, _read_text(path), abstain))
    elif name.endswith(".csv"):
        placed = list(_read_csv(path, _read_text(path)))
    elif name.endswith(".json"):
        placed = list(_read_squad(path, _read_text(path)))
    else:
        raise QAError(f"{path}: expected a file that ends in {_ENDINGS}; rename it or convert it")
    if not placed:
        raise QAError(f"{path}: expected at least one question, found none; add one")
    return distinct(placed)


def _read_text(path: Path) -> str:
    if not path.exists():
        raise QAError(f"{path}: no such file; check the path")
    if path.is_dir():
        raise QAError(f"{path}: expected a file, got a directory; name a file in it that ends in {_ENDINGS}")
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise QAError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    if path.suffix.lower() == ".gz":
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise QAError(
                f"{path}: expected gzip data, as the ending .gz says, got something else or only a part; "
                "remove the ending or compress the file anew"
            ) from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise QAError(
            f"{path}, line {line}: expected UTF-8 text, got the byte 0x{raw[error.start]:02x}; "
            "save the file as UTF-8"
        ) from error
    if not text.strip():
        raise QAError(f"{path}: expected questions, got an empty file; see load_examples for the format")
    return text


def _read_jsonl(path: Path, text: str, abstain: bool) -> Iterator[Placed]:
    # Not splitlines(): it would also split at U+2028, which may stand inside a JSON string.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise QAError(
                f"{where}: expected one JSON object a line, got {shown(line)} ({error}); "
                "mend or remove the line"
            ) from error
        if not isinstance(row, dict):
            raise QAError(
                f'{where}: expected a JSON object such as {{"question": "..."}}, got {shown(row)}; '
                "put each question into an object"
            )
        yield where, as_example(row, where, f"line-{number}", abstain)


def _read_csv(path: Path, text: str) -> Iterator[Placed]:
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    header = [name.strip() for name in _next_row(path, rows) or ()]
    if "question" not in header:
        raise QAError(
            f"{path}, line 1: expected a header with a column 'question', got {shown(header)}; "
            "name the columns in the first line"
        )
    if doubled := sorted({name for name in header if header.count(name) > 1}):
        raise QAError(f"{path}, line 1: the column {doubled[0]!r} comes twice; rename one of them")
    while True:
        number = rows.line_num + 1  # Where the row begins: a quoted field may run over several lines.
        row = _next_row(path, rows)
        if row is None:
            return
        if not any(field.strip() for field in row):
            continue
        if len(row) > len(header):
            raise QAError(
                f"{path}, line {number}: expected at most {len(header)} fields, as in the header, "
                f'got {len(row)}; put fields with a comma into double quotes (")'
            )
        fields: dict[str, Any] = {
            key: value for key, value in zip(header, row, strict=False) if value.strip()
        }
        if "answers" in fields:
            fields["answers"] = [answer for answer in fields["answers"].split("|") if answer.strip()]
        if "unanswerable" in fields:
            said = fields["unanswerable"].strip()
            fields["unanswerable"] = {"true": True, "false": False}.get(said.lower(), said)
        where = f"{path}, line {number}"
        yield where, as_example(fields, where, f"line-{number}")


def _next_row(path: Path, rows: Any) -> list[str] | None:
    try:
        row: list[str] | None = next(rows, None)
    except csv.Error as error:
        raise QAError(
            f"{path}, line {rows.line_num}: expected comma-separated fields, got a malformed line ({error}); "
            "check its double quotes"
        ) from error
    return row


def _read_squad(path: Path, text: str) -> Iterator[Placed]:
    try:
        content = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        line = getattr(error, "lineno", 1)
        raise QAError(
            f"{path}, line {line}: expected JSON in the SQuAD format, got text that is not JSON "
            f"({error}); if each line is an object of its own, name the file .jsonl"
        ) from error
    if not isinstance(content, dict) or "data" not in content:
        raise QAError(
            f'{path}: expected the SQuAD format, an object with "data", got {shown(content)}; '
            "if each line is an object of its own, name the file .jsonl"
        )
    number = 0
    for article, where in _objects(content, "data", str(path)):
        for paragraph, where_paragraph in _objects(article, "paragraphs", where):
            for entry, where_question in _objects(paragraph, "qas", where_paragraph):
                number += 1
                example = _squad_example(entry, paragraph, article, where_question, f"question-{number}")
                yield where_question, example


def _objects(parent: Mapping[str, Any], key: str, where: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Gives the objects of a list with the place of each."""
    found = parent.get(key)
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise QAError(
            f'{where}: expected "{key}" to be a list of objects, as in SQuAD, got {shown(found)}; '
            "compare with a SQuAD file"
        )
    for index, item in enumerate(found):
        yield item, f"{where}, {key}[{index}]"


def _squad_example(
    entry: Mapping[str, Any],
    paragraph: Mapping[str, Any],
    article: Mapping[str, Any],
    where: str,
    made_id: str,
) -> QAExample:
    answers: list[Any] = []
    unanswerable = entry.get("is_impossible") is True
    # SQuAD 2.0 names a question that it withholds the answers of by leaving the list out.
    if not unanswerable and "answers" in entry:
        answers = [answer.get("text") for answer, _ in _objects(entry, "answers", where)]
    row = {
        "id": entry.get("id"),
        "question": entry.get("question"),
        "context": paragraph.get("context"),
        "answers": answers,
    }
    if isinstance(article.get("title"), str):
        row["title"] = article["title"]
    if unanswerable:
        row["unanswerable"] = True
    return as_example(row, where, made_id)
