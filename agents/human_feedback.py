"""People in the loop: queries go out when a rollout ends, labels that came refit the reward model."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Figure

from agents.asking import Asker, Finished
from agents.buffers import AnswerRolloutBuffer
from agents.calibration import calibration_plot
from agents.decoding import Limits
from agents.guards import GoodPair, GuardConfig, Guards, foretold
from agents.journal import Journal, Taken
from agents.reward_data import FloatArray, IntArray, render, with_corrections
from agents.reward_model import RewardModel
from agents.routing import RoutedFeedback
from agents.simulated_people import SimulatedPeople
from agents.stored_labels import LEARNING
from qa_env.datasets import QAExample
from qa_env.errors import QAError
from qa_env.feedback.aggregation import aggregate
from qa_env.feedback.budget import Budget
from qa_env.feedback.labels import Judgement, Skip, question_id
from qa_env.feedback.store import AnswerRecord, Query, Store, StoredEvent
from qa_env.vocabulary import Vocabulary

POLL = 1.0
"""Seconds between two looks into the store while the first labels are waited for."""


class Fit(Protocol):
    """Fits reward models; see `agents.people.RewardFitter`.

    Attributes:
        vocabulary: Of the language model.
        limits: Longest source and answer.
        least_labels: With fewer a model is not trusted.
    """

    vocabulary: Vocabulary
    limits: Limits
    least_labels: int

    def __call__(
        self,
        judgements: Sequence[Judgement],
        records: Mapping[str, AnswerRecord],
        corrected: Sequence[AnswerRecord],
        previous: RewardModel | None,
    ) -> RewardModel:
        """Fit a model to judgements, given the answers by id, the corrected answers and the model before."""
        ...


class HumanFeedback(BaseCallback):
    """Asks about a rollout's answers, takes up the labels in the store, and keeps the reward model fresh.

    Nothing here waits for a person. When a rollout ends, queries about some of its answers go into the store;
    whatever labels have come by then are read. A label of an answer that the rollout holds corrects its
    reward before the update; and after every ``1 / refits`` of the labels that come during training the
    reward model is fitted anew to all of them. A model that is no better than a constant does not serve.

    Args:
        asker: Chooses the queries.
        budget: How many, and when.
        store: Where queries and labels are.
        routed: The environment's feedback, which this keeps up to date.
        fit: Fits the reward model.
        guards: Watch for over-optimisation.
        people: Simulated annotators, who work when a rollout ends; None: others write into the store.
        journal: Keeps what was taken in when, for a run that goes on from a checkpoint; None: nothing does.
    """

    def __init__(
        self,
        asker: Asker,
        budget: Budget,
        store: Store,
        routed: RoutedFeedback,
        fit: Fit,
        guards: GuardConfig,
        people: SimulatedPeople | None,
        journal: Journal | None = None,
    ) -> None:
        super().__init__()
        self.asker, self.budget, self.store, self.routed, self.fit = asker, budget, store, routed, fit
        self.guards = Guards(guards)
        self.people = people
        self.journal = Journal(None) if journal is None else journal
        self.rollouts = 0  # ended so far
        self.cursor = 0
        self.fitted = 0  # labels that the present model was fitted to
        self.version: RewardModel | None = None  # the last one fitted, trusted or not
        self._answers: list[Finished] = []
        # Of each query: labels that may still come, and raters who have spoken.
        self._queries: dict[str, tuple[int, int]] = {}
        if people is not None:
            people.join(store)

    def prepare(self, answers: Sequence[Finished], wait: float) -> None:
        """Ask the first queries, before training, and fit the first reward model.

        Args:
            answers: Of the policy before training.
            wait: Seconds that people have; simulated ones need none.

        Raises:
            QAError: If the store has labels already, and none is about a question of this run.
        """
        self._check_known()
        self._take_in(self._chosen(answers, self.budget.initial // self.asker.config.needed, 0))
        until = time.monotonic() + wait
        while self.people is None and self.budget.open and time.monotonic() < until:
            time.sleep(POLL)
            self._take_in([])
        self._refit()

    def _check_known(self) -> None:
        said = {answer for judgement in self.store.judgements() for answer in judgement.answers}
        asked = {record.question_id for record in self.store.answers(said).values()}
        if asked and asked.isdisjoint(question_id(e.question, e.context) for e in self.asker.examples):
            raise QAError(
                f"the feedback store {self.store.database.name} has labels of {len(asked)} questions, "
                "and none is of this run's data: check --data and --feedback-store"
            )

    @property
    def trusted(self) -> bool:
        """Whether held-out labels confirm the last reward model: whether there is anything in the labels."""
        return self.version is not None and self.version.trusted

    def labelled(self) -> tuple[IntArray, IntArray, FloatArray]:
        """The answers that people have labelled: source ids, answer ids, rewards; a row an answer each."""
        said = dict.fromkeys(answer for judgement in self._judgements() for answer in judgement.answers)
        records = self.store.answers(said).values()
        examples = [QAExample(r.question_id, r.question, r.context, ()) for r in records]
        texts = [record.text for record in records]
        source, tokens = render(examples, texts, self.fit.vocabulary, self.fit.limits)
        rngs = np.random.default_rng(0).spawn(len(texts))
        return source, tokens, self.routed.score(examples, texts, rngs).reward

    def _on_step(self) -> bool:
        buffer = self.locals.get("rollout_buffer")
        step = buffer.pos if isinstance(buffer, AnswerRolloutBuffer) else 0
        infos: list[dict[str, Any]] = self.locals["infos"]
        for lane in np.flatnonzero(self.locals["dones"]).tolist():
            info, reward = infos[lane], float(self.locals["rewards"][lane])
            self._answers.append(Finished(info["index"], info["answer"], step, lane, reward, np.nan))
        return True

    def _on_rollout_end(self) -> None:
        answers, self._answers = self._with_surprise(self._answers), []
        self.rollouts += 1
        # Stable-Baselines3 notes its own progress only after this.
        progress = self.model.num_timesteps / self.model._total_timesteps
        number = self.budget.allowed(progress, len(answers), self.asker.config.needed)
        if self._take_in(self._chosen(answers, number, self.model.num_timesteps)):
            self._correct(answers)
        if self.budget.given - self.fitted >= self._due():
            self._refit()
        self._watch(answers)
        for name, value in (("asked", self.budget.asked), ("given", self.budget.given)):
            self.logger.record(f"people/{name}", value)
        self.logger.record("people/left", self.budget.left)

    def _due(self) -> float:
        """How many new labels there must be for the next fit; for the first, what may be trusted at all."""
        if self.version is None:
            return self.fit.least_labels
        refits, initial = self.asker.config.refits, self.budget.config.initial
        return max(round(self.budget.labels * (1 - initial) / refits), 1) if refits else float("inf")

    def _with_surprise(self, answers: list[Finished]) -> list[Finished]:
        """The answers with what the policy made of them, if the algorithm keeps that."""
        buffer = self.locals.get("rollout_buffer")
        if not answers or not isinstance(buffer, AnswerRolloutBuffer):
            return answers
        steps, lanes = np.array([(answer.step, answer.lane) for answer in answers]).T
        surprise = buffer.surprise(steps, lanes).tolist()
        return [answer._replace(nll=nll) for answer, nll in zip(answers, surprise, strict=True)]

    def _chosen(self, answers: Sequence[Finished], number: int, step: int) -> list[Query]:
        return self.asker.queries(answers, number, self.version, step)

    def _take_in(self, queries: Sequence[Query]) -> bool:
        """Ask, and read the labels that have come; whether there were any."""
        needed = self.asker.config.needed
        with self.store.transaction():  # a run that is killed has all of its simulated labels, or none
            if queries:
                self._queries |= dict.fromkeys(self.store.ask(queries), (needed, 0))
            events = self._events()
        self.budget.spend(needed * len(queries))
        if not events:
            return False
        fresh = [e for e in events if e.event.supersedes is None and e.purpose in LEARNING]
        self._settle(fresh)
        if self.trusted:
            self._probe([e.judgement for e in fresh if e.purpose == "uniform"])
        self.routed.aggregate = aggregate(self._judgements(), self.store.roles())
        return True

    def _settle(self, fresh: Sequence[StoredEvent]) -> None:
        """Count the labels that came, and take back those that no rater is left for, after skips.

        Labels of other queries than this run's cost nothing.
        """
        raters = sum(rater.disabled is None for rater in self.store.raters())
        for event in fresh:
            if event.event.query not in self._queries:
                continue
            wanted, spoken = self._queries[event.event.query]
            spoken += 1
            if isinstance(event.event.label, Skip):
                lost = max(wanted - max(raters - spoken, 0), 0)
                self.budget.refund(lost)
                wanted -= lost
            elif wanted:
                self.budget.receive(1)
                wanted -= 1
            elif self.budget.left:  # taken back before: a rater has joined since
                self.budget.spend(1)
                self.budget.receive(1)
            self._queries[event.event.query] = wanted, spoken

    def _events(self) -> list[StoredEvent]:
        """The events that are new; in a run that went back, those that were new at this place before."""
        before = self.journal.before(self.rollouts)
        # The journal is written first: its last line may be of a transaction that was undone.
        if before is not None and (not before.cursor or self.store.events(before.cursor - 1, 1)):
            events = [event for event in self.store.events(self.cursor) if event.seq <= before.cursor]
            self.cursor = before.cursor
            if self.people is not None and before.people is not None:
                self.people.load_state(before.people)
            return events
        if self.people is not None:
            self.people.work(self.store, time.time())
        events = self.store.events(self.cursor)
        self.cursor = events[-1].seq if events else self.cursor
        if events or self.rollouts:  # before training the store is looked at once a second
            people = None if self.people is None else self.people.state()
            self.journal.add(Taken(self.rollouts, self.cursor, people))
        return events

    def _judgements(self) -> list[Judgement]:
        return self.store.judgements(self.cursor, LEARNING)

    def _correct(self, answers: Sequence[Finished]) -> None:
        """Give the rollout's answers the rewards that they have now, labels taken into account."""
        buffer = self.locals.get("rollout_buffer")
        if not answers or not isinstance(buffer, AnswerRolloutBuffer):
            return
        known = self.routed.labelled_of(
            [self.asker.examples[a.example] for a in answers], [a.text for a in answers]
        )
        chosen = [answer for answer, is_known in zip(answers, known, strict=True) if is_known]
        if chosen:
            rewards = self._rewards(chosen)
            places = np.array([(a.step, a.lane) for a in chosen])
            buffer.regrade(places[:, 0], places[:, 1], rewards, self.locals["values"], self.locals["dones"])

    def _rewards(self, answers: Sequence[Finished]) -> NDArray[np.float64]:
        examples = [self.asker.examples[a.example] for a in answers]
        rngs = np.random.default_rng(0).spawn(len(answers))
        return self.routed.score(examples, [a.text for a in answers], rngs).reward

    def _refit(self) -> None:
        """Fit the reward model to all labels; serve with it if it may be trusted."""
        judgements = [j for j in self._judgements() if not isinstance(j.label, Skip)]
        said = dict.fromkeys(answer for judgement in judgements for answer in judgement.answers)
        judgements, records, corrected = with_corrections(judgements, self.store.answers(said))
        if len({record.question_id for record in records.values()}) < 2:
            return
        self.version = self.fit(judgements, records, corrected, self.version)
        self.fitted = self.budget.given
        if self.version.trusted:
            self.routed.model = self.version
        self._record_model(self.version)

    def _probe(self, fresh: Sequence[Judgement]) -> None:
        """Compare labels that no fit has seen with what the reward model makes of their answers."""
        assert self.version is not None
        records = self.store.answers(answer for judgement in fresh for answer in judgement.answers)
        predicted, said = foretold(self.version, fresh, records)
        if len(said):
            self.guards.probe(predicted, said)
            self.budget.observe((predicted - said) ** 2)

    def _watch(self, answers: Sequence[Finished]) -> None:
        """Measure the signs of over-optimisation; go back to the last good pair if one is too strong."""
        figures = self.guards.figures(answers)
        alarms = self.guards.alarms(figures)
        for name, value in figures.items():
            self.logger.record(f"guards/{name}", value)
        if not alarms:
            self.guards.keep(self.model.policy.state_dict(), self.routed.model)
        elif (good := self.guards.roll_back()) is not None:
            self.model.policy.load_state_dict(good.policy)
            self.routed.model = self.version = good.model
            buffer = self.locals.get("rollout_buffer")
            if isinstance(buffer, AnswerRolloutBuffer):
                buffer.advantages[:] = 0  # nothing is learned from what the rejected policy wrote
        self.logger.record("guards/rolled_back", self.guards.rolled_back)

    def _record_model(self, model: RewardModel) -> None:
        for name, value in model.calibration.figures().items():
            self.logger.record(f"reward_model/{name}", value)
        self.logger.record("reward_model/version", model.version)
        self.logger.record("reward_model/trusted", float(model.trusted))
        if len(model.calibration.said):
            self.logger.record(
                "reward_model/calibration", Figure(calibration_plot(model.calibration), close=True)
            )

    def models(self) -> dict[int, RewardModel]:
        """The reward models that `load_state` needs, by version."""
        good = self.guards.good
        kept = (self.version, self.routed.model, None if good is None else good.model)
        return {model.version: model for model in kept if model is not None}

    def state(self) -> dict[str, Any]:
        """For a checkpoint, fit for JSON; the labels themselves are in the store."""
        good = self.guards.good
        return {
            "rollouts": self.rollouts,
            "cursor": self.cursor,
            "fitted": self.fitted,
            "queries": self._queries,
            "budget": self.budget.state(),
            "asker": self.asker.state(),
            "guards": self.guards.state(),
            "people": None if self.people is None else self.people.state(),
            "models": {
                "last": number(self.version),
                "serving": number(self.routed.model),
                "good": number(None if good is None else good.model),
            },
        }

    def load_state(
        self,
        state: Mapping[str, Any],
        models: Mapping[int, RewardModel],
        good_policy: Mapping[str, Any] | None,
    ) -> None:
        """Go on from what `state` gave, with the reward models of then and the guards' last good policy."""
        self.rollouts, self.cursor, self.fitted = state["rollouts"], state["cursor"], state["fitted"]
        self._queries = {query: (wanted, spoken) for query, (wanted, spoken) in state["queries"].items()}
        self.budget.load_state(state["budget"])
        self.asker.load_state(state["asker"])
        if self.people is not None:
            self.people.load_state(state["people"])
        last, serving, good = (
            None if state["models"][name] is None else models[state["models"][name]]
            for name in ("last", "serving", "good")
        )
        self.version, self.routed.model = last, serving
        self.guards.load_state(state["guards"])
        self.guards.good = None if good_policy is None else GoodPair(good_policy, good)
        if self.cursor:
            self.routed.aggregate = aggregate(self._judgements(), self.store.roles())


def number(model: RewardModel | None) -> int | None:
    """A reward model's version, if there is one."""
    return None if model is None else model.version
