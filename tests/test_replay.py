from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from agents.replay import AnswerReplayBuffer
from qa_env.errors import QAError
from qa_env.vocabulary import PAD

LONGEST, SOURCE, TOP = 7, 5, 50


def new_buffer(size: int = 200, n_envs: int = 1, **settings: Any) -> AnswerReplayBuffer:
    space = spaces.Dict(
        {
            "source": spaces.Box(0, TOP, (SOURCE,), np.int64),
            "answer": spaces.Box(0, TOP, (LONGEST,), np.int64),
        }
    )
    return AnswerReplayBuffer(size, space, spaces.Discrete(TOP + 1), n_envs=n_envs, **settings)


def some_answers(number: int, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Sources (a few, asked often), tokens and rewards."""
    rng = np.random.default_rng(seed)
    sources = rng.integers(1, TOP, (6, SOURCE))
    lengths = rng.integers(1, LONGEST + 1, number)
    return [(sources[rng.integers(6)], rng.integers(1, TOP, n), rng.normal(size=n)) for n in lengths]


def unpacked(samples: Any) -> list[tuple[np.ndarray, ...]]:
    """Source, tokens, rewards, dones and next times of each answer in the samples."""
    batch = samples.observations
    found = []
    for answer in range(len(batch.tokens)):
        rows = (batch.answer == answer).numpy()
        tokens = batch.tokens[answer].numpy()
        assert (tokens[rows.sum() :] == PAD).all()
        assert (samples.actions[rows, 0].numpy() == tokens[: rows.sum()]).all()
        assert (batch.time[rows].numpy() == np.arange(rows.sum())).all()
        columns = (samples.rewards, samples.dones)
        found.append(
            (
                batch.source[batch.question[answer]].numpy(),
                tokens[: rows.sum()],
                *(column[rows, 0].numpy() for column in columns),
                samples.next_observations.time[rows].numpy(),
            )
        )
    return found


def test_what_is_sampled_is_what_was_stored_and_the_oldest_goes_first() -> None:
    buffer, answers = new_buffer(60), some_answers(100)
    for number, answer in enumerate(answers):
        buffer.add_answer(*answer)
        kept = answers[number + 1 - buffer.answers : number + 1]
        assert buffer.size() == sum(len(tokens) for _, tokens, _ in kept) <= 60
        if number + 1 > buffer.answers:  # one more would not have fitted
            assert buffer.size() + len(answers[number - buffer.answers][1]) > 60
        found = unpacked(buffer.of_answers(np.arange(buffer.answers)))
        for (source, tokens, rewards), (got_source, got_tokens, got_rewards, *_) in zip(
            kept, found, strict=True
        ):
            np.testing.assert_array_equal(got_source, source)
            np.testing.assert_array_equal(got_tokens, tokens)
            np.testing.assert_allclose(got_rewards, rewards, atol=1e-6)
    assert buffer.full


@pytest.mark.parametrize("gamma", [1.0, 0.9])
@pytest.mark.parametrize("n_steps", [1, 2, 3, LONGEST, 30])
def test_n_step_returns_equal_a_direct_sum(n_steps: int, gamma: float) -> None:
    buffer, answers = new_buffer(n_steps=n_steps, gamma=gamma), some_answers(20)
    for answer in answers:
        buffer.add_answer(*answer)
    samples = buffer.of_answers(np.arange(20))
    for (_, tokens, rewards), (_, _, returns, dones, later) in zip(answers, unpacked(samples), strict=True):
        for time in range(len(tokens)):
            ahead = rewards[time : time + n_steps]
            expected = sum(gamma**i * reward for i, reward in enumerate(ahead))
            assert returns[time] == pytest.approx(expected, abs=1e-5)
            assert dones[time] == (time + n_steps >= len(tokens))
            if not dones[time]:
                assert later[time] == time + n_steps
    assert samples.discounts.unique().tolist() == [pytest.approx(gamma**n_steps)]


def test_lanes_that_grow_side_by_side_are_put_together_as_they_finish() -> None:
    buffer, rng = new_buffer(n_envs=3), np.random.default_rng(0)
    answers, kept = some_answers(12), []
    lanes: list[tuple[int, int]] = [(0, 0), (1, 0), (2, 0)]  # which answer, how far
    waiting = iter(range(3, 12))
    while lanes[0][0] < 10:
        parts = [(answers[number], place) for number, place in lanes]
        done = np.array([place + 1 == len(tokens) for (_, tokens, _), place in parts])
        buffer.add(
            {"source": np.stack([source for (source, _, _), _ in parts]), "answer": rng.integers(9, size=3)},
            None,
            np.array([[tokens[place]] for (_, tokens, _), place in parts]),
            np.array([rewards[place] for (_, _, rewards), place in parts]),
            done,
            [{}, {}, {}],
        )
        for lane, (number, place) in enumerate(lanes):
            if done[lane]:
                kept.append(answers[number])
            lanes[lane] = (next(waiting, 11), 0) if done[lane] else (number, place + 1)
        if not kept or len(kept) > 8:
            break
    found = unpacked(buffer.of_answers(np.arange(buffer.answers)))
    assert len(found) == len(kept) > 0
    for (source, tokens, rewards), (got_source, got_tokens, got_rewards, *_) in zip(kept, found, strict=True):
        np.testing.assert_array_equal(got_source, source)
        np.testing.assert_array_equal(got_tokens, tokens)
        np.testing.assert_allclose(got_rewards, rewards, atol=1e-6)


def test_a_minibatch_has_about_the_asked_number_of_tokens() -> None:
    buffer = new_buffer()
    for answer in some_answers(40):
        buffer.add_answer(*answer)
    np.random.seed(0)
    sizes = [len(buffer.sample(64).actions) for _ in range(50)]
    assert np.mean(sizes) == pytest.approx(64, rel=0.1)


def test_a_checkpoint_brings_every_answer_back() -> None:
    buffer, other = new_buffer(60), new_buffer(60)
    for answer in some_answers(50):
        buffer.add_answer(*answer)
    other.load_state(buffer.state())
    assert other.answers == buffer.answers and other.size() == buffer.size()
    everything = np.arange(buffer.answers)
    for old, new in zip(
        unpacked(buffer.of_answers(everything)), unpacked(other.of_answers(everything)), strict=True
    ):
        for a, b in zip(old, new, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 3}, "buffer_size must hold an answer of 7 tokens, got 3"),
        ({"n_steps": 0}, "n_steps must be 1 or more"),
        ({"gamma": 0.0}, "gamma in"),
        ({"optimize_memory_usage": True}, "optimize_memory_usage=False"),
    ],
)
def test_senseless_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(QAError, match=message):
        new_buffer(**settings)


def test_an_empty_buffer_says_so() -> None:
    with pytest.raises(QAError, match="no finished answer yet"):
        new_buffer().sample(8)
