from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from conftest import MAX_ANSWER, MAX_SOURCE, SETTINGS
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from agents.decoding import greedy
from agents.vec_env import QAVecEnv
from agents.warm_start import as_batch
from policies import LMActorCriticPolicy
from policies.attention import ATTENTIONS
from policies.tokens import Sampling, draw
from qa_env.encoders import EncoderConfig, LSTMEncoder
from qa_env.env import QAEnv
from qa_env.errors import QAError
from qa_env.vector_env import QAVectorEnv
from qa_env.vocabulary import EOS, FORBIDDEN, PAD

NewTask = Callable[..., tuple[Any, dict[str, Any]]]
Observation = dict[str, np.ndarray]
LANES = 5
SAMPLINGS = [
    pytest.param({}, id="plain"),
    pytest.param({"temperature": 0.7}, id="temperature"),
    pytest.param({"top_k": 5}, id="top-k"),
    pytest.param({"top_p": 0.8}, id="top-p"),
    pytest.param({"temperature": 1.5, "top_k": 9, "top_p": 0.9}, id="all"),
]


def new_policy(env: QAVectorEnv, lm: Any, **sampling: Any) -> LMActorCriticPolicy:
    torch.manual_seed(0)
    space = env.single_observation_space
    return LMActorCriticPolicy(space, env.single_action_space, lambda _: 1e-3, lm=lm, **sampling)


def setup(
    new_task: NewTask, setting: str, lanes: int = LANES, **changes: Any
) -> tuple[QAVectorEnv, LMActorCriticPolicy]:
    sampling = {key: changes.pop(key) for key in ("temperature", "top_k", "top_p") if key in changes}
    lm, task = new_task(setting, **changes)
    env = QAVectorEnv(lanes, **task)
    return env, new_policy(env, lm, **sampling)


def tensors(observation: Observation) -> dict[str, torch.Tensor]:
    return {key: torch.as_tensor(value) for key, value in observation.items()}


