from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from conftest import MAX_ANSWER, SETTINGS
from sb3_contrib import TRPO
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import DictRolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from torch.nn.utils import parameters_to_vector

from agents.buffers import AnswerRolloutBuffer
from agents.vec_env import QAVecEnv
from policies import AnswerBatch, LMActorCriticPolicy
from policies.attention import ATTENTIONS
from qa_env.datasets import QAExample
from qa_env.encoders import EncoderConfig, LSTMEncoder
from qa_env.errors import QAError
from qa_env.vector_env import QAVectorEnv
from qa_env.vocabulary import EOS, PAD

NewTask = Callable[..., tuple[Any, dict[str, Any]]]
LANES = 4
STEPS = 9
"""Longer than an answer and no multiple of one: answers straddle the rollouts."""
SAMPLINGS = [
    pytest.param({}, id="plain"),
    pytest.param({"temperature": 0.7}, id="temperature"),
    pytest.param({"top_k": 5}, id="top-k"),
    pytest.param({"top_p": 0.8}, id="top-p"),
    pytest.param({"temperature": 1.3, "top_k": 9, "top_p": 0.9}, id="all"),
]


def length(examples: Sequence[QAExample], answers: Sequence[str]) -> list[float]:
    return [0.1 * len(a) for a in answers]


def new_model(
    new_task: NewTask,
    setting: str,
    buffer: type[Any] = AnswerRolloutBuffer,
    algorithm: type[Any] = PPO,
    sampling: dict[str, Any] | None = None,
    samples: int = 1,
    baseline: str | None = None,
    **changes: Any,
) -> Any:
    lm, task = new_task(setting, **changes)
    env = QAVecEnv(QAVectorEnv(LANES, feedback=length, samples_per_question=samples, **task))
    options = (
        {"n_epochs": 2, "ent_coef": 0.01} if algorithm is PPO else {"cg_max_steps": 1, "n_critic_updates": 1}
    )
    model = algorithm(
        LMActorCriticPolicy,
        env,
        learning_rate=3e-3,
        n_steps=STEPS,
        batch_size=12,
        gamma=1.0,
        policy_kwargs={"lm": lm, **(sampling or {})},
        rollout_buffer_class=buffer,
        rollout_buffer_kwargs=None if baseline is None else {"baseline": baseline},
        seed=0,
        **options,
    )
    if buffer is AnswerRolloutBuffer:
        model.rollout_buffer.keeps_memory = setting == "frozen"
    return model


class Nothing(BaseCallback):
    def _on_step(self) -> bool:
        return True


class CheckRatio(Nothing):
    """Before each update: the policy gives every token the probability it was sampled with."""

    def __init__(self) -> None:
        super().__init__()
        self.rollouts = self.straddling = 0

    def _on_rollout_end(self) -> None:
        buffer, policy = self.model.rollout_buffer, self.model.policy
        self.rollouts += 1
        self.straddling += int((buffer._offset > 0).sum())
        rows = 0
        for batch in buffer.get(12):
            with torch.no_grad():
                values, log_prob, _ = policy.evaluate_actions(batch.observations, batch.actions.flatten())
            ratio = (log_prob - batch.old_log_prob).exp()
            torch.testing.assert_close(ratio, torch.ones_like(ratio), atol=1e-4, rtol=0)
            torch.testing.assert_close(values.flatten(), batch.old_values, atol=1e-4, rtol=1e-4)
            rows += len(ratio)
        assert rows == STEPS * LANES


def collect(model: Any, rollouts: int = 1) -> None:
    """Play without learning, with the same dice at every call."""
    torch.manual_seed(0)
    _, callback = model._setup_learn(10**6, Nothing())
    for _ in range(rollouts):
        model.collect_rollouts(model.env, callback, model.rollout_buffer, model.n_steps)


def weights(model: Any) -> torch.Tensor:
    return parameters_to_vector(model.policy.parameters()).detach().clone()


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_the_ratio_is_one_before_every_update(
    new_task: NewTask, setting: str, sampling: dict[str, Any]
) -> None:
    model, check = new_model(new_task, setting, sampling=sampling), CheckRatio()
    before = weights(model)
    model.learn(3 * STEPS * LANES, check)
    assert check.rollouts == 3 and check.straddling > 0
    assert (weights(model) - before).abs().max() > 1e-3


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("attention", sorted(set(ATTENTIONS) - {"multiplicative"}))
def test_the_ratio_is_one_with_every_attention(new_task: NewTask, setting: str, attention: str) -> None:
    model, check = new_model(new_task, setting, attention=attention), CheckRatio()
    model.learn(3 * STEPS * LANES, check)
    assert check.rollouts == 3 and check.straddling > 0


