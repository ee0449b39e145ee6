from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from functools import cache
from itertools import combinations

import pytest

from qa_env.datasets import FactsConfig, QADataset, QAExample, make_facts
from qa_env.datasets.facts import load_facts
from qa_env.datasets.facts.templates import COUNTRY_OF_CITY, RELATIONS, fill
from qa_env.errors import QAError

SPLITS = ("labelled", "unlabelled", "validation", "test")
SMALL = FactsConfig(labelled=102, unlabelled=1500, validation=170, test=340, seed=3)


@cache
def small(level: int = 1, open_book: bool = True) -> QADataset:
    return make_facts(replace(SMALL, level=level, open_book=open_book))


def text_of(example: QAExample) -> str:
    return " ".join((example.question, example.context or "", *example.answers))


def split_text(data: QADataset, split: str) -> str:
    return "\n".join(text_of(example) for example in getattr(data, split))


def stands_in(name: str, text: str) -> bool:
    return name in text and re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) is not None


def pattern(template: str) -> re.Pattern[str]:
    template = fill(template, "\0", "\1") if "{v}" in template else fill(template, "\0")
    return re.compile(re.escape(template).replace("\0", ".+").replace("\1", ".+"))


def every_example(level: int = 1) -> list[QAExample]:
    return [example for split in SPLITS for example in getattr(small(level), split)]


def test_every_split_has_the_asked_size() -> None:
    assert [len(getattr(small(), split)) for split in SPLITS] == [102, 1500, 170, 340]


@pytest.mark.parametrize("seed", [0, 3])
@pytest.mark.parametrize("level", [1, 2])
def test_no_entity_stands_in_two_splits(seed: int, level: int) -> None:
    data = make_facts(replace(SMALL, unlabelled=500, seed=seed, level=level))
    texts = {split: split_text(data, split) for split in SPLITS}
    # Inside a group, and so inside a split, a name may be part of another ("Guinea", "Equatorial Guinea").
    entities = {fact.entity for fact in load_facts()}
    named = {split: {name for name in entities if stands_in(name, texts[split])} for split in SPLITS}
    assert min(map(len, named.values())) > 20
    for one, other in combinations(SPLITS, 2):
        assert not named[one] & named[other]


@pytest.mark.parametrize("seed", range(4))
def test_japan_stands_in_test_alone(seed: int) -> None:
    data = make_facts(replace(SMALL, seed=seed))
    assert "Japan" in split_text(data, "test")
    for split in ("labelled", "unlabelled", "validation"):
        text = split_text(data, split)
        assert "Japan" not in text
        assert "Tokyo" not in text


def test_labelled_has_about_a_sixth_of_the_countries_and_elements() -> None:
    groups = {(fact.type, fact.entity): fact.group for fact in load_facts()}
    share = {}
    for split in SPLITS:
        found = {groups[e.metadata["type"], e.metadata["entity"]] for e in getattr(small(), split)}
        share[split] = len(found) / len(set(groups.values()))
    assert share["labelled"] < 0.16
    assert share["unlabelled"] > 0.35
    assert share["test"] > 0.2


def test_heldout_phrasings_stand_in_test_alone() -> None:
    training = "\n".join(split_text(small(), split) for split in ("labelled", "unlabelled", "validation"))
    sentences = sorted(set(re.split(r"(?<=[.?]) ", training.replace("\n", " "))))[::3]
    for phrasings in RELATIONS.values():
        for template in phrasings.heldout_questions + phrasings.heldout_statements:
            found = [sentence for sentence in sentences if pattern(template).fullmatch(sentence)]
            assert not found, template


def test_heldout_descriptions_of_a_country_stand_in_test_alone() -> None:
    data = small(2)
    for template in COUNTRY_OF_CITY.heldout_questions:
        wanted = re.compile(template.format(e=r"[^ ,?]+"))
        assert any(wanted.search(example.question) for example in data.test)
        assert not any(wanted.search(example.question) for example in data.unlabelled)


def test_half_of_the_test_questions_of_each_relation_are_held_out() -> None:
    counts = Counter((e.metadata["relation"], e.metadata["phrasing"]) for e in small().test)
    for relation in RELATIONS:
        assert abs(counts[relation, "heldout"] - counts[relation, "train"]) <= 1
    assert {e.metadata["phrasing"] for e in small().unlabelled} == {"train"}


