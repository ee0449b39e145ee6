from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from conftest import MAX_ANSWER
from gymnasium import spaces
from sb3_contrib import QRDQN
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import BaseCallback

from agents.decoding import greedy
from agents.q_learning import AnswerDQN, AnswerQRDQN, demonstrate
from agents.replay import AnswerReplayBuffer
from agents.vec_env import QAVecEnv
from policies import LMActorCriticPolicy, LMConfig, LMDQNPolicy, LMQRDQNPolicy, LSTMAttentionLM
from qa_env.datasets import QAExample
from qa_env.env import QAEnv
from qa_env.errors import QAError
from qa_env.vector_env import QAVectorEnv
from qa_env.vocabulary import BOS, FORBIDDEN, PAD, SEP

NewTask = Callable[..., tuple[Any, dict[str, Any]]]
LANES = 8
KINDS = [
    pytest.param(AnswerDQN, LMDQNPolicy, id="dqn"),
    pytest.param(AnswerQRDQN, LMQRDQNPolicy, id="qrdqn"),
]


class Nothing(BaseCallback):
    def _on_step(self) -> bool:
        return True


def vowels(examples: Sequence[QAExample], answers: Sequence[str]) -> list[float]:
    return [sum(answer.lower().count(v) for v in "aeiou") - 0.3 * len(answer) for answer in answers]


def new_model(
    new_task: NewTask,
    algorithm: type[Any] = AnswerDQN,
    policy: type[Any] = LMDQNPolicy,
    setting: str = "trained",
    return_steps: int = MAX_ANSWER,
    lanes: int = LANES,
    **options: Any,
) -> Any:
    torch.manual_seed(0)
    lm, task = new_task(setting)
    settings = {
        "learning_rate": 3e-3,
        "batch_size": 100,
        "train_freq": (10, "step"),
        "target_update_interval": 200,
        "exploration_initial_eps": 1.0,
        "exploration_final_eps": 1.0,
        **options,
    }
    return algorithm(
        policy,
        QAVecEnv(QAVectorEnv(lanes, feedback=vowels, **task)),
        buffer_size=2000,
        learning_starts=0,
        gamma=1.0,
        replay_buffer_class=AnswerReplayBuffer,
        replay_buffer_kwargs={"n_steps": return_steps},
        policy_kwargs={"lm": lm},
        seed=0,
        **settings,
    )


def rows_of(samples: Any, later: bool = False) -> dict[str, torch.Tensor]:
    """What the environment would have shown before each row's token."""
    batch = samples.next_observations if later else samples.observations
    answer = torch.zeros(len(batch.time), MAX_ANSWER, dtype=torch.long)
    for row, (owner, time) in enumerate(zip(batch.answer, batch.time, strict=True)):
        answer[row, :time] = batch.tokens[owner, :time]
    return {"source": batch.source[batch.question[batch.answer]], "answer": answer}


@pytest.mark.parametrize(("algorithm", "policy"), KINDS)
def test_whole_answers_have_the_values_of_single_observations(
    new_task: NewTask, algorithm: type[Any], policy: type[Any]
) -> None:
    model = new_model(new_task, algorithm, policy)
    model.learn(LANES * 30)
    samples = model.replay_buffer.of_answers(np.arange(6))
    with torch.no_grad():
        together = model.policy.online(samples.observations)
        apart = model.policy.online(rows_of(samples))
        taken = model.policy.online.of_actions(samples.observations, samples.actions)
    torch.testing.assert_close(together, apart, atol=1e-4, rtol=1e-4)
    index = samples.actions if together.ndim == 2 else samples.actions.unsqueeze(1).expand(-1, 8, -1)
    torch.testing.assert_close(taken, together.gather(-1, index).reshape(taken.shape), atol=1e-5, rtol=1e-5)


def test_the_warm_started_model_is_the_greedy_policy(new_task: NewTask) -> None:
    model = new_model(new_task)
    obs = model.env.reset()
    source, written = obs["source"].copy(), np.full((LANES, MAX_ANSWER), PAD)
    expected = greedy(model.policy, source, MAX_ANSWER)
    open_ = np.ones(LANES, dtype=bool)
    for time in range(MAX_ANSWER):
        actions, _ = model.predict(obs, deterministic=True)
        written[open_, time] = actions[open_]
        obs, _, done, _ = model.env.step(actions)
        open_ &= ~done
    np.testing.assert_array_equal(written, expected)


@pytest.mark.parametrize("return_steps", [1, 3])
def test_the_online_network_chooses_and_the_target_network_rates(
    new_task: NewTask, return_steps: int
) -> None:
    model = new_model(new_task, return_steps=return_steps)
    model.learn(LANES * 30)
    online, target = model.policy.online, model.policy.target
    with torch.no_grad():
        for parameter in target.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        samples = model.replay_buffer.of_answers(np.arange(12))
        later = rows_of(samples, later=True)
        chosen = online(later).argmax(1, keepdim=True)
        expected = samples.rewards + (1 - samples.dones) * target(later).gather(1, chosen)
        assert (chosen != target(later).argmax(1, keepdim=True)).any()  # or the test could not fail
    torch.testing.assert_close(model.targets(samples), expected, atol=1e-4, rtol=1e-4)
    assert 0 < samples.dones.mean() < 1


