from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
from conftest import MAX_ANSWER, MAX_SOURCE, SETTINGS
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import qa_env
from qa_env.answers import Answers
from qa_env.datasets import QAExample
from qa_env.encoders import Encoder
from qa_env.env import QAEnv
from qa_env.errors import QAError
from qa_env.feedback import Score
from qa_env.vector_env import QAVectorEnv
from qa_env.vocabulary import BOS, EOS, FORBIDDEN, PAD, SEP

NewTask = Callable[..., tuple[Any, dict[str, Any]]]
ENCODERS = (*SETTINGS, "own")
LETTER = 40
"""A token that may stand in an answer."""


class MeanEncoder:
    """An encoder of a user's own, without torch."""

    width = 3

    def encode(self, source: np.ndarray) -> np.ndarray:
        return (np.stack([source, source * 0.5, source > 9], axis=2) * (source != PAD)[:, :, None]).astype(
            np.float32
        )


class Moody:
    """Feedback that draws from the lane's generator, and only there."""

    name = "moody"

    def score(
        self, examples: Sequence[QAExample], answers: Sequence[str], rngs: Sequence[np.random.Generator]
    ) -> Score:
        mood = np.array([rng.normal() for rng in rngs])
        length = np.array([float(len(a)) for a in answers])
        return Score(mood + length, {"mood": mood, "length": length})


@pytest.fixture(params=ENCODERS)
def task(request: pytest.FixtureRequest, new_task: NewTask) -> dict[str, Any]:
    if request.param == "own":
        encoder: Encoder = MeanEncoder()
        return new_task("tokens")[1] | {"encoder": encoder}
    return new_task(request.param)[1]


@pytest.fixture
def plain(new_task: NewTask) -> dict[str, Any]:
    return new_task("tokens")[1]


def test_gymnasium_accepts_the_environment(task: dict[str, Any]) -> None:
    for changes in ({}, {"feedback": Moody()}):
        with warnings.catch_warnings():
            # Nothing is known about the numbers that an encoder gives; Gymnasium's own tests ignore this too.
            warnings.filterwarnings(
                "ignore", ".*A Box observation space (minimum|maximum) value is -?infinity"
            )
            check_env(gymnasium.make("qa_env/QA-v0", **task, **changes).unwrapped)


def test_stable_baselines_accepts_the_environment(task: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        # Said of the memory, a matrix: true of SB3's own feature extractors only.
        warnings.filterwarnings("ignore", "Your observation memory has an unconventional shape")
        sb3_check_env(QAEnv(**task))


@pytest.mark.parametrize("name", ["qa_env/QA-v0", "qa_env:qa_env/QA-v0"])
def test_make_gives_the_environment_with_nothing_copied(name: str, task: dict[str, Any]) -> None:
    env = gymnasium.make(name, **task)
    assert isinstance(env.unwrapped, QAEnv)
    assert env.unwrapped.task.encoder is task["encoder"]
    env.reset(seed=0)
    for _ in range(MAX_ANSWER - 1):
        assert env.step(np.int64(LETTER))[1:4] == (0.0, False, False)
    assert env.step(np.int64(LETTER))[2:4] == (True, False)


@pytest.mark.parametrize("name", ["qa_env/QA-v0", "qa_env:qa_env/QA-v0"])
def test_make_vec_gives_the_batched_environment_with_nothing_copied(name: str, task: dict[str, Any]) -> None:
    env = gymnasium.make_vec(name, num_envs=3, **task)
    assert isinstance(env.unwrapped, QAVectorEnv) and env.num_envs == 3
    assert env.unwrapped.task.encoder is task["encoder"]
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)


def test_the_environment_is_registered_without_a_step_limit() -> None:
    spec = gymnasium.spec("qa_env/QA-v0")
    assert spec.max_episode_steps is None and not spec.nondeterministic
    assert qa_env.__doc__ and "qa_env/QA-v0" in qa_env.__doc__


def test_the_default_environment_needs_no_arguments() -> None:
    env = gymnasium.make("qa_env/QA-v0")
    observation, _ = env.reset(seed=0)
    assert observation["memory"].any()
    vector = gymnasium.make_vec("qa_env/QA-v0", num_envs=2)
    np.testing.assert_array_equal(vector.reset(seed=0)[0]["source"][0], observation["source"])


