"""What is asked about a rollout's answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from agents.asking import AskConfig, Asker, Finished
from agents.decoding import Limits
from agents.reward_model import RewardModel, RewardModelConfig
from agents.reward_network import RewardEnsemble
from policies.language_model import LSTMAttentionLM
from qa_env.datasets import QAExample
from qa_env.errors import QAError
from qa_env.feedback.store import Query
from qa_env.vocabulary import Vocabulary

NewLM = Callable[..., LSTMAttentionLM]
EXAMPLES = [QAExample(f"e{n}", f"Who is {n}?", "A passage." if n else None) for n in range(4)]


def answers(each: int = 3, of: str = "answer") -> list[Finished]:
    """So many different answers to each question; the later, the less sure the policy was."""
    return [Finished(n % 4, f"{of} {n // 4}", n, 0, 0.0, n / 10) for n in range(4 * each)]


def asker(**config: Any) -> Asker:
    return Asker(AskConfig(**{"crowd": 9, **config}), EXAMPLES, np.random.default_rng(0))


def about(queries: list[Query]) -> list[tuple[str, ...]]:
    return [(q.answers[0].example_id, *(a.text for a in q.answers)) for q in queries]


@pytest.mark.parametrize("kind", ["rating", "percent", "thumb", "correction"])
def test_queries_are_about_different_answers_of_the_rollout(kind: str) -> None:
    queries = asker(kind=kind, needed=2).queries(answers(), 5, None, 700)
    assert len(queries) == len({q.id for q in queries}) == len(set(about(queries))) == 5
    assert set(about(queries)) <= {(EXAMPLES[a.example].id, a.text) for a in answers()}
    for query in queries:
        (record,) = query.answers
        example = EXAMPLES[int(record.example_id[1])]
        assert (record.question, record.context, record.step) == (example.question, example.context, 700)
        assert (query.kind, query.needed, query.selector) == (kind, 2, "uniform")


def test_pairs_are_of_different_answers_to_one_question() -> None:
    queries = asker(kind="pair").queries(answers(), 5, None, 0)
    assert len(queries) == 5
    assert all(len(q.answers) == 2 and q.answers[0].question == q.answers[1].question for q in queries)


def test_ratings_and_pairs_share_the_number() -> None:
    queries = asker(kind="ratings-and-pairs").queries(answers(), 7, None, 0)
    assert sorted(q.kind for q in queries) == ["pair"] * 3 + ["rating"] * 4


def test_ratings_and_pairs_take_turns_where_one_is_asked_about_at_a_time() -> None:
    chooser = asker(kind="ratings-and-pairs")
    kinds = [q.kind for n in range(10) for q in chooser.queries(answers(2, f"{n}"), 1, None, 0)]
    assert kinds == ["rating", "pair"] * 5


def test_where_there_is_no_pair_ratings_are_asked_for_and_pairs_make_up_for_it_later() -> None:
    chooser = asker(kind="ratings-and-pairs")
    alone = [q.kind for n in range(2) for q in chooser.queries(answers(1, f"{n}"), 3, None, 0)]
    assert alone == ["rating"] * 6
    later = [q.kind for n in range(2, 5) for q in chooser.queries(answers(2, f"{n}"), 4, None, 0)]
    assert sorted(alone + later) == ["pair"] * 9 + ["rating"] * 9


@pytest.mark.parametrize("kind", ["rating", "pair", "ratings-and-pairs"])
def test_nothing_is_asked_twice(kind: str) -> None:
    """A store would not ask it again, and a label that never comes would stay charged to the budget."""
    chooser, seen = asker(kind=kind), list[tuple[str, ...]]()
    for _ in range(20):
        queries = chooser.queries(answers(), 4, None, 0)
        assert len(queries) <= 4
        seen += [(q.kind, q.answers[0].example_id, *sorted(a.text for a in q.answers)) for q in queries]
    assert len(seen) == len(set(seen)) == {"rating": 12, "pair": 12, "ratings-and-pairs": 24}[kind]
    assert not chooser.queries(answers(), 4, None, 0)
    more = 0 if kind == "pair" else 4
    assert len(chooser.queries(answers(1, "another"), 4, None, 0)) == more
    assert chooser.asked.sum() == len(seen) + more


def test_nothing_is_asked_of_nothing() -> None:
    assert asker().queries([], 5, None, 0) == [] == asker().queries(answers(), 0, None, 0)
    assert len(asker().queries(answers(1), 99, None, 0)) == 4


def test_what_no_store_can_keep_is_not_asked_about() -> None:
    queries = asker().queries([*answers(1), *answers(1, "one\0")], 9, None, 0)
    assert len(queries) == 4 and {text for _, text in about(queries)} == {"answer 0"}
    assert asker().queries(answers(1, "\0"), 9, None, 0) == []


def test_a_share_is_chosen_uniformly_whatever_the_selector() -> None:
    queries = asker(selector="entropy", uniform=0.25).queries(answers(), 8, None, 0)
    assert sorted(q.purpose for q in queries) == ["train"] * 6 + ["uniform"] * 2
    assert all(q.selector == ("uniform" if q.purpose == "uniform" else "entropy") for q in queries)


def test_the_least_sure_answers_are_chosen_by_entropy() -> None:
    queries = asker(selector="entropy", uniform=0.0).queries(answers(), 4, None, 0)
    assert {text for _, text in about(queries)} == {"answer 2"}


def test_questions_that_were_asked_about_least_come_first() -> None:
    chooser = asker(selector="rare-question", uniform=0.0)
    for round_ in range(3):
        queries = chooser.queries(answers(), 4, None, 0)
        assert sorted(q.answers[0].example_id for q in queries) == ["e0", "e1", "e2", "e3"]
        assert chooser.asked.tolist() == [round_ + 1] * 4


@pytest.fixture
def model(vocabulary: Vocabulary, new_lm: NewLM) -> RewardModel:
    torch.manual_seed(0)
    network, limits = RewardEnsemble(new_lm(), 3), Limits(20, 8)
    return RewardModel(network, RewardModelConfig(members=3), vocabulary, limits, 1)


@pytest.mark.parametrize("selector", ["disagreement", "k-centre", "k-centre+disagreement"])
@pytest.mark.parametrize("kind", ["rating", "pair"])
def test_the_reward_model_guides_the_choice(model: RewardModel, selector: str, kind: str) -> None:
    chooser = asker(selector=selector, uniform=0.0, kind=kind)
    queries = chooser.queries(answers(), 3, model, 0)
    assert len(queries) == 3
    if selector == "disagreement" and kind == "rating":
        spread = chooser._candidates(answers(), model).disagreement
        most = {answers()[n].text + EXAMPLES[answers()[n].example].id for n in np.argsort(-spread)[:3]}
        assert {text + example for example, text in about(queries)} == most


@pytest.mark.parametrize("kind", ["rating", "pair"])
def test_k_centre_keeps_away_from_what_earlier_rollouts_asked_about(
    model: RewardModel, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where an answer lies is its number here, and that of a pair between its two."""

    def places(source: Any, tokens: Any) -> Any:
        return np.array([[float(model.vocabulary.decode(row))] for row in tokens.tolist()])

    monkeypatch.setattr(model, "features", places)
    chooser = asker(selector="k-centre", uniform=0.0, kind=kind)

    def ask(*numbers: int) -> set[str]:
        written = [Finished(0, str(n), n, 0, 0.0, np.nan) for n in numbers]
        (query,) = chooser.queries(written, 1, model, 0)
        return {answer.text for answer in query.answers}

    if kind == "rating":
        ask(9)
        assert [ask(1, 8), ask(2, 5, 8), ask(3, 6, 2)] == [{"1"}, {"5"}, {"3"}]
    else:
        ask(0, 2)
        assert ask(1, 3, 9) == {"3", "9"}


