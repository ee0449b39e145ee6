"""The signs of over-optimisation, and the way back."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from agents.asking import Finished
from agents.decoding import Limits
from agents.guards import LEAST_PROBES, GuardConfig, Guards, foretold
from agents.reward_data import render
from agents.reward_model import RewardModel, RewardModelConfig
from agents.reward_network import RewardEnsemble
from policies.language_model import LSTMAttentionLM
from qa_env.datasets import QAExample
from qa_env.errors import QAError
from qa_env.feedback.labels import Correction, Judgement, Label, Pair, Percent, Ranking, Rating, Skip, Thumb
from qa_env.feedback.store import AnswerRecord
from qa_env.vocabulary import Vocabulary

NewLM = Callable[..., LSTMAttentionLM]
FINE = {"human_gap": 0.0, "length_correlation": 0.0, "distinct": 1.0}


def finished(*answers: tuple[int, str, float]) -> list[Finished]:
    return [Finished(example, text, 0, 0, reward, 0.0) for example, text, reward in answers]


@pytest.fixture
def model(vocabulary: Vocabulary, new_lm: NewLM) -> RewardModel:
    torch.manual_seed(0)
    model = RewardModel(
        RewardEnsemble(new_lm(), 2), RewardModelConfig(members=2), vocabulary, Limits(20, 8), 1
    )
    model.scale, model.good_enough = 1.6, 0.3
    return model


def test_reward_that_grows_with_length_is_an_alarm() -> None:
    guards = Guards(GuardConfig())
    by_length = finished(*((n, "word " * n, 0.3 * n) for n in range(1, 6)))
    against = finished(*((n, "word " * n, -0.3 * n) for n in range(1, 6)))
    assert guards.figures(by_length)["length_correlation"] == pytest.approx(1)
    assert guards.alarms(guards.figures(by_length)) == ["length_correlation"]
    assert guards.figures(against)["length_correlation"] == pytest.approx(-1)
    assert guards.alarms(guards.figures(against)) == []


@pytest.mark.parametrize(
    "answers",
    [
        [],
        [(0, "a", 1.0), (1, "a b", 2.0)],
        [(n, "a", float(n)) for n in range(5)],
        [(n, "a " * n, 1.0) for n in range(5)],
    ],
    ids=["none", "two", "one length", "one reward"],
)
def test_where_nothing_varies_there_is_no_correlation(answers: list[tuple[int, str, float]]) -> None:
    assert Guards(GuardConfig()).figures(finished(*answers))["length_correlation"] == 0


def test_the_same_answer_to_everything_is_no_collapse_but_to_one_question_is() -> None:
    guards = Guards(GuardConfig(least_distinct=0.3))
    same = guards.figures(finished(*[(0, "yes", 0.0)] * 4))
    assert same["distinct"] == 0.25 and guards.alarms(same) == ["distinct"]
    others = guards.figures(finished(*((n, "yes", 0.0) for n in range(4))))
    assert others["distinct"] == 1 and guards.alarms(others) == []


def test_a_model_that_thinks_more_of_answers_than_people_is_an_alarm() -> None:
    guards = Guards(GuardConfig(max_gap=0.25, probes=LEAST_PROBES))
    guards.probe(np.full(LEAST_PROBES - 1, 0.9), np.zeros(LEAST_PROBES - 1))
    assert np.isnan(guards.gap) and guards.alarms({**FINE, "human_gap": guards.gap}) == []
    guards.probe(np.array([0.9]), np.array([0.0]))
    assert guards.gap == pytest.approx(0.9)
    assert guards.alarms(guards.figures(finished((0, "a", 1.0)))) == ["human_gap"]
    guards.probe(np.full(LEAST_PROBES, 0.2), np.ones(LEAST_PROBES))  # the first are forgotten
    assert guards.gap == pytest.approx(-0.8) and guards.alarms({**FINE, "human_gap": guards.gap}) == []


def test_each_sign_counts_beyond_its_limit_only() -> None:
    guards = Guards(GuardConfig(max_gap=0.2, max_length_correlation=0.5, least_distinct=0.4))
    at = {"human_gap": 0.2, "length_correlation": 0.5, "distinct": 0.4}
    beyond = {"human_gap": 0.21, "length_correlation": 0.51, "distinct": 0.39}
    assert guards.alarms(at) == []
    assert guards.alarms(beyond) == ["human_gap", "length_correlation", "distinct"]


def test_the_last_good_policy_and_model_come_back_as_they_were(model: RewardModel, new_lm: NewLM) -> None:
    guards, policy = Guards(GuardConfig()), new_lm()
    assert guards.roll_back() is None and guards.rolled_back == 0
    guards.keep(policy.state_dict(), model)
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(1.0)
    guards.probe(np.ones(20), np.zeros(20))
    good = guards.roll_back()
    assert good is not None and good.model is model and guards.rolled_back == 1
    policy.load_state_dict(good.policy)
    assert all(torch.equal(value, before[name]) for name, value in policy.state_dict().items())
    assert np.isnan(guards.gap)  # the probes were about another policy


def test_a_checkpoint_keeps_the_probes() -> None:
    guards, other = Guards(GuardConfig(probes=12)), Guards(GuardConfig(probes=12))
    guards.probe(np.linspace(0, 1, 15), np.zeros(15))
    guards.rolled_back = 3
    other.load_state(json.loads(json.dumps(guards.state())))
    assert other.gap == guards.gap and other.rolled_back == 3
    for each in (guards, other):
        each.probe(np.ones(5), np.zeros(5))
    assert other.gap == guards.gap


def test_what_the_model_foretells_of_labels_and_what_they_say(model: RewardModel) -> None:
    answers = [AnswerRecord("what is gold?", text) for text in ("the river", "gold", "in Asia")]
    records = {answer.id: answer for answer in answers}
    a, b, c = records
    labels: list[tuple[tuple[str, ...], Label, float | None]] = [
        ((a,), Rating(4, 4), 1),
        ((a,), Rating(3, 4), 0),
        ((b,), Rating(3, 5), 1),
        ((b,), Percent(70, 70), 1),
        ((b,), Percent(60, 70), 0),
        ((c,), Thumb(True), 1),
        ((c,), Thumb(False), 0),
        ((a, b), Pair("first", 3), 1),
        ((a, b), Pair("second"), 0),
        ((b, c), Pair("tie"), 0.5),
        ((b, c), Pair("both_wrong"), None),
        ((a, b, c), Ranking((1, 2, 3)), None),
        ((a,), Correction("Gold."), None),
        ((a,), Skip(), None),
    ]
    predicted, said = foretold(model, [Judgement("ada", ids, label) for ids, label, _ in labels], records)
    assert said.tolist() == [told for *_, told in labels if told is not None]
    examples = [QAExample(x.id, x.question, None, ()) for x in answers]
    quality = model.members(
        *render(examples, [x.text for x in answers], model.vocabulary, model.limits)
    ).mean(1)
    of = dict(zip(records, quality, strict=True))
    expected = [
        1 / (1 + np.exp(-1.6 * (of[ids[0]] - (of[ids[1]] if len(ids) == 2 else 0.3))))
        for ids, _, told in labels
        if told is not None
    ]
    np.testing.assert_allclose(predicted, expected, rtol=1e-5)


def test_labels_that_say_neither_foretell_nothing(model: RewardModel) -> None:
    for judgements in ([], [Judgement("ada", ("unknown",), Skip())]):
        predicted, said = foretold(model, judgements, {})
        assert len(predicted) == len(said) == 0


@pytest.mark.parametrize(
    "field", [{"probes": LEAST_PROBES - 1}, {"max_gap": -0.1}, {"least_distinct": float("nan")}]
)
def test_settings_out_of_range_are_refused_by_name(field: dict[str, Any]) -> None:
    with pytest.raises(QAError, match=rf"guards.{next(iter(field))} must be \d+ or more"):
        GuardConfig(**field)