def test_the_ratio_is_one_with_trpo_which_swaps_the_weights_under_the_policy(new_task: NewTask) -> None:
    model, check = new_model(new_task, "trained", algorithm=TRPO), CheckRatio()
    before = model.policy.lm.decoder.weight_hh_l0.detach().clone()
    model.learn(2 * STEPS * LANES, check)
    assert check.rollouts == 2 and check.straddling > 0
    assert not torch.equal(model.policy.lm.decoder.weight_hh_l0, before)


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_ratio_is_one_with_several_samples_of_a_question(new_task: NewTask, setting: str) -> None:
    model = new_model(new_task, setting, samples=4, baseline="group")
    check, before = CheckRatio(), weights(model)
    model.learn(3 * STEPS * LANES, check)
    assert check.rollouts == 3 and check.straddling > 0
    assert (weights(model) - before).abs().max() > 1e-3


def test_an_unknown_baseline_is_refused(new_task: NewTask) -> None:
    with pytest.raises(QAError, match=r"baseline must be one of critic, .*; got 'mean'"):
        new_model(new_task, "tokens", baseline="mean")


def test_an_environment_with_an_encoder_of_its_own_is_read_from_memory(new_task: NewTask) -> None:
    _, task = new_task("tokens")
    torch.manual_seed(0)
    config = EncoderConfig(vocabulary=len(task["vocabulary"]), embedding=8, hidden=7)
    task["encoder"] = LSTMEncoder(config).requires_grad_(False)
    env = QAVecEnv(QAVectorEnv(LANES, feedback=length, **task))
    model = PPO(
        LMActorCriticPolicy,
        env,
        n_steps=STEPS,
        batch_size=12,
        rollout_buffer_class=AnswerRolloutBuffer,
        seed=0,
    )
    model.rollout_buffer.keeps_memory = True
    check = CheckRatio()
    model.learn(2 * STEPS * LANES, check)
    assert check.rollouts == 2


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize(("samples", "baseline"), [(1, "critic"), (4, "group")])
def test_the_distance_to_a_reference_that_is_a_copy_is_nought_until_the_first_update(
    new_task: NewTask, setting: str, sampling: dict[str, Any], samples: int, baseline: str
) -> None:
    model = new_model(new_task, setting, sampling=sampling, samples=samples, baseline=baseline)
    buffer = model.rollout_buffer
    buffer.reference, buffer.kl_coef = copy.deepcopy(model.policy), 1.0
    collect(model, 2)
    np.testing.assert_allclose(buffer.rewards, buffer.raw_rewards, atol=1e-4)
    assert abs(buffer.kl) < 1e-5
    for _ in range(3):
        model.train()
    collect(model)
    assert np.abs(buffer.rewards - buffer.raw_rewards).max() > 1e-3
    frozen = [p for n, p in buffer.reference.named_parameters()]
    assert all(p.grad is None for p in frozen)


@pytest.mark.parametrize("setting", SETTINGS)
def test_each_token_is_charged_its_log_ratio(new_task: NewTask, setting: str) -> None:
    ours, stock = (
        new_model(new_task, setting, buffer) for buffer in (AnswerRolloutBuffer, DictRolloutBuffer)
    )
    reference = copy.deepcopy(ours.policy)
    with torch.no_grad():
        for parameter in reference.lm.decoder.parameters():
            parameter.mul_(0.5)
    ours.rollout_buffer.reference, ours.rollout_buffer.kl_coef = reference, 0.3
    collect(ours, 2)
    collect(stock, 2)
    played = stock.rollout_buffer
    observations = {k: torch.as_tensor(v).flatten(0, 1) for k, v in played.observations.items()}
    with torch.no_grad():
        _, expected, _ = reference.evaluate_actions(observations, torch.as_tensor(played.actions).flatten())
    ratio = played.log_probs - expected.reshape(STEPS, LANES).numpy()
    assert np.abs(ratio).max() > 0.1
    buffer = ours.rollout_buffer
    np.testing.assert_allclose(buffer.raw_rewards, played.rewards, atol=1e-6)
    np.testing.assert_allclose(buffer.rewards, played.rewards - 0.3 * ratio, atol=1e-4)
    assert buffer.kl == pytest.approx(ratio.mean(), abs=1e-4)
    assert np.abs(buffer.returns - played.returns).max() > 1e-2