def test_half_of_the_test_statements_are_held_out() -> None:
    heldout = [pattern(t) for phrasings in RELATIONS.values() for t in phrasings.heldout_statements]
    sentences = [s for e in small().test for s in re.split(r"(?<=\.) ", e.context or "")]
    share = sum(any(p.fullmatch(s) for p in heldout) for s in sentences) / len(sentences)
    assert 0.4 < share < 0.6


@pytest.mark.parametrize("relation", RELATIONS)
def test_every_relation_has_enough_phrasings_of_its_own(relation: str) -> None:
    phrasings = RELATIONS[relation]
    questions = phrasings.questions + phrasings.heldout_questions
    statements = phrasings.statements + phrasings.heldout_statements
    assert len(phrasings.questions) >= 8
    assert len(phrasings.heldout_questions) >= 2
    assert len(phrasings.statements) >= 9
    assert 1 <= len(phrasings.heldout_statements) <= 2
    assert len({*questions, *statements}) == len(questions) + len(statements)
    assert max(len(text.split()) for text in questions + statements) <= 14
    assert all(text.count("{e}") == 1 for text in questions + statements)
    assert all(text.count("{v}") == 1 for text in statements)
    others = [t for name in RELATIONS if name != relation for t in RELATIONS[name].questions]
    assert len({*questions, *others}) == len(questions) + len(others)


def words_apart(one: str, other: str) -> int:
    a, b = (re.findall(r"{\w}|\w+", text.lower()) for text in (one, other))
    row = list(range(len(b) + 1))
    for i, word in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, beside in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (word != beside))
    return row[-1]


@pytest.mark.parametrize("relation", [*RELATIONS, "country of a city"])
def test_heldout_phrasings_differ_from_training_ones_but_use_their_words(relation: str) -> None:
    phrasings = RELATIONS.get(relation, COUNTRY_OF_CITY)
    for train, heldout in (
        (phrasings.questions, phrasings.heldout_questions),
        (phrasings.statements, phrasings.heldout_statements),
    ):
        assert all(words_apart(t, h) >= 2 and h.lower() not in t.lower() for t in train for h in heldout)
        # Past the first five phrasings the training ones keep further away.
        assert all(words_apart(t, h) >= 3 for t in train[5:] for h in heldout)
    known = set(re.findall(r"\w+", " ".join(phrasings.questions + phrasings.statements).lower()))
    asked = " ".join(phrasings.heldout_questions + phrasings.heldout_statements).lower()
    assert {word for word in re.findall(r"\w+", asked) if len(word) > 3} <= known


def test_the_country_of_a_city_has_enough_phrasings() -> None:
    assert len(COUNTRY_OF_CITY.questions) >= 7
    assert all(text.count("{e}") == 1 for text in COUNTRY_OF_CITY.questions)
    assert not set(COUNTRY_OF_CITY.questions) & set(COUNTRY_OF_CITY.heldout_questions)


def test_there_are_at_least_twelve_relations_and_each_is_asked_equally_often() -> None:
    counts = Counter(example.metadata["relation"] for example in small().labelled)
    assert len(counts) >= 12
    assert set(counts) == set(RELATIONS)
    assert max(counts.values()) - min(counts.values()) <= 1


@pytest.mark.parametrize("level", [1, 2])
def test_the_context_states_the_value_and_a_distractor(level: int) -> None:
    for example in every_example(level):
        value, distractors = example.metadata["value"], example.metadata["distractors"]
        assert example.context is not None
        assert value in example.context
        assert all(value in answer for answer in example.answers)
        assert distractors
        assert all(wrong in example.context for wrong in distractors)
        assert not any(stands_in(wrong.lower(), example.answers[0].lower()) for wrong in distractors)
        assert not stands_in(value.lower(), example.question.lower())


def test_the_first_statement_is_not_always_the_asked_one() -> None:
    first = [(e.context or "").split(". ")[0] for e in small().unlabelled]
    share = sum(e.metadata["value"] in s for e, s in zip(small().unlabelled, first, strict=True)) / len(first)
    assert 0.15 < share < 0.5


@pytest.mark.parametrize(("least", "most"), [(2, 2), (3, 5), (2, 6)])
def test_contexts_have_the_asked_number_of_statements(least: int, most: int) -> None:
    data = make_facts(replace(SMALL, min_statements=least, max_statements=most))
    sizes = {len(re.findall(r"\.(?= |$)", example.context or "")) for example in data.unlabelled}
    assert sizes == set(range(least, most + 1))


