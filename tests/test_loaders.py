from __future__ import annotations

import gzip
import json
import unicodedata
from pathlib import Path

import pytest

from qa_env.datasets import QAExample, load_examples, split_dataset
from qa_env.errors import QAError

ROWS = [
    {"id": "a", "question": "Où?", "context": "Là, dit-il.", "answers": ["Là.", "là"], "value": "Là"},
    {"id": "b", "question": "Who?", "answers": []},
]
EXPECTED = [
    QAExample("a", "Où?", "Là, dit-il.", ("Là.", "là"), {"value": "Là"}),
    QAExample("b", "Who?", None, (), {}),
]
JSONL = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
CSV = 'id,question,context,answers,value\na,Où?,"Là, dit-il.",Là.|là,Là\nb,Who?,,,\n'
SQUAD = json.dumps(
    {
        "version": "v2.0",
        "data": [
            {
                "title": "Place",
                "paragraphs": [
                    {
                        "context": "Here.",
                        "qas": [
                            {
                                "id": "q1",
                                "question": "Where?",
                                "answers": [{"text": "Here", "answer_start": 0}],
                            },
                            {"question": "Why?", "is_impossible": True, "answers": []},
                        ],
                    }
                ],
            }
        ],
    }
)


def write(folder: Path, name: str, content: str | bytes) -> Path:
    raw = content.encode() if isinstance(content, str) else content
    path = folder / name
    path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    return path


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize(
    ("ending", "text"), [("jsonl", JSONL), ("ndjson", JSONL), ("csv", CSV), ("CSV", CSV)]
)
def test_every_format_gives_the_same_examples(
    tmp_path: Path, ending: str, text: str, mark: str, packed: str
) -> None:
    assert load_examples(write(tmp_path, f"data.{ending}{packed}", mark + text)) == EXPECTED


@pytest.mark.parametrize("packed", ["", ".gz"])
def test_squad_gives_contexts_answers_and_the_unanswerable(tmp_path: Path, packed: str) -> None:
    answered, unanswerable = load_examples(write(tmp_path, f"dev.json{packed}", SQUAD))
    assert answered == QAExample("q1", "Where?", "Here.", ("Here",), {"title": "Place"})
    assert unanswerable.id == "question-2"
    assert unanswerable.answers == ()
    assert unanswerable.metadata["unanswerable"] is True


def test_a_single_answer_may_be_a_text_and_other_fields_are_metadata(tmp_path: Path) -> None:
    path = write(tmp_path, "d.jsonl", '\n{"question": "Q?", "answer": "A", "topic": 3, "id": 7}\n')
    assert load_examples(path) == [QAExample("7", "Q?", None, ("A",), {"topic": 3})]


def test_a_missing_id_is_made_from_the_line(tmp_path: Path) -> None:
    assert [
        e.id for e in load_examples(write(tmp_path, "d.jsonl", '{"question":"a"}\n\n{"question":"b"}'))
    ] == [
        "line-1",
        "line-3",
    ]
    csv = 'question,answer\n"two\nlines",x\nnext,y\n'
    assert [e.id for e in load_examples(write(tmp_path, "d.csv", csv))] == ["line-2", "line-4"]


def test_text_is_normalised_also_inside_json_escapes(tmp_path: Path) -> None:
    spread = unicodedata.normalize("NFD", "é")
    path = write(tmp_path, "d.jsonl", json.dumps({"question": spread, "answers": [spread], "tags": [spread]}))
    (example,) = load_examples(path)
    assert example.question == example.answers[0] == example.metadata["tags"][0] == "é"


def test_a_line_separator_inside_a_text_does_not_end_the_line(tmp_path: Path) -> None:
    (example,) = load_examples(write(tmp_path, "d.jsonl", '{"question": "a\u2028b"}\r\n'))
    assert example.question == "a\u2028b"


