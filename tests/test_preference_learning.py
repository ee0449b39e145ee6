from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import MAX_ANSWER, MAX_SOURCE
from stable_baselines3.common.callbacks import BaseCallback
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from agents.augmentation import Augmentation, AugmentationConfig
from agents.callbacks import FeedbackLog, RatingBudget, Validation
from agents.config import RLConfig
from agents.decoding import Limits
from agents.offline import OfflineConfig
from agents.preference_data import Preferences, RatedAnswers
from agents.preference_learning import DPO, DPOConfig, FilteredBC, FilteredBCConfig, preference_loss
from agents.vec_env import QAVecEnv
from agents.warm_start import Supervised, as_batch
from policies import LMActorCriticPolicy
from qa_env.datasets import QAExample
from qa_env.errors import QAError
from qa_env.vector_env import QAVectorEnv
from qa_env.vocabulary import EOS, PAD, Kind, Vocabulary

NewTask = Callable[..., tuple[Any, dict[str, Any]]]
LIMITS = Limits(MAX_SOURCE, MAX_ANSWER)
GOOD, BAD = "gold", "silver"
TOPICS = "river sea city lake hill road town bridge forest island north south east west coast".split()


def always_renamed(vocabulary: Vocabulary) -> Augmentation:
    return Augmentation(vocabulary, AugmentationConfig(renamed=1.0, replaced=0.0))


def first_of(vocabulary: Vocabulary, kind: Kind) -> int:
    return int(np.flatnonzero(vocabulary.kinds == kind)[0])


def questions(number: int = len(TOPICS)) -> list[QAExample]:
    return [QAExample(topic, f"What of the {topic}?") for topic in TOPICS[:number]]


def preferences(
    vocabulary: Vocabulary, target: float | list[float] = 1.0, examples: list[QAExample] | None = None
) -> Preferences:
    """In each pair one answer says `GOOD`, the other `BAD`."""
    asked = questions() if examples is None else examples
    targets = np.broadcast_to(np.asarray(target), len(asked))
    pairs = [[GOOD] * len(asked), [BAD] * len(asked)]
    return Preferences.from_answers(asked, pairs[0], pairs[1], targets, vocabulary, LIMITS)


def rated(vocabulary: Vocabulary, good: float = 1.0, bad: float = 0.0) -> RatedAnswers:
    asked = [e for e in questions() for _ in range(2)]
    answers, quality = [GOOD, BAD] * len(TOPICS), [good, bad] * len(TOPICS)
    return RatedAnswers.from_answers(asked, answers, quality, vocabulary, LIMITS)


def new_model(new_task: NewTask, kind: type[Any], data: Any, seed: int = 0, **options: Any) -> Any:
    lm, _ = new_task("tokens", copy=False)
    return kind(LMActorCriticPolicy, None, data, policy_kwargs={"lm": lm}, seed=seed, **options)


def likelihoods(policy: LMActorCriticPolicy, source: np.ndarray, answers: np.ndarray) -> Tensor:
    """The log-likelihood of each whole answer, one at a time."""
    rows = [as_batch(source[[i]], answers[[i]]) for i in range(len(source))]
    with torch.no_grad():
        return torch.stack([policy.log_likelihood(*row).sum() for row in rows])


def weights(model: Any) -> Tensor:
    return parameters_to_vector(model.policy.lm.parameters()).detach().clone()


def gradient(model: Any, loss: Tensor) -> Tensor:
    model.policy.optimizer.zero_grad()
    loss.backward()
    parts = [p.grad for p in model.policy.lm.parameters() if p.grad is not None]
    return torch.cat([part.flatten() for part in parts])


def disturb(model: Any) -> None:
    """Move the policy away from its reference."""
    with torch.no_grad():
        torch.manual_seed(5)
        for parameter in model.policy.lm.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))


def unlike(data: Preferences) -> Preferences:
    """Pairs of answers of different lengths, targets of all kinds."""
    first = data.first.copy()
    first[::2] = np.where(data.first[::2] == EOS, 60, data.first[::2])
    for row in first[::2]:
        row[(row == PAD).argmax()] = EOS
    return replace(data, first=first, target=np.linspace(0, 1, len(data.target)))


