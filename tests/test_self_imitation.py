from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from conftest import MAX_ANSWER, MAX_SOURCE
from stable_baselines3.common.callbacks import CallbackList
from test_buffers import LANES, STEPS, CheckRatio, new_model

from agents.augmentation import Augmentation, AugmentationConfig
from agents.buffers import AnswerRolloutBuffer
from agents.decoding import Limits
from agents.self_imitation import LEAST_SURPRISE, ImitationConfig, Imitator, SelfImitation, robust_loss
from agents.warm_start import Supervised, as_batch
from qa_env.errors import QAError
from qa_env.vocabulary import EOS, PAD

NewTask = Callable[..., tuple[Any, dict[str, Any]]]
Rated = tuple[np.ndarray, np.ndarray, float]


class Heard(AnswerRolloutBuffer):
    """A buffer of nothing but given answers."""

    def __init__(self, *answers: Rated) -> None:
        self.answers = answers

    def finished(self) -> Iterator[Rated]:
        yield from self.answers


def rated(question: int, word: int, reward: float) -> Rated:
    source, tokens = np.full(MAX_SOURCE, PAD), np.full(MAX_ANSWER, PAD)
    source[:2] = 40, 50 + question
    tokens[:2] = 70 + word, EOS
    return source, tokens, reward


def new_callback(new_task: NewTask, **config: Any) -> SelfImitation:
    """A callback on a model that has not been trained."""
    _, task = new_task("tokens")
    labelled = Supervised.from_examples(task["data"], task["vocabulary"], Limits(MAX_SOURCE, MAX_ANSWER))
    settings = ImitationConfig(**{"batches": 2, "threshold": 0.5, **config})
    unchanged = Augmentation(task["vocabulary"], AugmentationConfig(0, 0))
    return SelfImitation(settings, labelled, unchanged, seed=0)


def started(new_task: NewTask, **config: Any) -> SelfImitation:
    callback = new_callback(new_task, **config)
    model = new_model(new_task, "trained")
    model._setup_learn(1000, callback)
    callback.init_callback(model)
    return callback


def hear(callback: SelfImitation, *answers: Rated) -> None:
    callback.locals = {"rollout_buffer": Heard(*answers)}
    callback.on_rollout_end()


def kept(callback: SelfImitation) -> list[tuple[int, int, float]]:
    return sorted((g.source[1] - 50, g.tokens[0] - 70, g.reward) for g in callback.best.values())


def test_some_defaults_depend_on_whether_a_reward_model_pays() -> None:
    assert ImitationConfig().batches_and_threshold(modelled=False) == (8, 0.8)
    assert ImitationConfig().batches_and_threshold(modelled=True) == (0, 0.4)
    given = ImitationConfig(batches=3, threshold=0.1)
    assert given.batches_and_threshold(True) == given.batches_and_threshold(False) == (3, 0.1)


def test_only_answers_at_or_above_the_threshold_are_kept(new_task: NewTask) -> None:
    callback = started(new_task, threshold=0.5)
    hear(callback, rated(0, 0, 0.49), rated(1, 1, 0.5), rated(2, 2, 0.9), rated(3, 3, -1.0))
    assert kept(callback) == [(1, 1, 0.5), (2, 2, 0.9)]


def test_the_best_answer_to_a_question_is_kept(new_task: NewTask) -> None:
    callback = started(new_task)
    hear(callback, rated(0, 0, 0.6), rated(0, 1, 0.8), rated(0, 2, 0.7), rated(1, 3, 0.9))
    assert kept(callback) == [(0, 1, 0.8), (1, 3, 0.9)]
    hear(callback, rated(0, 4, 0.75), rated(1, 5, 1.0))
    assert kept(callback) == [(0, 1, 0.8), (1, 5, 1.0)]


def test_answers_are_drawn_in_proportion_to_how_much_they_surpassed_the_mean(new_task: NewTask) -> None:
    callback = started(new_task, batches=1, batch_size=20_000, labelled=0.0)
    hear(callback, rated(0, 0, 1.0), rated(0, 1, -0.5), rated(1, 2, 0.8), rated(2, 3, 0.9), rated(3, 4, 0.1))
    hear(callback, rated(0, 5, 0.1), rated(1, 6, 0.8), rated(2, 7, 0.7))
    ((source, tokens),) = callback._minibatches()
    surprise = np.array([1.0 - 0.2, 0.8 - 0.8, 0.9 - 0.8]) + LEAST_SURPRISE
    drawn = np.bincount(source[:, 1] - 50, minlength=4) / len(source)
    np.testing.assert_allclose(drawn, [*(surprise / surprise.sum()), 0], atol=0.015)
    assert {(q - 50, a - 70) for q, a in zip(source[:, 1], tokens[:, 0], strict=True)} == {
        (0, 0),
        (1, 6),  # of equals the latest
        (2, 3),
    }


