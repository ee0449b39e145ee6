"""Questions in Chinese, from the text to the table of results."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

import train
from agents import answer, evaluate, pretrain
from agents.augmentation import Augmentation, AugmentationConfig
from agents.data import fluency_sentences
from agents.runs import Run
from qa_env.datasets import QADataset, QAExample
from qa_env.feedback.text import exact_match, normalise, token_f1, tokens, words
from qa_env.vocabulary import Kind
from qa_env.vocabulary_making import train_characters, train_words

PEOPLE = ("李明", "王芳", "张伟", "刘洋", "陈静", "杨光", "赵雷", "周杰")
CITIES = ("北京", "上海", "广州", "深圳", "成都", "杭州", "武汉", "西安")


def examples() -> list[dict[str, object]]:
    made = []
    for i in range(40):
        person, city, other = PEOPLE[i % 8], CITIES[(i + i // 8) % 8], CITIES[(i + 3) % 8]
        context = f"{person}住在{city}，他生于{1950 + i}年。{person}的弟弟住在{other}！"
        made.append({"id": f"q{i}", "question": f"{person}住在哪里？", "context": context, "answers": [city]})
    return made


@pytest.mark.parametrize(
    ("answer_", "references", "expected"),
    [
        ("北京", ["北京。"], 1.0),
        ("《红楼梦》", ["红楼梦"], 1.0),
        ("约翰·史密斯", ["约翰史密斯"], 1.0),
        ("１９９８年，北京", ["1998年北京"], 1.0),
        ("iPhone 手机", ["iphone手机"], 1.0),
        ("北京市", ["北京"], 0.0),
        ("1998", ["199 8"], 0.0),  # a number is one word
        ("。", ["，"], 0.0),
    ],
)
def test_exact_match_of_chinese_leaves_out_punctuation_and_blanks(
    answer_: str, references: list[str], expected: float
) -> None:
    assert exact_match(answer_, references) == expected


@pytest.mark.parametrize(
    ("answer_", "reference", "expected"),
    [
        ("北京市", "北京", 0.8),  # 2 of 3 and 2 of 2
        ("在1998年", "1998年", 0.8),  # a number is one word
        ("1998年", "1999年", 0.5),
        ("使用iPhone", "iPhone", 0.5),
        ("上海", "北京", 0.0),
    ],
)
def test_f1_of_chinese_counts_characters_latin_words_and_numbers(
    answer_: str, reference: str, expected: float
) -> None:
    assert token_f1(answer_, [reference]) == pytest.approx(expected)


@given(st.text(st.characters(max_codepoint=0x2DFF)))
def test_text_without_chinese_or_japanese_characters_is_split_at_blanks_alone(text: str) -> None:
    assert list(tokens(text)) == normalise(text).split()
    assert exact_match(text, [text]) == float(bool(normalise(text)) or not text)


def test_words_of_chinese_are_counted_by_character() -> None:
    assert words("他在北京。 Very good 3.5万") == ["他", "在", "北", "京", "very", "good", "3.5", "万"]


def test_sentences_end_without_a_blank() -> None:
    context = "他说：“来吧！”她来了。然后呢？No. Yes"
    data = QADataset((QAExample("q", "谁？", context, ("她",)),), (), (), (), ())
    assert set(fluency_sentences(data)) == {"她", "他说：“来吧！”", "她来了。", "然后呢？", "No.", "Yes"}


def test_sentence_ends_and_quotation_marks_behind_them_have_their_kind() -> None:
    vocabulary = train_words(["他说：“来。”", "她说：“去。”"], 320)
    ids = vocabulary.encode("“来。”")
    assert vocabulary.decode(ids[-1:]) == "。”" and vocabulary.kinds[ids[-1]] == Kind.END


def test_renaming_keeps_known_characters_and_changes_numbers_alike_in_source_and_answer() -> None:
    vocabulary = train_characters([str(e[k]) for e in examples() for k in ("question", "context")], 400)
    augmentation = Augmentation(vocabulary, AugmentationConfig(renamed=1.0, replaced=0.0))
    source = np.array([vocabulary.encode("他生于1957年。")] * 20)
    renamed, answers = augmentation(source, source[:, 3:7], np.random.default_rng(0))
    assert np.array_equal(renamed[:, 3:7], answers)
    assert np.array_equal(np.delete(renamed, range(3, 7), 1), np.delete(source, range(3, 7), 1))
    assert (answers != source[:, 3:7]).any(0).all()


def test_wide_characters_are_wrapped_at_the_width_of_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "answer: " + "北京是中国的首都，" * 6 + "[b]Beijing[/b] :smile:"
    answer.tell(text)
    assert capsys.readouterr().out == f"{text}\n"  # into a pipe as it is
    monkeypatch.setenv("FORCE_COLOR", "1")  # as in a terminal
    monkeypatch.setenv("COLUMNS", "21")
    answer.tell(text)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(cell_len, lines)) <= 21 and len(lines) == 8
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


def test_chinese_questions_end_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    made = examples()
    Path("data.jsonl").write_text(
        "\n".join(json.dumps(e, ensure_ascii=False) for e in made), encoding="utf-8"
    )
    Path("text.txt").write_text("\n".join(str(e["context"]) for e in made), encoding="utf-8")
    pretrain.main("vectors text.txt --out v.txt --dimensions 8 --epochs 1".split())
    sizes = (
        "--lm.embedding 12 --lm.encoder-hidden 8 --lm.hidden 16 --limits.max-source 64 --limits.max-answer 12"
    )
    short = "--warm-start.epochs 2 --rl.timesteps 300 --rl.n-envs 8 --rl.n-steps 16 --rl.batch-size 64"
    vocabulary = "--vocabulary.kind characters --vocabulary.size 600 --vectors v.txt"
    train.main(f"--data data.jsonl --split.labelled 8 {vocabulary} {sizes} {short}".split())
    printed = capsys.readouterr().out
    assert "vocabulary of" in printed and "word vectors for" in printed and "exact_match" in printed
    (folder,) = Path("runs").iterdir()
    assert len(Run.open(folder).vocabulary().encode("李明住在北京")) == 6
    evaluate.main([str(folder), "--data", "data.jsonl", "--out", "report.json"])
    assert "f1" in capsys.readouterr().out and Path("report.json").is_file()
    answer.main([str(folder), "李明住在哪里？"])
    assert "李明住在" in capsys.readouterr().out  # a passage that was looked up by characters
