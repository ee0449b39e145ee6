"""Tasks of reasoning-gym: their questions as data, their scorers as feedback."""

from __future__ import annotations

import numpy as np
import pytest

import qa_env.datasets.reasoning
from qa_env.datasets import QAExample
from qa_env.datasets.reasoning import ENTRY, SPREAD, TaskName
from qa_env.errors import QAError
from qa_env.feedback import as_feedback, score_checked
from qa_env.sources import check_sources, load_data
from qa_env.vector_env import QAVectorEnv

reasoning_gym = pytest.importorskip("reasoning_gym", reason="the extra `reasoning` is not installed")

LEGS, SUMS = "reasoning-gym:leg_counting", "reasoning-gym:basic_arithmetic"


def judged(examples: tuple[QAExample, ...], answers: list[str]) -> list[float]:
    rngs = np.random.default_rng(0).spawn(len(answers))
    return score_checked(as_feedback("reasoning-gym"), examples, answers, rngs).reward.tolist()


def test_a_name_makes_the_same_questions_each_time() -> None:
    examples = load_data(f"{LEGS}:7")
    assert len(examples) == 7 and examples == load_data(f"{LEGS}:7:0")
    assert examples[:3] == load_data(f"{LEGS}:3")
    others = load_data(f"{LEGS}:7:1")
    assert not {e.question for e in examples} & {e.question for e in others}
    assert len({e.id for e in (*examples, *others)}) == 14


def test_questions_and_answers_are_those_of_the_generator() -> None:
    made = reasoning_gym.create_dataset("basic_arithmetic", size=5, seed=3 * SPREAD)
    for example, entry in zip(load_data(f"{SUMS}:5:3"), made, strict=True):
        assert example.question == entry["question"].strip()
        assert example.answers == (entry["answer"],) and example.context is None


def test_the_generators_own_scorer_is_the_feedback() -> None:
    examples = load_data(f"{LEGS}:3,{SUMS}:3")
    assert judged(examples, [e.answers[0] for e in examples]) == [1.0] * 6
    assert judged(examples, [""] * 6) == [0.0] * 6
    makers = {
        name: reasoning_gym.create_dataset(name, size=1) for name in ("leg_counting", "basic_arithmetic")
    }
    answers = ["7", "no \ufffd number", "12", "-3", "1e99", ")("]
    for example, answer, reward in zip(examples, answers, judged(examples, answers), strict=True):
        entry = example.metadata[ENTRY]
        assert reward == makers[entry["metadata"]["source_dataset"]].score_answer(answer, entry)


def test_an_answer_that_a_scorer_stumbles_over_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    def stumble(self: object, answer: str, entry: object) -> float:
        raise ArithmeticError(answer)

    examples = load_data(f"{LEGS}:1")
    monkeypatch.setattr(type(reasoning_gym.create_dataset("leg_counting")), "score_answer", stumble)
    assert judged(examples, ["7"]) == [0.0]


def test_an_environment_pays_what_the_scorer_says() -> None:
    limits = {"max_source": 60, "max_answer": 8}
    env = QAVectorEnv(2, data=f"{SUMS}:20", feedback="reasoning-gym", encoder=None, **limits)
    env.reset(seed=0, options={"index": np.array([4, 4])})
    right = env.task.vocabulary.encode_answers([env.task.examples[4].answers[0]])[0]
    for token in right[:-1]:
        env.step(np.array([token, token]))
    _, rewards, done, _, _ = env.step(np.array([right[-1], right[0]]))
    assert done[0] and rewards[0] == 1.0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("reasoning-gym:", "expected reasoning-gym:TASK"),
        ("reasoning-gym:leg_counting:many", "expected reasoning-gym:TASK"),
        ("reasoning-gym:leg_counting:1:2:3", "expected reasoning-gym:TASK"),
        ("reasoning-gym:leg_counting:0", "expected a size of 1 or more, got 0"),
        ("reasoning-gym:leg_count", "no task 'leg_count'; did you mean 'leg_counting'"),
        ("reasoning-gym:qqqq", "no task 'qqqq': it has "),
    ],
)
def test_a_name_that_says_nothing_is_told_before_any_work(text: str, reason: str) -> None:
    with pytest.raises(QAError, match=reason) as caught:
        check_sources(text)
    assert "\n" not in str(caught.value)
    assert TaskName.parse(f"{LEGS}:5:6") == ("leg_counting", 5, 6)


def test_the_scorers_judge_their_own_questions_only() -> None:
    with pytest.raises(QAError, match="knows its own questions only, and example 'mine' is none"):
        judged((QAExample("mine", "Q?", answers=("A",)),), ["A"])


def test_without_the_library_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(qa_env.datasets.reasoning, "import_module", missing)
    for use in (lambda: check_sources(LEGS), lambda: as_feedback("reasoning-gym")):
        with pytest.raises(QAError, match=r'pip install "qa-env-rl\[reasoning\]"'):
            use()
