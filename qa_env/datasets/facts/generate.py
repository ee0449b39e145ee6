"""Makes questions, contexts and references from the facts."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple, TypeVar

import numpy as np

from qa_env.datasets.example import QADataset, QAExample
from qa_env.datasets.facts.config import FactsConfig
from qa_env.datasets.facts.elements import ELEMENT
from qa_env.datasets.facts.table import Fact, load_facts
from qa_env.datasets.facts.templates import COUNTRY_OF_CITY, RELATIONS, fill
from qa_env.errors import QAError

# The shares of the countries and of the elements that each split gets; the test split comes last and
# takes the rest, so that the groups named below can be put at the end.
_SHARES = (("labelled", 0.15), ("unlabelled", 0.45), ("validation", 0.12), ("test", 0.28))
# The README asks about Tokyo as a country that no training text has mentioned.
_ALWAYS_TEST = "Japan"
# Past this many draws a question may repeat: closed-book questions run out sooner than contexts.
_TRIES_FOR_NEW = 20
_TRIES = 1000

_T = TypeVar("_T")


class _Asked(NamedTuple):
    """A fact to ask for; in two-step questions also the fact that names its country."""

    fact: Fact
    bridge: Fact | None = None


class _Pool:
    """The facts of one split, by what they are looked up by."""

    def __init__(self, facts: Sequence[Fact], level: int) -> None:
        self.by_relation: dict[str, list[Fact]] = defaultdict(list)
        self.by_entity: dict[tuple[str, str], list[Fact]] = defaultdict(list)
        for fact in facts:
            self.by_relation[fact.relation].append(fact)
            self.by_entity[fact.type, fact.entity].append(fact)
        # Fillers for an element are on elements, for all else on countries and cities.
        self.filler_relations = {
            element: [relation for relation in self.by_relation if (relation in ELEMENT) == element]
            for element in (False, True)
        }
        self.values = {
            relation: sorted({fact.value for fact in of_relation})
            for relation, of_relation in self.by_relation.items()
        }
        asked: dict[str, list[_Asked]] = defaultdict(list)
        for fact in facts:
            if level == 1:
                asked[fact.relation].append(_Asked(fact))
            elif fact.type == "city":
                for about_country in self.by_entity["country", fact.value]:
                    asked[about_country.relation].append(_Asked(about_country, fact))
        # Three values: the asked one, the distractor's and a counterfactual one.
        self.asked = {name: found for name, found in asked.items() if len(self.values[name]) >= 3}

    def related(self, asked: _Asked) -> list[Fact]:
        """Other facts on the asked entity; for a city, on its country."""
        if asked.fact.type == "city":
            return self.by_entity["country", asked.fact.value]
        return self.by_entity[asked.fact.type, asked.fact.entity]


def make_facts(config: FactsConfig | None = None) -> QADataset:
    """Makes the built-in data set.

    No country, city or element occurs in two splits, neither in questions nor in contexts. Half of the
    test split's questions, and half of its statements, use phrasings that no other split has.

    Args:
        config: Sizes and kind; None for the defaults.

    Returns:
        The four splits, and as collection one true statement for every fact in the table.

    Raises:
        QAError: A value of the configuration is out of its range.
    """
    config = config or FactsConfig()
    facts = load_facts()
    # One generator a split: a larger labelled split leaves the test split as it is.
    deal, *streams = np.random.default_rng(config.seed).spawn(1 + len(_SHARES))
    split_of = _deal_groups(facts, deal)
    splits: dict[str, tuple[QAExample, ...]] = {}
    for (split, _), rng in zip(_SHARES, streams, strict=True):
        pool = _Pool([fact for fact in facts if split_of[fact.group] == split], config.level)
        splits[split] = _Maker(pool, config, split, rng).make(getattr(config, split))
    collection = tuple(_state(fact) for fact in facts)
    return QADataset(
        splits["labelled"], splits["unlabelled"], splits["validation"], splits["test"], collection
    )


def _deal_groups(facts: Iterable[Fact], rng: np.random.Generator) -> dict[str, str]:
    """Deals countries and elements to the splits, each kind by the same shares."""
    kinds: dict[bool, set[str]] = {True: set(), False: set()}
    always_test = {fact.group for fact in facts if fact.entity == _ALWAYS_TEST}
    for fact in facts:
        kinds[fact.type == "element"].add(fact.group)
    split_of: dict[str, str] = {}
    for groups in kinds.values():
        free = sorted(groups - always_test)
        order = [free[index] for index in rng.permutation(len(free))] + sorted(groups & always_test)
        ends = np.round(np.cumsum([share for _, share in _SHARES]) * len(order)).astype(int)
        for (split, _), start, end in zip(_SHARES, [0, *ends[:-1]], ends, strict=True):
            split_of.update(dict.fromkeys(order[start:end], split))
    return split_of


class _Maker:
    """Makes the examples of one split."""

    def __init__(self, pool: _Pool, config: FactsConfig, split: str, rng: np.random.Generator) -> None:
        self.pool = pool
        self.config = config
        self.split = split
        self.rng = rng

    def make(self, count: int) -> tuple[QAExample, ...]:
        """Makes examples in turn for every relation, so that those with many entities do not dominate."""
        relations = sorted(self.pool.asked)
        seen: set[tuple[str, str | None]] = set()
        examples = []
        for index in range(count):
            turn, place = divmod(index, len(relations))
            # Alternates along a round and from round to round: half of each relation is held out.
            heldout = self.split == "test" and (turn + place) % 2 == 1
            example = self._new(f"{self.split}-{index}", relations[place], heldout, seen)
            seen.add((example.question, example.context))
            examples.append(example)
        return tuple(examples)

    def _new(self, id_: str, relation: str, heldout: bool, seen: set[tuple[str, str | None]]) -> QAExample:
        for attempt in range(_TRIES):
            example = self._draw(id_, relation, heldout)
            if example and (attempt >= _TRIES_FOR_NEW or (example.question, example.context) not in seen):
                return example
        raise QAError(f"no question on {relation!r} can be made in the {self.split} split: try another seed")

    def _draw(self, id_: str, relation: str, heldout: bool) -> QAExample | None:
        """Draws one example, or None if its value or its distractors would give a wrong mark."""
        asked = self._pick(self.pool.asked[relation])
        counterfactual = self.config.open_book and self.rng.random() < self.config.counterfactual
        fact = self._with_other_value(asked.fact) if counterfactual else asked.fact
        question = self._question(asked, heldout)
        if _has(question, fact.value):
            return None
        stated = []
        if self.config.open_book:
            distractor = self._pick(self.pool.asked[relation])
            if distractor.fact.entity == fact.entity or distractor.fact.value == fact.value:
                return None
            stated = self._context_facts(asked, fact, distractor)
        answers = self._answers(fact)
        wrong = {other.value for other in stated if other.relation == relation} - {fact.value}
        if any(_has(answers[0], value) or _has(value, fact.value) for value in wrong):
            return None
        subject = asked.bridge or fact
        metadata: dict[str, object] = {
            "value": fact.value,
            "distractors": tuple(sorted(wrong)),
            "relation": relation,
            "entity": subject.entity,
            "type": subject.type,
            "phrasing": "heldout" if heldout else "train",
            "counterfactual": counterfactual,
        }
        return QAExample(id_, question, self._context(stated), answers, metadata)

    def _with_other_value(self, fact: Fact) -> Fact:
        """Gives the asked fact the value of another entity."""
        return fact._replace(
            value=self._pick([value for value in self.pool.values[fact.relation] if value != fact.value])
        )

    def _question(self, asked: _Asked, heldout: bool) -> str:
        phrasings = RELATIONS[asked.fact.relation]
        entity = asked.fact.entity
        if asked.bridge:
            descriptions = COUNTRY_OF_CITY.heldout_questions if heldout else COUNTRY_OF_CITY.questions
            entity = self._pick(descriptions).format(e=asked.bridge.entity)
        return fill(self._pick(phrasings.heldout_questions if heldout else phrasings.questions), entity)

    def _context_facts(self, asked: _Asked, fact: Fact, distractor: _Asked) -> list[Fact]:
        """Chooses what the context states: the asked fact, the distractor and fillers."""
        stated = [fact, distractor.fact]
        stated += [step.bridge for step in (asked, distractor) if step.bridge]
        size = int(self.rng.integers(self.config.min_statements, self.config.max_statements + 1))
        known = {(other.type, other.entity, other.relation) for other in stated}
        related = self.pool.related(asked)
        fillers = [self._pick(related)] if related else []
        relations = self.pool.filler_relations[fact.type == "element"]
        # Twice as many as can be needed, since some are known already.
        fillers += [self._pick(self.pool.by_relation[self._pick(relations)]) for _ in range(2 * size)]
        for filler in fillers:
            key = (filler.type, filler.entity, filler.relation)
            if len(stated) < size and key not in known:
                known.add(key)
                stated.append(filler)
        return stated

    def _context(self, stated: Sequence[Fact]) -> str | None:
        order = self.rng.permutation(len(stated))
        return " ".join(self._statement(stated[place]) for place in order) or None

    def _answers(self, fact: Fact) -> tuple[str, ...]:
        phrasings = RELATIONS[fact.relation]
        heldout = phrasings.heldout_statements if self.split == "test" else ()
        return tuple(fill(text, fact.entity, fact.value) for text in phrasings.statements + heldout)

    def _statement(self, fact: Fact) -> str:
        phrasings = RELATIONS[fact.relation]
        heldout = self.split == "test" and self.rng.random() < 0.5
        return fill(
            self._pick(phrasings.heldout_statements if heldout else phrasings.statements),
            fact.entity,
            fact.value,
        )

    def _pick(self, choices: Sequence[_T]) -> _T:
        return choices[int(self.rng.integers(len(choices)))]


def _state(fact: Fact) -> str:
    return fill(RELATIONS[fact.relation].statements[0], fact.entity, fact.value)


@lru_cache(maxsize=100_000)
def _words(text: str) -> str:
    return " " + " ".join(re.findall(r"\w+", text.lower())) + " "


def _has(text: str, value: str) -> bool:
    """Tells whether the value's words stand in the text in a row ("+1" does in "+1-268")."""
    return _words(value) in _words(text)