def test_the_loss_is_that_of_a_hand_computation(new_task: NewTask, vocabulary: Vocabulary) -> None:
    data = unlike(preferences(vocabulary))
    model = new_model(new_task, DPO, data, config=DPOConfig(beta=0.3, sft=0))
    disturb(model)
    gained = [
        likelihoods(model.policy, data.source, answers) - likelihoods(model.reference, data.source, answers)
        for answers in (data.first, data.second)
    ]
    expected = 0.0
    for h, p in zip((gained[0] - gained[1]).tolist(), data.target.tolist(), strict=True):
        right = 1 / (1 + math.exp(-0.3 * h))
        expected -= (p * math.log(right) + (1 - p) * math.log(1 - right)) / len(data.target)
    step = model.step(data)
    assert step.loss.item() == pytest.approx(expected, rel=1e-4)
    assert abs(expected - math.log(2)) > 0.01
    assert step.tokens == data.tokens == int((data.first > PAD).sum() + (data.second > PAD).sum())
    better = ((gained[0] - gained[1]) * torch.as_tensor(2 * data.target - 1) > 0)[data.target != 0.5]
    assert step.metrics["dpo/accuracy"] == pytest.approx(better.float().mean().item())


def test_at_the_reference_the_loss_is_log_2_and_nothing_has_moved(
    new_task: NewTask, vocabulary: Vocabulary
) -> None:
    data = preferences(vocabulary)
    step = new_model(new_task, DPO, data, config=DPOConfig(sft=0)).step(data)
    assert step.loss.item() == pytest.approx(math.log(2), abs=1e-6)
    assert step.metrics["dpo/margin"] == pytest.approx(0, abs=1e-6)
    assert step.metrics["dpo/kl"] == pytest.approx(0, abs=1e-6)


def test_for_a_small_beta_the_gradient_is_half_beta_times_that_of_the_likelihoods_difference(
    new_task: NewTask, vocabulary: Vocabulary
) -> None:
    data = preferences(vocabulary)
    model = new_model(new_task, DPO, data, config=DPOConfig(beta=1e-4, sft=0))
    disturb(model)
    found = gradient(model, model.step(data).loss) / 1e-4
    sums = [model.policy.log_likelihood(*as_batch(data.source, a)).sum() for a in (data.first, data.second)]
    expected = gradient(model, -0.5 * (sums[0] - sums[1]) / len(data.source))
    assert expected.norm() > 0.1
    torch.testing.assert_close(found, expected, atol=1e-3 * float(expected.norm()), rtol=1e-2)


@pytest.mark.parametrize("sft", [0.0, 1.0])
def test_pairs_that_are_undecided_teach_nothing_at_the_reference(
    new_task: NewTask, vocabulary: Vocabulary, sft: float
) -> None:
    data = preferences(vocabulary, 0.5)
    model = new_model(new_task, DPO, data, config=DPOConfig(sft=sft))
    step = model.step(data)
    assert gradient(model, step.loss).abs().max() < 1e-7
    assert "dpo/accuracy" not in step.metrics


def test_swapping_the_answers_and_the_target_changes_nothing(
    new_task: NewTask, vocabulary: Vocabulary
) -> None:
    data = unlike(preferences(vocabulary))
    swapped = Preferences(data.source, data.second, data.first, 1 - data.target)
    model = new_model(new_task, DPO, data, config=DPOConfig(sft=0.5, smoothing=0.1))
    disturb(model)
    one, other = model.step(data), model.step(swapped)
    assert one.loss.item() == pytest.approx(other.loss.item(), rel=1e-5)
    assert one.metrics == pytest.approx({**other.metrics, "dpo/loss": one.loss.item()}, rel=1e-4)


def test_smoothing_turns_a_share_of_the_preferences_round() -> None:
    gap = torch.tensor([-2.0, 0.5, 3.0])
    sure, turned = (preference_loss(gap, torch.full((3,), p), 0.7) for p in (1.0, 0.0))
    smooth = preference_loss(gap, torch.ones(3), 0.7, smoothing=0.2)
    torch.testing.assert_close(smooth, 0.8 * sure + 0.2 * turned)


