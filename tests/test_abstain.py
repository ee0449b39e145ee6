"""Questions that have no answer, and the token that says so: from the data to the decoded answer."""

from __future__ import annotations

import json
import string
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import MAX_ANSWER, MAX_SOURCE
from stable_baselines3 import PPO
from trainer_process import QUICKER

import train
from agents import answer, evaluate
from agents.augmentation import Augmentation, AugmentationConfig
from agents.config import SplitConfig, TrainConfig
from agents.data import check_data, load_dataset
from agents.decoding import DecodingConfig, Limits, decode
from agents.loading import load_policy
from agents.preference_data import encode_answers
from agents.reward_data import render
from agents.runs import Run
from agents.vec_env import QAVecEnv
from agents.warm_start import Supervised, as_batch
from policies import LMActorCriticPolicy, LMConfig, LMDQNPolicy, LSTMAttentionLM
from qa_env.answers import Answers
from qa_env.datasets import QAExample, load_examples, split_dataset
from qa_env.encoders import ASSETS
from qa_env.env import QAEnv
from qa_env.errors import QAError
from qa_env.feedback import (
    BUILT_IN,
    ExactMatch,
    Fluency,
    SimulatedUsers,
    SimulatedUsersConfig,
    as_feedback,
)
from qa_env.feedback.fluency import FluencyModel
from qa_env.feedback.text import exact_match, token_f1, value_accuracy
from qa_env.vector_env import QAVectorEnv
from qa_env.vocabulary import ABSTAIN_TOKEN, EOS, FORBIDDEN, PAD, SPECIAL_TOKENS, Vocabulary

NEVER = QAExample("never", "Who signed?", "A river runs.", (), {"unanswerable": True})
SURE = QAExample("sure", "Who signed?", "Ada signed.", ("Ada", "Ada signed."))


@pytest.fixture(scope="module")
def able(vocabulary: Vocabulary) -> Vocabulary:
    return vocabulary.with_abstain()


@pytest.fixture
def task(able: Vocabulary, examples: tuple[QAExample, ...]) -> dict[str, Any]:
    limits = {"max_source": MAX_SOURCE, "max_answer": MAX_ANSWER}
    return {"data": (*examples, NEVER), "vocabulary": able, "encoder": None, **limits}


def new_lm(able: Vocabulary, eager: tuple[int, ...] = ()) -> LSTMAttentionLM:
    """A small random model that is eager to write some tokens, wherever that may be."""
    config = LMConfig(embedding=16, encoder_hidden=12, hidden=20)
    lm = LSTMAttentionLM(config, len(able), able.kinds, abstain=able.abstain)
    with torch.no_grad():
        lm.output_bias[list(eager)] = 6.0
    return lm


def new_policy(task: dict[str, Any], lm: LSTMAttentionLM, **sampling: Any) -> LMActorCriticPolicy:
    env = QAEnv(**task)
    return LMActorCriticPolicy(env.observation_space, env.action_space, lambda _: 1e-3, lm=lm, **sampling)


# The token


def test_the_token_comes_last_and_leaves_the_others_their_ids(
    vocabulary: Vocabulary, able: Vocabulary, tmp_path: Path
) -> None:
    assert able.tokens == [*vocabulary.tokens, ABSTAIN_TOKEN]
    assert able.abstain == len(vocabulary) and vocabulary.abstain == EOS
    assert [*able.spelling_tokens] == [*range(len(SPECIAL_TOKENS), len(vocabulary))]
    assert able.spelling_tokens == vocabulary.spelling_tokens
    assert able.with_abstain() is able
    able.save(tmp_path / "v.json")
    again = Vocabulary.load(tmp_path / "v.json")
    assert again.abstain == able.abstain and again.fingerprint == able.fingerprint != vocabulary.fingerprint


def test_the_token_is_no_text_and_no_text_is_the_token(able: Vocabulary) -> None:
    assert able.decode([able.abstain]) == "" and able.decode_batch(np.array([[able.abstain, PAD]])) == [""]
    spelled = able.encode(f"So {ABSTAIN_TOKEN} is text.")
    assert able.abstain not in spelled and able.decode(spelled) == f"So {ABSTAIN_TOKEN} is text."
    assert able.encode_answers(["", "gold"]) == [[able.abstain], [*able.encode("gold"), EOS]]


def test_without_the_token_a_blank_answer_is_its_end(vocabulary: Vocabulary) -> None:
    assert vocabulary.encode_answers(["", " "]) == [[EOS], [EOS]]


def test_the_packages_own_vocabulary_is_without_it() -> None:
    assert Vocabulary.load(ASSETS / "vocabulary.json").abstain == EOS


