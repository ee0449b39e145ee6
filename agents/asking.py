"""What is asked of people about a rollout, and what becomes of their labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from agents.reward_data import FloatArray, render
from agents.reward_model import RewardModel
from agents.selection import SELECTORS, Candidates, Selection, pairs_of, select
from qa_env.datasets import QAExample
from qa_env.errors import QAError
from qa_env.feedback.annotator_config import PRESETS
from qa_env.feedback.labels import Kind
from qa_env.feedback.naming import load_named
from qa_env.feedback.store import AnswerRecord, Query

Asked = Literal["rating", "percent", "thumb", "pair", "correction", "ratings-and-pairs"]
PEOPLE = "people"


@dataclass(frozen=True)
class AskConfig:
    """What people are asked, and who they are."""

    kind: Asked = "rating"
    """Kind of the queries; ratings-and-pairs takes turns."""
    needed: int = 1
    """Labels of each query, from as many raters."""
    selector: str = "uniform"
    """uniform, disagreement, entropy, k-centre, k-centre+disagreement, rare-question, or module:function."""
    uniform: float = 0.2
    """Share of the queries that are chosen uniformly, whatever the selector."""
    refits: int = 1
    """How often the reward model is fitted again during training, at equal numbers of new labels."""
    annotators: str = "oracle"
    """Simulated annotators who answer at once: a name of `qa_env.feedback.annotators.PRESETS`; or "people":
    whoever writes into the feedback store."""
    crowd: int = 1
    """How many simulated annotators there are; they differ in strictness and more."""
    wait: float = 0.0
    """Seconds to wait for people's first labels before training begins; what is missing then comes later."""
    fallback: str = ""
    """Rules or a metric that pay while the reward model is not trusted: a name or module:attr; or nobody."""

    def __post_init__(self) -> None:
        """Raise a QAError if a field is out of its range or names nothing."""
        if self.kind not in get_args(Asked):
            raise QAError(f"ask.kind must be one of {', '.join(get_args(Asked))}; got '{self.kind}'")
        if self.annotators not in (PEOPLE, *PRESETS):
            known = ", ".join((PEOPLE, *PRESETS))
            raise QAError(f"ask.annotators must be one of {known}; got '{self.annotators}'")
        load_named(self.selector, SELECTORS, "selector")
        for name in ("needed", "crowd"):
            if getattr(self, name) < 1:
                raise QAError(f"ask.{name} must be 1 or more, got {getattr(self, name)}")
        if self.annotators != PEOPLE and self.needed > self.crowd:
            raise QAError(f"ask.needed={self.needed} labels of a query need as many annotators: --ask.crowd")
        if self.refits < 0 or not self.wait >= 0:
            raise QAError(f"ask.refits and ask.wait must be 0 or more, got {self.refits} and {self.wait}")
        if not 0 <= self.uniform <= 1:
            raise QAError(f"ask.uniform must be from 0 to 1, got {self.uniform}")


class Finished(NamedTuple):
    """A finished answer of a rollout.

    Attributes:
        example: The index of the example that it answers.
        text: The answer.
        step: Its last row in the rollout.
        lane: Its lane.
        reward: What it was paid.
        nll: Mean of minus its tokens' log-probabilities; NaN if not known.
    """

    example: int
    text: str
    step: int
    lane: int
    reward: float
    nll: float


