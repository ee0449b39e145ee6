from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from sb3_contrib import TRPO
from stable_baselines3.common.callbacks import BaseCallback
from torch.nn.utils import parameters_to_vector

from agents.buffers import LEAST_SPREAD, AnswerRolloutBuffer
from agents.decoding import greedy
from agents.reinforce import BASELINES, REINFORCE
from agents.trpo import AnswerTRPO
from agents.vec_env import QAVecEnv
from policies import LMActorCriticPolicy
from qa_env.datasets import QAExample
from qa_env.errors import QAError
from qa_env.vector_env import QAVectorEnv

NewTask = Callable[..., tuple[Any, dict[str, Any]]]


class Nothing(BaseCallback):
    def _on_step(self) -> bool:
        return True


def vowels(examples: Sequence[QAExample], answers: Sequence[str]) -> list[float]:
    return [sum(answer.lower().count(v) for v in "aeiou") - 0.3 * len(answer) for answer in answers]


def new_model(
    new_task: NewTask,
    algorithm: type[Any] = REINFORCE,
    lanes: int = 4,
    n_steps: int = 30,
    samples: int = 2,
    task: dict[str, Any] | None = None,
    **options: Any,
) -> Any:
    lm, defaults = new_task("trained", copy=False)
    env = QAVectorEnv(lanes, feedback=vowels, samples_per_question=samples, **{**defaults, **(task or {})})
    return algorithm(
        LMActorCriticPolicy,
        QAVecEnv(env),
        n_steps=n_steps,
        policy_kwargs={"lm": lm},
        seed=0,
        **{"learning_rate": 1e-3, "batch_size": 40, **options},
    )


def collect(model: Any) -> AnswerRolloutBuffer:
    _, callback = model._setup_learn(10**6, Nothing())
    model.collect_rollouts(model.env, callback, model.rollout_buffer, model.n_steps)
    buffer = model.rollout_buffer
    assert isinstance(buffer, AnswerRolloutBuffer)
    return buffer


@pytest.mark.parametrize("baseline", BASELINES)
def test_the_advantage_of_every_token_is_the_answers_reward_against_the_baseline(
    new_task: NewTask, baseline: str
) -> None:
    model = new_model(new_task, baseline=baseline)
    buffer = collect(model)
    compared = 0
    for answer in range(len(buffer._tokens)):
        lane, first = divmod(int(buffer._first_row[answer]), buffer.buffer_size)
        rows = slice(first, first + int(buffer._counts[answer]))
        same = (buffer._question == buffer._question[answer]) & buffer._finished
        reward, rewards = float(buffer._final[answer]), buffer._final[same]
        expected = 0.0
        if buffer._finished[answer] and baseline == "greedy":
            tokens = greedy(model.policy, buffer._source[[answer]], buffer._tokens.shape[1])[0]
            text = model.env.env.task.texts(tokens[None])[0]
            expected = reward - vowels([], [text])[0]
        elif buffer._finished[answer] and len(rewards) > 1:
            if baseline == "leave_one_out":
                expected = reward - (rewards.sum() - reward) / (len(rewards) - 1)
            else:
                expected = (reward - rewards.mean()) / (rewards.std() + LEAST_SPREAD)
        compared += expected != 0
        np.testing.assert_allclose(buffer.advantages[rows, lane], expected, atol=1e-4)
    assert compared > 3