def test_about_the_asked_share_of_contexts_is_counterfactual() -> None:
    for share in (0.0, 0.3, 1.0):
        examples = make_facts(replace(SMALL, counterfactual=share)).unlabelled
        marked = sum(example.metadata["counterfactual"] for example in examples) / len(examples)
        assert marked == pytest.approx(share, abs=0.04)


def test_a_value_is_false_only_where_it_is_marked_counterfactual() -> None:
    true = {(fact.type, fact.entity, fact.relation): fact.value for fact in load_facts()}
    for example in every_example():
        known = example.metadata
        same = known["value"] == true[known["type"], known["entity"], known["relation"]]
        assert same is not known["counterfactual"]


def test_two_step_questions_name_the_city_and_not_its_country() -> None:
    country_of = {fact.entity: fact.value for fact in load_facts() if fact.type == "city"}
    for example in every_example(2):
        city = example.metadata["entity"]
        assert city in example.question
        assert not stands_in(country_of[city], example.question)
        assert country_of[city] in example.answers[0]
        assert len(re.findall(r"\.(?= |$)", example.context or "")) >= 4


@pytest.mark.parametrize("level", [1, 2])
def test_closed_book_questions_have_no_context_and_true_answers(level: int) -> None:
    data = small(level, open_book=False)
    for split in SPLITS:
        for example in getattr(data, split):
            assert example.context is None
            assert not example.metadata["counterfactual"]
            assert example.metadata["distractors"] == ()
    answers = {example.answers[0] for example in data.test}
    assert answers <= set(data.collection)


def test_the_collection_has_one_true_statement_a_fact() -> None:
    collection = small().collection
    assert len(collection) == len(set(collection)) == len(load_facts())
    assert "The capital of Japan is Tokyo." in collection
    assert "The capital of the United States is Washington." in collection
    assert "The calling code of Andorra is +376." in collection


def test_ids_and_questions_with_their_contexts_are_unique() -> None:
    examples = every_example()
    assert len({example.id for example in examples}) == len(examples)
    for split in SPLITS:
        of_split = getattr(small(), split)
        assert len({(example.question, example.context) for example in of_split}) == len(of_split)


def test_the_same_seed_gives_the_same_data_and_another_seed_other_data() -> None:
    config = replace(SMALL, unlabelled=50)
    assert make_facts(config) == make_facts(config)
    assert make_facts(config).test != make_facts(replace(config, seed=4)).test


def test_the_test_split_does_not_depend_on_the_size_of_the_others() -> None:
    assert make_facts(replace(SMALL, labelled=17, unlabelled=0)).test == small().test


def test_no_answer_gives_away_itself_and_disputed_capitals_are_left_out() -> None:
    facts = load_facts()
    assert not [fact for fact in facts if fact.value == fact.entity]
    disputed = {"Israel", "Palestinian Territories", "Western Sahara"}
    assert not [fact for fact in facts if fact.relation == "capital" and fact.entity in disputed]
    assert len({(f.type, f.entity, f.relation) for f in facts}) == len(facts)
    kinds: dict[str, set[str]] = {}
    for fact in facts:
        kinds.setdefault(fact.entity, set()).add(fact.type)
    assert not [name for name, of_name in kinds.items() if len(of_name) > 1]


def test_names_get_their_article_inside_a_sentence_alone() -> None:
    assert fill("{e} uses the {v}.", "Philippines", "Peso") == "The Philippines uses the Peso."
    assert fill("{e} lies in {v}.", "Dallas", "United States") == "Dallas lies in the United States."
    assert fill("{v} is the internet domain of {e}.", "Japan", ".jp").startswith(".jp is")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("labelled", 0),
        ("unlabelled", -1),
        ("test", 1.5),
        ("seed", -1),
        ("level", 3),
        ("min_statements", 1),
        ("max_statements", 1),
        ("counterfactual", 1.1),
        ("counterfactual", float("nan")),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(field: str, value: float) -> None:
    with pytest.raises(QAError, match=rf"FactsConfig\.{field} must be .*, got {value}") as caught:
        FactsConfig(**{field: value})  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_two_steps_need_room_for_four_statements() -> None:
    with pytest.raises(QAError, match="at least 4 at level 2"):
        FactsConfig(level=2, max_statements=3)