def test_a_soft_target_is_met_and_not_passed(new_task: NewTask, vocabulary: Vocabulary) -> None:
    data = preferences(vocabulary, 0.7, questions(4))
    config = DPOConfig(sft=0, beta=0.5, epochs=24, batch_size=4, learning_rate=5e-3)
    model = new_model(new_task, DPO, data, config=config).learn()
    learned = 1 / (1 + math.exp(-model.step(data).metrics["dpo/margin"]))
    assert learned == pytest.approx(0.7, abs=0.03)


def test_the_preferred_answers_likelihood_is_held_up_by_the_sft_term(
    new_task: NewTask, vocabulary: Vocabulary
) -> None:
    data = preferences(vocabulary, [1.0, 0.75] * 7 + [0.0])
    model = new_model(new_task, DPO, data, config=DPOConfig(sft=2.0))
    plain = new_model(new_task, DPO, data, config=DPOConfig(sft=0))
    preferred = np.where(data.target[:, None] > 0.5, data.first, data.second)
    batch, tokens = as_batch(data.source, preferred)
    weight = torch.as_tensor(np.abs(2 * data.target - 1))[batch.answer]
    nll = -(weight * model.policy.log_likelihood(batch, tokens)).mean()
    difference = model.step(data).loss - plain.step(data).loss
    assert difference.item() == pytest.approx(2 * nll.item(), rel=1e-4)


def test_what_is_preferred_is_preferred_on_other_questions_too(
    new_task: NewTask, vocabulary: Vocabulary
) -> None:
    asked = questions()
    held_out = preferences(vocabulary, examples=asked[10:])
    learned = preferences(vocabulary, [1.0, 0.9] * 5, asked[:10])
    config = DPOConfig(sft=0, epochs=12, batch_size=10, learning_rate=3e-3)
    model = new_model(new_task, DPO, learned, config=config).learn()
    gained = [
        likelihoods(model.policy, held_out.source, a) - likelihoods(model.reference, held_out.source, a)
        for a in (held_out.first, held_out.second)
    ]
    assert (gained[0] - gained[1] > 1).all()
    assert model.logger.name_to_value["dpo/margin"] == 0  # dumped at the end of each pass


def test_both_answers_of_a_pair_are_renamed_alike(vocabulary: Vocabulary) -> None:
    ids = np.array([first_of(vocabulary, Kind.WORD), *[first_of(vocabulary, Kind.INSIDE)] * 2])
    source, answer = np.full((8, MAX_SOURCE), PAD), np.full((8, MAX_ANSWER), PAD)
    source[:, 5:8], answer[:, 0:3], answer[:, 3] = ids, ids, EOS
    second = np.roll(answer, 1, axis=1)
    second[:, 0] = first_of(vocabulary, Kind.NUMBER)
    pairs = Preferences(source, answer, second, np.ones(8))
    changed = pairs.batch(np.arange(8), always_renamed(vocabulary), np.random.default_rng(0))
    new = changed.first[:, :3]
    assert (new != ids).all(1).mean() > 0.8 and len({tuple(row) for row in new.tolist()}) > 6
    np.testing.assert_array_equal(changed.second[:, 1:4], new)
    np.testing.assert_array_equal(changed.source[:, 5:8], new)
    untouched = pairs.batch(np.arange(8), None, np.random.default_rng(0))
    np.testing.assert_array_equal(untouched.first, answer)


def test_an_answer_without_an_end_is_renamed_as_if_it_stood_alone(vocabulary: Vocabulary) -> None:
    word, inside = first_of(vocabulary, Kind.WORD), first_of(vocabulary, Kind.INSIDE)
    first, second = (np.full((1, MAX_ANSWER), token) for token in (word, inside))
    pair = Preferences(np.full((1, MAX_SOURCE), word), first, second, np.ones(1))
    changed = pair.batch(np.arange(1), always_renamed(vocabulary), np.random.default_rng(0))
    np.testing.assert_array_equal(changed.first, first)  # a word that is one token keeps its name
    assert (changed.second != inside).all()


