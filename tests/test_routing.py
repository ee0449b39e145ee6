"""Who pays a reward: people's labels, the reward model, a fallback, or nobody."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from agents.decoding import Limits
from agents.reward_data import render
from agents.reward_model import RewardModel, RewardModelConfig
from agents.reward_network import RewardEnsemble
from agents.routing import MODEL_SD, RoutedFeedback
from policies.language_model import LSTMAttentionLM
from qa_env.datasets import QAExample
from qa_env.feedback import FunctionFeedback
from qa_env.feedback.aggregation import aggregate
from qa_env.feedback.base import Score
from qa_env.feedback.labels import Judgement, Label, Pair, Rating, Skip, answer_id
from qa_env.vocabulary import Vocabulary

NewLM = Callable[..., LSTMAttentionLM]
EXAMPLES = [QAExample(f"e{n}", f"what {n} is gold?", "the river" if n % 2 else None) for n in range(4)]
ANSWERS = ["the gold", "Asia", "the river is gold", "in Asia"]


def said(n: int, label: Label, rater: str = "ada") -> Judgement:
    return Judgement(rater, (id_of(n),), label)


def id_of(n: int) -> str:
    return answer_id(EXAMPLES[n].question, EXAMPLES[n].context, ANSWERS[n])


def score(routed: RoutedFeedback) -> Score:
    return routed.score(EXAMPLES, ANSWERS, [np.random.default_rng(n) for n in range(4)])


def shares(score: Score) -> np.ndarray:
    names = ("from_people", "from_model", "from_fallback")
    return np.array([score.components[name] for name in names]).T


@pytest.fixture
def model(vocabulary: Vocabulary, new_lm: NewLM) -> RewardModel:
    torch.manual_seed(0)
    config = RewardModelConfig(members=3)
    model = RewardModel(RewardEnsemble(new_lm(), 3), config, vocabulary, Limits(20, 8), 1)
    model.scale, model.good_enough = 1.6, 0.3
    return model


def test_nobody_pays_where_there_is_nobody() -> None:
    found = score(RoutedFeedback())
    assert found.reward.tolist() == [0] * 4 and not shares(found).any()


def test_the_fallback_is_asked_about_the_answers_without_labels_alone() -> None:
    asked: list[str] = []

    def rules(examples: Sequence[QAExample], answers: Sequence[str]) -> list[float]:
        asked.extend(answers)
        return [float(len(answer)) for answer in answers]

    routed = RoutedFeedback(FunctionFeedback(rules))
    routed.aggregate = aggregate([said(1, Rating(5, 5)), said(2, Skip())])
    found = score(routed)
    assert asked == [ANSWERS[0], *ANSWERS[2:]]
    assert found.reward[[0, 2, 3]].tolist() == [len(ANSWERS[n]) for n in (0, 2, 3)]
    assert (
        found.reward[1] == pytest.approx(2 * routed.aggregate.satisfies(id_of(1)) - 1) and found.reward[1] > 0
    )
    assert shares(found).tolist() == [[0, 0, 1], [1, 0, 0], [0, 0, 1], [0, 0, 1]]


def test_without_a_model_a_label_pays_and_what_nobody_judged_gets_nothing() -> None:
    routed = RoutedFeedback()
    routed.aggregate = aggregate([said(0, Rating(1, 1)), said(1, Rating(5, 5))])
    found = score(routed)
    assert -1 < found.reward[0] < 0 < found.reward[1] < 1 and found.reward[2:].tolist() == [0, 0]
    assert shares(found).sum(1).tolist() == [1, 1, 0, 0]
    assert routed.labelled_of(EXAMPLES, ANSWERS) == [True, True, False, False]


def test_the_model_pays_before_the_fallback(model: RewardModel) -> None:
    def never(examples: Sequence[QAExample], answers: Sequence[str]) -> list[float]:
        raise AssertionError("the fallback was asked")

    routed = RoutedFeedback(FunctionFeedback(never))
    routed.model = model
    found = score(routed)
    assert shares(found).tolist() == [[0, 1, 0]] * 4
    np.testing.assert_allclose(found.reward, model.reward(model.judge(*arrays(model))))


def arrays(model: RewardModel) -> tuple[np.ndarray, np.ndarray]:
    return render(EXAMPLES, ANSWERS, model.vocabulary, model.limits)


def of_labels(routed: RoutedFeedback, model: RewardModel, n: int) -> float:
    """What labels alone would pay."""
    assert routed.aggregate is not None
    return float(model.reward(model.judged(np.full((1, 3), routed.aggregate.quality[id_of(n)].mean)))[0])


@pytest.mark.parametrize("stars", [1, 5])
def test_a_label_moves_the_reward_toward_itself_the_more_there_are_the_more(
    model: RewardModel, stars: int
) -> None:
    routed = RoutedFeedback()
    routed.model = model
    before = score(routed).reward
    share, rewards = [], [before[0]]
    for number in (1, 3, 9):
        routed.aggregate = aggregate([said(0, Rating(stars, stars), f"r{n}") for n in range(number)])
        found = score(routed)
        np.testing.assert_array_equal(found.reward[1:], before[1:])
        np.testing.assert_allclose(shares(found).sum(1), 1)
        share.append(shares(found)[0, 0])
        rewards.append(found.reward[0])
        assert min(before[0], of_labels(routed, model, 0)) < rewards[-1]
        assert rewards[-1] < max(before[0], of_labels(routed, model, 0))
    assert 0 < share[0] < share[1] < share[2] < 1
    assert rewards == sorted(rewards, reverse=stars == 1)


def test_labels_and_model_are_weighted_by_their_precision(model: RewardModel) -> None:
    routed = RoutedFeedback()
    routed.model, routed.aggregate = model, aggregate([said(2, Rating(4, 4))])
    quality = routed.aggregate.quality[id_of(2)]
    members = model.members(*arrays(model))[2]
    human, own = quality.sd**-2, 1 / (members.var() + MODEL_SD**2)
    found = score(routed)
    assert shares(found)[2].tolist() == pytest.approx([human / (human + own), own / (human + own), 0])
    blended = (own * members + human * quality.mean) / (own + human)
    assert found.reward[2] == pytest.approx(model.reward(model.judged(blended[None]))[0])


def test_a_comparison_speaks_of_both_answers_and_a_skip_of_none() -> None:
    routed = RoutedFeedback()
    other = answer_id(EXAMPLES[0].question, EXAMPLES[0].context, "gold, silver")
    routed.aggregate = aggregate([Judgement("ada", (id_of(0), other), Pair("first")), said(3, Skip())])
    answers = [ANSWERS[0], "gold, silver", "neither"]
    assert routed.labelled_of(EXAMPLES[:1] * 3, answers) == [True, True, False]
    assert routed.labelled_of(EXAMPLES[3:], ANSWERS[3:]) == [False]
    first, second, _ = routed.score(EXAMPLES[:1] * 3, answers, [np.random.default_rng(0)] * 3).reward
    assert first > second