def test_observation_holds_source_answer_and_memory(task: dict[str, Any]) -> None:
    env = QAEnv(**task)
    observation, info = env.reset(seed=0)
    assert info == {}
    assert env.observation_space.contains(observation)
    assert list(observation) == list(env.observation_space.keys())
    assert ("memory" in observation) == (task["encoder"] is not None)
    example = task["data"][env.index]
    ids = task["vocabulary"].encode(example.question)
    if example.context is not None:
        ids += [SEP, *task["vocabulary"].encode(example.context)]
    assert observation["source"][: len(ids)].tolist() == ids[:MAX_SOURCE]
    assert (observation["source"][len(ids) :] == PAD).all()
    assert (observation["answer"] == PAD).all()
    if task["encoder"] is not None:
        expected = task["encoder"].encode(observation["source"][None])[0]
        np.testing.assert_allclose(observation["memory"], expected, atol=1e-6)


def test_the_answer_grows_by_the_chosen_tokens(plain: dict[str, Any]) -> None:
    env = QAEnv(**plain)
    first, _ = env.reset(seed=0)
    for count, token in enumerate((LETTER, LETTER + 1, LETTER), start=1):
        observation, reward, terminated, truncated, info = env.step(np.int64(token))
        assert (reward, terminated, truncated, info) == (0.0, False, False, {})
        assert observation["answer"].tolist()[:count] == [LETTER, LETTER + 1, LETTER][:count]
        assert not observation["answer"][count:].any()
        np.testing.assert_array_equal(observation["source"], first["source"])


def test_the_same_seed_gives_the_same_episodes(task: dict[str, Any]) -> None:
    def play(seed: int) -> list[Any]:
        env = QAEnv(feedback=Moody(), **task)
        seen = [env.reset(seed=seed)[0]]
        for token in [LETTER, EOS] * 6:
            observation, reward, terminated, _, info = env.step(np.int64(token))
            seen += [observation, reward, info]
            if terminated:
                seen.append(env.reset()[0])
        return seen

    assert_same(play(5), play(5))
    with pytest.raises(AssertionError):
        assert_same(play(5), play(6))


def assert_same(ours: Any, theirs: Any) -> None:
    """Equal in structure and content; encoder outputs up to rounding."""
    assert type(ours) is type(theirs), (ours, theirs)
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys()
        for key in ours:
            assert_same(ours[key], theirs[key])
    elif isinstance(ours, (list, tuple)) or (isinstance(ours, np.ndarray) and ours.dtype == object):
        assert len(ours) == len(theirs)
        for our, their in zip(ours, theirs, strict=True):
            assert_same(our, their)
    elif isinstance(ours, np.ndarray):
        assert ours.dtype == theirs.dtype
        if ours.dtype == np.float32:
            np.testing.assert_allclose(ours, theirs, atol=1e-6)
        else:
            np.testing.assert_array_equal(ours, theirs)
    else:
        assert ours == theirs


def test_all_questions_are_asked(plain: dict[str, Any]) -> None:
    env = QAEnv(**plain)
    env.reset(seed=0)
    asked = set()
    for _ in range(300):
        env.reset()
        asked.add(env.index)
    assert asked == set(range(len(plain["data"])))


@pytest.mark.parametrize("token", [EOS, *FORBIDDEN])
def test_eos_and_tokens_that_may_not_stand_in_an_answer_end_it(token: int, plain: dict[str, Any]) -> None:
    for steps in (0, 2):
        env = QAEnv(**plain)
        env.reset(seed=0)
        for _ in range(steps):
            env.step(np.int64(LETTER))
        observation, _, terminated, truncated, _ = env.step(np.int64(token))
        assert terminated and not truncated
        expected = [LETTER] * steps + [EOS] + [PAD] * (MAX_ANSWER - steps - 1)
        assert observation["answer"].tolist() == expected


@pytest.mark.parametrize("limit", [1, 2, MAX_ANSWER])
def test_the_length_limit_terminates_and_never_truncates(limit: int, plain: dict[str, Any]) -> None:
    env = gymnasium.make("qa_env/QA-v0", **plain | {"max_answer": limit})
    env.reset(seed=0)
    ends = [env.step(np.int64(LETTER))[2:4] for _ in range(limit)]
    assert ends == [(False, False)] * (limit - 1) + [(True, False)]


def test_the_end_is_paid_by_the_feedback_and_told_in_the_info(plain: dict[str, Any]) -> None:
    seen: list[tuple[str, str]] = []

    def half(examples: Sequence[QAExample], answers: Sequence[str]) -> list[float]:
        seen.extend((e.id, a) for e, a in zip(examples, answers, strict=True))
        return [0.5] * len(answers)

    env = QAEnv(feedback=half, **plain)
    gold = next(i for i, e in enumerate(plain["data"]) if e.question == "gold")
    for answer, right in (("gold", True), ("old", False)):
        env.reset(options={"index": gold})
        for token in plain["vocabulary"].encode(answer):
            assert env.step(np.int64(token))[1] == 0.0
        reward, _, _, info = env.step(np.int64(EOS))[1:]
        assert reward == 0.5 and type(reward) is float
        told = {"question": "gold", "answer": answer, "is_success": right, "feedback/half": 0.5}
        assert info == {"index": gold} | told
        assert type(info["is_success"]) is bool and type(info["index"]) is int
    assert seen == [("word-gold", "gold"), ("word-gold", "old")]


