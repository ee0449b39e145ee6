"""SIMULATED people at the feedback store: they lease queries, take their time and submit labels.

To the store they are raters like any other. A feedback source tells them what answers are really worth; of
that nothing but the label is stored.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qa_env.datasets.example import QAExample
from qa_env.errors import QAError
from qa_env.feedback import labels
from qa_env.feedback.annotators import DAY, SimulatedAnnotator
from qa_env.feedback.base import Feedback
from qa_env.feedback.loading import score_checked
from qa_env.feedback.store import AnswerRecord, FeedbackEvent, LeasedQuery, Store
from qa_env.feedback.text import words

LEASE = 7 * DAY
"""Nobody else takes a query over because a simulated person sleeps or thinks for long."""
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "qa_env/simulated")


class SimulatedPeople:
    """Simulated annotators who answer the open queries of a store, each one query at a time.

    Whoever is free first takes the next query; those free at once do so in a random order. A reply that takes
    time is held back until `work` is called with a time after it. The same calls give the same labels.

    Args:
        annotators: The people, with different names.
        truth: What an answer is really worth, in [0, 1] and without noise, e.g. `ValueAccuracy()` or
            ``FunctionFeedback(users.utility, "wish")`` of a `SimulatedUsers`.
        examples: The questions with what is known of them, by id.
        seed: Seed of the order of those who are free at once.

    Raises:
        QAError: If there is nobody, or two have one name.
    """

    def __init__(
        self,
        annotators: Sequence[SimulatedAnnotator],
        truth: Feedback,
        examples: Mapping[str, QAExample],
        seed: int = 0,
    ) -> None:
        self.annotators = {annotator.name: annotator for annotator in annotators}
        if not annotators or len(self.annotators) < len(annotators):
            raise QAError("simulated people must be at least one annotator, with different names")
        self.truth = truth
        self.examples = examples
        self.seed = seed
        self._calls = 0
        self._worked_until: float | None = None
        self._free = dict.fromkeys(self.annotators, 0.0)
        self._held_back: dict[str, FeedbackEvent] = {}

    def join(self, store: Store) -> None:
        """Become raters of a store; once more is no error."""
        for name in self.annotators:
            store.add_rater(name)

    def work(self, store: Store, now: float) -> int:
        """Answer queries until `now`.

        Queries in the store are taken to have been there since the last call: no reply begins before it, and
        in the first call none before `now`. So call this before new queries are asked, or right after too.

        Args:
            store: The store, which everybody must have joined. Its clock should show `now`.
            now: The time in unix seconds.

        Returns:
            How many replies were submitted, skips among them.

        Raises:
            QAError: If a query is about an example that is not known here, a true score lies outside [0, 1],
                or the store does not work.
        """
        turns = self._first_turns(now)
        # A count keeps those who reply at once from taking all queries one after another.
        count, submitted = itertools.count(len(turns)), 0
        idle: list[str] = []
        while turns and turns[0][0] <= now:
            start, _, name = heapq.heappop(turns)
            said = self._held_back.pop(name, None)
            if said is not None:
                submitted += store.submit(said)
            if said is not None and isinstance(said.label, labels.Skip):
                while idle:  # what one skips may be for another
                    heapq.heappush(turns, (start, next(count), idle.pop(0)))
            query = store.lease(name, LEASE)
            if query is None:
                idle.append(name)
                continue
            event = self._reply(self.annotators[name], query, start)
            self._held_back[name], self._free[name] = event, event.created
            heapq.heappush(turns, (event.created, next(count), name))
        self._calls += 1
        self._worked_until = now
        return submitted

    def _first_turns(self, now: float) -> list[tuple[float, int, str]]:
        """When everybody is free, as a heap; in a random order where that is at once."""
        since = now if self._worked_until is None else self._worked_until
        order = np.random.default_rng([self.seed, self._calls]).permutation(len(self.annotators))
        names = list(self.annotators)
        turns = [(max(self._free[names[n]], since), turn, names[n]) for turn, n in enumerate(order)]
        heapq.heapify(turns)
        return turns

    def _reply(self, annotator: SimulatedAnnotator, query: LeasedQuery, start: float) -> FeedbackEvent:
        example = self._example(query.answers[0])
        texts = [answer.text for answer in query.answers]
        rngs = [np.random.default_rng(self.seed) for _ in texts]
        scores = score_checked(self.truth, [example] * len(texts), texts, rngs).reward
        better = example.answers[0] if example.answers and example.answers[0] not in texts else None
        lengths = [len(words(text)) for text in texts]
        reply = annotator.answer(query.id, query.kind, scores.tolist(), lengths, better)
        return FeedbackEvent(
            uuid=str(uuid.uuid5(_NAMESPACE, f"{annotator.seed} {annotator.name} {query.id}")),
            query=query.id,
            rater=annotator.name,
            label=reply.label,
            unsure=reply.unsure,
            shown_order=reply.shown_order,
            latency=reply.latency,
            created=annotator.replied_at(start, reply.latency),
        )

    def _example(self, answer: AnswerRecord) -> QAExample:
        try:
            return self.examples[answer.example_id]
        except KeyError:
            raise QAError(
                f"simulated people know nothing of example '{answer.example_id}', which a query is about; "
                "give them the examples that are asked about"
            ) from None

    def state(self) -> dict[str, Any]:
        """What `load_state` needs to go on as if there had been no break; fit for JSON."""
        return {
            "calls": self._calls,
            "worked_until": self._worked_until,
            "free": dict(self._free),
            "annotators": {name: annotator.state() for name, annotator in self.annotators.items()},
            "held_back": {
                name: {**dataclasses.asdict(event), "label": labels.to_json(event.label)}
                for name, event in self._held_back.items()
            },
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take up a state of `state`. A reply that was submitted meanwhile is not stored twice.

        Raises:
            QAError: If it is of other people.
        """
        if set(state.get("annotators", ())) != set(self.annotators):
            raise QAError(f"the state is of other simulated people, not of {', '.join(self.annotators)}")
        self._calls = state["calls"]
        self._worked_until = state["worked_until"]
        self._free = dict(state["free"])
        for name, annotator in self.annotators.items():
            annotator.load_state(state["annotators"][name])
        self._held_back = {
            name: FeedbackEvent(**{**event, "label": labels.from_json(event["label"])})
            for name, event in state["held_back"].items()
        }
