from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from postgres import new_database

from qa_env.errors import QAError
from qa_env.feedback.labels import (
    Correction,
    Label,
    Pair,
    Percent,
    Ranking,
    Rating,
    Skip,
    Thumb,
)
from qa_env.feedback.store import AnswerRecord, FeedbackEvent, Query, Store, raw
from qa_env.feedback.store.__main__ import main
from qa_env.feedback.store.exchange import Imported, export_file, import_file
from qa_env.feedback.store.spreadsheet import guarded, unguarded

CONTEXT = "Japan is an island country,\nfar in the east.\u2028Its capital is Tokyo — 東京."
FORMATS = ("jsonl", "csv", "trl")


def answer(text: str, question: str = "What is the capital?") -> AnswerRecord:
    return AnswerRecord(question, text, CONTEXT, "japan", 7)


def said(query: str, label: Label, rater: str = "ann", **fields: object) -> FeedbackEvent:
    return FeedbackEvent.new(query, rater, label, created=1700000000.25, **fields)  # type: ignore[arg-type]


GIVEN: list[tuple[Query, Label]] = [
    (Query("rating", (answer("a"),), "probe", "uniform", 1.5, 2, 2e9), Rating(3, 3)),
    (Query("rating", (answer("b"),)), Rating(2, 4)),
    (Query("percent", (answer('=HYPERLINK("evil")'),)), Percent(12.5, 80)),
    (Query("thumb", (answer('with "quotes", and\nlines'),)), Thumb(False)),
    (Query("pair", (answer("a"), answer("b"))), Pair("second", 3)),
    (Query("pair", (answer("a"), answer("c"))), Pair("tie", 2)),
    (Query("pair", (answer("a"), answer("d"))), Pair("both_wrong")),
    (Query("ranking", (answer("a"), answer("b"), answer("c"))), Ranking((2, 1, 2))),
    (Query("correction", (answer("tokio"),)), Correction("@Tokyo")),
    (Query("rating", (answer("x", "'- why?"),)), Skip("+not sure")),
]


def fill(store: Store) -> None:
    """Every form of label, two raters, a superseded event."""
    store.add_rater("ann")
    store.add_rater("ben", "expert")
    keys = store.ask([query for query, _ in GIVEN])
    for key, (_, label) in zip(keys, GIVEN, strict=True):
        store.submit(said(key, label, unsure=True, latency=2.5))
    first = said(keys[0], Rating(1, 1), "ben", shown_order=(0,))
    store.submit(first)
    store.submit(said(keys[0], Rating(5, 5), "ben", supersedes=first.uuid))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "first.db", vocabulary="abcd") as store:
        fill(store)
        yield store


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "second.db") as store:
        yield store