def test_an_empty_answer_is_graded_too(plain: dict[str, Any]) -> None:
    env = QAEnv(**plain)
    env.reset(seed=0)
    _, reward, terminated, _, info = env.step(np.int64(EOS))
    assert (reward, terminated, info["answer"], info["is_success"]) == (0.0, True, "", False)


def test_ansi_rendering_shows_context_question_and_answer(plain: dict[str, Any]) -> None:
    env = gymnasium.make("qa_env/QA-v0", render_mode="ansi", **plain)
    with_context = next(i for i, e in enumerate(plain["data"]) if e.context)
    example = plain["data"][with_context]
    env.reset(options={"index": with_context})
    assert env.render() == f"C: {example.context}\nQ: {example.question}\nA: "
    gold = next(i for i, e in enumerate(plain["data"]) if e.question == "gold")
    env.reset(options={"index": gold})
    for token in (*plain["vocabulary"].encode("gold"), EOS):
        env.step(np.int64(token))
    assert env.render() == "Q: gold\nA: gold"
    vector = QAVectorEnv(2, render_mode="ansi", **plain)
    vector.reset(options={"index": [gold, with_context]})
    assert vector.render() == ("Q: gold\nA: ", f"C: {example.context}\nQ: {example.question}\nA: ")
    assert QAEnv(**plain).render() is None and QAVectorEnv(2, **plain).render() is None


@pytest.mark.parametrize("mode", ["rgb_array", "human"])
def test_an_unknown_render_mode_is_a_type_error(mode: str, plain: dict[str, Any]) -> None:
    for new in (QAEnv, QAVectorEnv):
        with pytest.raises(TypeError, match="render_mode must be None or 'ansi'"):
            new(render_mode=mode, **plain)


def test_an_example_can_be_asked_for(plain: dict[str, Any]) -> None:
    env, vector = QAEnv(**plain), QAVectorEnv(3, **plain)
    for index in (0, 7, np.int64(len(plain["data"]) - 1)):
        env.reset(options={"index": index})
        np.testing.assert_array_equal(env.task.sources[index], env._observe()["source"])
    observation, _ = vector.reset(options={"index": [4, 0, 4]})
    np.testing.assert_array_equal(observation["source"], env.task.sources[[4, 0, 4]])
    before = env.np_random.bit_generator.state
    env.reset(options={"index": 3})
    assert env.np_random.bit_generator.state == before


@pytest.mark.parametrize("index", [-1, 10_000, [0, 1], []])
def test_an_example_that_is_not_there_is_refused(index: Any, plain: dict[str, Any]) -> None:
    with pytest.raises(QAError, match=r"options\['index'\] must be 1 numbers"):
        QAEnv(**plain).reset(options={"index": index})
    with pytest.raises(QAError, match=r"options\['index'\] must be 3 numbers"):
        QAVectorEnv(3, **plain).reset(options={"index": index})


def test_masks_exclude_what_may_not_stand_in_an_answer(plain: dict[str, Any]) -> None:
    mask = QAEnv(**plain).action_masks()
    assert mask.shape == (len(plain["vocabulary"]),) and mask.dtype == np.bool_
    assert set(np.flatnonzero(~mask)) == {PAD, BOS, SEP}
    masks = QAVectorEnv(3, **plain).action_masks()
    assert masks.shape == (3, len(mask)) and (masks == mask).all()
    masks[0] = False
    assert QAVectorEnv(3, **plain).action_masks()[0].any()


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ([0.0, 0.0], r"shape \(1,\)"),
        (0.0, r"shape \(1,\)"),
        ([math.nan], "NaN or infinity"),
        ([math.inf], "NaN or infinity"),
        (["good"], "must return 1 numbers"),
    ],
)
def test_a_feedback_function_that_returns_rubbish_is_named(
    result: Any, message: str, plain: dict[str, Any]
) -> None:
    def rubbish(examples: Sequence[QAExample], answers: Sequence[str]) -> Any:
        return result

    for env in (QAEnv(feedback=rubbish, **plain), QAVectorEnv(1, feedback=rubbish, **plain)):
        env.reset(seed=0)
        with pytest.raises(QAError, match=f"(?s)'rubbish.*{message}"):
            env.step(np.array([EOS]) if isinstance(env, QAVectorEnv) else np.int64(EOS))