@pytest.mark.parametrize("setting", SETTINGS)
def test_rows_are_those_of_the_stock_buffer_grouped_by_answer(new_task: NewTask, setting: str) -> None:
    ours, stock = (
        new_model(new_task, setting, buffer) for buffer in (AnswerRolloutBuffer, DictRolloutBuffer)
    )
    for rollout in range(2):
        for model in (ours, stock):
            if rollout == 0:
                _, callback = model._setup_learn(10**6, Nothing())
            torch.manual_seed(rollout)
            model.collect_rollouts(model.env, callback, model.rollout_buffer, STEPS)
        mine, played = ours.rollout_buffer, stock.rollout_buffer
        for name in ("actions", "rewards", "log_probs", "values", "advantages", "returns", "episode_starts"):
            np.testing.assert_allclose(getattr(mine, name), getattr(played, name), atol=1e-5, err_msg=name)
        answers = np.arange(len(mine._tokens))
        batch, rows = mine.batch(answers)
        assert sorted(rows) == list(range(STEPS * LANES))
        seen = {
            k: played.observations[k].swapaxes(0, 1).reshape(STEPS * LANES, -1)[rows]
            for k in ("source", "answer")
        }
        actions = played.actions.swapaxes(0, 1).reshape(-1)[rows]
        np.testing.assert_array_equal(batch.source[batch.question[batch.answer]], seen["source"])
        prefix = np.where(
            np.arange(batch.tokens.shape[1]) < batch.time.numpy()[:, None], batch.tokens[batch.answer], PAD
        )
        np.testing.assert_array_equal(prefix, seen["answer"])
        np.testing.assert_array_equal(batch.tokens[batch.answer, batch.time], actions)
        if rollout == 1:
            assert (mine._offset > 0).any()