def test_monte_carlo_targets_are_the_rewards(new_task: NewTask) -> None:
    model = new_model(new_task)
    model.learn(LANES * 30)
    samples = model.replay_buffer.of_answers(np.arange(12))
    last = {
        int(owner): float(r) for owner, r in zip(samples.observations.answer, samples.rewards, strict=True)
    }
    for owner, target in zip(samples.observations.answer, model.targets(samples), strict=True):
        assert float(target) == last[int(owner)]


def test_every_row_tosses_its_own_coin(new_task: NewTask) -> None:
    model = new_model(new_task, lanes=400, target_update_interval=400)
    obs = model.env.reset()
    best, _ = model.predict(obs, deterministic=True)
    torch.manual_seed(0)
    model.policy.exploration_rate = 1.0
    differs = (model.predict(obs)[0] != best).mean()
    assert differs > 0.2
    model.policy.exploration_rate = 0.5
    half = np.mean([(model.predict(obs)[0] != best).mean() for _ in range(5)])
    assert 0.35 * differs < half < 0.65 * differs
    model.policy.exploration_rate = 0.0
    np.testing.assert_array_equal(model.predict(obs)[0], best)


@pytest.mark.parametrize(("algorithm", "policy"), KINDS)
@pytest.mark.parametrize("setting", ["trained", "frozen", "tokens"])
def test_learning_raises_the_reward(
    new_task: NewTask, algorithm: type[Any], policy: type[Any], setting: str
) -> None:
    model = new_model(new_task, algorithm, policy, setting, gradient_steps=5, learning_rate=5e-3, lanes=32)

    def reward() -> float:
        torch.manual_seed(0)
        obs, total = model.env.reset(), 0.0
        for _ in range(30):
            obs, rewards, _, _ = model.env.step(model.predict(obs, deterministic=True)[0])
            total += rewards.sum()
        return total

    before = reward()
    model.learn(32 * 10 * 8)
    assert reward() > before + 15


@pytest.mark.parametrize(
    ("algorithm", "policy"), [(DQN, LMDQNPolicy), (QRDQN, LMQRDQNPolicy)], ids=["dqn", "qrdqn"]
)
def test_the_stock_algorithms_take_the_policies(
    new_task: NewTask, algorithm: type[Any], policy: type[Any]
) -> None:
    lm, task = new_task("tokens")
    model = algorithm(
        policy,
        QAEnv(feedback=vowels, **task),
        buffer_size=100,
        learning_starts=20,
        batch_size=16,
        policy_kwargs={"lm": lm},
        seed=0,
    )
    before = lm.output.weight.detach().clone()
    model.learn(60)
    assert not torch.equal(before, lm.output.weight)


def test_demonstrations_are_rated_and_learned_from(
    new_task: NewTask, examples: tuple[QAExample, ...]
) -> None:
    words = [example for example in examples if len(example.answers[0]) < 9]
    model = new_model(new_task)
    demonstrate(model, words)
    task = model.env.env.task
    samples = model.replay_buffer.of_answers(np.arange(model.replay_buffer.answers))
    assert task.graded == model.replay_buffer.answers > 0
    for answer in range(model.replay_buffer.answers):
        rows = samples.observations.answer == answer
        text = task.texts(samples.observations.tokens[[answer]].numpy())[0]
        assert text in {e.answers[0] for e in words}
        assert samples.rewards[rows].unique().tolist() == pytest.approx(vowels([], [text]), abs=1e-6)


def test_saved_weights_give_the_same_values(new_task: NewTask, tmp_path: Any) -> None:
    model = new_model(new_task)
    model.learn(LANES * 30)
    samples = model.replay_buffer.of_answers(np.arange(5))
    with torch.no_grad():
        expected = model.policy.online(samples.observations)
        model.save(tmp_path / "model.zip")
        other = new_model(new_task)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            other.set_parameters(tmp_path / "model.zip")
        torch.testing.assert_close(other.policy.online(samples.observations), expected)