def test_good_answers_are_learned_and_bad_ones_are_not(new_task: NewTask, vocabulary: Vocabulary) -> None:
    data = rated(vocabulary, good=0.9, bad=0.2)
    config = FilteredBCConfig(epochs=10, batch_size=16, learning_rate=2e-3)
    model = new_model(new_task, FilteredBC, data, config=config)
    before = likelihoods(model.policy, data.source, data.answer)
    model.learn()
    gained = likelihoods(model.policy, data.source, data.answer) - before
    assert (gained[::2] > 1).all()
    assert (gained[1::2] < gained[::2] - 1).all()
    assert model.num_timesteps == 10 * data.good(0.5).tokens == 10 * int((data.answer[::2] != PAD).sum())


def test_an_answer_counts_by_its_probability_of_being_good(new_task: NewTask, vocabulary: Vocabulary) -> None:
    data = rated(vocabulary, good=1.0, bad=0.25)
    model = new_model(new_task, FilteredBC, data)
    batch, tokens = as_batch(data.source, data.answer)
    log_likelihood = model.policy.log_likelihood(batch, tokens).tolist()
    weight = [data.quality[i] for i in batch.answer.tolist()]
    expected = -sum(w * x for w, x in zip(weight, log_likelihood, strict=True)) / sum(weight)
    assert model.step(data).loss.item() == pytest.approx(expected, rel=1e-5)


def test_labelled_questions_are_learned_along(
    new_task: NewTask, vocabulary: Vocabulary, facts: tuple[QAExample, ...]
) -> None:
    labelled = Supervised.from_examples(
        [replace(e, answers=("Asia",)) for e in facts[:5]], vocabulary, LIMITS
    )
    data = rated(vocabulary)
    model = new_model(new_task, FilteredBC, data, labelled=labelled)
    examples = model.examples()
    assert len(examples.source) == len(TOPICS) + 5
    np.testing.assert_array_equal(examples.answer[-5:], labelled.tokens)
    assert (examples.quality == 1).all()


def test_without_a_good_answer_it_says_so_before_anything_is_learned(
    new_task: NewTask, vocabulary: Vocabulary
) -> None:
    model = new_model(new_task, FilteredBC, rated(vocabulary, good=0.4, bad=0.1))
    before = weights(model)
    with pytest.raises(
        QAError, match=r"no good answer to learn from: the best of 30 .* 0\.40, the threshold"
    ):
        model.learn()
    assert torch.equal(weights(model), before)


KINDS: dict[str, tuple[type[Any], Callable[..., Any]]] = {
    "dpo": (DPO, preferences),
    "filtered-bc": (FilteredBC, rated),
}


def new_kind(new_task: NewTask, vocabulary: Vocabulary, kind: str, **options: Any) -> Any:
    algorithm, data = KINDS[kind]
    augmentation = Augmentation(vocabulary, AugmentationConfig())
    return new_model(new_task, algorithm, data(vocabulary), augmentation=augmentation, **options)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_learns_the_same(new_task: NewTask, vocabulary: Vocabulary, kind: str) -> None:
    learned = [weights(new_kind(new_task, vocabulary, kind, seed=s).learn(200)) for s in (1, 1, 2)]
    assert torch.equal(learned[0], learned[1])
    assert not torch.equal(learned[0], learned[2])


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_model_goes_on_as_one_that_was_never_saved(
    new_task: NewTask, vocabulary: Vocabulary, kind: str, tmp_path: Path
) -> None:
    model = new_kind(new_task, vocabulary, kind)
    model.learn(300)
    model.save(tmp_path / "model.zip")
    loaded = KINDS[kind][0].load(tmp_path / "model.zip", device="cpu")
    assert torch.equal(weights(loaded), weights(model))
    observation = {"source": model.data.source[0], "answer": np.full(MAX_ANSWER, PAD)}
    assert loaded.predict(observation, deterministic=True) == model.predict(observation, deterministic=True)
    with pytest.raises(QAError, match="no data to learn from: set its attribute 'data'"):
        loaded.learn(10)
    loaded.data = model.data
    for going_on in (model, loaded):
        going_on.learn(200, reset_num_timesteps=False)
    assert loaded.num_timesteps == model.num_timesteps >= 500
    assert torch.equal(weights(loaded), weights(model))


