"""A reward model on a toy world, where an answer is good if it says "gold"."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from agents.augmentation import Augmentation, AugmentationConfig
from agents.calibration import Calibration, calibration_curve, calibration_error, calibration_plot
from agents.decoding import Limits
from agents.reward_data import RewardData, render, with_corrections
from agents.reward_fitting import fit_reward_model, label_log_likelihood, outcomes
from agents.reward_model import RewardModel, RewardModelConfig, answer_batch
from agents.reward_network import RewardEnsemble, RewardNetwork
from policies.language_model import LSTMAttentionLM
from qa_env.datasets import QAExample
from qa_env.errors import QAError
from qa_env.feedback.aggregation import Terms
from qa_env.feedback.labels import Correction, Judgement, Pair, Rating, Skip, Thumb
from qa_env.feedback.store import AnswerRecord
from qa_env.vocabulary import EOS, PAD, Kind, Vocabulary

LIMITS = Limits(12, 8)
CONFIG = RewardModelConfig(
    dropout=0.0, folds=3, members=3, epochs=6, refit_epochs=2, batch_size=8, learning_rate=1e-2
)
WORDS = ("Asia", "the", "river", "is", "capital", "of", "in", "what")
NewLM = Callable[..., LSTMAttentionLM]


def record(question: int, good: bool, rng: np.random.Generator) -> AnswerRecord:
    words = rng.choice(WORDS, 3).tolist()
    if good:
        words[int(rng.integers(3))] = "gold"
    first, second = WORDS[question % 8], WORDS[question // 8 % 8]
    return AnswerRecord(f"{first} {second} {question}?", " ".join(words), None, f"example-{question}")


class World:
    """Answers to questions, a good and a bad one each, and what is said of them."""

    def __init__(self, questions: int = 100, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        pairs = [[record(n, good, self.rng) for good in (True, False)] for n in range(questions)]
        self.answers = [answer for pair in pairs for answer in pair]
        self.records = {answer.id: answer for answer in self.answers}

    def ratings(self, *raters: str, adversary: str = "", random: bool = False) -> list[Judgement]:
        said = []
        for answer in self.answers:
            for rater in raters:
                good = "gold" in answer.text.split() if not random else bool(self.rng.random() < 0.5)
                stars = int(self.rng.integers(4, 6) if good else self.rng.integers(1, 3))
                stars = 6 - stars if rater == adversary else stars
                said.append(Judgement(rater, (answer.id,), Rating(stars, stars)))
        return said

    def data(self, vocabulary: Vocabulary, judgements: Sequence[Judgement]) -> RewardData:
        return RewardData.from_judgements(judgements, self.records, vocabulary, LIMITS)


def fit(
    data: RewardData,
    lm: LSTMAttentionLM,
    vocabulary: Vocabulary,
    seed: int = 1,
    previous: RewardModel | None = None,
    **changes: Any,
) -> RewardModel:
    nothing = np.zeros((0, LIMITS.max_source), np.int64), np.zeros((0, LIMITS.max_answer), np.int64)
    unchanged = Augmentation(vocabulary, AugmentationConfig(0, 0))
    config = replace(CONFIG, **changes)
    return fit_reward_model(data, nothing, lm, unchanged, config, vocabulary, LIMITS, seed, previous)


@pytest.fixture(scope="module")
def learnable(vocabulary: Vocabulary) -> RewardData:
    world = World()
    return world.data(vocabulary, world.ratings("ada"))


@pytest.fixture(scope="module")
def fitted(learnable: RewardData, vocabulary: Vocabulary, new_lm: NewLM) -> RewardModel:
    return fit(learnable, new_lm(), vocabulary)


def answers(seed: int = 9) -> tuple[list[QAExample], list[str], list[np.random.Generator]]:
    """Answers to new questions, good and bad in turn."""
    found = World(40, seed).answers
    examples = [QAExample(a.example_id, a.question, None, ()) for a in found]
    return examples, [a.text for a in found], [np.random.default_rng(0)] * len(found)


# The data


def test_without_a_label_there_is_one_clear_line(vocabulary: Vocabulary) -> None:
    world = World(3)
    skips = [Judgement("ada", (answer.id,), Skip("no idea")) for answer in world.answers]
    for judgements in ([], skips):
        with pytest.raises(QAError, match="no label to learn from"):
            world.data(vocabulary, judgements)


def test_answers_are_grouped_by_question_and_rows_speak_of_them(vocabulary: Vocabulary) -> None:
    world = World(5)
    data = world.data(vocabulary, [*world.ratings("ada"), pair_of(world, 3)])
    assert len(data) == 5 and len(data.question) == 10 and len(data.rows.first) == 11
    source, tokens = render(*texts(world.answers), vocabulary, LIMITS)
    spoken = {(s.tobytes(), t.tobytes()) for s, t in zip(source, tokens, strict=True)}
    assert spoken == {
        (data.source[q].tobytes(), t.tobytes()) for q, t in zip(data.question, data.tokens, strict=True)
    }
    (row,) = np.flatnonzero(data.rows.second >= 0)
    for place, answer in ((data.rows.first[row], 6), (data.rows.second[row], 7)):
        np.testing.assert_array_equal(data.tokens[place], tokens[answer])
    assert data.question[data.rows.first[row]] == data.question[data.rows.second[row]]


def texts(records: Sequence[AnswerRecord]) -> tuple[list[QAExample], list[str]]:
    return [QAExample(r.id, r.question, r.context, ()) for r in records], [r.text for r in records]


def pair_of(world: World, question: int) -> Judgement:
    first, second = world.answers[2 * question : 2 * question + 2]
    return Judgement("ada", (first.id, second.id), Pair("first"))


def test_some_questions_keep_their_answers_and_what_is_said_of_them(vocabulary: Vocabulary) -> None:
    world = World(8)
    data = world.data(vocabulary, [*world.ratings("ada"), *(pair_of(world, n) for n in range(8))])
    questions = np.array([6, 1, 3])
    part = data.of(questions)
    np.testing.assert_array_equal(part.source, data.source[questions])
    assert contents(part) == {one for one in contents(data) if one[0] in {s.tobytes() for s in part.source}}
    assert len(contents(part)) == 3 * 3 and not len(data.of(np.zeros(0, np.int64)).rows.first)


def contents(data: RewardData) -> set[tuple[Any, ...]]:
    """Each row with the source and the tokens that it speaks of."""
    found = set()
    for row in zip(*data.rows, strict=True):
        first, second, *numbers = row
        compared = b"" if second < 0 else data.tokens[second].tobytes()
        source = data.source[data.question[first]].tobytes()
        found.add((source, data.tokens[first].tobytes(), data.good[first], compared, *numbers))
    return found


def test_folds_are_of_about_the_same_size_and_differ_by_seed(learnable: RewardData) -> None:
    drawn = [learnable.folds(4, seed) for seed in range(3)]
    for fold in drawn:
        assert fold.shape == (len(learnable),)
        assert np.bincount(fold, minlength=4).min() >= 12 and fold.max() == 3
    assert not np.array_equal(drawn[0], drawn[1])


def test_a_question_stays_in_its_fold_when_others_come(vocabulary: Vocabulary) -> None:
    """Else a later fit would be tested on what an earlier one has learnt."""
    found = []
    for size in (60, 100):
        world = World(size)
        data = world.data(vocabulary, world.ratings("ada"))
        folds = data.folds(3, 5).tolist()
        found.append({s.tobytes(): fold for s, fold in zip(data.source, folds, strict=True)})
    assert found[0].items() <= found[1].items() and len(found[0]) == 60


def test_demonstrations_come_behind_and_no_label_speaks_of_them(learnable: RewardData) -> None:
    source, tokens = learnable.source[:2] + 1, learnable.tokens[:2]
    more = learnable.with_demonstrations(source, tokens)
    assert len(more) == len(learnable) + 2 and more.good[-2:].tolist() == [1, 1]
    np.testing.assert_array_equal(more.source[more.question[-2:]], source)
    assert contents(more) == contents(learnable)


def test_all_answers_to_a_question_are_renamed_alike(vocabulary: Vocabulary) -> None:
    first, inside = (np.flatnonzero(vocabulary.kinds == kind)[0] for kind in (Kind.WORD, Kind.INSIDE))
    source = np.tile([first, inside, EOS], (4, 1))
    tokens = np.array([[first, inside, EOS, PAD]] * 4 + [[first, inside, inside, EOS]] * 4)
    none = Terms(*(np.zeros(0, np.int64) for _ in range(2)), *(np.zeros(0) for _ in range(6)))
    data = RewardData(source, np.array([0, 1, 2, 3, 3, 2, 1, 0]), tokens, np.zeros(8), none, 1.5, 0.0)
    for seed in range(5):
        changed = data.augmented(
            Augmentation(vocabulary, AugmentationConfig(1, 0)), np.random.default_rng(seed)
        )
        named = changed.source[changed.question]
        assert (named != source[0]).any()
        np.testing.assert_array_equal(changed.tokens[:, :2], named[:, :2])
        np.testing.assert_array_equal(changed.tokens[4:, 2], named[4:, 1])
        assert (changed.tokens[:4, 2:] == [EOS, PAD]).all() and (changed.tokens[4:, 3] == EOS).all()
    np.testing.assert_array_equal(data.tokens[0], [first, inside, EOS, PAD])


def test_a_correction_is_better_than_what_was_shown_and_an_example() -> None:
    shown = AnswerRecord("Who?", "Ada", "A passage.", "e1")
    same = AnswerRecord("When?", "Now", None, "e2")
    said = [
        Judgement("ada", (shown.id,), Correction("Ada Lovelace"), unsure=True),
        Judgement("ben", (same.id,), Correction("Now")),
        Judgement("ben", (shown.id,), Thumb(False)),
    ]
    judgements, records, examples = with_corrections(said, {r.id: r for r in (shown, same)})
    better = AnswerRecord("Who?", "Ada Lovelace", "A passage.", "e1")
    assert judgements == [*said, Judgement("ada", (better.id, shown.id), Pair("first", 2), unsure=True)]
    assert records == {shown.id: shown, same.id: same, better.id: better}
    assert examples == [better, same]


# The network


def test_training_the_network_leaves_the_policy_as_it_was(new_lm: NewLM, learnable: RewardData) -> None:
    lm = new_lm()
    lm.freeze_encoder()
    before = copy.deepcopy(lm.state_dict())
    network = RewardNetwork(lm)
    batch, ids = answer_batch(learnable.source[:9], np.arange(9), learnable.tokens[:9], "cpu")
    quality, _ = network(batch, ids)
    assert quality.shape == (9,)
    quality.square().sum().backward()
    for name in ("encoder.embedding.weight", "decoder.weight_hh_l0"):
        gradient = dict(network.lm.named_parameters())[name].grad
        assert gradient is not None and gradient.abs().max() > 0
    torch.optim.SGD(network.parameters(), lr=1.0).step()
    assert all(torch.equal(value, before[name]) for name, value in lm.state_dict().items())
    shared = {p.data_ptr() for p in lm.parameters()} & {p.data_ptr() for p in network.parameters()}
    assert not shared


def test_features_depend_on_neither_padding_nor_other_answers(
    fitted: RewardModel, learnable: RewardData
) -> None:
    source, tokens = learnable.source[learnable.question][:6], learnable.tokens[:6]
    together = fitted.features(source, tokens)
    wide = np.pad(tokens, ((0, 0), (0, 5)), constant_values=PAD)
    np.testing.assert_allclose(fitted.features(source, wide), together, atol=1e-5)
    alone = [fitted.features(source[n : n + 1], tokens[n : n + 1])[0] for n in range(6)]
    np.testing.assert_allclose(alone, together, atol=1e-5)
    assert len(np.unique(together.round(4), axis=0)) == 6


def test_features_are_means_maxima_and_likelihoods_of_the_tokens(new_lm: NewLM) -> None:
    network = RewardNetwork(new_lm())
    features = torch.tensor([[0.1, -0.5], [0.3, -0.7], [0.9, 0.2]])
    likelihood = torch.tensor([-1.0, -3.0, -0.5])
    pooled = network._pool(features, likelihood, torch.tensor([0, 0, 1]), 2)
    expected = [[0.2, -0.6, 0.3, -0.5, -0.4, -2.0, -3.0], [0.9, 0.2, 0.9, 0.2, -0.05, -0.5, -0.5]]
    torch.testing.assert_close(pooled, torch.tensor(expected))


def test_each_network_of_an_ensemble_has_a_trunk_of_its_own(new_lm: NewLM, learnable: RewardData) -> None:
    ensemble = RewardEnsemble(new_lm(), 3)
    batch, ids = answer_batch(learnable.source[:9], np.arange(9), learnable.tokens[:9], "cpu")
    together = ensemble(batch, ids)
    assert together.shape == (9, 3) and (together.std(1) > 0).all()
    with torch.no_grad():
        ensemble.networks[1].lm.output_bias += 1.0
    torch.testing.assert_close(ensemble(batch, ids)[:, ::2], together[:, ::2])


def test_the_average_is_the_mean_of_the_trunks(new_lm: NewLM) -> None:
    ensemble = RewardEnsemble(new_lm(), 2)
    with torch.no_grad():
        ensemble.networks[1].lm.output_bias += 1.0
    before, average = new_lm().state_dict(), ensemble.average()
    assert average.keys() == before.keys()
    torch.testing.assert_close(average["output_bias"], before["output_bias"] + 0.5)
    torch.testing.assert_close(average["decoder.weight_hh_l0"], before["decoder.weight_hh_l0"])
    new_lm().load_state_dict(average)


# The likelihood


def rows(*labels: tuple[int, int, float, float, float, float]) -> Terms:
    """From first, second, low, high, lapse, uniform."""
    first, second, low, high, lapse, uniform = (np.array(column) for column in zip(*labels, strict=True))
    return Terms(first, second, np.full(len(first), 1.5), low, high, lapse, uniform, np.ones(len(first)))


def test_the_chances_of_all_labels_add_up_to_one() -> None:
    quality = torch.tensor([[0.3, -2.0], [1.1, 40.0]], dtype=torch.float64)
    cuts = [-np.inf, -2.0, -0.5, 0.7, 1.9, np.inf]
    stars = rows(*((0, -1, low, high, 0.1, 0.2) for low, high in pairwise(cuts)))
    ends = [-np.inf, -0.4, 0.4, np.inf]
    pair = rows(*((0, 1, low, high, 0.2, 1 / 3) for low, high in pairwise(ends)))
    for labels in (stars, pair):
        total = label_log_likelihood(quality, labels).exp().sum(0)
        torch.testing.assert_close(total, torch.ones(2, dtype=torch.float64))


def test_the_likelihood_is_that_of_a_hand_computation_and_bounded_by_the_lapse() -> None:
    quality = torch.tensor([[0.4], [1.0], [-60.0]], dtype=torch.float64)
    labels = rows((0, -1, -0.5, 0.7, 0.1, 0.2), (1, 0, 0.0, np.inf, 0.2, 0.5), (2, -1, 1.0, np.inf, 0.1, 0.2))
    chances = label_log_likelihood(quality, labels).exp().squeeze(1).tolist()

    def logistic(x: float) -> float:
        return float(1 / (1 + np.exp(-x)))

    assert chances == pytest.approx(
        [
            0.9 * (logistic(0.7 - 0.6) - logistic(-0.5 - 0.6)) + 0.1 * 0.2,
            0.8 * logistic(1.5 * 0.6) + 0.2 * 0.5,
            0.1 * 0.2,
        ]
    )


def test_outcomes_are_yes_no_or_half(learnable: RewardData) -> None:
    said = rows(
        (0, -1, 2.0, np.inf, 0, 0.2),
        (0, -1, -np.inf, -1.0, 0, 0.2),
        (0, 1, 0.5, np.inf, 0, 0.3),
        (0, 1, -np.inf, -0.5, 0, 0.3),
        (0, 1, -0.5, 0.5, 0, 0.3),
    )
    data = replace(learnable, rows=said, good_enough=0.2)
    predicted, told = outcomes(np.array([0.8, -0.1]), data)
    assert told.tolist() == [1, 0, 1, 0, 0.5]
    single, compared = 1 / (1 + np.exp(-1.5 * 0.6)), 1 / (1 + np.exp(-1.5 * 0.9))
    np.testing.assert_allclose(predicted, [single, single, compared, compared, compared])


# Fitting


def test_what_can_be_learnt_is_learnt_and_serves(fitted: RewardModel) -> None:
    told = fitted.calibration
    assert (
        fitted.trusted and told.labels > 40 and told.log_loss < told.constant - 0.1 and told.accuracy > 0.75
    )
    score = fitted.score(*answers())
    good, bad = score.reward[::2], score.reward[1::2]
    assert good.mean() > bad.mean() + 0.3 and (good > bad).mean() > 0.7
    mean, sd = score.components["model_mean"], score.components["model_sd"]
    assert ((mean > 0) & (mean < 1)).all() and (sd > 0).all()
    np.testing.assert_allclose(score.reward, 2 * (mean - sd**2) - 1)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_model_of_random_labels_is_not_trusted(vocabulary: Vocabulary, new_lm: NewLM, seed: int) -> None:
    world = World(60, seed)
    model = fit(
        world.data(vocabulary, world.ratings("ada", random=True)), new_lm(), vocabulary, seed, epochs=4
    )
    assert not model.trusted and model.calibration.labels > 20
    with pytest.raises(QAError, match=r"no better than a constant on \d+ held-out labels"):
        model.score(*answers())


def test_a_model_of_too_few_labels_is_not_trusted(
    learnable: RewardData, vocabulary: Vocabulary, new_lm: NewLM
) -> None:
    few = learnable.of(np.arange(20))
    model = fit(few, new_lm(), vocabulary, epochs=1, least_labels=41)
    assert not model.trusted and model.calibration.labels == 0
    with pytest.raises(QAError, match="collect more labels"):
        model.score(*answers())
    assert fit(few, new_lm(), vocabulary, epochs=1, least_labels=40).calibration.labels > 0
    with pytest.raises(QAError, match="labels of two questions at least, got 1"):
        fit(learnable.of(np.arange(1)), new_lm(), vocabulary)


def test_a_network_never_learns_from_its_own_fold(
    learnable: RewardData, vocabulary: Vocabulary, new_lm: NewLM
) -> None:
    """Turning round all labels of one fold changes every network but the one that leaves it out."""
    fold = learnable.folds(3, 1)
    turned = fold[learnable.question[learnable.rows.first]] == 0
    low = np.where(turned, -learnable.rows.high, learnable.rows.low)
    high = np.where(turned, -learnable.rows.low, learnable.rows.high)
    good = np.where(fold[learnable.question] == 0, 1 - learnable.good, learnable.good)
    other = replace(learnable, rows=learnable.rows._replace(low=low, high=high), good=good)
    pairs = zip(
        *(fit(data, new_lm(), vocabulary, epochs=1).network.networks for data in (learnable, other)),
        strict=True,
    )
    to_vector = torch.nn.utils.parameters_to_vector
    same = [torch.equal(*(to_vector(network.parameters()) for network in pair)) for pair in pairs]
    assert same == [True, False, False]


def test_with_fewer_networks_than_folds_only_their_folds_are_held_out(
    learnable: RewardData, vocabulary: Vocabulary, new_lm: NewLM
) -> None:
    fold = learnable.folds(3, 1)
    model = fit(learnable, new_lm(), vocabulary, epochs=1, members=1)
    assert model.calibration.labels == (fold[learnable.question[learnable.rows.first]] == 0).sum()
    assert fit(learnable, new_lm(), vocabulary, epochs=1).calibration.labels == len(learnable.rows.first)


def weights(model: RewardModel) -> torch.Tensor:
    return torch.nn.utils.parameters_to_vector(model.network.parameters()).detach().clone()


def test_the_same_seed_gives_the_same_model(
    learnable: RewardData, vocabulary: Vocabulary, new_lm: NewLM
) -> None:
    part = learnable.of(np.arange(16))
    one, again, other = (fit(part, new_lm(), vocabulary, seed, epochs=1) for seed in (3, 3, 4))
    assert torch.equal(weights(one), weights(again))
    assert not torch.equal(weights(one), weights(other))


def test_a_later_fit_goes_on_and_leaves_the_model_before_as_it_was(
    fitted: RewardModel, vocabulary: Vocabulary, new_lm: NewLM
) -> None:
    before, world = weights(fitted), World(100)
    said = world.ratings("ada", "ben")
    later = fit(world.data(vocabulary, said), new_lm(), vocabulary, previous=fitted, refit_epochs=1)
    assert torch.equal(weights(fitted), before) and fitted.version == 1 and later.version == 2
    assert (weights(later) - before).norm() < 0.5 * (
        weights(later) - weights(unfitted(new_lm, fitted))
    ).norm()
    assert later.trusted


def unfitted(new_lm: NewLM, fitted: RewardModel) -> RewardModel:
    torch.manual_seed(1)
    return RewardModel(RewardEnsemble(new_lm(), 3), CONFIG, fitted.vocabulary, LIMITS, 0)


def test_an_adversary_among_honest_raters_does_not_turn_the_model_round(
    vocabulary: Vocabulary, new_lm: NewLM
) -> None:
    world = World(60)
    said = world.ratings("ada", "ben", "eve", adversary="eve")
    model = fit(world.data(vocabulary, said), new_lm(), vocabulary)
    score = model.score(*answers())
    assert (score.reward[::2] > score.reward[1::2]).mean() > 0.65


def test_good_answers_without_labels_make_the_trunk_a_better_language_model(
    learnable: RewardData, vocabulary: Vocabulary, new_lm: NewLM
) -> None:
    part, source, tokens = learnable.of(np.arange(4)), learnable.source[60:68], learnable.tokens[:8]
    unchanged = Augmentation(vocabulary, AugmentationConfig(0, 0))
    model = fit_reward_model(part, (source, tokens), new_lm(), unchanged, CONFIG, vocabulary, LIMITS, 0)
    batch, ids = answer_batch(source, np.arange(8), tokens, "cpu")
    with torch.no_grad():
        before, *after = (
            float(network.read(batch, ids)[1].sum())
            for network in (RewardNetwork(new_lm()), *model.network.networks)
        )
    assert min(after) > before + 5


# Keeping it


def test_a_saved_model_gives_the_same_scores(
    fitted: RewardModel, vocabulary: Vocabulary, new_lm: NewLM, tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    fitted.save(path)
    again = RewardModel.load(path, new_lm(5), vocabulary, LIMITS)
    np.testing.assert_array_equal(again.score(*answers()).reward, fitted.score(*answers()).reward)
    assert again.calibration.figures() == fitted.calibration.figures()
    assert (again.version, again.config, again.temperature) == (1, fitted.config, fitted.temperature)


def test_an_untrusted_model_stays_untrusted_when_it_is_read_again(
    vocabulary: Vocabulary, new_lm: NewLM, tmp_path: Path
) -> None:
    RewardModel(RewardEnsemble(new_lm(), 3), CONFIG, vocabulary, LIMITS, 3).save(tmp_path / "model")
    model = RewardModel.load(tmp_path / "model", new_lm(), vocabulary, LIMITS)
    assert not model.trusted and model.version == 3


def test_what_does_not_fit_is_refused_in_one_clear_line(
    fitted: RewardModel, facts: tuple[QAExample, ...], vocabulary: Vocabulary, new_lm: NewLM, tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    fitted.save(path)
    other = Vocabulary.train([e.question for e in facts[:40]], 300)
    with pytest.raises(QAError, match=f"belongs to vocabulary {vocabulary.fingerprint}"):
        RewardModel.load(path, new_lm(), other, LIMITS)
    with pytest.raises(QAError, match="a language model of other sizes"):
        RewardModel.load(path, new_lm(hidden=24), vocabulary, LIMITS)
    save_file({"weight": torch.zeros(2)}, tmp_path / "other")
    with pytest.raises(QAError, match="is no reward model"):
        RewardModel.load(tmp_path / "other", new_lm(), vocabulary, LIMITS)
    path.write_bytes(path.read_bytes()[:-100])
    (tmp_path / "empty").touch()
    for name in ("model.safetensors", "empty", "missing"):
        with pytest.raises(QAError, match="cannot read the reward model"):
            RewardModel.load(tmp_path / name, new_lm(), vocabulary, LIMITS)


@pytest.mark.parametrize(
    "field",
    [{"members": 0}, {"epochs": 0}, {"learning_rate": 0.0}, {"folds": 1}, {"folds": 3}, {"pessimism": -1.0}],
)
def test_settings_out_of_range_are_refused_by_name(field: dict[str, Any]) -> None:
    with pytest.raises(QAError, match=f"reward_model.{next(iter(field))} must be"):
        RewardModelConfig(**field)


# Calibration


def test_perfect_calibration_has_no_error() -> None:
    predicted = np.repeat([0.2, 0.8, 1.0], 10)
    said = np.concatenate([np.repeat([1, 0], [2, 8]), np.repeat([1, 0], [8, 2]), np.ones(10)])
    assert calibration_error(predicted, said) == pytest.approx(0, abs=1e-12)


def test_figures_of_a_small_example() -> None:
    predicted, said = np.array([0.95, 0.91, 0.12, 0.62]), np.array([1.0, 0.0, 0.0, 0.5])
    told = Calibration.of(predicted, said, 0.4, 0.7, 0.1)
    assert told.labels == 4 and told.accuracy == pytest.approx(2 / 3)  # a tie has no side
    assert told.brier == pytest.approx((0.05**2 + 0.91**2 + 0.12**2 + 0.12**2) / 4)
    assert told.error == pytest.approx((2 * abs(0.93 - 0.5) + 0.12 + 0.12) / 4)
    bins = [(place, p.tolist(), s.tolist()) for place, p, s in calibration_curve(predicted, said)]
    assert bins == [(1, [0.12], [0.0]), (6, [0.62], [0.5]), (9, [0.95, 0.91], [1.0, 0.0])]
    assert told.figures() == {
        "labels": 4, "log_loss": 0.4, "constant": 0.7, "margin": 0.1,
        "accuracy": told.accuracy, "brier": told.brier, "error": told.error,
    }  # fmt: skip


def test_the_curve_has_a_point_for_each_bin_that_is_not_empty() -> None:
    told = Calibration.of(np.array([0.05, 0.5, 1.0]), np.array([0.0, 1.0, 1.0]), 0.1, 0.7, 0.1)
    (axes,) = calibration_plot(told).axes
    np.testing.assert_allclose(axes.collections[0].get_offsets(), [[0.05, 0], [0.5, 1], [1, 1]])