def refusal(call: Callable[[], object]) -> str:
    """The message of the error that `call` raises, which must be one line."""
    with pytest.raises(QAError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def lines_of(path: Path) -> list[str]:
    """Its lines: those of JSON end with a newline, and with nothing else that may end lines."""
    return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_raw_export_makes_the_same_store_elsewhere(store: Store, empty: Store, tmp_path: Path) -> None:
    path, again = tmp_path / "all.jsonl", tmp_path / "again.jsonl"
    store.disable_rater("ann")
    assert export_file(store, path) == 12
    assert import_file(empty, path) == Imported(12, 12)
    assert [stored.event for stored in empty.events()] == [stored.event for stored in store.events()]
    assert empty.judgements() == store.judgements()
    assert empty.stats() == store.stats()
    export_file(empty, again)
    header, *lines = lines_of(path)
    assert lines_of(again)[1:] == lines
    assert json.loads(header) == {
        "type": "header",
        "format": "qa-env-feedback",
        "version": 1,
        "vocabulary": "abcd",
    }


def test_a_raw_export_goes_into_a_server_and_back(store: Store, tmp_path: Path) -> None:
    export_file(store, tmp_path / "there.jsonl")
    with Store(new_database(), vocabulary="abcd") as server:
        import_file(server, tmp_path / "there.jsonl")
        export_file(server, tmp_path / "back.jsonl")
    assert (tmp_path / "back.jsonl").read_text() == (tmp_path / "there.jsonl").read_text()


@pytest.mark.parametrize("format", FORMATS)
def test_importing_again_brings_nothing_new(store: Store, empty: Store, tmp_path: Path, format) -> None:
    path = tmp_path / "some.file"
    written = export_file(store, path, format)
    options = {"rater": "ann" if format == "trl" else None, "add_raters": True}
    # TRL's format does not say what a preference comes from: a pair and a ranking may give the same.
    new = 3 if format == "trl" else written
    assert import_file(empty, path, format, **options) == Imported(written, new)
    before = empty.events()
    assert import_file(empty, path, format, **options) == Imported(written, 0)
    assert empty.events() == before
    if format != "trl":  # there the store has the labels, but not as pairs
        assert import_file(store, path, format) == Imported(written, 0)


def test_a_table_holds_the_labels_that_stand(store: Store, empty: Store, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    assert export_file(store, path) == 11
    import_file(empty, path, add_raters=True)
    key = repr
    assert sorted(empty.judgements(), key=key) == sorted(store.judgements(), key=key)
    assert [rater.role for rater in empty.raters()] == ["user", "user"]
    values = [(row["form"], row["value"], row["strength"]) for row in rows(path)]
    assert values == [
        ("rating", "3", ""),
        ("rating", "2 to 4", ""),
        ("percent", "12.5 to 80", ""),
        ("thumb", "down", ""),
        ("pair", "second", "3"),
        ("pair", "tie", "2"),
        ("pair", "both_wrong", "1"),
        ("ranking", "2 1 2", ""),
        ("correction", "'@Tokyo", ""),
        ("skip", "'+not sure", ""),
        ("rating", "5", ""),
    ]


def test_no_cell_of_a_table_begins_like_a_formula(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    export_file(store, path)
    cells = [cell for row in rows(path) for cell in row.values()]
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in cells)
    assert '\'=HYPERLINK("evil")' in cells


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text(st.sampled_from("'=+-@\t\rab 1")))
def test_the_guard_of_a_cell_is_undone(cell: str) -> None:
    assert unguarded(guarded(cell)) == cell
    assert guarded(cell)[:1] not in set("=+-@\t\r")


def test_a_table_filled_in_by_hand_needs_few_columns(empty: Store, tmp_path: Path) -> None:
    empty.add_rater("ann")
    path = tmp_path / "hand.csv"
    path.write_text(
        "\ufeffquestion,answer,answer_2,rater,form,value\n"
        "Who?,Ada,,ann,rating,4\n"
        "\n"
        "Who?,Ada,Bob,ann,pair,first\n"
        "Who?,Bob,,ann,rating,1.0\n"
        ",,,,,\n"
    )
    assert import_file(empty, path) == Imported(3, 3)
    assert import_file(empty, path) == Imported(3, 0)
    judgements = empty.judgements()
    assert [judgement.label for judgement in judgements] == [Rating(4, 4), Pair("first"), Rating(1, 1)]
    first, second = (empty.answers(judgement.answers).values() for judgement in judgements[:2])
    assert [record.text for record in second] == ["Ada", "Bob"]
    assert list(first) == [AnswerRecord("Who?", "Ada")]


def test_preferences_come_from_pairs_rankings_and_corrections(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "preferences.jsonl"
    assert export_file(store, path, "trl") == 4
    lines = [json.loads(line) for line in lines_of(path)]
    assert [(line["chosen"], line["rejected"]) for line in lines] == [
        ("b", "a"),  # the pair; ties and pairs of which both are wrong say nothing of which is better
        ("b", "a"),  # the ranking 2 1 2
        ("b", "c"),
        ("@Tokyo", "tokio"),
    ]
    prompts = {(line["prompt"], line["question"], line["context"]) for line in lines}
    assert prompts == {(f"{CONTEXT}\n\nWhat is the capital?", "What is the capital?", CONTEXT)}


def test_preferences_from_elsewhere_become_pairs(empty: Store, tmp_path: Path) -> None:
    path = tmp_path / "preferences.jsonl"
    path.write_text('{"prompt": "Who?", "chosen": "Ada", "rejected": "Bob", "score": 3}\n')
    assert "unknown rater 'ann'; add it first" in refusal(
        lambda: import_file(empty, path, "trl", rater="ann")
    )
    import_file(empty, path, "trl", rater="ann", add_raters=True)
    (judgement,) = empty.judgements()
    assert (judgement.rater, judgement.label) == ("ann", Pair("first"))
    assert list(empty.answers(judgement.answers).values()) == [
        AnswerRecord("Who?", "Ada"),
        AnswerRecord("Who?", "Bob"),
    ]


def test_a_correction_of_nothing_is_no_preference(empty: Store, tmp_path: Path) -> None:
    empty.add_rater("ann")
    (key,) = empty.ask([Query("correction", (answer("fine"),))])
    empty.submit(said(key, Correction("fine")))
    assert export_file(empty, tmp_path / "preferences.jsonl", "trl") == 0


def raw_lines(store: Store, tmp_path: Path) -> list[str]:
    export_file(store, tmp_path / "all.jsonl")
    return lines_of(tmp_path / "all.jsonl")


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("header", {"version": 2}, "this export has version 2, here version 1 is read"),
        ("header", {"format": "x"}, "expected the header of an export"),
        ("rater", {"role": "king"}, "role must be one of user, expert"),
        ("rater", {"age": 7}, "unknown field 'age'; expected name, role, created, disabled"),
        ("question", {"question": "Changed?"}, "is not that of its contents"),
        ("answer", {"question": "nowhere"}, "no line above has the question 'nowhere'"),
        ("query", {"answers": ["nowhere"]}, "no line above has the answer 'nowhere'"),
        ("query", {"kind": "pairs"}, "kind must be one of"),
        ("query", {"needed": 2**40}, "needed must be a whole number from 1 to"),
        ("event", {"label": {"form": "rating", "low": 3, "high": 9}}, "a rating must be from 1 to 5"),
        ("event", {"label": {"form": ["rating"]}}, "label"),
        ("event", {"label": {"form": "rating", "low": 10**400, "high": 1}}, "label"),
        ("event", {"rater": "zoe"}, "unknown rater 'zoe'"),
        ("event", {"uuid": "7"}, "needs a UUID"),
        ("event", {"type": "events"}, "type must be one of rater, question, answer, query, event"),
        ("event", {"type": ["event"]}, "type must be one of rater, question, answer, query, event"),
    ],
)
def test_a_bad_line_of_a_raw_export_is_named_and_leaves_nothing_behind(
    store: Store, empty: Store, tmp_path: Path, kind: str, changes: dict[str, object], message: str
) -> None:
    lines = raw_lines(store, tmp_path)
    number = max(n for n, line in enumerate(lines) if json.loads(line)["type"] == kind)
    if kind == "event":
        number -= 4  # a line in the midst
    lines[number] = json.dumps({**json.loads(lines[number]), **changes})
    path = tmp_path / "bad.jsonl"
    path.write_text("\n".join(lines))
    refused = refusal(lambda: import_file(empty, path))
    assert refused.startswith(f"{path}, line {number + 1}: ")
    assert message in refused
    stats = empty.stats()
    assert (stats.raters, stats.questions, stats.answers, stats.queries, empty.events()) == ((), 0, 0, 0, [])