def test_the_reference_is_saved_too(new_task: NewTask, vocabulary: Vocabulary, tmp_path: Path) -> None:
    model = new_kind(new_task, vocabulary, "dpo").learn(300)
    model.save(tmp_path / "model.zip")
    loaded = DPO.load(tmp_path / "model.zip", device="cpu")
    data = preferences(vocabulary)
    assert abs(loaded.step(data).metrics["dpo/margin"]) > 1e-3
    assert loaded.step(data).metrics == model.step(data).metrics
    assert not any(p.requires_grad for p in loaded.reference.parameters())


class Steps(BaseCallback):
    """Counts, and stops after a number of steps."""

    def __init__(self, most: int = 10**9) -> None:
        super().__init__()
        self.most, self.starts, self.ends = most, 0, 0

    def _on_rollout_start(self) -> None:
        self.starts += 1

    def _on_step(self) -> bool:
        return self.n_calls < self.most

    def _on_rollout_end(self) -> None:
        self.ends += 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_rollout_is_a_pass_and_a_timestep_a_token(
    new_task: NewTask, vocabulary: Vocabulary, kind: str
) -> None:
    model = new_kind(new_task, vocabulary, kind)
    model.config = replace(model.config, epochs=3, batch_size=4)
    steps = Steps()
    model.learn(callback=steps)
    assert model.num_timesteps == 3 * model.pass_tokens()
    assert (steps.starts, steps.ends, steps.n_calls) == (3, 3, 3 * 4)
    assert model.policy.optimizer.param_groups[0]["lr"] < model.config.learning_rate / 10
    stopped = Steps(most=5)
    model.learn(callback=stopped)
    assert (stopped.starts, stopped.ends, stopped.n_calls) == (2, 1, 5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_callbacks_of_rl_watch_it_and_keep_the_best_weights(
    new_task: NewTask, vocabulary: Vocabulary, kind: str
) -> None:
    model = new_kind(new_task, vocabulary, kind)
    scores, best = iter([0.2, 0.9, 0.5, 0.4]), []

    def score() -> dict[str, float]:
        return {"score": next(scores)}

    def keep() -> None:
        best.append((copy.deepcopy(model.policy.lm.state_dict()), model.num_timesteps))

    def bring_back() -> None:
        model.policy.lm.load_state_dict(best[-1][0])

    validation = Validation(score, RLConfig(eval_every=1), keep, bring_back, lambda: None)
    model.learn(3 * model.pass_tokens(), callback=[FeedbackLog(), RatingBudget(lambda: 0, 0), validation])
    assert [kept for _, kept in best] == [0, model.pass_tokens()]
    assert (validation.best, validation.backed_off, len(validation.history)) == (0.9, 2, 4)
    bring_back()
    for name, value in model.policy.lm.state_dict().items():
        assert torch.equal(value, best[-1][0][name])


@pytest.mark.parametrize("setting", ["trained", "frozen"])
def test_it_takes_the_spaces_of_an_environment(
    new_task: NewTask, vocabulary: Vocabulary, setting: str
) -> None:
    lm, task = new_task(setting, copy=False)
    env = QAVecEnv(QAVectorEnv(2, feedback="f1", **task))
    make = partial(DPO, LMActorCriticPolicy, data=preferences(vocabulary))
    model = make(env=env, policy_kwargs={"lm": lm}, seed=0)
    assert model.observation_space == env.observation_space
    encoder = parameters_to_vector(lm.encoder.parameters()).clone()
    before = weights(model)
    model.learn(200)
    assert not torch.equal(weights(model), before)
    moved = not torch.equal(parameters_to_vector(lm.encoder.parameters()), encoder)
    assert moved == (setting == "trained")


@pytest.mark.filterwarnings("ignore::tqdm.TqdmExperimentalWarning")
def test_a_progress_bar_counts_tokens(
    new_task: NewTask, vocabulary: Vocabulary, capsys: pytest.CaptureFixture[str]
) -> None:
    model = new_kind(new_task, vocabulary, "dpo")
    model.learn(model.pass_tokens(), progress_bar=True)
    shown = "".join(capsys.readouterr())
    assert f"{model.pass_tokens()}/{model.pass_tokens()}" in shown.replace(",", "")


def test_without_environment_data_and_model_there_are_no_spaces(vocabulary: Vocabulary) -> None:
    with pytest.raises(QAError, match="DPO needs an environment, or else data and a language model"):
        DPO(LMActorCriticPolicy, None, preferences(vocabulary))


def test_pairs_that_cannot_be_learned_from_are_left_out_and_counted(vocabulary: Vocabulary) -> None:
    long = " ".join(["river"] * MAX_ANSWER)
    asked = questions(4)
    data = Preferences.from_answers(
        asked, [GOOD, long, GOOD, ""], [BAD, BAD, GOOD, long], [1, 1, 1, 0.5], vocabulary, LIMITS
    )
    assert (len(data.source), data.left_out) == (1, 3)
    assert vocabulary.decode(data.first[0]) == GOOD and vocabulary.decode(data.second[0]) == BAD
    answers = RatedAnswers.from_answers(asked, [GOOD, long, "", BAD], [1, 1, 0, 0], vocabulary, LIMITS)
    assert answers.left_out == 1 and vocabulary.decode(answers.answer[1]) == ""
    with pytest.raises(QAError, match="no preference to learn from: of 4 pairs none"):
        Preferences.from_answers(asked, [long] * 4, [BAD] * 4, [1] * 4, vocabulary, LIMITS)
    with pytest.raises(QAError, match="no rated answer to learn from: none of 4"):
        RatedAnswers.from_answers(asked, [long] * 4, [1] * 4, vocabulary, LIMITS)


@pytest.mark.parametrize("target", [[1.0, 1.2], [1.0, float("nan")], [1.0], [-0.1, 0.0]])
def test_targets_that_are_no_probabilities_are_refused(vocabulary: Vocabulary, target: list[float]) -> None:
    with pytest.raises(QAError, match="need 'target' as 2 probabilities from 0 to 1"):
        Preferences.from_answers(questions(2), [GOOD] * 2, [BAD] * 2, target, vocabulary, LIMITS)
    with pytest.raises(QAError, match="need 'quality' as 2 probabilities from 0 to 1"):
        RatedAnswers.from_answers(questions(2), [GOOD] * 2, target, vocabulary, LIMITS)


def test_data_of_shapes_that_do_not_fit_are_refused(vocabulary: Vocabulary) -> None:
    data = preferences(vocabulary)
    with pytest.raises(QAError, match=r"need 'second' of shape \(15, 6\), got \(14, 6\)"):
        replace(data, second=data.second[1:])
    with pytest.raises(QAError, match="'first' has an answer without a token"):
        replace(data, first=np.full_like(data.first, PAD))
    with pytest.raises(QAError, match="n from 1"):
        RatedAnswers(data.source[:0], data.first[:0], np.ones(0))
    with pytest.raises(QAError, match="one of 'second' to each of 2 examples, got 1"):
        Preferences.from_answers(questions(2), [GOOD] * 2, [BAD], [1, 1], vocabulary, LIMITS)


@pytest.mark.parametrize(
    ("config", "field", "value"),
    [
        (OfflineConfig, "epochs", 0),
        (OfflineConfig, "batch_size", 0),
        (DPOConfig, "learning_rate", 0.0),
        (DPOConfig, "beta", 0.0),
        (DPOConfig, "smoothing", 0.5),
        (DPOConfig, "sft", -1.0),
        (FilteredBCConfig, "threshold", 0.0),
        (FilteredBCConfig, "threshold", 1.1),
        (FilteredBCConfig, "learning_rate", -1.0),
    ],
)
def test_settings_out_of_range_are_refused(config: type[Any], field: str, value: float) -> None:
    with pytest.raises(QAError, match=f"^{field} must be .* got {value}$"):
        config(**{field: value})
