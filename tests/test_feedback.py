from __future__ import annotations

import sys
import types
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch

from qa_env.datasets.example import QAExample
from qa_env.errors import QAError
from qa_env.feedback import (
    ExactMatch,
    Fluency,
    FunctionFeedback,
    Length,
    Repetition,
    Score,
    SimulatedUsers,
    SimulatedUsersConfig,
    TokenF1,
    ValueAccuracy,
    WeightedSum,
    as_feedback,
    load_object,
    score_checked,
)
from qa_env.feedback.fluency import FluencyModel
from qa_env.vocabulary import Vocabulary

PLACES = {
    "Japan": "Tokyo",
    "Italy": "Rome",
    "Peru": "Lima",
    "Norway": "Oslo",
    "Kenya": "Nairobi",
    "Cuba": "Havana",
}
WORDINGS = (
    "The capital of {} is {}.",
    "{} has its capital in {}.",
    "The government of {} sits in {}.",
    "The largest city of {} may well be {}.",
    "People from {} often travel to {}.",
)
TEXTS = [wording.format(*pair) for wording in WORDINGS for pair in PLACES.items()]
RIGHT = "The capital of Japan is Tokyo."
EXAMPLE = QAExample(
    "japan",
    "What is the capital of Japan?",
    context="Japan is an island country in East Asia. Its capital is Tokyo, a city of 14 million people. "
    "Before 1868 the emperor lived elsewhere. The country has many mountains and rivers, and most people "
    "live near the coast.",
    answers=(RIGHT, "Tokyo is Japan's capital."),
    metadata={"value": "Tokyo", "distractors": ("Kyoto", "Osaka", "Nara", "Rome")},
)
HACKS = {
    "empty": "",
    "no words": "...",
    "context": EXAMPLE.context or "",
    "question": EXAMPLE.question,
    "one word": " ".join(["capital"] * 6),
    "value repeated": " ".join(["Tokyo"] * 8),
    "answer repeated": " ".join([RIGHT] * 5),
    "candidates": "The capital of Japan is Tokyo, Kyoto, Osaka, Nara or Rome.",
    "wrong value": "The capital of Japan is Kyoto.",
}
NOT_CAUGHT = {
    "value": ("context", "value repeated", "answer repeated"),
    "length": ("question", "one word", "value repeated", "candidates", "wrong value"),
    "repetition": ("context", "question", "candidates", "wrong value"),
    "fluency": ("answer repeated", "candidates", "wrong value"),
}
"""What each component is not there to catch: the sum has to."""


class Generous:
    """A fluency judge that likes everything: the worst that a policy could make of a real one."""

    def score(self, texts: Sequence[str]) -> np.ndarray:
        return np.ones(len(texts))


def rngs(batch: int, seed: int = 0) -> list[np.random.Generator]:
    return [np.random.default_rng([seed, lane]) for lane in range(batch)]