@pytest.mark.parametrize("setting", SETTINGS)
def test_whole_answers_and_single_rows_give_the_same_numbers(new_task: NewTask, setting: str) -> None:
    ours, stock = (
        new_model(new_task, setting, buffer) for buffer in (AnswerRolloutBuffer, DictRolloutBuffer)
    )
    collect(ours)
    collect(stock)
    batch, rows = ours.rollout_buffer.batch(np.arange(len(ours.rollout_buffer._tokens)))
    played = stock.rollout_buffer
    observations = {
        k: torch.as_tensor(v.swapaxes(0, 1).reshape(STEPS * LANES, *v.shape[2:])[rows])
        for k, v in played.observations.items()
    }
    actions = torch.as_tensor(played.actions.swapaxes(0, 1).reshape(-1)[rows])
    grouped = ours.policy.evaluate_actions(batch, actions)
    single = ours.policy.evaluate_actions(observations, actions)
    for together, alone in zip(grouped, single, strict=True):
        torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)
    gradients = []
    for values, log_probs, entropy in (grouped, single):
        ours.policy.zero_grad()
        (values.sum() + log_probs.sum() + entropy.sum()).backward()
        gradients.append(
            torch.cat([p.grad.flatten() for p in ours.policy.parameters() if p.grad is not None])
        )
    torch.testing.assert_close(*gradients, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("batch_size", [None, 1, 5, 12, 1000])
def test_every_row_is_yielded_exactly_once_an_epoch(new_task: NewTask, batch_size: int | None) -> None:
    model = new_model(new_task, "tokens")
    collect(model, 2)
    buffer = model.rollout_buffer
    buffer.returns = np.arange(STEPS * LANES, dtype=np.float32).reshape(STEPS, LANES)
    np.random.seed(0)
    orders = []
    for _ in range(2):
        batches = [batch.returns.numpy() for batch in buffer.get(batch_size)]
        assert sorted(np.concatenate(batches)) == list(range(STEPS * LANES))
        orders.append(np.concatenate(batches).tolist())
        assert all(len(batch) for batch in batches)
        if batch_size in (5, 12):  # whole answers: about as large as asked for
            assert len(batches) >= 3 and max(map(len, batches)) <= batch_size + MAX_ANSWER
        if batch_size in (None, 1000):
            assert len(batches) == 1
    assert orders[0] != orders[1]


def end_early(*models: Any) -> None:
    """Make EOS likelier, so that answers are of different lengths."""
    with torch.no_grad():
        for model in models:
            model.policy.lm.generate_gate.bias += 2.0
            model.policy.lm.output_bias[EOS] += 4.0


def played_answers(played: DictRolloutBuffer, going_on: np.ndarray) -> list[dict[str, Any]]:
    """The answers in a stock buffer, found by walking along each lane."""
    answers = []
    for lane in range(LANES):
        starts = [t for t in range(STEPS) if t == 0 or played.episode_starts[t, lane]]
        for start, end in zip(starts, [*starts[1:], STEPS], strict=True):
            answers.append(
                {
                    "lane": lane,
                    "start": start,
                    "end": end,
                    "finished": end < STEPS or not going_on[lane],
                    "question": tuple(played.observations["source"][start, lane]),
                    "reward": played.rewards[end - 1, lane],
                    "tokens": [t for t in played.observations["answer"][end - 1, lane] if t != PAD]
                    + [played.actions[end - 1, lane, 0]],
                }
            )
    return answers


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("samples", [2, 4])
def test_the_group_baseline_is_the_mean_reward_of_the_other_answers_to_the_question(
    new_task: NewTask, setting: str, samples: int
) -> None:
    stock = new_model(new_task, setting, DictRolloutBuffer, samples=samples)
    ours, critic = (new_model(new_task, setting, samples=samples, baseline=b) for b in ("group", "critic"))
    end_early(stock, ours, critic)
    reference = copy.deepcopy(ours.policy)
    with torch.no_grad():
        for parameter in reference.lm.decoder.parameters():
            parameter.mul_(0.5)
    for model in (ours, critic):
        model.rollout_buffer.reference, model.rollout_buffer.kl_coef = reference, 0.3
    compared = kept = straddling = 0
    lengths = set()
    for rollouts in (1, 2, 3, 4):
        for model in (stock, ours, critic):
            collect(model, rollouts)
        mine, gae = ours.rollout_buffer, critic.rollout_buffer
        answers = played_answers(stock.rollout_buffer, ~stock._last_episode_starts.astype(bool))
        np.testing.assert_array_equal(mine.actions, stock.rollout_buffer.actions)
        assert np.abs(mine.rewards - mine.raw_rewards).max() > 1e-2
        np.testing.assert_array_equal(mine.returns, gae.returns)  # what the critic learns is the same
        expected = gae.advantages.copy()
        for answer in answers:
            siblings = [
                other["reward"]
                for other in answers
                if other is not answer and other["finished"] and other["question"] == answer["question"]
            ]
            if not answer["finished"] or not siblings:
                kept += 1
                continue
            compared += 1
            lengths.add(len(answer["tokens"]))
            straddling += answer["start"] == 0 and len(answer["tokens"]) > answer["end"]
            for t in range(answer["start"], answer["end"]):
                to_go = sum(mine.rewards[t : answer["end"], answer["lane"]])
                expected[t, answer["lane"]] = to_go - np.mean(siblings)
        np.testing.assert_allclose(mine.advantages, expected, atol=1e-5)
    assert compared > 5 and kept > 5 and straddling > 0 and len(lengths) > 2


@pytest.mark.parametrize("rollouts", [1, 2])
@pytest.mark.parametrize("samples", [1, 4])
def test_finished_answers_are_told_with_their_rewards(new_task: NewTask, samples: int, rollouts: int) -> None:
    stock = new_model(new_task, "tokens", DictRolloutBuffer, samples=samples)
    ours = new_model(new_task, "tokens", samples=samples)
    end_early(stock, ours)
    ours.rollout_buffer.reference, ours.rollout_buffer.kl_coef = copy.deepcopy(ours.policy), 1.0
    with torch.no_grad():
        ours.rollout_buffer.reference.lm.output_bias[:9] += 2.0  # the penalty is no part of the reward
    collect(stock, rollouts)
    collect(ours, rollouts)
    played = played_answers(stock.rollout_buffer, ~stock._last_episode_starts.astype(bool))
    expected = sorted(
        (*a["question"], *a["tokens"], round(float(a["reward"]), 4)) for a in played if a["finished"]
    )
    told = sorted(
        (*source, *tokens[tokens != PAD], round(reward, 4))
        for source, tokens, reward in ours.rollout_buffer.finished()
    )
    assert told == expected and 3 < len(told) < len(played)


def test_minibatches_keep_the_answers_to_a_question_together(new_task: NewTask) -> None:
    model = new_model(new_task, "tokens", samples=4)
    collect(model, 2)
    orders = set()
    for _ in range(5):
        asked = []
        for batch in model.rollout_buffer.get(8):
            observations = batch.observations
            assert len(observations.source.unique(dim=0)) == len(observations.source)
            asked += [tuple(row) for row in observations.source[observations.question].tolist()]
        runs = [q for i, q in enumerate(asked) if i == 0 or asked[i - 1] != q]
        assert len(runs) == len(set(asked)) < len(asked)
        orders.add(tuple(runs))
    assert len(orders) > 1


def test_minibatches_hold_whole_answers(new_task: NewTask) -> None:
    model = new_model(new_task, "tokens")
    collect(model, 2)
    buffer = model.rollout_buffer
    for batch in buffer.get(10):
        observations = batch.observations
        assert isinstance(observations, AnswerBatch)
        written = (observations.tokens != PAD).sum(1)
        assert torch.equal(observations.answer.unique(), torch.arange(len(written)))
        for answer, end in enumerate(written):
            times = observations.time[observations.answer == answer]
            assert times[-1] == end - 1 and (times.diff() == 1).all()


def test_a_frozen_encoder_works_once_an_answer_and_not_in_updates(new_task: NewTask) -> None:
    model = new_model(new_task, "frozen")
    passes: list[int] = []
    model.policy.lm.encoder.register_forward_hook(lambda module, inputs, output: passes.append(len(output)))
    collect(model, 2)
    buffer = model.rollout_buffer
    episodes = int(buffer.episode_starts.sum())
    assert LANES + episodes <= sum(passes) <= LANES + STEPS * LANES * 2
    passes.clear()
    for batch in buffer.get(12):
        source, memory = batch.observations.source, batch.observations.memory
        expected = model.policy.lm.encoder(source)
        torch.testing.assert_close(memory, expected, atol=1e-6, rtol=1e-5)
    passes.clear()
    model.train()
    assert passes == []
    assert len(buffer._memory) == len(buffer._tokens) < STEPS * LANES


@pytest.mark.parametrize("samples", [1, 4])
def test_a_trained_encoder_encodes_each_question_of_a_minibatch_once_and_learns(
    new_task: NewTask, samples: int
) -> None:
    model = new_model(new_task, "trained", samples=samples)
    passes: list[torch.Tensor] = []
    collect(model)
    encoder = model.policy.lm.encoder
    encoder.register_forward_hook(lambda module, inputs, output: passes.append(inputs[0]))
    before = parameters_to_vector(encoder.parameters()).detach().clone()
    model.train()
    assert all(len(source.unique(dim=0)) == len(source) for source in passes)
    questions = len(np.unique(model.rollout_buffer._source, axis=0))
    answers = len(model.rollout_buffer._tokens)
    total = sum(map(len, passes))
    # A cut between minibatches may fall between the answers to one question.
    assert questions * model.n_epochs <= total < questions * model.n_epochs + len(passes)
    assert samples == 1 or total < answers * model.n_epochs
    assert all(batch.observations.memory is None for batch in model.rollout_buffer.get(12))
    assert not torch.equal(parameters_to_vector(encoder.parameters()), before)


def test_the_reference_does_not_travel_with_a_saved_model(new_task: NewTask, tmp_path: Any) -> None:
    model = new_model(new_task, "trained")
    model.rollout_buffer.reference = copy.deepcopy(model.policy)
    model.save(tmp_path / "model")
    assert PPO.load(tmp_path / "model").rollout_buffer_class is AnswerRolloutBuffer
    loaded = PPO.load(tmp_path / "model", env=model.env)
    assert loaded.rollout_buffer.reference is None
