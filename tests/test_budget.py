from __future__ import annotations

import json
import math
import sys
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qa_env.errors import QAError
from qa_env.feedback.budget import ADAPTIVE, PACES, SCHEDULES, WINDOW, Budget, BudgetConfig

steady = settings(derandomize=True, deadline=None, database=None)
NAMES = st.sampled_from(sorted(SCHEDULES))
PROGRESS = st.floats(0, 1)
LABELS = st.integers(0, 2000)
CONFIGS = st.builds(BudgetConfig, share=st.floats(0.01, 1), schedule=NAMES, initial=PROGRESS)


@pytest.fixture
def schedule_of(monkeypatch: pytest.MonkeyPatch):
    """Makes a config with a schedule of one's own."""

    def make(function, **fields) -> BudgetConfig:
        module = types.ModuleType("my_schedules")
        module.mine = function
        monkeypatch.setitem(sys.modules, "my_schedules", module)
        return BudgetConfig(share=1.0, initial=0.0, schedule="my_schedules:mine", **fields)

    return make


def run(budget: Budget, steps: int, finished: int = 1000) -> list[int]:
    """Labels asked for after each of so many rollouts, if all that is allowed is asked for."""
    asked = []
    for step in range(1, steps + 1):
        budget.spend(budget.allowed(step / steps, finished))
        asked.append(budget.asked)
    return asked


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_rises_from_0_to_1(name: str) -> None:
    shares = [SCHEDULES[name](step / 100) for step in range(101)]
    assert shares[0] == 0.0 and shares[-1] == pytest.approx(1.0)
    assert (np.diff(shares) >= 0).all()


@pytest.mark.parametrize(
    ("name", "rate"),
    [("hyperbolic", lambda p: 1 / (1 + 10 * p)), ("inverse-quadratic", lambda p: 1 / (1 + 100 * p**2))],
)
def test_a_decaying_schedule_is_the_integral_of_its_rate(name: str, rate) -> None:
    edges = np.linspace(0, 1, 10_001)
    middles = rate((edges[1:] + edges[:-1]) / 2)
    integral = np.concatenate([[0], np.cumsum(middles)]) / middles.sum()
    assert [SCHEDULES[name](p) for p in edges] == pytest.approx(integral, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("constant", [25, 50, 75, 100]),
        ("hyperbolic", [52, 74, 89, 100]),
        ("inverse-quadratic", [80, 93, 97, 100]),
        ("front-loaded", [100, 100, 100, 100]),
        ("adaptive", [25, 50, 75, 100]),
    ],
)
def test_labels_asked_for_after_each_quarter_of_training(name: str, asked: list[int]) -> None:
    assert run(Budget(100, BudgetConfig(1.0, name, 0.0)), 4) == asked


def test_initial_labels_come_first_and_the_schedule_spreads_the_others() -> None:
    budget = Budget(100, BudgetConfig(0.5, "constant", 0.2))
    assert budget.initial == 20
    budget.spend(20)
    assert budget.initial == 0 and budget.allowed(0.0, 1000) == 0
    assert run(budget, 4) == [40, 60, 80, 100]


def test_no_more_than_the_share_of_a_rollout_is_asked_about_but_one_may_be() -> None:
    budget = Budget(1000, BudgetConfig(0.29, "front-loaded", 0.0))
    assert [budget.allowed(1.0, finished) for finished in (0, 1, 3, 10, 100)] == [0, 1, 1, 2, 29]


def test_what_is_too_little_for_a_query_of_several_labels_is_kept_for_a_later_rollout() -> None:
    budget, queries = Budget(12, BudgetConfig(0.1, "constant", 0.0)), list[int]()
    for rollout in range(12):
        queries.append(budget.allowed((rollout + 1) / 12, 10, needed=3))
        budget.spend(3 * queries[-1])
    assert queries == [0, 0, 1] * 4 and budget.left == 0
    assert Budget(11, BudgetConfig(0.5, "constant", 0.0)).allowed(1.0, 100, needed=2) == 5