def test_the_gradient_of_rloo_is_unbiased(new_task: NewTask) -> None:
    # Answers of one token to one question. With softmax(z) over the allowed tokens, the gradient of the
    # expected reward for z_a is p_a (r_a - sum_b p_b r_b), and z_a moves with the output bias of token a.
    model = new_model(
        new_task,
        lanes=64,
        n_steps=1,
        samples=4,
        batch_size=64,
        baseline="leave_one_out",
        task={"data": [QAExample("q", "gold", answers=("gold",))], "max_answer": 1},
    )
    task, lm = model.env.env.task, model.policy.lm
    with torch.no_grad():
        lm.output.weight.mul_(0.1)
        lm.output_bias.copy_(torch.linspace(-2, 2, len(lm.output_bias)))  # far from uniform
        obs = {key: torch.as_tensor(value) for key, value in model.env.reset().items()}
        p = model.policy.get_distribution(obs).distribution.probs[0].double()
    rewards = vowels([], [task.texts(np.array([[token]]))[0] for token in range(len(p))])
    r = torch.tensor(rewards, dtype=torch.float64)
    exact = p * (r - (p * r).sum())
    samples = []
    for _ in range(40):
        buffer = collect(model)
        (batch,) = buffer.get(None)
        model.policy.optimizer.zero_grad()
        model.loss(batch).backward()
        samples.append(-lm.output_bias.grad.double())
    estimates = torch.stack(samples)
    error = estimates.mean(0) - exact
    spread = estimates.std(0) / len(estimates) ** 0.5
    seen = p > 0.01  # tokens drawn often enough for a normal approximation
    assert (error[seen].abs() < 4 * spread[seen]).all()
    direction = torch.nn.functional.cosine_similarity(estimates.mean(0), exact, dim=0)
    assert direction > 0.9
    assert exact[seen].abs().max() > 10 * spread[seen].min()  # there is something to find


@pytest.mark.parametrize("baseline", BASELINES)
def test_learning_raises_the_reward(new_task: NewTask, baseline: str) -> None:
    model = new_model(
        new_task, lanes=32, n_steps=12, samples=4, baseline=baseline, learning_rate=5e-3, batch_size=400
    )
    first = collect(model).raw_rewards.sum()
    model.learn(12 * 32 * 12)
    assert model.rollout_buffer.raw_rewards.sum() > first + 10


def test_the_greedy_answers_are_counted_as_rated(new_task: NewTask) -> None:
    model = new_model(new_task, baseline="greedy")
    buffer = collect(model)
    task = model.env.env.task
    assert task.graded == buffer._finished.sum() + len(buffer.sources())


def test_rating_other_answers_leaves_the_lanes_dice_alone(new_task: NewTask) -> None:
    env = new_model(new_task).env.env
    env.reset(seed=3)
    before = [rng.bit_generator.state for rng in env._rngs]
    rewards = env.rate(env.task.sources[:3], np.full((3, env.task.max_answer), 20))
    assert rewards.shape == (3,)
    assert [rng.bit_generator.state for rng in env._rngs] == before


def test_an_unknown_baseline_is_refused(new_task: NewTask) -> None:
    with pytest.raises(QAError, match="baseline must be one of greedy"):
        new_model(new_task, baseline="none")


def test_trpo_steps_as_the_stock_one_does(new_task: NewTask) -> None:
    def stepped(algorithm: type[Any]) -> torch.Tensor:
        model = new_model(
            new_task,
            algorithm,
            n_steps=10,
            rollout_buffer_class=AnswerRolloutBuffer,
            cg_max_steps=1,
            n_critic_updates=1,
        )
        before = parameters_to_vector(model.policy.lm.parameters()).detach().clone()
        model.learn(40)
        return parameters_to_vector(model.policy.lm.parameters()).detach() - before

    stock, ours = stepped(TRPO), stepped(AnswerTRPO)
    assert stock.abs().max() > 5e-4
    torch.testing.assert_close(ours, stock, atol=2e-5, rtol=1e-2)


def test_trpo_may_take_the_curvature_of_a_part_and_stays_in_the_trust_region(new_task: NewTask) -> None:
    model = new_model(
        new_task,
        AnswerTRPO,
        n_steps=10,
        rollout_buffer_class=AnswerRolloutBuffer,
        cg_max_steps=2,
        n_critic_updates=1,
        target_kl=0.01,
        curvature_batch=10,
    )
    before = parameters_to_vector(model.policy.lm.parameters()).detach().clone()
    for _ in range(2):
        model.learn(40, reset_num_timesteps=False)
        assert 0 <= model.logger.name_to_value["train/kl_divergence_loss"] < 0.01
    after = parameters_to_vector(model.policy.lm.parameters()).detach()
    assert torch.isfinite(after).all() and (after - before).abs().max() > 1e-4