@pytest.mark.parametrize("kind", [LMActorCriticPolicy, LMDQNPolicy, LMQRDQNPolicy])
def test_masks_hold_over_many_steps_of_a_large_vocabulary(kind: type[Any]) -> None:
    """Forbidden tokens are made the likeliest, and are not drawn once in 100,000 tokens of 30,000."""
    vocabulary, rows, draws = 30_000, 100, 1000
    space = spaces.Dict(
        {
            "source": spaces.Box(0, vocabulary - 1, (4,), np.int64),
            "answer": spaces.Box(0, vocabulary - 1, (3,), np.int64),
        }
    )
    torch.manual_seed(0)
    lm = LSTMAttentionLM(LMConfig(embedding=8, encoder_hidden=4, hidden=8), vocabulary)
    with torch.no_grad():
        lm.output_bias[list((PAD, BOS, SEP))] = 20.0
    policy = kind(space, spaces.Discrete(vocabulary), lambda _: 1e-3, lm=lm)
    policy.exploration_rate = 1.0
    source = np.random.default_rng(0).integers(5, vocabulary, (rows, 4))
    obs = {"source": source, "answer": np.zeros((rows, 3), dtype=np.int64)}
    assert not np.isin(policy.predict(obs)[0], FORBIDDEN).any()
    assert not np.isin(policy.predict(obs, deterministic=True)[0], FORBIDDEN).any()
    with torch.no_grad():
        read = policy.reader if kind is LMActorCriticPolicy else policy.online.reader
        decoded = read.prefix({key: torch.as_tensor(value) for key, value in obs.items()})
        probabilities = policy.sampling.log_probs(policy.lm.log_probabilities(decoded)).exp()
    # What `draw` does for each token, with the sums over the vocabulary done once.
    cumulative = probabilities.cumsum(1, dtype=torch.float64)
    chance = torch.rand(rows, draws, dtype=torch.float64) * cumulative[:, -1:]
    drawn = torch.searchsorted(cumulative, chance, right=True)
    assert drawn.numel() == 100_000 and not np.isin(drawn.numpy(), FORBIDDEN).any()
    assert (probabilities[:, list(FORBIDDEN)] == 0).all()


def test_q_values_of_forbidden_tokens_are_the_least(new_task: NewTask) -> None:
    model = new_model(new_task)
    with torch.no_grad():
        model.policy.lm.output_bias[list(FORBIDDEN)] = 50.0
        values = model.policy.online({k: torch.as_tensor(v) for k, v in model.env.reset().items()})
    allowed = np.setdiff1d(np.arange(values.shape[1]), FORBIDDEN)
    assert values[:, list(FORBIDDEN)].max() < values[:, allowed].min() - 1e3


@pytest.mark.parametrize(
    ("policy", "settings", "message"),
    [
        (LMDQNPolicy, {"scale": 0.0}, "scale must be greater than 0"),
        (LMQRDQNPolicy, {"n_quantiles": 1}, "n_quantiles must be 2 or more"),
    ],
)
def test_senseless_settings_are_refused(policy: type[Any], settings: dict[str, Any], message: str) -> None:
    space = spaces.Dict(
        {"source": spaces.Box(0, 9, (4,), np.int64), "answer": spaces.Box(0, 9, (3,), np.int64)}
    )
    with pytest.raises(QAError, match=message):
        policy(space, spaces.Discrete(10), lambda _: 1e-3, **settings)


@pytest.mark.parametrize(("algorithm", "policy"), KINDS)
def test_the_loss_is_least_where_values_and_advantages_are_right(
    new_task: NewTask, algorithm: type[Any], policy: type[Any]
) -> None:
    model = new_model(new_task, algorithm, policy)
    model.learn(LANES * 30)
    samples = model.replay_buffer.of_answers(np.arange(12))
    with torch.no_grad():
        exact = model.policy.online.of_actions(samples.observations, samples.actions).mean(1, keepdim=True)
        right = float(model.loss(samples._replace(rewards=exact)))
        above = float(model.loss(samples._replace(rewards=exact + 0.5)))
        below = float(model.loss(samples._replace(rewards=exact - 0.5)))
        model.hysteresis = 0.1
        excused = float(model.loss(samples._replace(rewards=exact - 0.5)))
    assert right < above and right < below
    assert excused < below


def test_a_reference_equal_to_the_model_makes_every_advantage_zero(new_task: NewTask) -> None:
    model = new_model(new_task, gradient_steps=1)
    model.reference = copy.deepcopy(model.policy.lm).requires_grad_(False)
    _, callback = model._setup_learn(1000, Nothing())
    model.collect_rollouts(model.env, callback, model.train_freq, model.replay_buffer)
    samples = model.replay_buffer.of_answers(np.arange(5))
    with torch.no_grad():
        values, log_probs = model.policy.online.values(samples.observations)
        taken = log_probs.gather(1, samples.actions)
        torch.testing.assert_close(model._reference_log_probs(samples), taken)
        loss = model.loss(samples._replace(rewards=values))
    assert float(loss) == pytest.approx(0, abs=1e-9)


def test_an_environment_with_another_encoder_is_refused(new_task: NewTask) -> None:
    _, task = new_task("trained")
    with pytest.raises(QAError, match="the environment's encoder is not the language model's"):
        AnswerDQN(
            LMDQNPolicy,
            QAVecEnv(QAVectorEnv(LANES, feedback=vowels, **task)),
            replay_buffer_class=AnswerReplayBuffer,
            buffer_size=100,
        )