def test_labelled_questions_are_mixed_in(new_task: NewTask) -> None:
    callback = started(new_task, batches=1, batch_size=40, labelled=0.25)
    hear(callback, rated(0, 0, 1.0))
    ((source, tokens),) = callback._minibatches()
    own = (source == rated(0, 0, 1.0)[0]).all(1)
    assert own.sum() == 30 and len(tokens) == 40
    labelled = {
        (s.tobytes(), t.tobytes())
        for s, t in zip(callback.labelled.source, callback.labelled.tokens, strict=True)
    }
    assert {(s.tobytes(), t.tobytes()) for s, t in zip(source[~own], tokens[~own], strict=True)} <= labelled


def log_likelihood(callback: SelfImitation, answer: Rated) -> float:
    batch, tokens = as_batch(answer[0][None], answer[1][None])
    with torch.no_grad():
        return float(callback.model.policy.evaluate_actions(batch, tokens)[1].sum())


def test_imitation_makes_a_kept_answer_likelier(new_task: NewTask) -> None:
    callback = started(new_task, batches=1, labelled=0.0)
    answer = rated(0, 0, 1.0)
    hear(callback, answer)
    before = log_likelihood(callback, answer)
    for _ in range(3):
        callback.on_rollout_start()
        after = log_likelihood(callback, answer)
        assert after > before
        before = after


@pytest.mark.parametrize("config", [{"batches": 0}, {"threshold": 2.0}], ids=["off", "nothing good"])
def test_without_batches_or_good_answers_nothing_is_learnt(new_task: NewTask, config: dict[str, Any]) -> None:
    callback = started(new_task, **config)
    before = {name: value.clone() for name, value in callback.model.policy.state_dict().items()}
    hear(callback, rated(0, 0, 1.0))
    callback.on_rollout_start()
    assert all(torch.equal(v, before[n]) for n, v in callback.model.policy.state_dict().items())


@pytest.mark.parametrize("setting", ["trained", "frozen", "tokens"])
@pytest.mark.parametrize("first", [True, False], ids=["before the check", "after the check"])
def test_it_runs_behind_the_update_only_so_the_ratio_stays_one(
    new_task: NewTask, monkeypatch: pytest.MonkeyPatch, setting: str, first: bool
) -> None:
    model = new_model(new_task, setting, samples=4, baseline="group")
    imitation, check = new_callback(new_task, threshold=0.0), CheckRatio()
    updates: list[int] = []
    step = Imitator.step

    def counted(imitator: Imitator, *minibatch: Any) -> float:
        updates.append(model._n_updates)
        return step(imitator, *minibatch)

    monkeypatch.setattr(Imitator, "step", counted)
    model.learn(4 * STEPS * LANES, CallbackList([imitation, check] if first else [check, imitation]))
    assert check.rollouts == 4 and check.straddling > 0
    assert updates == [n for n in (2, 4, 6) for _ in range(2)]  # two epochs an update, two steps behind it
    assert imitation.best


def test_a_checkpoint_keeps_what_was_heard(new_task: NewTask) -> None:
    callback = started(new_task, threshold=0.5)
    hear(callback, rated(0, 0, 0.6), rated(0, 1, 0.8), rated(1, 2, -0.5), rated(2, 3, 0.9))
    other = started(new_task, threshold=0.5)
    other.load_state(callback.state())
    assert kept(other) == kept(callback) == [(0, 1, 0.8), (2, 3, 0.9)]
    for each in (callback, other):
        hear(each, rated(0, 0, 0.1), rated(1, 4, 1.0))
    assert kept(other) == kept(callback) == [(0, 1, 0.8), (1, 4, 1.0), (2, 3, 0.9)]
    assert other._heard == callback._heard