@steady
@given(LABELS, CONFIGS, st.lists(st.tuples(PROGRESS, st.integers(0, 300), PROGRESS, PROGRESS), max_size=20))
def test_a_budget_is_never_overspent(labels: int, config: BudgetConfig, steps) -> None:
    budget = Budget(labels, config)
    budget.spend(budget.initial)
    for progress, finished, skipped, brier in steps:
        allowed = budget.allowed(progress, finished)
        assert 0 <= allowed <= min(budget.left, finished, max(1, config.share * finished + 1e-9))
        budget.spend(allowed)
        budget.refund(int(skipped * budget.open))
        budget.receive(budget.open // 2)
        budget.observe(brier)
        assert budget.asked + budget.left == labels and 0 <= budget.given <= budget.asked


@steady
@given(LABELS, CONFIGS, st.lists(PROGRESS, max_size=10).map(sorted))
def test_what_is_allowed_rises_with_progress_and_all_is_at_the_end(
    labels: int, config: BudgetConfig, steps
) -> None:
    budget = Budget(labels, config)
    allowed = [budget.allowed(progress, 100_000_000) for progress in steps]
    assert allowed == sorted(allowed)
    assert budget.allowed(1.0, 100_000_000) == labels


@steady
@given(LABELS, CONFIGS, st.lists(st.tuples(PROGRESS, PROGRESS), max_size=80).map(sorted))
def test_a_budget_goes_on_from_its_state_as_if_nothing_had_happened(
    labels: int, config: BudgetConfig, steps
) -> None:
    whole, resumed = Budget(labels, config), Budget(labels, config)
    for progress, brier in steps:
        loaded = Budget(labels, config)
        loaded.load_state(json.loads(json.dumps(resumed.state())))
        resumed = loaded
        for budget in (whole, resumed):
            budget.observe(brier)
            budget.spend(budget.allowed(progress, 100))
            budget.receive(budget.open // 2)
            budget.refund(budget.open // 3)
    assert resumed.state() == whole.state()
    assert (resumed.asked, resumed.given, resumed.left) == (whole.asked, whole.given, whole.left)


def test_a_skip_does_not_spend_budget() -> None:
    budget = Budget(10, BudgetConfig(1.0, "constant", 1.0))
    budget.spend(budget.initial)
    budget.receive(4)
    budget.refund(6)
    assert (budget.asked, budget.given, budget.open, budget.left) == (4, 4, 0, 6)
    assert budget.allowed(0.5, 100) == 6


def test_what_was_not_asked_in_time_may_be_asked_later() -> None:
    budget = Budget(100, BudgetConfig(1.0, "constant", 0.0))
    assert budget.allowed(0.2, 5) == 5
    assert budget.allowed(0.4, 1000) == 40


def test_progress_beyond_its_ends_means_its_ends_and_going_back_takes_nothing_away() -> None:
    for name in SCHEDULES:
        budget = Budget(100, BudgetConfig(1.0, name, 0.0))
        assert [budget.allowed(progress, 100) for progress in (-0.5, 1.01, 0.5)] == [0, 100, 100]


def test_the_adaptive_schedule_asks_more_while_the_reward_model_is_worse_than_it_was() -> None:
    asked = {}
    for name, brier in {"worse": 0.3, "same": 0.2, "better": 0.1}.items():
        budget = Budget(1000, BudgetConfig(1.0, ADAPTIVE, 0.0))
        budget.observe([0.2] * 500)
        budget.observe([brier] * 100)
        asked[name] = run(budget, 10)
    assert asked["same"] == list(range(100, 1001, 100))
    for step in range(9):
        assert asked["worse"][step] > asked["same"][step] > asked["better"][step]
    assert asked["worse"][-1] == asked["better"][-1] == 1000


def test_only_the_adaptive_schedule_heeds_the_reward_model() -> None:
    for name in set(SCHEDULES) - {ADAPTIVE}:
        budgets = [Budget(100, BudgetConfig(1.0, name, 0.0)) for _ in range(2)]
        budgets[0].observe([0.0] * 100 + [1.0] * 100)
        assert run(budgets[0], 7) == run(budgets[1], 7)


def test_the_pace_of_the_adaptive_schedule_does_not_depend_on_the_length_of_rollouts() -> None:
    asked = []
    for steps in (10, 1000):
        budget = Budget(1000, BudgetConfig(1.0, ADAPTIVE, 0.0))
        budget.observe([0.1] * 200 + [0.3] * 100)
        asked.append(run(budget, steps)[steps // 2 - 1])
    assert asked[0] == pytest.approx(asked[1], abs=1)


def test_the_pace_waits_for_a_window_of_labels_and_is_bounded() -> None:
    budget = Budget(10, BudgetConfig(schedule=ADAPTIVE))
    assert budget.pace == 1.0
    for count in range(WINDOW):
        budget.observe(float(count % 2))
        assert budget.pace == pytest.approx(1.0)
    budget.observe(np.zeros(1000))
    assert budget.pace == PACES[0]
    budget.observe(np.ones(100))
    assert budget.pace == PACES[1]


def test_a_model_that_never_errs_leaves_the_pace_alone() -> None:
    budget = Budget(10, BudgetConfig(schedule=ADAPTIVE))
    budget.observe(np.zeros(100))
    assert budget.pace == 1.0


def test_a_schedule_of_ones_own_is_made_monotone_and_clipped(schedule_of) -> None:
    budget = Budget(100, schedule_of(lambda p: {0.1: -3.0, 0.2: 0.5, 0.3: 0.2, 0.4: np.float32(7.0)}[p]))
    assert [budget.allowed(p, 1000) for p in (0.1, 0.2, 0.3, 0.4)] == [0, 50, 50, 100]


@pytest.mark.parametrize("result", [math.nan, math.inf, None, "half", [0.5, 0.6]])
def test_a_schedule_that_returns_no_finite_number_is_refused(schedule_of, result) -> None:
    budget = Budget(100, schedule_of(lambda p: result))
    with pytest.raises(QAError, match=r"'my_schedules:mine' at 0.25 must be a finite number"):
        budget.allowed(0.25, 10)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"share": 0.0}, "budget.share"),
        ({"share": 1.1}, "budget.share"),
        ({"share": math.nan}, "budget.share"),
        ({"initial": -0.1}, "budget.initial"),
        ({"initial": 1.1}, "budget.initial"),
        ({"schedule": "hyperbola"}, "unknown schedule 'hyperbola': did you mean 'hyperbolic'"),
        ({"schedule": "??"}, "Names are constant, hyperbolic"),
        ({"schedule": "no_such_module:rate"}, "cannot import"),
    ],
)
def test_bad_settings_are_refused(fields: dict, message: str) -> None:
    with pytest.raises(QAError, match=message.replace("?", r"\?")):
        BudgetConfig(**fields)


def test_a_negative_number_of_labels_is_refused() -> None:
    with pytest.raises(QAError, match="0 or more, got -1"):
        Budget(-1, BudgetConfig())


def test_what_cannot_be_is_not_counted() -> None:
    budget = Budget(5, BudgetConfig())
    for count, labels in [(budget.spend, 6), (budget.spend, -1), (budget.receive, 1), (budget.refund, 1)]:
        with pytest.raises(QAError, match="a number of labels"):
            count(labels)
    for brier in (-0.1, math.nan, [0.1, math.inf]):
        with pytest.raises(QAError, match="Brier"):
            budget.observe(brier)
    with pytest.raises(QAError, match="progress"):
        budget.allowed(math.nan, 10)
    assert budget.state() == Budget(5, BudgetConfig()).state()


def test_a_state_of_something_else_is_refused() -> None:
    budget = Budget(5, BudgetConfig())
    with pytest.raises(QAError, match="must hold asked, given"):
        budget.load_state({"asked": 1})
    with pytest.raises(QAError, match="'mean' must be a finite number"):
        budget.load_state({**budget.state(), "mean": math.nan})


def test_a_budget_cut_below_what_was_asked_has_nothing_left() -> None:
    long = Budget(100, BudgetConfig(initial=1.0))
    long.spend(50)
    short = Budget(40, BudgetConfig(initial=1.0))
    short.load_state(long.state())
    assert (short.left, short.initial, short.allowed(1.0, 1000)) == (0, 0, 0)