MANGLE = st.tuples(
    st.integers(0, 40),
    st.sampled_from(
        ["role", "id", "answers", "label", "uuid", "created", "kind", "type", "shown_order", "form"]
    ),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
        max_leaves=4,
    ),
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The lines of an export."""
    folder = tmp_path_factory.mktemp("whole")
    with Store(folder / "feedback.db") as store:
        fill(store)
        return raw_lines(store, folder)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(MANGLE)
def test_a_mangled_export_is_taken_whole_or_refused_in_one_line(tmp_path_factory, whole, mangle) -> None:
    place, field, value = mangle
    line = json.loads(whole[place % len(whole)])
    if field == "form" and "label" in line:
        line["label"]["form"] = value
    else:
        line[field] = value
    lines = [*whole]
    lines[place % len(whole)] = json.dumps(line)
    try:
        parsed = list(raw.read(lines))
    except QAError as error:
        assert "\n" not in str(error)
        return
    events = sum(isinstance(record, FeedbackEvent) for line in parsed for record in line.records)
    path = tmp_path_factory.mktemp("mangled") / "some.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    with Store(path.with_suffix(".db")) as store:
        try:
            assert import_file(store, path) == Imported(events, events)
        except QAError as error:
            assert "\n" not in str(error)
            assert store.stats().queries == len(store.raters()) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: expected the header of an export, got an empty file"),
        ('{"type": "rater", "name": "ann"}', "line 1: expected the header of an export"),
        ("nonsense", "line 1: expected a JSON object, got 'nonsense'"),
        ("[1]", "line 1: expected a JSON object"),
        ("\udcff", "line 1: expected a JSON object"),
        ("[" * 100000, "line 1: expected a JSON object"),
    ],
)
def test_what_is_no_raw_export_is_refused(empty: Store, tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(text.encode(errors="surrogateescape"))
    assert message in refusal(lambda: import_file(empty, path))


HEADER = "question,answer,answer_2,rater,form,value,kind,strength,unsure,uuid"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("Who?,Ada,,ann,rating,7", "a rating must be from 1 to 5, got 7 to 7"),
        ("Who?,Ada,,ann,rating,3.5", "a rating must be a whole number"),
        ("Who?,Ada,,ann,rating,good", "expected a number, got 'good'"),
        ("Who?,Ada,,ann,rating,nan", "a rating must be from 1 to 5"),
        ("Who?,Ada,,ann,stars,3", "kind must be one of rating"),
        ("Who?,Ada,,ann,stars,3,rating", "a form must be one of rating"),
        ("Who?,Ada,,ann,thumb,yes", "a thumb must be up or down, got 'yes'"),
        ("Who?,Ada,,ann,pair,first", "a pair query needs two answers, got 1"),
        ("Who?,Ada,Bob,ann,pair,left", "a choice must be one of first"),
        ("Who?,Ada,Bob,ann,pair,first,,9", "a strength must be 1, 2 or 3"),
        ("Who?,Ada,Bob,ann,ranking,1 2 3", "a ranking of 3 answers was given to a query of 2"),
        ("Who?,Ada,,ann,correction, ", "a correction must be a text that is not blank"),
        ("Who?,Ada,,ann,skip,", "kind must be one of rating"),
        (" ,Ada,,ann,rating,3", "a question must not be blank"),
        ("Who?,Ada,,zoe,rating,3", "unknown rater 'zoe'; add it first"),
        ("Who?,Ada,,ann,rating,3,,,maybe", "unsure must be true or false, got 'maybe'"),
        ("Who?,Ada,,ann,rating,3,,,,17", "needs a UUID"),
        ("Who?,Ada,,ann,rating,3,,,,,,", "expected 10 cells as in the header, got 12"),
        ('Who?,"Ada" Lovelace,,ann,rating,3', "malformed CSV"),
        ("Who?,Ada\udcff,,ann,rating,3", "an answer must be valid Unicode"),
    ],
)
def test_a_bad_row_of_a_table_is_named_and_leaves_nothing_behind(
    empty: Store, tmp_path: Path, row: str, message: str
) -> None:
    empty.add_rater("ann")
    path = tmp_path / "bad.csv"
    good = '"Who\nis it?",Eve,,ann,rating,3'  # on two lines
    path.write_bytes("\n".join([HEADER, good, row]).encode(errors="surrogateescape"))
    refused = refusal(lambda: import_file(empty, path))
    assert refused.startswith(f"{path}, line 4: ")
    assert message in refused
    assert (empty.events(), empty.stats().questions) == ([], 0)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("", "expected a header"),
        ("question,answer,rater,form,valeu", "unknown column 'valeu'; known: uuid"),
        ("question,answer,rater,form", "there is no column 'value'; needed: rater"),
        ("question,answer,rater,form,value,value", "a column's name occurs twice"),
    ],
)
def test_a_bad_header_of_a_table_is_refused(empty: Store, tmp_path: Path, header: str, message: str) -> None:
    (tmp_path / "bad.csv").write_text(header)
    refused = refusal(lambda: import_file(empty, tmp_path / "bad.csv"))
    assert "line 1: " in refused
    assert message in refused


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"prompt": "Who?", "chosen": "Ada"}', "'rejected' must be a text (TRL's standard form), got None"),
        ('{"prompt": "Who?", "chosen": [], "rejected": "b"}', "'chosen' must be a text"),
        ('{"prompt": "Who?", "chosen": "b", "rejected": "b"}', "the answers of a pair query must differ"),
        ('{"prompt": " ", "chosen": "a", "rejected": "b"}', "a question must not be blank"),
    ],
)
def test_a_bad_preference_is_named(empty: Store, tmp_path: Path, line: str, message: str) -> None:
    empty.add_rater("ann")
    path = tmp_path / "bad.jsonl"
    path.write_text('{"prompt": "Who?", "chosen": "Ada", "rejected": "Bob"}\n' + line)
    refused = refusal(lambda: import_file(empty, path, "trl", rater="ann"))
    assert f"{path}, line 2: {message}" in refused
    assert empty.events() == []


def test_an_export_that_fails_leaves_the_old_file_and_no_other(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "folder" / "labels.csv"
    path.parent.mkdir()
    path.write_text("old")
    with store.database.write() as connection:
        connection.exec_driver_sql("PRAGMA defer_foreign_keys=ON")
        connection.exec_driver_sql("UPDATE event SET label = 'broken' WHERE seq = 5")
    assert "a label must be JSON" in refusal(lambda: export_file(store, path))
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_files_that_cannot_be_used_are_one_line(store: Store, tmp_path: Path) -> None:
    assert "No such file" in refusal(lambda: export_file(store, tmp_path / "nowhere" / "a.csv"))
    assert "No such file" in refusal(lambda: import_file(store, tmp_path / "missing.csv"))
    assert "Is a directory" in refusal(lambda: import_file(store, tmp_path, "csv"))
    assert "names no format" in refusal(lambda: export_file(store, tmp_path / "a.xlsx"))
    assert "needs a rater" in refusal(lambda: import_file(store, tmp_path / "a.jsonl", "trl"))
    assert "needs a rater" in refusal(lambda: import_file(store, tmp_path / "a.csv", rater="ann"))


def test_the_command_shows_exports_and_imports(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["stats", str(tmp_path / "first.db")])
    shown = capsys.readouterr().out
    for line in (
        "raters       2 (1 experts, 0 disabled)",
        "queries      10 (1 open)",
        "labels       rating 3, percent 1, thumb 1, pair 3, ranking 1, correction 1",
        "skips        1",
        "latency      2.5 s (median)",
        "vocabulary   abcd",
    ):
        assert line in shown.splitlines()
    main(["export", f"sqlite:///{tmp_path / 'first.db'}", str(tmp_path / "all.jsonl")])
    assert capsys.readouterr().out == f"12 written to {tmp_path / 'all.jsonl'}\n"
    main(["import", str(tmp_path / "new.db"), str(tmp_path / "all.jsonl")])
    assert capsys.readouterr().out == f"12 labels read from {tmp_path / 'all.jsonl'}, 12 of them new\n"


@pytest.mark.parametrize("command", [["stats"], ["export", "labels.csv"]])
def test_a_missing_store_is_an_error_and_not_made(tmp_path: Path, command: list[str]) -> None:
    store = tmp_path / "missing.db"
    assert "there is no feedback store" in refusal(lambda: main([command[0], str(store), *command[1:]]))
    assert not store.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Expected one of {stats, export, import}"),
        (["stats"], "STORE"),
        (["stats", "a.db", "--bla"], "--bla"),
        (["export", "a.db", "b.csv", "--format", "xml"], "'xml'"),
    ],
)
def test_arguments_that_do_not_fit_are_one_line(arguments: list[str], message: str) -> None:
    assert message in refusal(lambda: main(arguments))


def test_the_command_ends_with_one_line_and_status_2(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "qa_env.feedback.store", "stats", str(tmp_path / "missing.db")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 2
    assert done.stderr == f"error: there is no feedback store {tmp_path / 'missing.db'}\n"
