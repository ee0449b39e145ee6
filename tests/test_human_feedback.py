"""People in the loop of a tiny PPO, with a real store: what is asked, what labels do, and when."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import MAX_ANSWER, MAX_SOURCE
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback, CallbackList

from agents.asking import AskConfig, Asker, Finished
from agents.augmentation import Augmentation, AugmentationConfig
from agents.buffers import AnswerRolloutBuffer
from agents.decoding import Limits
from agents.guards import GuardConfig
from agents.human_feedback import HumanFeedback
from agents.reward_data import RewardData, render
from agents.reward_fitting import fit_reward_model
from agents.reward_model import RewardModel, RewardModelConfig
from agents.routing import RoutedFeedback
from agents.simulated_people import SimulatedPeople
from agents.vec_env import QAVecEnv
from policies import LMActorCriticPolicy
from policies.language_model import LSTMAttentionLM
from qa_env.datasets import QAExample
from qa_env.errors import QAError
from qa_env.feedback import FunctionFeedback
from qa_env.feedback.annotator_config import AnnotatorConfig
from qa_env.feedback.annotators import SimulatedAnnotator
from qa_env.feedback.budget import Budget, BudgetConfig
from qa_env.feedback.labels import Correction, Judgement, Label, Rating, Skip
from qa_env.feedback.store import AnswerRecord, FeedbackEvent, Query, Store
from qa_env.vector_env import QAVectorEnv
from qa_env.vocabulary import Vocabulary

NewTask = Callable[..., tuple[Any, dict[str, Any]]]
LANES, STEPS = 6, 16
ROLLOUT = LANES * STEPS
LIMITS = Limits(MAX_SOURCE, MAX_ANSWER)
CALM = GuardConfig(max_gap=9.0, max_length_correlation=9.0, least_distinct=0.0)


def worth(examples: Sequence[QAExample], answers: Sequence[str]) -> list[float]:
    """Long answers are good."""
    return [min(len(answer) / 25, 1.0) for answer in answers]


@dataclass
class Fitter:
    """Fits small models, and notes to how many judgements."""

    lm: LSTMAttentionLM
    vocabulary: Vocabulary
    config: RewardModelConfig = field(default_factory=lambda: RewardModelConfig(folds=2, members=2, epochs=1))
    limits: Limits = LIMITS
    least_labels: int = 1
    fits: list[int] = field(default_factory=list)
    corrected: list[str] = field(default_factory=list)

    def __call__(
        self,
        judgements: Sequence[Judgement],
        records: Mapping[str, AnswerRecord],
        corrected: Sequence[AnswerRecord],
        previous: RewardModel | None,
    ) -> RewardModel:
        self.fits.append(len(judgements))
        self.corrected = [record.text for record in corrected]
        data = RewardData.from_judgements(judgements, records, self.vocabulary, LIMITS)
        nothing = np.zeros((0, MAX_SOURCE), np.int64), np.zeros((0, MAX_ANSWER), np.int64)
        unchanged = Augmentation(self.vocabulary, AugmentationConfig(0, 0))
        return fit_reward_model(
            data, nothing, self.lm, unchanged, self.config, self.vocabulary, LIMITS, 0, previous
        )


@dataclass
class Loop:
    """A policy, and the people that its rollouts are shown to."""

    model: PPO
    people: HumanFeedback
    store: Store
    fitter: Fitter

    def learn(self, rollouts: int, *others: BaseCallback) -> None:
        self.model.learn(rollouts * ROLLOUT, CallbackList([self.people, *others]))

    def end_rollout(self, answers: Sequence[Finished], progress: float) -> None:
        """Only what happens at the end of a rollout, without a policy that writes."""
        self.model.num_timesteps, self.model._total_timesteps = round(2520 * progress), 2520
        self.people._answers = list(answers)
        self.people.locals = {}
        self.people.on_rollout_end()


@pytest.fixture
def new_loop(new_task: NewTask, vocabulary: Vocabulary, tmp_path: Path) -> Iterator[Callable[..., Loop]]:
    opened: list[Store] = []

    def new(
        *annotators: AnnotatorConfig,
        labels: int = 12,
        initial: float = 0.25,
        ask: Mapping[str, Any] | None = None,
        model: Mapping[str, Any] | None = None,
        path: str = "feedback.db",
        guards: GuardConfig = CALM,
        truth: Callable[..., list[float]] = worth,
    ) -> Loop:
        lm, task = new_task("trained")
        routed = RoutedFeedback()
        env = QAVecEnv(QAVectorEnv(LANES, feedback=routed, samples_per_question=2, **task))
        ppo = PPO(
            LMActorCriticPolicy, env, n_steps=STEPS, batch_size=32, gamma=1.0, n_epochs=1, seed=0,
            policy_kwargs={"lm": lm}, rollout_buffer_class=AnswerRolloutBuffer,
        )  # fmt: skip
        store = Store(tmp_path / path, vocabulary.fingerprint)
        opened.append(store)
        examples = {example.id: example for example in task["data"]}
        named = [SimulatedAnnotator(f"simulated-{n}", config, n) for n, config in enumerate(annotators)]
        simulated = SimulatedPeople(named, FunctionFeedback(truth, "truth"), examples) if annotators else None
        config = AskConfig(annotators="people", **{"refits": 2, **(ask or {})})
        budget = Budget(labels, BudgetConfig(share=0.5, schedule="constant", initial=initial))
        fitter = Fitter(
            copy.deepcopy(lm),
            vocabulary,
            RewardModelConfig(**{"folds": 2, "members": 2, "epochs": 1, **(model or {})}),
        )
        asker = Asker(config, task["data"], np.random.default_rng(0))
        people = HumanFeedback(asker, budget, store, routed, fitter, guards, simulated)
        people.init_callback(ppo)
        ppo._setup_learn(1)
        return Loop(ppo, people, store, fitter)

    yield new
    for store in opened:
        store.close()


def first(number: int, of: str = "first") -> list[Finished]:
    return [Finished(n % 20, f"{of} {n} " + "x" * (n % 7), -1, -1, np.nan, np.nan) for n in range(number)]


class Check(BaseCallback):
    """Behind the people: what the rollout wrote, and what its buffer holds then.

    With labels that come at once, those of a rollout are about its answers.
    """

    def __init__(self, loop: Loop, at_once: bool = True) -> None:
        super().__init__()
        self.at_once = at_once
        self.loop, self.cursor, self.asked = loop, loop.people.cursor, loop.people.budget.asked
        self.corrected = self.rollouts = 0
        self.written: list[tuple[str, str, int, int, float]] = []

    def _on_step(self) -> bool:
        for lane in np.flatnonzero(self.locals["dones"]).tolist():
            info = self.locals["infos"][lane]
            example = self.loop.people.asker.examples[info["index"]]
            place = self.locals["rollout_buffer"].pos, lane, float(self.locals["rewards"][lane])
            self.written.append((example.id, info["answer"], *place))
        return True

    def _on_rollout_end(self) -> None:
        budget, store, written = self.loop.people.budget, self.loop.store, self.written
        self.rollouts, self.written = self.rollouts + 1, []
        assert budget.asked <= budget.labels and budget.asked - self.asked <= len(written) // 2
        self.asked = budget.asked
        events = store.events(self.cursor)
        self.cursor = events[-1].seq if events else self.cursor
        texts = {(example, text) for example, text, *_ in written}
        about = {answer for event in events for answer in event.answers}
        for record in store.answers(about).values() if self.at_once else ():
            assert (record.example_id, record.text) in texts
            assert record.step is not None and record.step <= self.model.num_timesteps
        self._check_rewards(written)

    def _check_rewards(self, written: Sequence[tuple[str, str, int, int, float]]) -> None:
        """A label that is there counts in the rollout at once; nothing else changes."""
        routed, buffer = self.loop.people.routed, self.loop.model.rollout_buffer
        assert isinstance(buffer, AnswerRolloutBuffer)
        by_id = {example.id: example for example in self.loop.people.asker.examples}
        expected = np.zeros((STEPS, LANES))
        for example, text, step, lane, paid in written:
            about = [by_id[example]], [text]
            labelled = routed.labelled_of(*about)[0]
            expected[step, lane] = (
                routed.score(*about, [np.random.default_rng(0)]).reward[0] if labelled else paid
            )
            self.corrected += labelled and paid != expected[step, lane]
        np.testing.assert_allclose(buffer.raw_rewards, expected, atol=1e-6)
        finals = sorted(reward for *_, reward in buffer.finished())
        np.testing.assert_allclose(
            finals, sorted(expected[step, lane] for _, _, step, lane, _ in written), atol=1e-6
        )


def test_labels_correct_the_rewards_of_their_own_rollout_and_the_budget_holds(new_loop: Any) -> None:
    loop = new_loop(AnnotatorConfig(), model={"least_labels": 999})
    loop.people.prepare(first(30), 0.0)
    assert loop.store.labels_given() == loop.people.budget.given == loop.people.budget.asked == 3
    check = Check(loop)
    loop.learn(6, check)
    assert check.rollouts == 6 and check.corrected > 4
    budget = loop.people.budget
    assert 9 < budget.asked == budget.given == loop.store.labels_given() <= 12
    assert loop.people.routed.model is None  # never trusted


def test_the_budget_is_spent_to_the_last_label_and_no_further(new_loop: Any) -> None:
    loop = new_loop(AnnotatorConfig(), labels=10)
    loop.people.prepare(first(30), 0.0)
    for rollout in range(8):
        loop.end_rollout(first(12, f"rollout {rollout}"), min(1.0, (rollout + 1) / 6))
        assert loop.store.labels_given() == loop.people.budget.given <= 10
    assert loop.store.labels_given() == 10 and loop.people.budget.left == 0


def test_answers_that_come_again_cost_nothing_again(new_loop: Any) -> None:
    loop = new_loop(AnnotatorConfig(), labels=20)
    loop.people.prepare(first(8), 0.0)
    for progress in (0.3, 0.6, 0.9, 1.0):
        loop.end_rollout(first(8), progress)
    assert loop.people.budget.asked == loop.people.budget.given == loop.store.labels_given() == 8


def test_queries_of_several_labels_are_asked_where_a_rollout_has_room_for_one_label_only(
    new_loop: Any,
) -> None:
    loop = new_loop(*[AnnotatorConfig()] * 3, labels=12, initial=0.0, ask={"needed": 3})
    for rollout in range(12):
        loop.end_rollout(first(2, f"rollout {rollout}"), (rollout + 1) / 12)
        assert loop.people.budget.asked == 3 * ((rollout + 1) // 3)
    assert loop.people.budget.given == loop.store.labels_given() == 12


class Asked(BaseCallback):
    """How many labels were asked for by the end of each rollout."""

    def __init__(self, loop: Loop) -> None:
        super().__init__()
        self.loop, self.labels = loop, list[int]()

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self.labels.append(self.loop.people.budget.asked)


def test_what_is_asked_keeps_pace_with_training(new_loop: Any) -> None:
    loop = new_loop(AnnotatorConfig(), labels=12, initial=0.0)
    asked = Asked(loop)
    loop.learn(4, asked)
    assert asked.labels == [3, 6, 9, 12]


@pytest.mark.parametrize("needed", [1, 2])
def test_what_one_skips_and_another_labels_costs_one_label(new_loop: Any, needed: int) -> None:
    skipper, honest = AnnotatorConfig(skip=1.0), AnnotatorConfig()
    loop = new_loop(skipper, honest, honest, labels=12, ask={"needed": needed})
    loop.people.prepare(first(30), 0.0)
    for rollout in range(4):
        loop.end_rollout(first(12, f"rollout {rollout}"), (rollout + 1) / 4)
        assert loop.people.budget.open == 0
    assert loop.store.stats().skips > 2
    assert loop.people.budget.asked == loop.people.budget.given == loop.store.labels_given() == 12


@pytest.mark.parametrize("skippers", [1, 2])
def test_skips_are_refunded_and_are_no_labels(new_loop: Any, skippers: int) -> None:
    loop = new_loop(*[AnnotatorConfig(skip=1.0)] * skippers)
    loop.people.prepare(first(30), 0.0)
    for rollout in range(3):
        loop.end_rollout(first(12, f"rollout {rollout}"), (rollout + 1) / 3)
    assert loop.people.budget.asked == loop.people.budget.given == 0 and loop.people.budget.left == 12
    assert loop.store.stats().skips >= 3 * skippers
    assert loop.fitter.fits == [] and loop.people.version is None


def test_what_one_skips_stays_charged_while_another_may_label_it(new_loop: Any) -> None:
    loop = new_loop()
    loop.store.add_rater("ada")
    loop.store.add_rater("grace")

    def answer(rater: str, label: Label) -> Budget:
        query = loop.store.lease(rater)
        loop.store.submit(FeedbackEvent.new(query.id, rater, label))
        loop.people._take_in([])
        budget: Budget = loop.people.budget
        return budget

    loop.people._take_in(loop.people._chosen(first(30), 1, 0))
    budget = answer("ada", Skip())
    assert (budget.asked, budget.given) == (1, 0)
    budget = answer("grace", Skip())
    assert (budget.asked, budget.given) == (0, 0)
    loop.store.add_rater("joan")  # who comes when the label is written off
    budget = answer("joan", Rating(4, 4))
    assert (budget.asked, budget.given) == (1, 1)


def test_nobody_answers_and_training_goes_on(new_loop: Any) -> None:
    loop = new_loop()
    loop.people.prepare(first(30), 0.0)
    check = Check(loop)
    loop.learn(4, check)
    assert check.rollouts == 4 and check.corrected == 0
    assert loop.people.budget.given == 0 and loop.people.budget.open == loop.store.open_queries() > 6
    assert loop.fitter.fits == [] and loop.people.routed.aggregate is None


class Person(BaseCallback):
    """SIMULATED: somebody with a connection of their own who rates, behind each rollout, all that is open.

    Half of the ratings are corrected one rollout later.
    """

    def __init__(self, path: Path, stars: int = 5) -> None:
        super().__init__()
        self.path, self.stars = path, stars
        self.given: dict[str, FeedbackEvent] = {}
        self.edited = 0
        with Store(path) as store:
            store.add_rater("grace", "expert")

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self.work()

    def work(self) -> None:
        with Store(self.path) as store:
            for event in list(self.given.values())[::2]:
                if event.supersedes is None:
                    edit = FeedbackEvent.new(event.query, "grace", Rating(1, 1), supersedes=event.uuid)
                    store.submit(edit)
                    self.given[event.query], self.edited = edit, self.edited + 1
            while (query := store.lease("grace")) is not None:
                event = FeedbackEvent.new(query.id, "grace", Rating(self.stars, self.stars))
                store.submit(event)
                self.given[query.id] = event


def test_labels_that_come_later_are_taken_up_once_and_edits_replace_them(
    new_loop: Any, tmp_path: Path
) -> None:
    loop = new_loop(labels=20)
    loop.people.prepare(first(30), 0.0)
    person = Person(tmp_path / "feedback.db")
    given: list[int] = []
    for rollout in range(4):
        person.work()
        there = loop.store.labels_given()
        loop.end_rollout(first(12, f"rollout {rollout}"), (rollout + 1) / 4)
        assert loop.people.budget.given == there == len(person.given)
        given.append(there)
        aggregate = loop.people.routed.aggregate
        assert aggregate is not None and aggregate.raters["grace"].labels == there
    assert given == sorted(set(given)) and person.edited >= 3
    assert loop.people.budget.asked <= 20
    stars = {j.answers[0]: j.label.low for j in loop.store.judgements() if isinstance(j.label, Rating)}
    aggregate = loop.people.routed.aggregate
    quality = {n: np.mean([aggregate.quality[a].mean for a in stars if stars[a] == n]) for n in (1, 5)}
    assert quality[1] < quality[5]


def test_labels_that_people_give_between_rollouts_reach_a_policy_that_is_training(
    new_loop: Any, tmp_path: Path
) -> None:
    loop = new_loop(labels=20)
    loop.people.prepare(first(30), 0.0)
    person = Person(tmp_path / "feedback.db")
    loop.learn(5, Check(loop, at_once=False), person)
    assert loop.people.budget.given > 6 and person.edited > 2
    assert len(loop.fitter.fits) >= 1


def test_labels_of_other_queries_inform_and_cost_nothing(new_loop: Any, tmp_path: Path) -> None:
    other = new_loop()
    other.people.prepare(first(30, "other"), 0.0)
    Person(tmp_path / "feedback.db").work()
    loop = new_loop(labels=20)
    loop.end_rollout(first(12), 0.1)
    assert loop.people.budget.given == 0 and loop.people.routed.aggregate.raters["grace"].labels == 3


@pytest.mark.parametrize(("refits", "expected"), [(0, [6]), (1, [6, 24]), (3, [6, 12, 18, 24])])
def test_the_model_is_fitted_again_at_equal_numbers_of_new_labels(
    new_loop: Any, refits: int, expected: list[int]
) -> None:
    loop = new_loop(AnnotatorConfig(), labels=24, ask={"refits": refits})
    loop.people.prepare(first(30), 0.0)
    for rollout in range(9):
        loop.end_rollout(first(4, f"rollout {rollout}"), (rollout + 1) / 9)
    assert loop.people.budget.given == 24 and loop.fitter.fits == expected
    assert loop.people.version.version == len(expected)


def test_a_trusted_model_serves_and_an_untrusted_one_does_not(new_loop: Any) -> None:
    def about_rivers(examples: Sequence[QAExample], answers: Sequence[str]) -> list[float]:
        return [float("river" in answer) for answer in answers]

    answers = [
        Finished(n % 23, f"{('Asia', 'the river')[n % 2]} {n}", -1, -1, np.nan, np.nan) for n in range(100)
    ]
    settings = {"epochs": 6, "learning_rate": 1e-2, "folds": 3, "members": 3, "batch_size": 4}
    loop = new_loop(AnnotatorConfig(), labels=100, initial=0.9, model=settings, truth=about_rivers)
    loop.people.prepare(answers, 0.0)
    assert loop.people.version.trusted and loop.people.routed.model is loop.people.version
    untrusted = new_loop(
        AnnotatorConfig(), path="other.db", labels=20, initial=0.9, model={"least_labels": 999}
    )
    untrusted.people.prepare(answers, 0.0)
    assert untrusted.people.version is not None and untrusted.people.routed.model is None


def test_labelled_answers_are_given_out_with_their_rewards(new_loop: Any, vocabulary: Vocabulary) -> None:
    loop = new_loop(AnnotatorConfig())
    assert [len(column) for column in loop.people.labelled()] == [0, 0, 0]
    loop.people.prepare(first(30), 0.0)
    source, tokens, rewards = loop.people.labelled()
    assert source.shape == (3, MAX_SOURCE) and tokens.shape == (3, MAX_ANSWER)
    aggregate = loop.people.routed.aggregate
    said = loop.store.answers({judgement.answers[0] for judgement in loop.store.judgements()})
    expected = {
        render_one(text.text, vocabulary): 2 * aggregate.satisfies(id_) - 1 for id_, text in said.items()
    }
    found = {row.tobytes(): reward for row, reward in zip(tokens, rewards, strict=True)}
    assert found == pytest.approx(expected)


def render_one(text: str, vocabulary: Vocabulary) -> bytes:
    return bytes(render([QAExample("e", "?")], [text], vocabulary, LIMITS)[1][0].tobytes())


def test_corrections_teach_the_text_and_the_comparison(new_loop: Any, tmp_path: Path) -> None:
    loop = new_loop(labels=20, initial=0.3, ask={"kind": "correction"})
    loop.people._take_in(loop.people._chosen(first(30), 6, 0))
    with Store(tmp_path / "feedback.db") as store:
        store.add_rater("grace")
        for n in range(6):
            query = store.lease("grace")
            assert query is not None
            store.submit(FeedbackEvent.new(query.id, "grace", Correction(f"It is {n}.") if n else Skip()))
    loop.people._take_in([])
    loop.people._refit()
    assert loop.fitter.corrected == [f"It is {n}." for n in range(1, 6)] and loop.fitter.fits == [10]
    assert loop.people.budget.given == 5 and loop.people.budget.asked == 5


def test_a_label_of_an_expert_counts_for_more(new_loop: Any) -> None:
    quality = {}
    for role in ("user", "expert"):
        loop = new_loop(path=f"{role}.db")
        loop.store.add_rater("ann", role)
        loop.people._take_in(loop.people._chosen(first(1), 1, 0))
        query = loop.store.lease("ann")
        loop.store.submit(FeedbackEvent.new(query.id, "ann", Rating(5, 5)))
        loop.people._take_in([])
        quality[role] = loop.people.routed.aggregate.quality[query.answers[0].id].mean
    assert quality["expert"] > quality["user"] + 0.05


def test_a_store_of_other_questions_is_refused(new_loop: Any) -> None:
    loop = new_loop()
    elsewhere = Query("rating", (AnswerRecord("Who is asked elsewhere?", "Nobody."),))
    loop.store.add_rater("ann")
    loop.store.submit(FeedbackEvent.new(loop.store.ask([elsewhere])[0], "ann", Rating(4, 4)))
    with pytest.raises(QAError, match=r"labels of 1 questions, and none is of this run's data"):
        loop.people.prepare(first(6), 0.0)


def test_an_alarm_takes_policy_and_model_back(new_loop: Any) -> None:
    loop = new_loop(AnnotatorConfig(), guards=GuardConfig(max_length_correlation=0.5))
    policy = loop.model.policy
    loop.end_rollout(first(12), 0.1)  # rewards are unknown there: no alarm
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.1)
    loop.people.routed.model = object()
    by_length = [Finished(n, "word " * n, -1, -1, float(n), np.nan) for n in range(1, 9)]
    loop.end_rollout(by_length, 0.2)
    assert all(torch.equal(value, before[name]) for name, value in policy.state_dict().items())
    assert loop.people.routed.model is None and loop.people.guards.rolled_back == 1


def test_a_run_that_goes_on_from_a_checkpoint_asks_and_learns_the_same(new_loop: Any, tmp_path: Path) -> None:
    crowd = (AnnotatorConfig(noise=0.2, skip=0.2), AnnotatorConfig(lapse=0.2))
    one = new_loop(*crowd, labels=30)
    one.people.prepare(first(30), 0.0)
    one.end_rollout(first(12, "early"), 0.2)
    one.store.close()
    shutil.copy(tmp_path / "feedback.db", tmp_path / "copy.db")
    state = json.loads(json.dumps(one.people.state()))
    other = new_loop(*crowd, labels=30, path="copy.db")
    other.people.load_state(state, one.people.models(), None)
    assert json.loads(json.dumps(other.people.state())) == state
    for loop in (one, other):
        for rollout in range(3):
            loop.end_rollout(first(12, f"rollout {rollout}"), 0.4 + 0.3 * rollout)
    assert other.store.judgements() == one.store.judgements() and one.people.budget.given > 20
    states = [loop.people.state() for loop in (one, other)]
    for each in states:
        each["people"] = each["people"]["annotators"]  # the rest are times
    assert json.dumps(states[0]) == json.dumps(states[1])
    versions = [loop.people.version for loop in (one, other)]
    weights = [torch.nn.utils.parameters_to_vector(v.network.parameters()) for v in versions]
    assert torch.equal(*weights)


# The buffer


class Rollout(BaseCallback):
    """Keeps the places of the answers' ends, and what the end of a rollout is computed from."""

    def __init__(self) -> None:
        super().__init__()
        self.places: list[tuple[int, int]] = []

    def _on_step(self) -> bool:
        lanes = np.flatnonzero(self.locals["dones"]).tolist()
        self.places += [(self.locals["rollout_buffer"].pos, lane) for lane in lanes]
        return True