# The MDP


def test_an_answer_is_the_token_alone_or_ends_with_eos() -> None:
    answers = Answers(4, 3, abstain=9)
    assert answers.append(np.array([9, EOS, PAD, 7])).tolist() == [True, True, True, False]
    assert answers.tokens[:, 0].tolist() == [9, 9, 9, 7]
    answers.reset(np.array([0, 1, 2]))
    answers.append(np.array([5, 6, 7, 8]))
    assert answers.append(np.array([9, EOS, 8, 9])).tolist() == [True, True, False, True]
    assert answers.tokens.tolist() == [[5, EOS, 0], [6, EOS, 0], [7, 8, 0], [7, 8, EOS]]


def test_action_masks_allow_the_token_at_the_first_place_only(task: dict[str, Any], able: Vocabulary) -> None:
    single, lanes = QAEnv(**task), QAVectorEnv(3, **task)
    single.reset(seed=0)
    lanes.reset(seed=0)
    for mask in (single.action_masks(), *lanes.action_masks()):
        assert set(np.flatnonzero(~mask)) == {*FORBIDDEN, EOS}
    word = able.encode("gold")[0]
    single.step(np.int64(word))
    lanes.step(np.array([word, word, able.abstain]))
    for mask in (single.action_masks(), *lanes.action_masks()[:2]):
        assert set(np.flatnonzero(~mask)) == {*FORBIDDEN, able.abstain}
    assert lanes.action_masks()[2, able.abstain]  # the next question's first token


def test_abstaining_ends_an_answer_whose_text_is_empty(task: dict[str, Any], able: Vocabulary) -> None:
    env = QAEnv(**task, feedback="f1")
    for index, right in ((len(task["data"]) - 1, True), (0, False)):
        env.reset(seed=0, options={"index": index})
        observation, reward, terminated, truncated, info = env.step(np.int64(able.abstain))
        assert terminated and not truncated
        assert info["answer"] == "" and info["is_success"] is right and reward == float(right)
        assert observation["answer"].tolist() == [able.abstain] + [PAD] * (MAX_ANSWER - 1)


# The policy


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.5, "top_k": 3}, {"top_p": 0.8}])
def test_a_policy_never_writes_the_token_behind_another(
    sampling: dict[str, Any], task: dict[str, Any], able: Vocabulary
) -> None:
    policy = new_policy(task, new_lm(able, (able.abstain, EOS, *FORBIDDEN)), **sampling)
    env = QAVectorEnv(64, **task)
    observation, _ = env.reset(seed=0)
    begun = 0
    for _ in range(12):
        obs = {name: torch.as_tensor(part) for name, part in observation.items()}
        first = observation["answer"][:, 0] == PAD
        with torch.no_grad():
            probs = policy.get_distribution(obs).distribution.probs.numpy()
            tokens = policy.forward(obs)[0].numpy()
        assert not probs[first, EOS].any() and not probs[~first, able.abstain].any()
        assert (probs[first, able.abstain] > 0).any() and (first.all() or (probs[~first, EOS] > 0).any())
        np.testing.assert_allclose(probs.sum(1), 1, rtol=1e-5)
        assert env.action_masks()[np.arange(64), tokens].all()
        begun += int((~first).sum())
        observation, *_ = env.step(tokens)
    assert begun


def test_teacher_forcing_gives_what_sampling_gives(task: dict[str, Any], able: Vocabulary) -> None:
    policy = new_policy(task, new_lm(able, (able.abstain, EOS)))
    source = QAEnv(**task).task.sources[:3]
    answers = np.array([[able.abstain, PAD, PAD], [40, 41, EOS], [40, EOS, PAD]])
    batch, tokens = as_batch(source, answers)
    expected = policy.evaluate_actions(batch, tokens)[1]
    torch.testing.assert_close(policy.log_likelihood(batch, tokens), expected)
    assert expected[0] > -3  # it was eager to


METHODS = [
    DecodingConfig(),
    DecodingConfig("sample"),
    DecodingConfig("beam", beams=4),
    DecodingConfig("best-of-n", n=5),
]