def actions_of(lanes: int, steps: int, vocabulary: int, seed: int = 0) -> list[np.ndarray]:
    """Random tokens, among them many ends and forbidden ones."""
    rng = np.random.default_rng(seed)
    actions = rng.integers(4, vocabulary, size=(steps, lanes))
    special = rng.random((steps, lanes)) < 0.2
    actions[special] = rng.integers(0, 4, size=special.sum())
    return list(actions)


@pytest.mark.parametrize("lanes", [1, 4])
def test_the_batched_environment_equals_single_ones_side_by_side(lanes: int, task: dict[str, Any]) -> None:
    def single() -> QAEnv:
        return QAEnv(feedback=Moody(), **task)

    ours = QAVectorEnv(lanes, feedback=Moody(), **task)
    theirs = SyncVectorEnv([single] * lanes, autoreset_mode=AutoresetMode.SAME_STEP)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    assert ours.single_action_space == theirs.single_action_space
    assert_same(ours.reset(seed=11), theirs.reset(seed=11))
    ended = 0
    for step, actions in enumerate(actions_of(lanes, 60, len(task["vocabulary"]))):
        mine, reference = ours.step(actions), theirs.step(actions)
        assert_same(mine, reference)
        ended += mine[2].sum()
        if step == 40:
            seeds = [3, None, 5, None][:lanes]
            assert_same(ours.reset(seed=seeds), theirs.reset(seed=seeds))
    assert ended > 10 * lanes


def test_a_lane_does_not_depend_on_the_other_lanes(plain: dict[str, Any]) -> None:
    def lane(other: int) -> list[Any]:
        env = QAVectorEnv(2, feedback=Moody(), **plain)
        env.reset(seed=[7, other])
        mine = actions_of(1, 30, len(plain["vocabulary"]))
        others = actions_of(1, 30, len(plain["vocabulary"]), seed=other)
        steps = [env.step(np.concatenate(pair)) for pair in zip(mine, others, strict=True)]
        return [(obs["source"][0], obs["answer"][0], reward[0], done[0]) for obs, reward, done, _, _ in steps]

    assert_same(lane(1), lane(2))


def test_what_was_handed_out_never_changes_later(task: dict[str, Any]) -> None:
    env = QAVectorEnv(3, feedback=Moody(), **task)
    handed = [env.reset(seed=0)]
    kept = [copy.deepcopy(handed[0])]
    for actions in actions_of(3, 30, len(task["vocabulary"])):
        handed.append(env.step(actions))
        kept.append(copy.deepcopy(handed[-1]))
        actions[:] = EOS
    handed.append(env.reset(seed=1))
    kept.append(copy.deepcopy(handed[-1]))
    env.step(np.full(3, EOS))
    assert_same(handed, kept)


def test_writing_into_an_observation_changes_nothing_inside(task: dict[str, Any]) -> None:
    env, untouched = QAEnv(**task), QAEnv(**task)
    for step in range(4):
        pair = [e.reset(seed=0)[0] if step == 0 else e.step(np.int64(LETTER))[0] for e in (env, untouched)]
        assert_same(*pair)
        for value in pair[0].values():
            value[:] = 0
    vector = QAVectorEnv(2, **task)
    observation, _ = vector.reset(seed=0)
    observation["source"][:] = 0
    observation["answer"][:] = 0
    assert vector.step(np.full(2, LETTER))[0]["source"].any() and vector.task.sources.any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": []}, "non-empty sequence of QAExample"),
        ({"data": ["text"]}, "non-empty sequence of QAExample"),
        ({"max_source": 0}, "must be positive"),
        ({"max_answer": 0}, "must be positive"),
        ({"encoder": "best"}, "encoder must be 'default'"),
        ({"feedback": "f2"}, "unknown feedback"),
        ({"vocabulary": "/nowhere/vocabulary.json"}, "no vocabulary file"),
    ],
)
def test_bad_arguments_are_refused(changes: dict[str, Any], message: str, plain: dict[str, Any]) -> None:
    for new in (QAEnv, QAVectorEnv):
        with pytest.raises(QAError, match=message):
            new(**plain | changes)


def test_a_batch_of_no_lanes_is_refused(plain: dict[str, Any]) -> None:
    with pytest.raises(QAError, match="num_envs must be at least 1"):
        QAVectorEnv(0, **plain)