COMPUTED = ("rewards", "raw_rewards", "returns", "advantages", "values", "log_probs", "actions", "_final")


@pytest.mark.parametrize("baseline", ["critic", "group", "leave_one_out", "group_normalised"])
@pytest.mark.parametrize("kl_coef", [0.0, 0.3])
def test_a_reward_that_comes_late_counts_as_if_it_had_been_there(
    new_loop: Any, baseline: str, kl_coef: float
) -> None:
    model = new_loop().model
    buffer = model.rollout_buffer
    buffer.baseline, buffer.kl_coef = baseline, kl_coef
    buffer.reference = copy.deepcopy(model.policy)
    with torch.no_grad():
        for parameter in buffer.reference.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    rollout = Rollout()
    _, callback = model._setup_learn(1000, rollout)
    model.collect_rollouts(model.env, callback, buffer, STEPS)
    places = np.array(rollout.places[::2])
    rewards = np.linspace(-1, 1, len(places))
    late, early = copy.deepcopy(buffer), copy.deepcopy(buffer)
    last = rollout.locals["values"], rollout.locals["dones"]
    late.regrade(places[:, 0], places[:, 1], rewards, *last)
    early.rewards = early.raw_rewards.copy()
    early.rewards[places[:, 0], places[:, 1]] = rewards
    early.compute_returns_and_advantage(*last)
    for name in COMPUTED:
        np.testing.assert_allclose(getattr(late, name), getattr(early, name), atol=1e-6, err_msg=name)
    assert late.kl == early.kl and not np.allclose(late.advantages, buffer.advantages)
    penalty = late.raw_rewards - late.rewards
    np.testing.assert_allclose(penalty, buffer.raw_rewards - buffer.rewards, atol=1e-6)
    assert (np.abs(penalty).max() > 1e-3) == (kl_coef > 0)
    others = np.ones(buffer.rewards.shape, dtype=bool)
    others[places[:, 0], places[:, 1]] = False
    np.testing.assert_array_equal(late.raw_rewards[others], buffer.raw_rewards[others])
    late.regrade(places[:, 0], places[:, 1], buffer.raw_rewards[places[:, 0], places[:, 1]], *last)
    for name in COMPUTED:
        np.testing.assert_allclose(getattr(late, name), getattr(buffer, name), atol=1e-6, err_msg=name)


def test_surprise_is_the_mean_of_what_the_tokens_of_an_answer_cost(new_loop: Any) -> None:
    model, rollout = new_loop().model, Rollout()
    _, callback = model._setup_learn(1000, rollout)
    model.collect_rollouts(model.env, callback, model.rollout_buffer, STEPS)
    buffer = model.rollout_buffer
    steps, lanes = np.array(rollout.places).T
    expected = []
    for step, lane in rollout.places:
        begin = max((s for s in range(step + 1) if buffer.episode_starts[s, lane]), default=0)
        expected.append(-buffer.log_probs[begin : step + 1, lane].mean())
    assert len(expected) > 8
    np.testing.assert_allclose(buffer.surprise(steps, lanes), expected, rtol=1e-5)
