"""All phrasings by relation, and the filling in of names and values."""

from __future__ import annotations

from qa_env.datasets.facts.countries import COUNTRY
from qa_env.datasets.facts.elements import ELEMENT
from qa_env.datasets.facts.phrasings import Phrasings

CITY = {
    "country": Phrasings(
        questions=(
            "In which country does {e} lie?",
            "Which country is {e} in?",
            "In what country is the city of {e} located?",
            "To which country does the city of {e} belong?",
            "Name the country of {e}.",
            "{e} lies within which country?",
            "Which country has {e} as one of its cities?",
            "The city of {e} belongs to what country?",
        ),
        heldout_questions=(
            "{e} is a city in which country?",
            "Which country does {e} belong to?",
        ),
        statements=(
            "{e} lies in {v}.",
            "{e} is a city in {v}.",
            "The city of {e} belongs to {v}.",
            "The country of the city of {e} is {v}.",
            "One of the cities of {v} is {e}.",
            "{v} is the country which has {e} among its cities.",
            "Within the borders of {v} lies {e}.",
            "As a city, {e} belongs to the country of {v}.",
            "In {v}, there is a city called {e}.",
        ),
        heldout_statements=(
            "In {v} there lies the city of {e}.",
            "{v} is the country to which {e} belongs.",
        ),
    ),
}

RELATIONS: dict[str, Phrasings] = {**COUNTRY, **CITY, **ELEMENT}

# The country of a city as a noun phrase: filled into a country's question, it gives a two-step question.
COUNTRY_OF_CITY = Phrasings(
    questions=(
        "the country in which {e} lies",
        "the country where {e} is located",
        "the country of the city of {e}",
        "the country to which {e} belongs",
        "the country that has the city of {e}",
        "the country where one finds {e}",
        "the country that the city of {e} is in",
    ),
    heldout_questions=(
        "the country where the city of {e} lies",
        "the country that {e} belongs to",
    ),
    statements=(),
    heldout_statements=(),
)

# "The capital of the United States", but "the capital of Japan".
_WITH_ARTICLE = frozenset(
    {
        "British Virgin Islands",
        "Bahamas",
        "Cayman Islands",
        "Central African Republic",
        "Cocos Islands",
        "Comoros",
        "Cook Islands",
        "Democratic Republic of the Congo",
        "Dominican Republic",
        "Falkland Islands",
        "Faroe Islands",
        "Gambia",
        "Isle of Man",
        "Maldives",
        "Marshall Islands",
        "Netherlands",
        "Northern Mariana Islands",
        "Palestinian Territories",
        "Philippines",
        "Pitcairn Islands",
        "Republic of the Congo",
        "Seychelles",
        "Solomon Islands",
        "Turks and Caicos Islands",
        "United Arab Emirates",
        "United Kingdom",
        "United States",
        "United States Virgin Islands",
        "Åland Islands",
    }
)


def in_sentence(name: str) -> str:
    """Gives a name as it stands inside a sentence: with "the" where English wants it."""
    return f"the {name}" if name in _WITH_ARTICLE else name


def fill(template: str, entity: str, value: str = "") -> str:
    """Fills a phrasing and begins it with a capital letter.

    Args:
        template: A phrasing with ``{e}`` and, in statements, ``{v}``.
        entity: The bare name of an entity, or a noun phrase such as "the country of the city of Osaka".
        value: The value of a statement; names of countries get their article.

    Returns:
        The sentence.
    """
    text = template.format(e=in_sentence(entity), v=in_sentence(value))
    # Only a small first letter is raised: ".jp" and "+81" may begin a statement too.
    return text[:1].upper() + text[1:]