@pytest.mark.parametrize("copy", [True, False])
@pytest.mark.parametrize("config", METHODS, ids=lambda config: config.method)
def test_all_decoding_writes_the_token_alone_or_not_at_all(
    config: DecodingConfig, copy: bool, task: dict[str, Any], able: Vocabulary
) -> None:
    sizes = LMConfig(embedding=16, encoder_hidden=12, hidden=20, copy=copy)
    lm = LSTMAttentionLM(sizes, len(able), able.kinds, abstain=able.abstain)
    policy, source = new_policy(task, lm), QAEnv(**task).task.sources
    seen = set()
    for word_bias in (0.0, 6.0):
        with torch.no_grad():
            lm.output_bias[[able.abstain, EOS]] = 6.0
            lm.output_bias[30:60] = word_bias
        answers = decode(policy, source, MAX_ANSWER, config, torch.Generator().manual_seed(0))
        for tokens in answers[:, 0].tolist():  # of beam search the best one
            written = [token for token in tokens if token != PAD]
            assert able.abstain not in written[1:] and written[0] != EOS
            if written[0] == able.abstain:
                assert tokens[1:] == [PAD] * (MAX_ANSWER - 1)
            seen.add(written[0] == able.abstain)
    assert seen == {True, False}


def test_beam_search_finds_the_likeliest_answer_also_if_it_is_none(
    task: dict[str, Any], able: Vocabulary
) -> None:
    policy, source = new_policy(task, new_lm(able, (able.abstain,))), QAEnv(**task).task.sources[:4]
    found = decode(policy, source, MAX_ANSWER, DecodingConfig("beam", beams=3, length_penalty=0.0))
    assert (found[:, 0, 0] == able.abstain).all() and (found[:, 0, 1:] == PAD).all()
    with pytest.raises(QAError, match=f"at most {len(able) - 4}, the tokens"):
        decode(policy, source, MAX_ANSWER, DecodingConfig("beam", beams=len(able) - 3))


def test_a_q_network_values_the_token_at_the_first_place_only(task: dict[str, Any], able: Vocabulary) -> None:
    env = QAVectorEnv(2, **task)
    lm = new_lm(able, (able.abstain, EOS))
    policy = LMDQNPolicy(
        env.single_observation_space, env.single_action_space, lambda _: 1e-3, lm=lm, scale=0.1
    )
    observation, _ = env.reset(seed=0)
    first = {name: torch.as_tensor(part) for name, part in observation.items()}
    later = {**first, "answer": first["answer"].clone()}
    later["answer"][:, 0] = 40
    with torch.no_grad():
        q_first, q_later = policy.online(first), policy.online(later)
    assert (q_first[:, EOS] < -1e6).all() and (q_first[:, able.abstain] > -10).all()
    assert (q_later[:, EOS] > -10).all() and (q_later[:, able.abstain] < -1e6).all()


def test_ppo_learns_to_abstain_where_that_is_right(able: Vocabulary) -> None:
    torch.manual_seed(0)
    task = {"data": [NEVER, SURE], "vocabulary": able, "encoder": None, "max_source": 20, "max_answer": 3}
    lm = new_lm(able)
    with torch.no_grad():
        lm.output_bias[able.abstain] = 4.0
    env = QAVecEnv(QAVectorEnv(32, feedback="exact_match", **task))
    settings = {"n_steps": 8, "batch_size": 128, "n_epochs": 4, "gamma": 1.0, "seed": 0}
    model = PPO(LMActorCriticPolicy, env, 1e-2, policy_kwargs={"lm": lm}, **settings)
    obs = {
        "source": torch.as_tensor(QAEnv(**task).task.sources),
        "answer": torch.zeros(2, 3, dtype=torch.long),
    }

    def chances() -> list[float]:
        with torch.no_grad():
            return model.policy.get_distribution(obs).distribution.probs[:, able.abstain].tolist()

    before = chances()
    model.learn(1500)
    after = chances()
    assert before[0] < 0.5 and after[0] > 0.9
    assert after[0] - before[0] > after[1] - before[1]


# What teaches the token


def test_the_warm_start_teaches_the_token(able: Vocabulary) -> None:
    data = Supervised.from_examples([SURE, NEVER, QAExample("open", "Why?")], able, Limits(20, 8))
    assert data.examples == (SURE, NEVER)
    assert data.tokens[1].tolist() == [able.abstain] + [PAD] * 7
    assert able.decode(data.tokens[0]) == "Ada"
    assert able.abstain not in data.source


def test_texts_of_answers_become_the_same_ids_everywhere(able: Vocabulary) -> None:
    gold = [*able.encode("gold"), EOS]
    expected = [[able.abstain] + [PAD] * (len(gold) - 1), gold]
    assert encode_answers(["", "gold"], able, len(gold)).tolist() == expected
    assert render([NEVER, SURE], ["", "gold"], able, Limits(20, len(gold)))[1].tolist() == expected