class Asker:
    """Chooses queries among answers.

    Args:
        config: What is asked.
        examples: The questions, which `Finished.example` indexes.
        rng: Of the choice.

    Attributes:
        asked: How often each question was asked about, ``(questions,)``.
        known: What was asked: the answers by kind and ids, each as the index of its question and its text.
    """

    def __init__(self, config: AskConfig, examples: Sequence[QAExample], rng: np.random.Generator) -> None:
        self.config, self.examples, self.rng = config, examples, rng
        self.asked = np.zeros(len(examples), dtype=np.int64)
        self.known: dict[tuple[str, ...], list[tuple[int, str]]] = {}

    def queries(
        self, answers: Sequence[Finished], number: int, model: RewardModel | None, step: int
    ) -> list[Query]:
        """At most so many queries about some of the answers, each new.

        Args:
            answers: To choose from.
            number: Of queries.
            model: Whose disagreement and features may guide the choice.
            step: Tokens written so far in training, for the record.
        """
        # No database keeps NUL, which a policy may write byte by byte.
        answers = [answer for answer in answers if "\0" not in answer.text]
        if not answers or number < 1:
            return []
        candidates = self._candidates(answers, model)
        records = [self._record(answer, step) for answer in answers]
        queries: list[Query] = []
        for kind, share in self._shares(number).items():
            choose = pairs_of if kind == "pair" else select
            new = np.flatnonzero([(kind, record.id) not in self.known for record in records])
            some = replace(candidates.take(new), labelled=self._centres(kind, model))
            left = min(share, number - len(queries))
            selection = choose(some, left, self.config.selector, self.config.uniform, rng=self.rng)
            chosen = replace(selection, indices=new[selection.indices])
            queries += self._as_queries(kind, chosen, answers, records)
        return queries

    def _shares(self, number: int) -> dict[Kind, int]:
        """How many queries of each kind at most, so that over a run both kinds get their half.

        Where there are too few pairs, ratings take their place.
        """
        if self.config.kind != "ratings-and-pairs":
            return {self.config.kind: number}
        pairs = sum(kind == "pair" for kind, *_ in self.known)
        behind = len(self.known) - 2 * pairs
        return {"pair": min(max((number + behind) // 2, 0), number), "rating": number}

    def _centres(self, kind: Kind, model: RewardModel | None) -> FloatArray:
        """Where the answers of earlier queries lie, a row a query, if the selector goes by that.

        The reward model has changed since, and with it where they lie.
        """
        about = [answers for (known, *_), answers in self.known.items() if known == kind]
        if model is None or not about or not self._by_features:
            return np.empty((0, 0))
        examples = [self.examples[example] for answers in about for example, _ in answers]
        texts = [text for answers in about for _, text in answers]
        features = model.features(*render(examples, texts, model.vocabulary, model.limits))
        centres: FloatArray = features.reshape(len(about), -1, features.shape[1]).mean(1)
        return centres

    @property
    def _by_features(self) -> bool:
        """Whether the selector goes by features; one of the user's own may."""
        return "centre" in self.config.selector or ":" in self.config.selector

    def _candidates(self, answers: Sequence[Finished], model: RewardModel | None) -> Candidates:
        question = np.array([a.example for a in answers])
        texts = [a.text for a in answers]
        nll = np.array([a.nll for a in answers])
        if model is None:
            return Candidates(question, texts, entropy=nll, asked=self.asked)
        examples = [self.examples[a.example] for a in answers]
        arrays = render(examples, texts, model.vocabulary, model.limits)
        features = model.features(*arrays) if self._by_features else np.empty((0, 0))
        spread: FloatArray = model.judge(*arrays).sd
        return Candidates(question, texts, spread, nll, features, asked=self.asked)

    def _as_queries(
        self,
        kind: Kind,
        selection: Selection,
        answers: Sequence[Finished],
        records: Sequence[AnswerRecord],
    ) -> list[Query]:
        queries = []
        for places, purpose in zip(selection.indices.tolist(), selection.purposes, strict=True):
            chosen = places if kind == "pair" else [places]
            about = tuple(records[i] for i in chosen)
            key = (kind, *sorted(record.id for record in about))
            if key in self.known:
                continue
            self.known[key] = [(answers[i].example, answers[i].text) for i in chosen]
            self.asked[answers[chosen[0]].example] += 1
            selector = "uniform" if purpose == "uniform" else self.config.selector
            queries.append(Query(kind, about, purpose, selector, needed=self.config.needed))
        return queries

    def _record(self, answer: Finished, step: int) -> AnswerRecord:
        example = self.examples[answer.example]
        return AnswerRecord(example.question, answer.text, example.context, example.id, step)

    def state(self) -> dict[str, object]:
        """For a checkpoint, fit for JSON."""
        known = [[*key, answers] for key, answers in self.known.items()]
        return {"asked": self.asked.tolist(), "known": known, "rng": self.rng.bit_generator.state}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.asked = np.array(state["asked"], dtype=np.int64)
        self.known = {
            tuple(key): [(example, text) for example, text in answers] for *key, answers in state["known"]
        }
        self.rng.bit_generator.state = state["rng"]