def test_a_checkpoint_of_nothing_heard_is_nothing_heard(new_task: NewTask) -> None:
    callback = started(new_task)
    callback.load_state(started(new_task).state())
    assert not callback.best and not callback._heard


def test_the_last_passes_see_every_good_and_labelled_answer_equally_often_at_a_falling_rate(
    new_task: NewTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    callback = started(new_task, epochs=3, batch_size=2)
    hear(callback, rated(0, 0, 1.0), rated(0, 1, -1.0), rated(1, 2, 0.6), rated(2, 3, 0.1))
    seen: list[bytes] = []
    rates: list[float] = []

    def noted(self: Imitator, source: np.ndarray, tokens: np.ndarray, rate: float) -> float:
        seen.extend(s.tobytes() + t.tobytes() for s, t in zip(source, tokens, strict=True))
        rates.append(rate)
        return 0.0

    monkeypatch.setattr(Imitator, "step", noted)
    callback.consolidate()
    counts = Counter(seen)
    good = [rated(0, 0, 1.0), rated(1, 2, 0.6)]
    assert all(counts[s.tobytes() + t.tobytes()] == 3 for s, t, _ in good)
    assert len(seen) == 3 * (len(callback.labelled.source) + 2)
    falling = np.linspace(callback.config.learning_rate, 0.0, len(rates), endpoint=False)
    np.testing.assert_allclose(rates, falling)


def test_the_last_passes_make_good_answers_likelier(new_task: NewTask) -> None:
    callback = started(new_task, epochs=5)
    known = callback.labelled
    one = [part[:1] for part in (known.source, known.tokens, known.tokens)]
    callback.labelled = Supervised(known.examples[:1], *one, np.ones(1, dtype=np.int64), cut=0)
    hear(callback, rated(0, 0, 1.0), rated(1, 2, 0.6))
    before = [log_likelihood(callback, rated(*answer, 1.0)) for answer in ((0, 0), (1, 2))]
    callback.consolidate()
    after = [log_likelihood(callback, rated(*answer, 1.0)) for answer in ((0, 0), (1, 2))]
    assert all(a > b for a, b in zip(after, before, strict=True))


def test_dropout_changes_what_is_learnt_and_ends_with_the_step(new_task: NewTask) -> None:
    losses = []
    for share in (0.0, 0.0, 0.5):
        callback = started(new_task, dropout=share)
        hear(callback, rated(0, 1, 0.9))
        (good,) = callback.best.values()
        imitator = callback._imitator
        losses.append(imitator.step(good.source[None], good.tokens[None], 1e-3))
        lm = imitator.policy.lm
        assert lm.encoder.dropout.p == 0 and not lm.training
    assert losses[0] == losses[1] != losses[2]


def test_without_epochs_the_last_passes_change_nothing(new_task: NewTask) -> None:
    callback = started(new_task, epochs=0)
    before = {name: value.clone() for name, value in callback.model.policy.state_dict().items()}
    hear(callback, rated(0, 0, 1.0))
    callback.consolidate()
    assert all(torch.equal(v, before[n]) for n, v in callback.model.policy.state_dict().items())


def test_the_robust_loss_scales_the_gradient_of_each_token_by_a_power_of_its_probability() -> None:
    probability = torch.tensor([0.9, 0.5, 0.01], dtype=torch.float64)
    log_p = probability.log().requires_grad_()
    for robustness in (0.0, 0.3, 1.0):
        (gradient,) = torch.autograd.grad(robust_loss(log_p, robustness), log_p)
        torch.testing.assert_close(gradient, -(probability**robustness) / 3)
    torch.testing.assert_close(robust_loss(log_p, 1.0), (1 - probability).mean())
    torch.testing.assert_close(robust_loss(log_p, 0.0), -probability.log().mean())
    torch.testing.assert_close(robust_loss(log_p, 1e-6), -probability.log().mean(), rtol=1e-4, atol=0.0)


@pytest.mark.parametrize(
    "field",
    [
        {"batches": -1},
        {"batch_size": 0},
        {"epochs": -1},
        {"robustness": 1.1},
        {"learning_rate": 0.0},
        {"dropout": 1.0},
    ],
)
def test_settings_out_of_range_are_refused_by_name(field: dict[str, Any]) -> None:
    with pytest.raises(QAError, match=f"imitation.{next(iter(field))} must be"):
        ImitationConfig(**field)