def act(policy: LMActorCriticPolicy, observation: Observation) -> np.ndarray:
    """One cached forward pass, checked against the prefix pass on the same observation."""
    obs = tensors(observation)
    with torch.no_grad():
        first_look = policy.predict_values(obs)
        tokens, values, log_probs = policy.forward(obs)
        expected_values, expected_log_probs, _ = policy.evaluate_actions(obs, tokens)
        torch.testing.assert_close(log_probs, expected_log_probs, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(values, expected_values, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(first_look, expected_values, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(policy.predict_values(obs), expected_values, atol=1e-4, rtol=1e-4)
        again = policy.get_distribution(obs).log_prob(tokens)
        torch.testing.assert_close(again, expected_log_probs, atol=1e-4, rtol=1e-4)
    return tokens.numpy()


def disturb(policy: LMActorCriticPolicy, seed: int = 1) -> None:
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.lm.parameters():
            if parameter.requires_grad:  # shrunk too, so that many disturbances do not add up
                parameter.mul_(0.8).add_(0.25 * torch.randn_like(parameter))


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_a_rollout_gives_the_numbers_of_the_prefix_pass(
    new_task: NewTask, setting: str, sampling: dict[str, Any]
) -> None:
    env, policy = setup(new_task, setting, **sampling)
    observation, _ = env.reset(seed=0)
    ended = 0
    for _ in range(25):
        observation, _, done, _, _ = env.step(act(policy, observation))
        ended += done.sum()
    assert ended >= 2 * LANES


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_long_and_short_questions_in_turn_leave_nothing_behind_in_a_lane(
    new_task: NewTask, setting: str, attention: str
) -> None:
    env, policy = setup(new_task, setting, lanes=2, attention=attention)
    by_length = np.argsort((env.task.sources != PAD).sum(1))
    shortest, longest = int(by_length[0]), int(by_length[-1])
    lengths = (env.task.sources != PAD).sum(1)
    assert lengths[shortest] < 8 and lengths[longest] == MAX_SOURCE
    long, _ = env.reset(options={"index": [longest, longest]})
    short, _ = env.reset(options={"index": [shortest, shortest]})
    observation = long
    for lane, question in ((0, short), (0, long), (1, short), (0, short), (1, long)):
        tokens = act(policy, observation)  # the lane gets another question, the other lane goes on
        answer = observation["answer"].copy()
        answer[1 - lane, (answer[1 - lane] != PAD).sum()] = tokens[1 - lane]
        observation = {key: value.copy() for key, value in observation.items()} | {"answer": answer}
        for key in observation:
            observation[key][lane] = question[key][lane]
    act(policy, observation)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_weights_that_change_in_mid_answer_are_noticed(
    new_task: NewTask, setting: str, attention: str
) -> None:
    env, policy = setup(new_task, setting, attention=attention)
    observation, _ = env.reset(seed=0)
    straddling = 0
    for step in range(20):
        if step % 3 == 2:
            straddling += (observation["answer"] != PAD).any(1).sum()
            disturb(policy, step)
        observation = env.step(act(policy, observation))[0]
    assert straddling > LANES


def test_new_weights_are_noticed_however_they_come(new_task: NewTask) -> None:
    env, policy = setup(new_task, "trained")
    other = setup(new_task, "trained", seed=7)[1]
    observation, _ = env.reset(seed=0)
    observation = env.step(act(policy, observation))[0]
    policy.load_state_dict(other.state_dict())
    observation = env.step(act(policy, observation))[0]
    for _ in range(6):  # as TRPO's line search sets them; freed memory may come back at the same address
        for parameter in policy.lm.parameters():
            parameter.data = parameter.data + 0.05
        observation = env.step(act(policy, observation))[0]


@pytest.mark.parametrize("setting", SETTINGS)
def test_any_observations_in_any_order_are_right(new_task: NewTask, setting: str) -> None:
    env, policy = setup(new_task, setting)
    observation, _ = env.reset(seed=0)
    seen = [observation]
    for _ in range(12):
        observation = env.step(act(policy, observation))[0]
        seen.append(observation)
    rng = np.random.default_rng(0)
    pool = {key: np.concatenate([o[key] for o in seen]) for key in seen[0]}
    for size in (LANES, LANES, 3, 3, 9, LANES, LANES):
        rows = rng.integers(len(pool["answer"]), size=size)
        act(policy, {key: value[rows] for key, value in pool.items()})
    for order in (rng.permutation(LANES), rng.permutation(LANES)):
        act(policy, {key: value[order] for key, value in observation.items()})
    act(policy, observation)
    act(policy, observation)


@pytest.mark.parametrize("setting", SETTINGS)
def test_answers_in_mid_air_may_change_lanes_after_the_weights_changed(
    new_task: NewTask, setting: str
) -> None:
    env, policy = setup(new_task, setting)
    observation, _ = env.reset(seed=0)
    env.answers.append(act(policy, observation))
    observation = env._observe()
    disturb(policy)
    for order in ([0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [1, 1, 1, 1, 1]):
        act(policy, {key: value[order] for key, value in observation.items()})


@pytest.mark.parametrize("setting", SETTINGS)
def test_forward_with_gradients_gives_the_same_numbers(new_task: NewTask, setting: str) -> None:
    env, policy = setup(new_task, setting)
    obs = tensors(env.reset(seed=0)[0])
    tokens, values, log_probs = policy.forward(obs, deterministic=True)
    assert log_probs.requires_grad
    with torch.no_grad():
        cached = policy.forward(obs, deterministic=True)
    assert torch.equal(tokens, cached[0])
    torch.testing.assert_close(values, cached[1], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(log_probs, cached[2], atol=1e-5, rtol=1e-5)


def test_gradients_reach_a_trained_encoder_and_no_frozen_one(new_task: NewTask) -> None:
    for setting, reached in (("trained", True), ("tokens", True), ("frozen", False)):
        env, policy = setup(new_task, setting)
        obs = tensors(env.reset(seed=0)[0])
        values, log_probs, entropy = policy.evaluate_actions(obs, torch.arange(4, 4 + LANES))
        (values.sum() + log_probs.sum() + entropy.sum()).backward()
        for name, parameter in policy.named_parameters():
            in_encoder = name.startswith("lm.encoder.") and name != "lm.encoder.embedding.weight"
            if in_encoder:
                assert (parameter.grad is not None) == reached, (setting, name)
        optimised = {id(p) for group in policy.optimizer.param_groups for p in group["params"]}
        assert optimised == {id(p) for p in policy.parameters() if p.requires_grad}
        assert {id(p) for p in policy.value_net.parameters()} <= optimised


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("method", ["forward", "evaluate", "predict"])
def test_the_critic_trains_its_own_head_only(new_task: NewTask, setting: str, method: str) -> None:
    env, policy = setup(new_task, setting)
    obs = tensors(env.reset(seed=0)[0])
    if method == "forward":
        values = policy.forward(obs)[1]
    elif method == "evaluate":
        values = policy.evaluate_actions(obs, torch.arange(4, 4 + LANES))[0]
    else:
        values = policy.predict_values(obs)
    values.sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in policy.value_net.parameters())
    assert all(p.grad is None for p in policy.lm.parameters())


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_forbidden_tokens_are_never_chosen(new_task: NewTask, sampling: dict[str, Any]) -> None:
    env, policy = setup(new_task, "tokens", lanes=400, **sampling)
    with torch.no_grad():  # a model that wants nothing but forbidden tokens
        policy.lm.output_bias[list(FORBIDDEN)] = 8.0
    observation, _ = env.reset(seed=0)
    obs = tensors(observation)
    with torch.no_grad():
        wanted = policy.lm.log_probabilities(policy.reader.prefix(obs)).exp()
        assert wanted[:, list(FORBIDDEN)].sum(1).median() > 0.3
        for deterministic in (False, True):
            tokens, _, _ = policy.forward(obs, deterministic=deterministic)
            assert not np.isin(tokens.numpy(), FORBIDDEN).any()
            predicted, _ = policy.predict(observation, deterministic=deterministic)
            assert not np.isin(predicted, FORBIDDEN).any()
        distribution = policy.get_distribution(obs).distribution
    assert not distribution.probs[:, list(FORBIDDEN)].any()
    torch.testing.assert_close(distribution.probs.sum(1), torch.ones(400))


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_log_likelihood_of_teacher_forcing_knows_no_temperature(new_task: NewTask, setting: str) -> None:
    env, sharp = setup(new_task, setting, temperature=0.5, top_k=3, top_p=0.9)
    plain = new_policy(env, sharp.lm)
    source = env.task.sources[:4]
    answers = np.full((4, 3), PAD)
    answers[:, :2], answers[0, 2] = 40, EOS
    batch, tokens = as_batch(source, answers)
    expected = plain.evaluate_actions(batch, tokens)[1]
    torch.testing.assert_close(sharp.log_likelihood(batch, tokens), expected)
    assert not torch.allclose(sharp.evaluate_actions(batch, tokens)[1], expected)


@pytest.mark.parametrize("copy", [True, False])
def test_teacher_forcing_has_the_gradient_of_the_whole_distribution(new_task: NewTask, copy: bool) -> None:
    lm, task = new_task("trained", copy=copy)
    policy = new_policy(QAVectorEnv(2, **task), lm)
    source = QAVectorEnv(2, **task).task.sources[:4]
    batch, tokens = as_batch(source, np.where(source[:, :3] > 3, source[:, :3], EOS))
    gradients = []
    for log_probs in (policy.log_likelihood(batch, tokens), policy.evaluate_actions(batch, tokens)[1]):
        policy.zero_grad()
        log_probs.sum().backward()
        gradients.append([None if p.grad is None else p.grad.clone() for p in lm.parameters()])
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_temperature_and_top_k_follow_their_formulas() -> None:
    torch.manual_seed(0)
    given = torch.randn(3, 12).log_softmax(1)
    logits = given[:, 3:].clone()
    logits[:, 0] = -torch.inf  # SEP; PAD and BOS are cut off
    logits = torch.cat((torch.full((3, 2), -torch.inf), given[:, 2:3], logits), dim=1)
    torch.testing.assert_close(Sampling().log_probs(given).exp(), logits.softmax(1))
    torch.testing.assert_close(Sampling(0.7).log_probs(given).exp(), (logits / 0.7).softmax(1))
    kept = Sampling(0.7, 4).log_probs(given).exp()
    assert ((kept > 0).sum(1) == 4).all()
    likeliest = logits.topk(4, 1)
    torch.testing.assert_close(kept.gather(1, likeliest.indices), (likeliest.values / 0.7).softmax(1))
    assert torch.equal(Sampling(top_k=99).log_probs(given), Sampling().log_probs(given))
    least = logits.masked_fill(logits == -torch.inf, 99).argmin(1)
    with_taken = Sampling(top_k=2).log_probs(given, taken=least)
    assert ((with_taken.exp() > 0).sum(1) == 3).all() and (with_taken.gather(1, least[:, None]) > -50).all()


@settings(derandomize=True, deadline=None, database=None)
@given(
    st.lists(st.floats(-9, 0), min_size=5, max_size=12),
    st.floats(0.01, 0.99),
    st.integers(0, 12),
    st.floats(0.2, 3),
)
def test_top_p_keeps_the_fewest_tokens_that_reach_the_mass(
    values: list[float], p: float, k: int, temperature: float
) -> None:
    likelihoods = torch.tensor([values])
    before = Sampling(temperature, k).log_probs(likelihoods).exp()[0]
    after = Sampling(temperature, k, p).log_probs(likelihoods).exp()[0]
    kept = after > 0
    mass = float(before[kept].sum())
    assert mass >= p - 1e-5
    assert mass - float(before[kept].min()) < p + 1e-5  # without the least of them it is not reached
    if not kept.all():
        assert before[~kept].max() <= before[kept].min()
    torch.testing.assert_close(after[kept], before[kept] / mass, atol=1e-5, rtol=1e-4)


def test_a_token_taken_before_stays_beside_the_nucleus() -> None:
    probabilities = torch.tensor([[0.0, 0.0, 0.5, 0.0, 0.3, 0.15, 0.05]])
    likelihoods = probabilities.clamp(min=1e-9).log()
    taken = torch.tensor([6])
    for sampling in (Sampling(top_p=0.7), Sampling(top_k=2, top_p=0.9)):
        assert sampling.log_probs(likelihoods).exp()[0].nonzero().flatten().tolist() == [2, 4]
        probs = sampling.log_probs(likelihoods, taken).exp()[0]
        torch.testing.assert_close(probs[[2, 4, 6]], torch.tensor([0.5, 0.3, 0.05]) / 0.85)


def test_tokens_are_drawn_as_often_as_their_probability_says() -> None:
    log_probs = Sampling(top_p=0.9).log_probs(torch.randn(1, 9).log_softmax(1)).expand(20_000, -1)
    drawn = draw(log_probs, torch.Generator().manual_seed(0))
    shares = torch.bincount(drawn, minlength=9) / len(drawn)
    torch.testing.assert_close(shares, log_probs[0].exp(), atol=0.02, rtol=0)
    assert torch.equal(drawn, draw(log_probs, torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("chance", [0.0, 2.0**-53, 0.5, 1 - 2.0**-53])
def test_a_token_without_a_chance_is_never_drawn(monkeypatch: pytest.MonkeyPatch, chance: float) -> None:
    monkeypatch.setattr(torch, "rand", lambda shape, **kwargs: torch.full(shape, chance, dtype=torch.float64))
    logits = torch.randn(50, 30_000, generator=torch.Generator().manual_seed(0))
    nought = torch.rand_like(logits) < 0.5
    nought[:, :10], nought[:, -10:] = True, True  # where rounding would lead
    log_probs = logits.masked_fill(nought, -1e8).log_softmax(1)
    drawn = draw(log_probs)
    assert not nought.gather(1, drawn.unsqueeze(1)).any()
    if chance > 0.9:
        assert (drawn > 29_900).all()


@pytest.mark.parametrize(
    "senseless",
    [
        *({"temperature": value} for value in (0.0, -1.0, 1e-9, float("nan"), float("inf"))),
        {"top_k": -1},
        *({"top_p": value} for value in (0.0, -0.5, 1.1, float("nan"))),
    ],
    ids=str,
)
def test_senseless_sampling_is_refused(senseless: dict[str, Any]) -> None:
    with pytest.raises(QAError, match=f"{next(iter(senseless))} must be .* got"):
        Sampling(**senseless)


def test_entropy_is_that_of_the_distribution(new_task: NewTask) -> None:
    for sampling in ({}, {"temperature": 0.7, "top_k": 5, "top_p": 0.9}):
        env, policy = setup(new_task, "trained", **sampling)
        obs = tensors(env.reset(seed=0)[0])
        _, _, entropy = policy.evaluate_actions(obs, policy.forward(obs)[0])
        probs = policy.get_distribution(obs).distribution.probs
        torch.testing.assert_close(entropy, torch.special.entr(probs).sum(1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_greedy_decoding_writes_what_predict_writes_in_the_environment(
    new_task: NewTask, setting: str, attention: str
) -> None:
    lm, task = new_task(setting, attention=attention, seed=1)
    count = len(task["data"])
    env = QAVectorEnv(count, **task)
    policy = new_policy(env, lm, temperature=0.7, top_k=5)
    with torch.no_grad():
        lm.generate_gate.weight.zero_()
        lm.generate_gate.bias.fill_(1.0)
        for _ in range(60):  # until some answers end early and others do not
            lm.output_bias[EOS] += 0.1
            written = greedy(policy, env.task.sources, MAX_ANSWER)
            lengths = (written != PAD).sum(1)
            if lengths.min() < MAX_ANSWER:
                break
    assert lengths.min() < lengths.max() == MAX_ANSWER
    observation, _ = env.reset(options={"index": np.arange(count)})
    played: list[np.ndarray | None] = [None] * count
    for _ in range(MAX_ANSWER):
        actions, _ = policy.predict(observation, deterministic=True)
        observation, _, done, _, info = env.step(actions)
        for lane in np.flatnonzero(done):
            if played[lane] is None:
                played[lane] = info["final_obs"][lane]["answer"]
    np.testing.assert_array_equal(written, np.array(played))


def test_one_observation_can_be_predicted_on(new_task: NewTask) -> None:
    lm, task = new_task("trained")
    env = QAEnv(**task)
    policy = LMActorCriticPolicy(env.observation_space, env.action_space, lambda _: 1e-3, lm=lm)
    observation, _ = env.reset(seed=0)
    action, state = policy.predict(observation, deterministic=True)
    assert action.shape == () and state is None and env.action_space.contains(np.int64(action))


@pytest.mark.parametrize("with_memory", [True, False], ids=["memory", "tokens only"])
def test_without_a_model_the_policy_makes_one_that_fits(new_task: NewTask, with_memory: bool) -> None:
    _, task = new_task("tokens")
    if with_memory:
        torch.manual_seed(0)
        config = EncoderConfig(vocabulary=len(task["vocabulary"]), embedding=8, hidden=7)
        task["encoder"] = LSTMEncoder(config).requires_grad_(False)
    env = DummyVecEnv([lambda: Monitor(gymnasium.make("qa_env/QA-v0", **task))] * 2)
    model = PPO(LMActorCriticPolicy, env, n_steps=16, batch_size=16, n_epochs=1, seed=0)
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    model.learn(32)
    changed = {n for n, v in model.policy.state_dict().items() if not torch.equal(v, before[n])}
    assert any(name.startswith("lm.decoder") for name in changed)
    assert any(name.startswith("lm.encoder") for name in changed) != with_memory
    rewards, _ = evaluate_policy(model, env, n_eval_episodes=4, return_episode_rewards=True)
    assert len(rewards) == 4


@pytest.mark.parametrize("setting", SETTINGS)
def test_a2c_learns_with_it(new_task: NewTask, setting: str) -> None:
    lm, task = new_task(setting)
    model = A2C(LMActorCriticPolicy, QAVecEnv(QAVectorEnv(4, **task)), policy_kwargs={"lm": lm}, seed=0)
    before = lm.output_bias.detach().clone()
    model.learn(60)
    assert model.policy.lm is lm and not torch.equal(lm.output_bias, before)


def test_a_model_with_another_vocabulary_is_refused(new_task: NewTask, new_lm: Callable[..., Any]) -> None:
    _, task = new_task("tokens")
    with pytest.raises(QAError, match="has 50 tokens, the environment"):
        new_policy(QAVectorEnv(1, **task), new_lm(tokens=50))


def test_a_model_that_reads_another_width_is_refused(new_task: NewTask, new_lm: Callable[..., Any]) -> None:
    _, task = new_task("trained")
    with pytest.raises(QAError, match="vectors of 24, the language model reads 26"):
        new_policy(QAVectorEnv(1, **task), new_lm(encoder_hidden=13))


@pytest.mark.parametrize(
    ("observation", "action"),
    [
        (spaces.Box(-1, 1, (4,)), spaces.Discrete(330)),
        (spaces.Dict(source=spaces.Box(0, 329, (4,), np.int64)), spaces.Box(-1, 1, (2,))),
        (spaces.Dict(image=spaces.Box(0, 1, (4,))), spaces.Discrete(330)),
    ],
)
@pytest.mark.parametrize("given", [True, False], ids=["lm", "no lm"])
def test_spaces_of_another_environment_are_refused(
    observation: spaces.Space[Any], action: spaces.Space[Any], given: bool, new_lm: Callable[..., Any]
) -> None:
    lm = new_lm() if given else None
    with pytest.raises(QAError, match="spaces of QAEnv"):
        LMActorCriticPolicy(observation, action, lambda _: 1e-3, lm=lm)


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_saved_model_predicts_the_same_when_loaded(new_task: NewTask, setting: str, tmp_path: Path) -> None:
    lm, task = new_task(setting)
    env = QAVectorEnv(LANES, **task)
    kwargs = {"lm": lm, "temperature": 0.7, "top_k": 5, "top_p": 0.9}
    model = PPO(
        LMActorCriticPolicy, QAVecEnv(env), policy_kwargs=kwargs, n_steps=8, batch_size=20, n_epochs=2, seed=0
    )
    model.learn(80)
    model.save(tmp_path / "model")
    loaded = PPO.load(tmp_path / "model")
    assert loaded.policy.sampling == model.policy.sampling
    assert loaded.policy.reader.trains_encoder == model.policy.reader.trains_encoder
    observation, _ = env.reset(seed=3)
    for _ in range(10):
        actions, _ = model.predict(observation, deterministic=True)
        again, _ = loaded.predict(observation, deterministic=True)
        np.testing.assert_array_equal(actions, again)
        obs = tensors(observation)
        for ours, theirs in zip(
            model.policy.evaluate_actions(obs, torch.as_tensor(actions)),
            loaded.policy.evaluate_actions(obs, torch.as_tensor(actions)),
            strict=True,
        ):
            torch.testing.assert_close(ours, theirs)
        observation = env.step(actions)[0]


def test_a_saved_policy_predicts_the_same_when_loaded(new_task: NewTask, tmp_path: Path) -> None:
    env, policy = setup(new_task, "trained", top_k=5)
    observation, _ = env.reset(seed=0)
    policy.save(tmp_path / "policy.pt")
    loaded = LMActorCriticPolicy.load(tmp_path / "policy.pt")
    for ours, theirs in zip(
        policy.predict(observation, deterministic=True),
        loaded.predict(observation, deterministic=True),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)