def test_no_source_holds_the_token_whatever_is_replaced(able: Vocabulary) -> None:
    augmentation = Augmentation(able, AugmentationConfig(1.0, 1.0))
    source = np.array([able.encode("the river of Asia is long") * 40])
    answers = np.array([[able.abstain, PAD]])
    for seed in range(20):
        changed, kept = augmentation(source, answers, np.random.default_rng(seed))
        assert able.abstain not in changed and (changed != source).any()
        assert (kept == answers).all()


# What judges


@pytest.mark.parametrize("metric", [exact_match, token_f1])
def test_both_empty_is_right_and_one_empty_is_wrong(metric: Callable[..., float]) -> None:
    assert metric("", NEVER.references) == metric(" ... ", NEVER.references) == 1.0
    assert metric("Ada", NEVER.references) == metric("the", NEVER.references) == 0.0
    assert metric("", SURE.references) == metric("", ("?!",)) == metric("", ()) == 0.0


@pytest.fixture(scope="module")
def users(facts: tuple[QAExample, ...], vocabulary: Vocabulary) -> SimulatedUsers:
    fluency = FluencyModel.fit([e.answers[0] for e in facts], vocabulary, epochs=1)
    return SimulatedUsers(SimulatedUsersConfig(lapse=0.0, noise_sd=0.0), fluency)


@pytest.mark.parametrize("name", sorted(BUILT_IN.keys() - {"reasoning-gym"}))
def test_every_built_in_feedback_rewards_abstaining_where_it_is_right(name: str) -> None:
    feedback = as_feedback(name)
    rngs = np.random.default_rng(0).spawn(3)
    score = feedback.score([NEVER, NEVER, SURE], ["", "Ada signed.", ""], rngs)
    assert score.reward.tolist() == [1.0, 0.0, 0.0]


def test_values_are_right_where_nothing_is_said_for_lack_of_an_answer() -> None:
    assert value_accuracy(NEVER, "") == 1.0 and value_accuracy(NEVER, "Who signed?") == 0.0


def test_fluency_does_not_punish_abstaining_where_it_is_right(users: SimulatedUsers) -> None:
    fluency = users._fluency
    assert isinstance(fluency, Fluency)
    reward = fluency.score([NEVER, SURE], ["", ""], np.random.default_rng(0).spawn(2)).reward
    assert reward.tolist() == [1.0, 0.0]


def test_simulated_users_want_silence_where_there_is_no_answer(users: SimulatedUsers) -> None:
    asked, answers = [NEVER, NEVER, SURE, SURE], ["", "Ada", "", "Ada"]
    utility = users.utility(asked, answers)
    assert utility[:2].tolist() == [1.0, 0.0] and utility[2] == 0.0 < utility[3]
    assert (users.ratings([NEVER], [""]) >= 4).all() and (users.ratings([SURE], [""]) == 1).all()
    assert (users.ratings([NEVER], ["Ada"]) <= 2).all()
    rngs = np.random.default_rng(0).spawn(4)
    assert users.score(asked, answers, rngs).components["rating"][[0, 2]].tolist() == [5.0, 1.0]
    assert users.satisfaction(asked, answers)[:3].tolist() == [1.0, 0.0, 0.0]


def test_what_needs_a_reference_takes_an_unanswerable_question_but_no_open_one() -> None:
    rngs = np.random.default_rng(0).spawn(1)
    assert ExactMatch().score([NEVER], [""], rngs).reward == [1.0]
    with pytest.raises(QAError, match="needs a reference answer"):
        ExactMatch().score([QAExample("open", "Why?")], [""], rngs)


# The data


def rows(number: int, **changes: Any) -> list[dict[str, Any]]:
    return [{"question": "Who?", "context": f"Passage {i}.", **changes} for i in range(number)]


def write(path: Path, records: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def test_a_question_is_unanswerable_if_it_is_marked_or_has_an_empty_list_where_abstaining_counts(
    tmp_path: Path,
) -> None:
    marked = {"question": "1?", "unanswerable": True}
    records = [
        marked,
        {"question": "2?", "answers": []},
        {"question": "3?"},
        {"question": "4?", "answer": "A"},
    ]
    path = write(tmp_path / "d.jsonl", records)
    assert [e.unanswerable for e in load_examples(path)] == [True, False, False, False]
    assert [e.unanswerable for e in load_examples(path, abstain=True)] == [True, True, False, False]
    table = tmp_path / "d.csv"
    table.write_text("question,answer,unanswerable\n1?,,true\n2?,,\n3?,A,False\n")
    assert [e.unanswerable for e in load_examples(table, abstain=True)] == [True, False, False]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"unanswerable": "yes"}, "expected 'unanswerable' to be true or false, got 'yes'"),
        (
            {"unanswerable": True, "answers": ["A"]},
            r"expected no answers to an unanswerable question, got \('A'",
        ),
    ],
)
def test_a_wrong_mark_is_explained_in_one_line(record: dict[str, Any], reason: str, tmp_path: Path) -> None:
    with pytest.raises(QAError, match=f"line 1: {reason}") as caught:
        load_examples(write(tmp_path / "d.jsonl", [{"question": "Q?", **record}]))
    assert "\n" not in str(caught.value)