@pytest.mark.parametrize("selector", ["uniform", "k-centre"])
def test_a_checkpoint_goes_on_alike(selector: str, model: RewardModel) -> None:
    one = asker(uniform=0.5, selector=selector)
    one.queries(answers(), 4, model, 0)
    other = asker(uniform=0.5, selector=selector)
    other.load_state(json.loads(json.dumps(one.state())))
    for _ in range(3):
        assert one.queries(answers(), 3, model, 0) == other.queries(answers(), 3, model, 0)
    assert (one.asked == other.asked).all() and one.asked.sum() == 12


@pytest.mark.parametrize(
    ("field", "line"),
    [
        ({"kind": "essay"}, "ask.kind must be one of"),
        ({"annotators": "friends"}, "ask.annotators must be one of people, oracle"),
        ({"selector": "best"}, "selector"),
        ({"crowd": 0}, "ask.crowd must be 1 or more"),
        ({"needed": 2}, "need as many annotators: --ask.crowd"),
        ({"refits": -1}, "ask.refits and ask.wait must be 0 or more"),
        ({"wait": float("nan")}, "ask.refits and ask.wait must be 0 or more"),
        ({"uniform": 1.5}, "ask.uniform must be from 0 to 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused_in_one_line(field: dict[str, Any], line: str) -> None:
    with pytest.raises(QAError, match=line):
        AskConfig(**field)


def test_people_in_the_store_may_be_more_than_are_known() -> None:
    assert AskConfig(annotators="people", needed=3).needed == 3
