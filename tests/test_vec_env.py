from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
import pytest
from conftest import MAX_ANSWER, SETTINGS
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import TimeLimit
from sb3_contrib import MaskablePPO
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

from agents.vec_env import QAVecEnv
from qa_env.datasets import QAExample
from qa_env.env import QAEnv
from qa_env.errors import QAError
from qa_env.vector_env import QAVectorEnv
from qa_env.vocabulary import EOS, FORBIDDEN, PAD

NewTask = Callable[..., tuple[Any, dict[str, Any]]]
LETTER = 40


def length(examples: Sequence[QAExample], answers: Sequence[str]) -> list[float]:
    return [float(len(a)) for a in answers]


@pytest.fixture(params=SETTINGS)
def task(request: pytest.FixtureRequest, new_task: NewTask) -> dict[str, Any]:
    return new_task(request.param)[1] | {"feedback": length}


@pytest.fixture
def plain(new_task: NewTask) -> dict[str, Any]:
    return new_task("tokens")[1] | {"feedback": length}


def random_actions(lanes: int, steps: int, vocabulary: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    actions = rng.integers(4, vocabulary, size=(steps, lanes))
    return np.where(rng.random(actions.shape) < 0.2, EOS, actions)


def test_it_equals_single_environments_in_a_dummy_vec_env(task: dict[str, Any]) -> None:
    ours = QAVecEnv(QAVectorEnv(4, **task))
    theirs = DummyVecEnv([lambda: QAEnv(**task)] * 4)
    assert ours.observation_space == theirs.observation_space and ours.action_space == theirs.action_space
    ours.seed(5)
    theirs.seed(5)
    assert_same(ours.reset(), theirs.reset())
    ended = 0
    for actions in random_actions(4, 40, len(task["vocabulary"])):
        (obs, rewards, dones, infos), reference = ours.step(actions), theirs.step(actions)
        assert_same(obs, reference[0])
        np.testing.assert_array_equal(rewards, reference[1])
        np.testing.assert_array_equal(dones, reference[2])
        assert rewards.dtype == np.float32 and dones.dtype == np.bool_
        for lane, (info, expected) in enumerate(zip(infos, reference[3], strict=True)):
            if dones[lane]:
                assert_same(info.pop("terminal_observation"), expected.pop("terminal_observation"))
                assert not info["TimeLimit.truncated"]
                ended += 1
            expected.setdefault("TimeLimit.truncated", False)
            assert {"TimeLimit.truncated": False} | info == expected
    assert ended > 20


def assert_same(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    assert ours.keys() == theirs.keys()
    for key in ours:
        np.testing.assert_allclose(ours[key], theirs[key], atol=1e-6)


def test_terminal_observation_shows_the_finished_answer(plain: dict[str, Any]) -> None:
    env = QAVecEnv(QAVectorEnv(2, **plain))
    env.seed(0)
    first = env.reset()
    env.step(np.array([LETTER, LETTER]))
    obs, _, dones, infos = env.step(np.array([EOS, LETTER]))
    assert dones.tolist() == [True, False] and infos[1] == {}
    end = infos[0]["terminal_observation"]
    assert end["answer"].tolist() == [LETTER, EOS] + [PAD] * (MAX_ANSWER - 2)
    np.testing.assert_array_equal(end["source"], first["source"][0])
    assert not obs["answer"][0].any() and obs["answer"][1, :2].tolist() == [LETTER, LETTER]


def test_seeds_apply_at_the_next_reset_and_only_there(plain: dict[str, Any]) -> None:
    env = QAVecEnv(QAVectorEnv(3, **plain))
    assert env.seed(9) == [9, 10, 11]
    first = [env.reset()["source"] for _ in range(6)]
    env.seed(9)
    again = [env.reset()["source"] for _ in range(6)]
    np.testing.assert_array_equal(first, again)
    assert any((one != first[0]).any() for one in first[1:])
    expected, _ = QAVectorEnv(3, **plain).reset(seed=9)
    np.testing.assert_array_equal(first[0], expected["source"])


def test_attributes_and_methods_reach_the_environment(plain: dict[str, Any]) -> None:
    inner = QAVectorEnv(3, **plain)
    env = QAVecEnv(inner)
    assert env.num_envs == 3
    assert env.get_attr("num_envs") == [3, 3, 3]
    assert env.get_attr("render_mode", [0]) == [None]
    assert env.get_attr("task", indices=1) == [inner.task]
    assert env.has_attr("action_masks") and not env.has_attr("nothing")
    with pytest.raises(AttributeError):
        env.get_attr("nothing")
    env.set_attr("note", "here")
    assert inner.note == "here"
    masks = env.env_method("action_masks", indices=[0, 2])
    assert len(masks) == 2 and not masks[0][list(FORBIDDEN)].any() and masks[0].sum() == len(masks[0]) - 3
    assert env.action_masks().shape == (3, len(plain["vocabulary"]))
    assert env.env_method("render") == [None] * 3
    assert env.env_is_wrapped(Monitor) == [False] * 3
    env.close()


def test_monitored_it_tells_rewards_lengths_and_success(plain: dict[str, Any]) -> None:
    env = VecMonitor(QAVecEnv(QAVectorEnv(1, **plain)), info_keywords=("is_success",))
    env.seed(0)
    for _ in range(40):
        env.reset()
        example = plain["data"][env.get_attr("indices")[0][0]]
        if example.question == "gold":
            break
    else:
        pytest.fail("was never asked")
    for token in (*plain["vocabulary"].encode("gold"), EOS):
        _, _, dones, infos = env.step(np.array([token]))
    assert dones[0] and infos[0]["is_success"]
    episode = infos[0]["episode"]
    assert episode["r"] == len("gold") and episode["l"] == len(plain["vocabulary"].encode("gold")) + 1
    assert episode["is_success"]


def test_stock_ppo_with_its_own_policy_runs_on_it(task: dict[str, Any]) -> None:
    env = VecMonitor(QAVecEnv(QAVectorEnv(2, **task)), info_keywords=("is_success",))
    model = PPO("MultiInputPolicy", env, n_steps=8, batch_size=8, n_epochs=1, seed=0)
    model.learn(32)
    assert model.num_timesteps == 32
    rewards, lengths = evaluate_policy(model, env, n_eval_episodes=3, return_episode_rewards=True)
    assert len(rewards) == 3 and all(1 <= n <= MAX_ANSWER for n in lengths)


def test_stock_ppo_runs_on_the_id_alone(plain: dict[str, Any]) -> None:
    env = gymnasium.make("qa_env/QA-v0", **plain)
    PPO("MultiInputPolicy", env, n_steps=8, batch_size=8, n_epochs=1, seed=0).learn(8)


def test_gymnasium_vectors_of_single_environments_equal_the_batched_one(plain: dict[str, Any]) -> None:
    same_step = {"autoreset_mode": AutoresetMode.SAME_STEP}
    single = gymnasium.make_vec("qa_env/QA-v0", 4, "sync", vector_kwargs=same_step, **plain)
    envs = [QAVecEnv(single), QAVecEnv(QAVectorEnv(4, **plain))]
    starts = []
    for env in envs:
        env.seed(5)
        starts.append(env.reset())
    np.testing.assert_equal(*starts)
    for actions in random_actions(4, 12, len(plain["vocabulary"])):
        steps = [env.step(actions) for env in envs]
        np.testing.assert_equal(*steps)


def test_another_autoreset_than_in_the_same_step_is_refused(plain: dict[str, Any]) -> None:
    env = gymnasium.make_vec("qa_env/QA-v0", 2, "sync", **plain)
    with pytest.raises(QAError, match=r"autoreset_mode=AutoresetMode\.SAME_STEP"):
        QAVecEnv(env)


def test_an_answer_cut_by_a_time_limit_is_told_apart_from_a_finished_one(plain: dict[str, Any]) -> None:
    same_step = {"autoreset_mode": AutoresetMode.SAME_STEP}
    cut = SyncVectorEnv([lambda: TimeLimit(QAEnv(**plain), 2)] * 2, **same_step)
    env = QAVecEnv(cut)
    env.reset()
    env.step(np.array([LETTER, LETTER]))
    _, _, done, infos = env.step(np.array([LETTER, EOS]))
    assert done.all()
    assert [info["TimeLimit.truncated"] for info in infos] == [True, False]


def test_maskable_ppo_finds_the_masks(plain: dict[str, Any]) -> None:
    env = QAVecEnv(QAVectorEnv(2, **plain))
    model = MaskablePPO("MultiInputPolicy", env, n_steps=16, batch_size=16, n_epochs=1, seed=0)
    model.learn(32)
    assert not np.isin(model.rollout_buffer.actions, FORBIDDEN).any()
    assert not model.rollout_buffer.action_masks.reshape(-1, len(plain["vocabulary"]))[
        :, list(FORBIDDEN)
    ].any()