def test_unanswerable_questions_are_in_all_splits_if_abstaining_is_to_be_learned() -> None:
    examples = [
        QAExample(f"{p}-{q}", f"{q}?", f"Passage {p}.", ("A",) * (q == 0), {"unanswerable": q == 1})
        for p in range(40)
        for q in range(2)
    ]
    data = split_dataset(examples, labelled=20, seed=0, abstain=True)
    for split in (data.labelled, data.unlabelled, data.validation, data.test):
        assert sum(e.unanswerable for e in split) * 2 == len(split)
    plain = split_dataset(examples, labelled=10, seed=0)
    assert not any(
        e.unanswerable for e in (*plain.labelled, *plain.unlabelled, *plain.validation, *plain.test)
    )


def test_what_becomes_of_unanswerable_questions_is_said(tmp_path: Path) -> None:
    answered = rows(20, answers=["A"])
    marked = [{**row, "context": f"No {i}."} for i, row in enumerate(rows(10, unanswerable=True))]
    path = write(tmp_path / "d.jsonl", [*answered, *marked])
    test = write(
        tmp_path / "t.jsonl", [{**row, "context": f"T{i}"} for i, row in enumerate(answered[:2] + marked[:3])]
    )
    config = TrainConfig(data=path, split=SplitConfig(4, test_data=test))
    data = load_dataset(config)
    assert data.notes == (
        "3 of 5 test questions are unanswerable: left out (a run with --abstain uses them)",
        "10 of 30 training questions are unanswerable: left out (a run with --abstain uses them)",
    )
    kept = load_dataset(TrainConfig(data=path, split=config.split, abstain=True))
    assert kept.notes == () and len(kept.test) == 5
    with pytest.raises(QAError, match="all of the built-in facts can be answered"):
        check_data(TrainConfig(abstain=True))


# A run


@pytest.fixture(scope="module")
def quicker() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for (module, name), value in QUICKER.items():
            patch.setattr(module, name, value)
        yield


def test_a_run_learns_is_measured_and_answers_with_the_token(
    quicker: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = []
    for i, (letter, other) in enumerate((a, b) for a in string.ascii_lowercase for b in "xyz"):
        known = {"question": f"Where is {letter}?", "context": f"{letter} is at {other}. This is {i}."}
        records += [{**known, "answers": [other]}, {**known, "question": f"Why is {letter}?", "answers": []}]
    sizes = (
        "--vocabulary.size 300 --lm.embedding 16 --lm.encoder-hidden 12 --lm.hidden 20 --rl.timesteps 256 "
        "--warm-start.epochs 15 --warm-start.learning-rate 0.01 --warm-start.critic-rollouts 1 --rl.n-envs 8 "
        "--rl.n-steps 16 --rl.batch-size 64 --limits.max-source 40 --limits.max-answer 8 --abstain "
        "--split.labelled 60"
    ).split()
    path = write(tmp_path / "d.jsonl", records)
    train.main([*sizes, "--data", path, "--log-dir", str(tmp_path / "runs")])
    (folder,) = (tmp_path / "runs").iterdir()
    loaded = load_policy(Run.open(folder))
    assert loaded.vocabulary.abstain == loaded.policy.lm.abstain == len(loaded.vocabulary) - 1
    test = load_dataset(loaded.config).test
    assert any(e.unanswerable for e in test)
    answers = loaded.answers(test)
    assert "" in answers
    after = Run.open(folder).read_json("results.json")["after"]
    assert loaded.judge.report(test, answers) == after
    right = [exact_match(text, e.references) for e, text in zip(test, answers, strict=True)]
    assert after["exact_match"] == pytest.approx(np.mean(right)) and after["f1"] >= after["exact_match"] > 0
    capsys.readouterr()
    evaluate.main([str(folder), "--data", path, "--out", str(tmp_path / "out.json")])
    assert json.loads((tmp_path / "out.json").read_text())["reports"]["d.jsonl"]["examples"] == len(records)
    silent = next(e for e, text in zip(test, answers, strict=True) if text == "")
    answer.main([str(folder), silent.question, "--context", str(silent.context)])
    assert capsys.readouterr().out.endswith("answer: (none: the text does not say)\n")