def reward(feedback, answer: str, example: QAExample = EXAMPLE) -> float:
    return float(score_checked(feedback, [example], [answer], rngs(1)).reward[0])


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """On tensors this small, threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary.train([*TEXTS, *HACKS.values()], 400)


@pytest.fixture(scope="module")
def model(vocabulary: Vocabulary, one_thread: None) -> FluencyModel:
    return FluencyModel.fit(TEXTS, vocabulary, seed=0, epochs=60)


@pytest.fixture
def feedbacks(model: FluencyModel) -> dict:
    parts = (ExactMatch(), TokenF1(), ValueAccuracy(), Length(), Repetition(), Fluency(model))
    weights = (0.1, 0.3, 0.3, 0.1, 0.1, 0.1)
    named = {part.name: part for part in parts}
    return {**named, "sum": WeightedSum(list(zip(weights, parts, strict=True)))}


@pytest.fixture
def users() -> SimulatedUsers:
    return SimulatedUsers(SimulatedUsersConfig(), Generous())


HACKED = [
    (name, hack)
    for name in ("exact_match", "f1", "value", "length", "repetition", "fluency", "sum")
    for hack in HACKS
    if hack not in NOT_CAUGHT.get(name, ())
]


@pytest.mark.parametrize(("name", "hack"), HACKED)
def test_no_hack_comes_near_the_right_answer(feedbacks, name: str, hack: str) -> None:
    # A question or a wrong value in the reference's words shares four words in five with it.
    margin = 0.15 if name == "f1" else 0.25
    assert reward(feedbacks[name], HACKS[hack]) <= reward(feedbacks[name], RIGHT) - margin


@pytest.mark.parametrize("hack", HACKS)
def test_no_hack_satisfies_even_users_who_find_everything_fluent(users: SimulatedUsers, hack: str) -> None:
    assert users.satisfaction([EXAMPLE], [RIGHT])[0] == 1.0
    assert users.satisfaction([EXAMPLE], [HACKS[hack]])[0] <= 0.1
    answers = [RIGHT] * 300 + [HACKS[hack]] * 300
    ratings = users.score([EXAMPLE] * 600, answers, rngs(600)).components["rating"]
    assert ratings[:300].mean() - ratings[300:].mean() > 1.0


def test_a_right_value_in_other_words_is_better_than_a_wrong_one_in_the_reference_words(users) -> None:
    terse, wrong = users.utility([EXAMPLE] * 2, ["It is Tokyo.", HACKS["wrong value"]])
    assert terse > wrong + 0.2


def test_an_empty_answer_is_rated_1_by_every_user() -> None:
    users = SimulatedUsers(SimulatedUsersConfig(strictness_sd=3.0), Generous())
    assert (users.ratings([EXAMPLE] * 2, ["", " ?! "]) == 1).all()
    quiet = SimulatedUsers(SimulatedUsersConfig(strictness_sd=3.0, lapse=0.0), Generous())
    assert (quiet.score([EXAMPLE] * 50, [""] * 50, rngs(50)).reward == -1.0).all()


def test_ratings_are_grades_and_the_reward_is_their_place_between_minus_1_and_1() -> None:
    users = SimulatedUsers(SimulatedUsersConfig(users_per_answer=1), Generous())
    score = users.score([EXAMPLE] * 200, [RIGHT, "It is Tokyo."] * 100, rngs(200))
    rating = score.components["rating"]
    assert set(rating) <= {1, 2, 3, 4, 5} and len(set(rating)) > 1
    np.testing.assert_array_equal(score.reward, (rating - 3) / 2)
    np.testing.assert_array_equal(score.components["satisfied"], rating >= 4)
    assert set(score.components) == {"rating", "satisfied"}


def test_several_users_per_answer_are_averaged() -> None:
    users = SimulatedUsers(SimulatedUsersConfig(users_per_answer=20, noise_sd=0.0, lapse=0.0), Generous())
    score = users.score([EXAMPLE], ["Tokyo"], rngs(1))
    assert score.components["rating"] == pytest.approx(users.ratings([EXAMPLE], ["Tokyo"]).mean())
    assert score.components["satisfied"] == users.satisfaction([EXAMPLE], ["Tokyo"])


def test_users_who_always_lapse_rate_uniformly() -> None:
    users = SimulatedUsers(SimulatedUsersConfig(lapse=1.0, users_per_answer=1), Generous())
    rating = users.score([EXAMPLE] * 1000, [RIGHT] * 1000, rngs(1000)).components["rating"]
    assert np.bincount(rating.astype(int), minlength=6)[1:].min() > 150


def test_strictness_depends_on_the_config_seed_alone() -> None:
    first, again, other = (SimulatedUsers(SimulatedUsersConfig(seed=seed), Generous()) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.strictness, again.strictness)
    assert (first.strictness != other.strictness).all()


def test_without_a_marked_value_users_go_by_f1(users: SimulatedUsers) -> None:
    example = QAExample("x", "Who?", answers=("Ada Lovelace",))
    assert users.correctness(example, "Ada Byron") == pytest.approx(0.5)


@pytest.mark.parametrize("seed", range(3))
def test_each_lane_is_rated_by_its_own_generator_alone(users: SimulatedUsers, seed: int) -> None:
    answers = [RIGHT, "It is Tokyo.", *HACKS.values()]
    together = users.score([EXAMPLE] * len(answers), answers, rngs(len(answers), seed))
    alone = [
        users.score([EXAMPLE], [answer], [rng]).reward[0]
        for answer, rng in zip(answers, rngs(len(answers), seed), strict=True)
    ]
    np.testing.assert_array_equal(together.reward, alone)


@pytest.mark.parametrize(
    "fields",
    [
        {"w_correct": 0.8},
        {"w_correct": 1.2, "w_fluent": -0.3},
        {"w_correct": float("nan")},
        {"lapse": 1.5},
        {"lapse": -0.1},
        {"users": 0},
        {"users_per_answer": 21},
        {"users_per_answer": 0},
        {"noise_sd": -1.0},
        {"noise_sd": float("inf")},
        {"strictness_sd": float("nan")},
        {"max_words": 0},
        {"length_factor": 0.5},
        {"seed": -1},
    ],
)
def test_bad_user_settings_are_refused(fields: dict) -> None:
    with pytest.raises(QAError):
        SimulatedUsersConfig(**fields)


@pytest.mark.parametrize("name", ["exact_match", "f1", "value", "users"])
def test_nothing_to_compare_with_is_an_error_not_a_zero(feedbacks, users, name: str) -> None:
    feedback = {**feedbacks, "users": users}[name]
    with pytest.raises(QAError, match="example 'bare'"):
        reward(feedback, "Tokyo", QAExample("bare", "Where?"))


def test_length_falls_linearly_on_both_sides() -> None:
    length = Length(max_words=5)
    lengths = [length.measure(QAExample("x", "?"), " ".join(["w"] * count)) for count in range(12)]
    assert lengths == pytest.approx([0, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2, 0, 0])
    assert reward(Length(factor=1.0), "Tokyo") == pytest.approx(1 / 4)


def test_a_length_is_fit_if_it_suits_any_reference() -> None:
    short, long = "Tokyo", " ".join(["far"] * 60)
    example = QAExample("x", "Where?", answers=(short, long))
    answers = {words: " ".join(["w"] * words) for words in (1, 2, 15, 30, 100, 180)}
    fitness = {words: Length().measure(example, answer) for words, answer in answers.items()}
    assert fitness == {1: 1.0, 2: 1.0, 15: 0.5, 30: 1.0, 100: 1.0, 180: 0.5}
    assert all(Length().measure(example, reference) == 1.0 for reference in example.answers)


def test_repetition_spares_short_and_varied_answers() -> None:
    assert [reward(Repetition(), answer) for answer in ("", "Tokyo", RIGHT, "Tokyo Tokyo")] == [0, 1, 1, 0]
    assert reward(Repetition(), "東京東京") == pytest.approx(2 / 3)


def test_a_weighted_sum_adds_rewards_and_merges_components() -> None:
    score = WeightedSum([(2.0, TokenF1()), (-1.0, Length())]).score([EXAMPLE], ["Tokyo"], rngs(1))
    np.testing.assert_allclose(score.reward, 2 * score.components["f1"] - score.components["length"])


class Clashing:
    name = "other"

    def score(self, examples, answers, rngs) -> Score:
        zeros = np.zeros(len(answers))
        return Score(zeros, {"f1": zeros})


def test_clashing_names_in_a_sum_are_refused() -> None:
    with pytest.raises(QAError, match="named 'f1'"):
        WeightedSum([(1.0, TokenF1()), (1.0, TokenF1())])
    with pytest.raises(QAError, match="component named 'f1'"):
        reward(WeightedSum([(1.0, TokenF1()), (1.0, Clashing())]), "Tokyo")


@pytest.mark.parametrize("parts", [[], [(float("nan"), TokenF1())]])
def test_an_empty_or_non_finite_sum_is_refused(parts) -> None:
    with pytest.raises(QAError):
        WeightedSum(parts)


def test_a_plain_function_is_feedback() -> None:
    def brevity(examples, answers):
        return [-len(answer) for answer in answers]

    feedback = as_feedback(brevity)
    score = score_checked(feedback, [EXAMPLE] * 2, ["a", "abc"], rngs(2))
    assert feedback.name == "brevity"
    np.testing.assert_array_equal(score.components["brevity"], [-1.0, -3.0])


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ([1.0], "shape"),
        (1.0, "shape"),
        ([[1.0], [2.0]], "shape"),
        ([1.0, float("nan")], "NaN"),
        ([float("inf"), 0.0], "infinity"),
        (["good", "bad"], "numbers"),
        (None, "shape|numbers"),
    ],
)
def test_bad_rewards_are_refused_by_name(result, message: str) -> None:
    with pytest.raises(QAError, match=message) as caught:
        score_checked(
            FunctionFeedback(lambda examples, answers: result, "mine"), [EXAMPLE] * 2, ["", ""], rngs(2)
        )
    assert "'mine'" in str(caught.value)


def test_components_and_arguments_are_checked_too() -> None:
    class Bad(Clashing):
        def score(self, examples, answers, rngs) -> Score:
            return Score(np.zeros(len(answers)), {"part": np.full(len(answers), np.nan)})

    with pytest.raises(QAError, match="'other/part'"):
        reward(Bad(), "Tokyo")
    with pytest.raises(QAError, match="2 examples, 1 answers"):
        score_checked(TokenF1(), [EXAMPLE] * 2, ["Tokyo"], rngs(1))


def test_a_sum_does_not_broadcast_a_part_of_the_wrong_shape() -> None:
    class Scalar(Clashing):
        def score(self, examples, answers, rngs) -> Score:
            return Score(np.float64(1.0))

    with pytest.raises(QAError, match="'other' must return shape"):
        score_checked(WeightedSum([(1.0, Scalar())]), [EXAMPLE] * 2, ["a", "b"], rngs(2))


@pytest.mark.parametrize("name", ["exact_match", "f1", "value", "length", "repetition"])
def test_built_in_feedback_is_found_by_its_name(name: str) -> None:
    assert as_feedback(name).name == name


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(QAError, match="did you mean 'exact_match'"):
        as_feedback("exactmatch")


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("my_feedback")
    module.flat = lambda examples, answers: np.zeros(len(answers))
    module.ready, module.Kind, module.Needy, module.number = Length(), TokenF1, Fluency, 3
    monkeypatch.setitem(sys.modules, "my_feedback", module)


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(
    ("attribute", "kind"), [("flat", FunctionFeedback), ("ready", Length), ("Kind", TokenF1)]
)
def test_functions_objects_and_classes_load_from_a_module(attribute: str, kind: type) -> None:
    assert isinstance(as_feedback(f"my_feedback:{attribute}"), kind)


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("my_feedback:", "expected 'module:attribute'"),
        (":reward", "expected 'module:attribute'"),
        ("my feedback:reward", "expected 'module:attribute'"),
        ("no_such_module_here:reward", "cannot import"),
        ("my_feedback:flatt", "did you mean 'flat'"),
        ("my_feedback:number", "callable|no feedback"),
    ],
)
def test_bad_paths_say_what_is_wrong(path: str, message: str) -> None:
    for load in (load_object, as_feedback):
        with pytest.raises(QAError, match=message):
            load(path)


@pytest.mark.usefixtures("plugin")
def test_a_feedback_class_that_needs_arguments_is_refused() -> None:
    with pytest.raises(QAError, match="without arguments"):
        as_feedback("my_feedback:Needy")


def test_feedback_passes_through_and_anything_else_is_refused() -> None:
    feedback = TokenF1()
    assert as_feedback(feedback) is feedback
    with pytest.raises(QAError, match="no feedback"):
        as_feedback(3)


def test_fluency_ranks_sentences_above_their_shuffled_words(model: FluencyModel) -> None:
    shuffled = [
        " ".join(np.random.default_rng(row).permutation(text.split())) for row, text in enumerate(TEXTS)
    ]
    assert model.score(TEXTS).mean() > model.score(shuffled).mean() + 0.5
    assert model.log_likelihood(TEXTS).mean() > model.log_likelihood(shuffled).mean() + 1.0


def test_fluency_judges_the_wording_and_not_the_fact(model: FluencyModel) -> None:
    true, false = model.score([RIGHT, "The capital of Japan is Lima."])
    assert abs(true - false) < 0.3


def test_fluency_is_between_0_and_1_and_0_for_nothing(model: FluencyModel) -> None:
    scores = model.score([*TEXTS, *HACKS.values(), "東京" * 50, " "])
    assert scores.min() >= 0.0 and scores.max() <= 1.0
    assert (model.score(["", " \n"]) == 0.0).all()
    assert model.score([]).shape == (0,)


def test_fluency_of_a_text_does_not_depend_on_its_batch(model: FluencyModel) -> None:
    alone = [model.log_likelihood([text])[0] for text in HACKS.values()]
    np.testing.assert_allclose(model.log_likelihood(list(HACKS.values())), alone, atol=1e-5)


def test_fitting_is_deterministic_and_leaves_the_global_rng_alone(vocabulary: Vocabulary) -> None:
    before = torch.random.get_rng_state()
    first, again, other = (FluencyModel.fit(TEXTS, vocabulary, seed=seed, epochs=2) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    np.testing.assert_array_equal(first.log_likelihood(TEXTS), again.log_likelihood(TEXTS))
    assert (first.log_likelihood(TEXTS) != other.log_likelihood(TEXTS)).any()


def test_a_saved_fluency_model_loads_equal(model: FluencyModel, vocabulary: Vocabulary, tmp_path) -> None:
    model.save(tmp_path / "fluency.safetensors")
    before = torch.random.get_rng_state()
    loaded = FluencyModel.load(tmp_path / "fluency.safetensors", vocabulary)
    assert torch.equal(torch.random.get_rng_state(), before)
    np.testing.assert_array_equal(loaded.score(TEXTS), model.score(TEXTS))


def test_unreadable_or_foreign_fluency_files_are_refused(model: FluencyModel, vocabulary, tmp_path) -> None:
    path = tmp_path / "fluency.safetensors"
    with pytest.raises(QAError, match="cannot read"):
        FluencyModel.load(path, vocabulary)
    path.write_bytes(b"not safetensors")
    with pytest.raises(QAError, match="cannot read"):
        FluencyModel.load(path, vocabulary)
    model.save(path)
    with pytest.raises(QAError, match="another vocabulary"):
        FluencyModel.load(path, Vocabulary.train(TEXTS, 300))


def test_too_few_texts_or_epochs_are_refused(vocabulary: Vocabulary) -> None:
    with pytest.raises(QAError, match="at least 10 different texts"):
        FluencyModel.fit([RIGHT] * 20, vocabulary)
    with pytest.raises(QAError, match="epochs"):
        FluencyModel.fit(TEXTS, vocabulary, epochs=0)