GOOD = '{"question": "Q?"}\n'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "d.jsonl",
            GOOD * 16 + '{"question": \n',
            r"d\.jsonl, line 17: expected one JSON object a line, got",
        ),
        ("d.jsonl", GOOD * 2 + "[1]\n", r"line 3: expected a JSON object .*got \[1\]"),
        ("d.jsonl", '{"context": "c"}', r"line 1: expected 'question' .*got nothing"),
        ("d.jsonl", '{"question": "  "}', r"line 1: expected 'question' .*not empty, got '  '"),
        (
            "d.jsonl",
            '{"question": "Q", "answers": "A"}',
            r"expected 'answers' to be a list of texts.*got 'A'",
        ),
        ("d.jsonl", '{"question": "Q", "answers": ["A", 3]}', r"expected 'answers' .*got \['A', 3\]"),
        ("d.jsonl", '{"question": "Q", "answers": [""]}', r"expected 'answers' .*not empty"),
        ("d.jsonl", '{"question": "Q", "answer": 3}', r"expected 'answer' to be a text, got 3"),
        ("d.jsonl", '{"question": "Q", "context": 3}', r"expected 'context' to be a text or null, got 3"),
        ("d.jsonl", '{"question": "Q", "value": 3}', r"expected 'value' to be a text, got 3"),
        ("d.jsonl", '{"question": "Q", "id": [1]}', r"expected 'id' .*got \[1\]"),
        ("d.jsonl", '{"question":"Q","id":"x"}\n' * 2, r"line 2: .*'x', which .*line 1 has too"),
        ("d.jsonl", "", r"got an empty file"),
        ("d.jsonl", " \n\n", r"got an empty file"),
        ("d.jsonl.gz", "", r"got an empty file"),
        (
            "d.jsonl",
            GOOD.encode() + b'{"question": "\xff"}',
            r"line 2: expected UTF-8 text, got the byte 0xff",
        ),
        ("d.txt", GOOD, r"expected a file that ends in \.jsonl"),
        ("d.csv", "text,answer\na,b\n", r"line 1: expected a header with a column 'question', got \['text'"),
        ("d.csv", "question,answer\na,b\nc,d,e\n", r"line 3: expected at most 2 fields.*got 3"),
        ("d.csv", 'question\n"a"b\n', r"line 2: expected comma-separated fields, got a malformed line"),
        ("d.csv", "question,question\na,b\n", r"line 1: the column 'question' comes twice"),
        ("d.csv", "question,answer\n,b\n", r"line 2: expected 'question'"),
        ("d.csv", "question,answer\n", r"expected at least one question, found none"),
        ("d.json", '{"version": 1}', r"expected the SQuAD format, an object with \"data\""),
        (
            "d.json",
            '{"question":"a"}\n{"question":"b"}',
            r"line 2: expected JSON in the SQuAD format.*\.jsonl",
        ),
        (
            "d.json",
            '{"data": [{"paragraphs": 3}]}',
            r"data\[0\]: expected \"paragraphs\" to be a list .*got 3",
        ),
        (
            "d.json",
            '{"data": [{"paragraphs": [{"context": "c", "qas": [{"question": ""}]}]}]}',
            r"data\[0\], paragraphs\[0\], qas\[0\]: expected 'question'",
        ),
    ],
)
def test_a_bad_file_is_explained_in_one_line(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    path = write(tmp_path, name, content)
    with pytest.raises(QAError, match=message) as caught:
        load_examples(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert "; " in str(caught.value)


def test_a_missing_file_and_a_directory_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(QAError, match="no such file"):
        load_examples(tmp_path / "none.jsonl")
    folder = tmp_path / "d.jsonl"
    folder.mkdir()
    with pytest.raises(QAError, match="got a directory"):
        load_examples(folder)


@pytest.mark.parametrize(
    "raw", [b"not gzip", gzip.compress(GOOD.encode(), mtime=0)[:-6], b"\x1f\x8b\x08\x00" + b"\xff" * 20]
)
def test_what_is_not_gzip_is_named(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "d.jsonl.gz"
    path.write_bytes(raw)
    with pytest.raises(QAError, match="expected gzip data"):
        load_examples(path)


def passages(count: int, each: int = 3) -> list[QAExample]:
    return [
        QAExample(f"{p}-{q}", f"Question {q}?", f"Passage {p}.", ("A",))
        for p in range(count)
        for q in range(each)
    ]


def test_a_passage_lies_in_one_split_and_every_split_has_its_size() -> None:
    data = split_dataset(passages(40), labelled=20, seed=1)
    splits = (data.labelled, data.unlabelled, data.validation, data.test)
    contexts = [{example.context for example in split} for split in splits]
    assert sum(len(found) for found in contexts) == len(set.union(*contexts))
    assert len(data.labelled) == 20
    assert len(data.validation) == 12
    assert len(data.test) == 24
    assert data.collection == tuple(f"Passage {p}." for p in range(40))


def test_the_same_seed_gives_the_same_splits() -> None:
    examples = passages(20)
    assert split_dataset(examples, labelled=9, seed=1) == split_dataset(examples, labelled=9, seed=1)
    assert (
        split_dataset(examples, labelled=9, seed=1).test != split_dataset(examples, labelled=9, seed=2).test
    )


def test_without_contexts_questions_of_the_same_text_stay_together() -> None:
    examples = [QAExample(str(i), f"Q{i % 10}?", None, ("A",)) for i in range(30)]
    data = split_dataset(examples, labelled=6, seed=0)
    training = {example.question for example in (*data.labelled, *data.unlabelled)}
    assert not training & {example.question for example in (*data.validation, *data.test)}
    assert data.collection == ()


def test_questions_without_answers_are_unlabelled_unless_their_passage_is_evaluated() -> None:
    open_ones = [QAExample(f"open-{p}", "Else?", f"Passage {p}.") for p in range(20)]
    data = split_dataset([*passages(10), *open_ones], labelled=5, seed=0)
    evaluated = {example.context for example in (*data.validation, *data.test)}
    kept = {example.context for example in data.unlabelled if not example.answers}
    assert kept == {f"Passage {p}." for p in range(20)} - evaluated
    assert all(example.answers for example in (*data.labelled, *data.validation, *data.test))


def test_unanswerable_questions_are_left_out() -> None:
    never = QAExample("never", "Why?", "Elsewhere.", (), {"unanswerable": True})
    data = split_dataset([*passages(10), never], labelled=5, seed=0)
    assert never not in (*data.labelled, *data.unlabelled, *data.validation, *data.test)


def test_splitting_explains_what_is_missing() -> None:
    with pytest.raises(QAError, match="no labelled question"):
        split_dataset([QAExample("a", "Q?")], labelled=1, seed=0)
    with pytest.raises(QAError, match="expected 50 or more for the labelled split, got 21"):
        split_dataset(passages(10), labelled=50, seed=0)
    with pytest.raises(QAError, match="labelled to be 1 or more"):
        split_dataset(passages(10), labelled=0, seed=0)
    with pytest.raises(QAError, match="a sum below 1"):
        split_dataset(passages(10), labelled=1, validation=0.5, test=0.5, seed=0)