@pytest.mark.parametrize("samples", [0, 4])
def test_more_samples_of_a_question_than_lanes_are_refused(samples: int, plain: dict[str, Any]) -> None:
    QAVectorEnv(3, samples_per_question=3, **plain)
    with pytest.raises(QAError, match=f"samples_per_question must be from 1 to num_envs=3, got {samples}"):
        QAVectorEnv(3, samples_per_question=samples, **plain)


@pytest.mark.parametrize(("lanes", "samples"), [(4, 4), (6, 3), (5, 2), (7, 4), (3, 1)])
def test_each_question_is_asked_the_given_number_of_times_in_a_row(
    lanes: int, samples: int, task: dict[str, Any]
) -> None:
    env = QAVectorEnv(lanes, samples_per_question=samples, **task)
    observation, _ = env.reset(seed=0)
    asked = env.indices.tolist()
    for actions in actions_of(lanes, 60, len(task["vocabulary"])):
        observation, _, done, _, _ = env.step(actions)
        asked += env.indices[done].tolist()
        np.testing.assert_array_equal(observation["source"], env.task.sources[env.indices])
        if task["encoder"] is not None:
            expected = task["encoder"].encode(observation["source"])
            np.testing.assert_allclose(observation["memory"], expected, atol=1e-6)
    groups = [asked[i : i + samples] for i in range(0, len(asked), samples)]
    assert len(groups) > 10
    assert all(len(set(group)) == 1 for group in groups)
    drawn = [group[0] for group in groups]
    assert len(set(drawn)) > 5
    env.reset(seed=1)
    assert (env.indices[:samples] == env.indices[0]).all()  # a reset begins anew


@pytest.mark.parametrize("retry", [0.0, 0.6])
def test_the_given_share_of_questions_is_asked_again_because_they_failed(
    retry: float, plain: dict[str, Any]
) -> None:
    examples = [replace(plain["data"][0], id=str(i)) for i in range(200)]
    bad = {example.id for example in examples[:40]}

    def reward(asked: Any, answers: Any) -> list[float]:
        return [-1.0 if example.id in bad else 1.0 for example in asked]

    env = QAVectorEnv(8, retry=retry, **plain | {"data": examples, "feedback": reward})
    env.reset(seed=0)
    asked = []
    for _ in range(300):
        _, _, done, _, _ = env.step(np.full(8, EOS))
        asked += env.indices[done].tolist()
    # A fifth of the questions fails always; of the others none has failed.
    expected = retry + (1 - retry) * 0.2
    assert np.mean([index < 40 for index in asked]) == pytest.approx(expected, abs=0.03)


def test_the_same_seed_asks_the_same_questions_again_with_retries(plain: dict[str, Any]) -> None:
    env = QAVectorEnv(4, retry=0.5, **plain)

    def asked() -> list[int]:
        env.reset(seed=3)
        return [i for _ in range(60) if env.step(np.full(4, EOS)) for i in env.indices.tolist()]

    assert asked() == asked()


@pytest.mark.parametrize("retry", [-0.1, 1.0])
def test_a_share_of_retries_out_of_range_is_refused(retry: float, plain: dict[str, Any]) -> None:
    with pytest.raises(QAError, match="retry must be 0 or more and less than 1"):
        QAVectorEnv(2, retry=retry, **plain)


def test_the_default_encoder_goes_with_its_own_vocabulary_only(plain: dict[str, Any]) -> None:
    with pytest.raises(QAError, match="leave out vocabulary="):
        QAEnv(**plain | {"encoder": "default"})


def test_sources_that_were_cut_are_counted(plain: dict[str, Any]) -> None:
    env = QAEnv(**plain)
    vocabulary, cut = plain["vocabulary"], 0
    for e in plain["data"]:
        context = [] if e.context is None else [SEP, *vocabulary.encode(e.context)]
        cut += len(vocabulary.encode(e.question)) + len(context) > MAX_SOURCE
    assert env.task.cut_sources == cut > 0


def test_answers_grow_end_and_are_emptied_lane_by_lane() -> None:
    answers = Answers(3, 3)
    assert answers.append(np.array([9, EOS, BOS])).tolist() == [False, True, True]
    assert answers.tokens.tolist() == [[9, 0, 0], [EOS, 0, 0], [EOS, 0, 0]]
    answers.reset(np.array([False, True, False]))
    assert answers.lengths.tolist() == [1, 0, 1]
    assert answers.append(np.array([8, 8, 8])).tolist() == [False, False, False]
    assert answers.append(np.array([7, 7, 7])).tolist() == [True, False, True]
    assert answers.tokens.tolist() == [[9, 8, 7], [8, 7, 0], [EOS, 8, 7]]
