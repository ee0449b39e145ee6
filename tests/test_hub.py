"""Data sets of Hugging Face, from folders that the tests make: nothing is asked of any network."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import qa_env.datasets.hub
from qa_env.datasets import QAExample
from qa_env.datasets.hub import HubName, load_hub
from qa_env.errors import QAError
from qa_env.sources import check_sources, load_data

datasets = pytest.importorskip("datasets", reason="the extra `hub` is not installed")

Save = Callable[..., str]


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No network, a cache of the test's own, and no progress bars."""
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Writes columns as `datasets` keeps them; the name of what is there then."""

    def saved(folder: str = "saved", **columns: list[Any]) -> str:
        datasets.Dataset.from_dict(columns).save_to_disk(tmp_path / folder)
        return f"hf:{tmp_path / folder}"

    return saved


def test_squads_columns_are_read_and_no_text_is_no_answer(save: Save) -> None:
    name = save(
        id=["a", "b"],
        title=["T", "T"],
        context=["Ada signed.", "A river."],
        question=["Who signed?", "Who sang?"],
        answers=[{"text": ["Ada", "Ada"], "answer_start": [0, 0]}, {"text": [], "answer_start": []}],
    )
    assert load_data(name) == (
        QAExample("a", "Who signed?", "Ada signed.", ("Ada",), {"title": "T"}),
        QAExample("b", "Who sang?", "A river.", (), {"title": "T", "unanswerable": True}),
    )


@pytest.mark.parametrize(
    ("column", "answers", "expected"),
    [
        ("answer", ["Ada", ""], [("Ada",), ()]),
        ("answers", [["Ada", "A."], []], [("Ada", "A."), ()]),
        ("answer", [12, 1843], [("12",), ("1843",)]),
        ("answers", [[{"text": "Ada"}, {"text": "A."}], []], [("Ada", "A."), ()]),
        (
            "answer",
            [{"value": "Ada", "aliases": ["A.", "Ada"]}, {"value": "Lima", "aliases": None}],
            [("Ada", "A."), ("Lima",)],
        ),
    ],
)
def test_answers_come_in_many_forms(
    column: str, answers: list[Any], expected: list[tuple[str, ...]], save: Save
) -> None:
    examples = load_hub(save(query=["1?", "2?"], passage=["P", None], **{column: answers}))
    assert [(e.id, e.question, e.context, e.answers) for e in examples] == [
        ("row-1", "1?", "P", expected[0]),
        ("row-2", "2?", None, expected[1]),
    ]
    assert not any(e.unanswerable for e in examples)


def test_unanswerable_questions_are_marked_or_have_an_empty_list_where_abstaining_counts(save: Save) -> None:
    marked = save("marked", question=["1?", "2?"], answers=[["A"], ["A"]], is_impossible=[False, True])
    assert [(e.answers, e.unanswerable) for e in load_hub(marked)] == [(("A",), False), ((), True)]
    listed = save("listed", question=["1?", "2?", "3?"], answers=[["A"], [], None])
    assert [e.unanswerable for e in load_hub(listed, abstain=True)] == [False, True, False]


def test_columns_of_other_names_are_named(save: Save) -> None:
    name = save(ask=["Who?"], text=["Ada."], gold=["Ada"], answer=["no"], note=["so"])
    (example,) = load_data(f"{name}:question=ask:context=text:answers=gold")
    assert example == QAExample("row-1", "Who?", "Ada.", ("Ada",), {"note": "so"})


def test_a_split_is_chosen_where_there_are_several(tmp_path: Path) -> None:
    parts = {name: datasets.Dataset.from_dict({"question": [f"{name}?"]}) for name in ("train", "test")}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "d")
    assert load_hub(f"hf:{tmp_path / 'd'}:test")[0].question == "test?"
    with pytest.raises(QAError, match=r"expected one of the splits train, test, got 'dev'"):
        load_hub(f"hf:{tmp_path / 'd'}:dev")


def test_a_folder_of_files_is_read_by_the_library(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    lines = [json.dumps({"question": f"{i}?", "answer": str(i)}) for i in range(5)]
    (folder / "train.jsonl").write_text("\n".join(lines))
    assert [e.answers for e in load_data(f"hf:{folder}:train[1:3]")] == [("1",), ("2",)]
    with pytest.raises(QAError, match=r'cannot read .*Unknown split "dev"'):
        load_hub(f"hf:{folder}:dev")
    with pytest.raises(QAError, match=r"cannot read .* corresponds to no data"):
        load_hub(f"hf:{folder}:train[:0]")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hf:rajpurkar/squad:train", HubName("rajpurkar/squad", None, "train", {})),
        ("hf:a/b:fullwiki:train[:10%]", HubName("a/b", "fullwiki", "train[:10%]", {})),
        ("hf:a/b:test:question=q:id=k", HubName("a/b", None, "test", {"question": "q", "id": "k"})),
    ],
)
def test_names_have_parts(text: str, expected: HubName) -> None:
    assert HubName.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("hf:", "expected hf:NAME:SPLIT"),
        ("hf:a/b:", "expected hf:NAME:SPLIT"),
        ("hf:a/b:c:d:e", "expected hf:NAME:SPLIT"),
        ("hf:a/b", "names no split"),
        ("hf:a/b:train:text=q", "expected id=COLUMN, question=COLUMN, context=COLUMN, answers=COLUMN, got"),
    ],
)
def test_a_malformed_name_is_told_before_any_work(text: str, reason: str) -> None:
    with pytest.raises(QAError, match=reason) as caught:
        check_sources(text)
    assert "\n" not in str(caught.value)


def test_what_does_not_fit_is_explained_in_one_line(save: Save) -> None:
    name = save(prompt=["Who?"], reply=["Ada"])
    for told, reason in (
        (name, "expected a column 'question', found prompt, reply; name those"),
        (f"{name}:question=query", "expected a column 'query', found prompt, reply"),
        (save("blank", question=[" "]), "row 1: expected 'question' to be a text that is not empty"),
        (save("truth", question=["Is it?"], answer=[True]), "row 1: expected answers to be texts, got True"),
        (save("twice", id=["x", "x"], question=["1?", "2?"]), "row 2: expected an id of its own, got 'x'"),
    ):
        with pytest.raises(QAError, match=reason) as caught:
            load_data(told)
        assert "\n" not in str(caught.value)


def test_an_unknown_name_and_no_network_are_one_line_each(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = importlib.import_module("huggingface_hub")
    refused = hub.errors.HfHubHTTPError
    for error, reason in (
        (refused.__new__(refused), "no data set 'no/such' on the hub"),
        (OSError("unreachable"), "cannot read hf:no/such:train: Couldn't reach 'no/such'"),
    ):

        def refuse(self: Any, name: str, timeout: float, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(hub.HfApi, "dataset_info", refuse)
        with pytest.raises(QAError, match=reason) as caught:
            load_data("hf:no/such:train")
        assert "\n" not in str(caught.value)


def test_without_the_library_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(qa_env.datasets.hub, "import_module", missing)
    with pytest.raises(QAError, match=r'pip install "qa-env-rl\[hub\]"'):
        check_sources("hf:a/b:train")
