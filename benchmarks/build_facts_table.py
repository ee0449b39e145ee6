"""Rebuilds the facts table that the package ships, from the raw facts.

Usage: ``python benchmarks/build_facts_table.py PATH_TO_facts.jsonl.gz``

The raw file has one fact a line: ``entity``, ``type``, ``relation``, ``value`` (``source`` is not read).
CREDITS.txt beside the table says where the facts come from.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path

TABLE = Path(__file__).resolve().parent.parent / "qa_env" / "datasets" / "facts" / "table.csv.gz"
CITIES_A_COUNTRY = 15  # The raw file lists the largest first; the rest are names that few people know.

Fact = tuple[str, str, str, str]  # type, entity, relation, value

RELATIONS = frozenset(
    "capital continent currency internet_domain calling_code demonym official_language area_km2 population "
    "country symbol atomic_number atomic_weight group period discovery_year series".split()
)

RENAMED = {
    "Congo - Brazzaville": "Republic of the Congo",
    "Congo - Kinshasa": "Democratic Republic of the Congo",
    "Cocos (Keeling) Islands": "Cocos Islands",
    "Côte d’Ivoire": "Ivory Coast",
    "Hong Kong SAR China": "Hong Kong",
    "Macao SAR China": "Macao",
    "Myanmar (Burma)": "Myanmar",
    "U.S. Virgin Islands": "United States Virgin Islands",
}

# Hardly anyone lives there, or no source agrees on what they are.
DROPPED_ENTITIES = frozenset(
    {
        "Antarctica",
        "Bouvet Island",
        "British Indian Ocean Territory",
        "Caribbean Netherlands",
        "French Southern Territories",
        "Heard and McDonald Islands",
        "South Georgia and South Sandwich Islands",
        "Svalbard and Jan Mayen",
        "United States Outlying Islands",
        "Western Sahara",
    }
)

# Disputed cities, and parts of cities that the source counts as cities.
DROPPED_CITIES = frozenset(
    {
        *("Jerusalem", "Gaza", "Donetsk", "Luhansk", "Makiyivka", "Mariupol", "Sevastopol", "Simferopol"),
        *(
            "Srinagar",
            "Brooklyn",
            "Queens",
            "Manhattan",
            "The Bronx",
            "Soweto",
            "New Kingston",
            "Ra’s Bayrūt",
        ),
        *("Pest", "Camayenne", "Al Mawşil al Jadīdah", "Al Başrah al Qadīmah", "Sadr City", "Rasapūdipalem"),
        *("Iztapalapa", "Ecatepec de Morelos", "Gustavo Adolfo Madero", "Ulan Bator", "Budta", "Malingao"),
        *("Kennedy", "Golfe", "Hoji ya Henda", "Camama", "Mulenvos", "Kikolo", "Maianga", "Calumbo"),
        *("Talatona", "Pallabi", "Mirpur Model Thana", "Mohammadpur", "Chợ Lớn", "Bình Thạnh", "Thủ Đức"),
        *("Setagaya", "Esenyurt", "Çankaya", "Küçükçekmece", "Buda", "Sulţānah", "Macau", "Pelentong"),
        *("Kampung Baru Subang", "Bukit Rahman Putra", "Kota Kuala Muda", "Arifwala", "Banqiao", "Borama"),
    }
)

DROPPED_FACTS: dict[str, frozenset[str]] = {
    "capital": frozenset(  # disputed, several, or not what the source says
        {"Israel", "Palestinian Territories", "South Africa", "Sri Lanka", "Palau", "Bolivia", "Montserrat"}
    ),
    "calling_code": frozenset({"Vatican City"}),
    "currency": frozenset({"Bulgaria", "Zimbabwe"}),  # changed of late; holds the name of an element
    "internet_domain": frozenset({"Kosovo", "Saint Martin"}),  # never delegated; seldom its own
    "official_language": frozenset(  # more than one in law, or changed of late
        {
            *("South Africa", "New Zealand", "Mali", "Niger", "Burkina Faso", "Guam", "American Samoa"),
            *("Puerto Rico", "Ethiopia", "Cook Islands", "Iraq", "Curaçao", "Montenegro", "Malta"),
        }
    ),
    "demonym": frozenset(  # the word for another people, or no word for people
        {
            *("Hong Kong", "Macao", "Northern Mariana Islands", "Martinique", "Réunion", "Mayotte"),
            *("Saint Pierre and Miquelon", "Christmas Island", "Djibouti", "Gibraltar", "Jersey", "Guernsey"),
            *("Saint Kitts and Nevis", "Wallis and Futuna"),
        }
    ),
    "discovery_year": frozenset({"neodymium", "nihonium", "radon"}),  # other sources say otherwise
    # These symbols are also words: an answer with the word "in" would count as naming indium.
    "symbol": frozenset(
        {"helium", "iodine", "indium", "arsenic", "astatine", "nobelium", "beryllium", "americium"}
    ),
}

RESPELT = {
    "Argentinean": "Argentine",
    "Cape Verdian": "Cape Verdean",
    "Caribbean guilder": "Caribbean Guilder",
    "Comoran": "Comorian",
    "Ecuadorean": "Ecuadorian",
    "Hagatna": "Hagåtña",
    "Kalaallisut": "Greenlandic",
    "Kirghiz": "Kyrgyz",
    "Kyrgystani Som": "Kyrgyzstani Som",
    "Maldivan": "Maldivian",
    "Male": "Malé",
    "Noumea": "Nouméa",
    "Poor metals": "post-transition metals",
    "San Jose": "San José",
    "Sao Tome": "São Tomé",
    "Tadzhik": "Tajik",
    "Torshavn": "Tórshavn",
}


def rename(name: str) -> str:
    """Gives a name the form in which sentences use it."""
    name = RENAMED.get(name, unicodedata.normalize("NFC", name))
    return name.replace("St. ", "Saint ").replace(" & ", " and ").replace("U.S.", "United States")


def rounded(number: int) -> str:
    """Writes a number of people as one says it: "37.2 million"."""
    for size, word in ((10**9, " billion"), (10**6, " million"), (10**3, " thousand")):
        if number >= size:
            # Thousands lose their decimal at ten thousand; "77 thousand" is as near as the census is.
            digits = f"{number / size:.0f}" if size == 1000 and number >= 10_000 else f"{number / size:.1f}"
            return digits.removesuffix(".0") + word
    return str(number)


def tidy_value(relation: str, value: str) -> str | None:
    """Gives the value in its readable form, or None if the fact is to be dropped."""
    value = RESPELT.get(value, rename(value)).strip()
    if not value or (relation == "demonym" and "," in value):
        return None
    if relation == "calling_code":
        return None if " " in value else "+" + value.removeprefix("+")
    if relation == "population":
        return rounded(int(value)) if int(value) >= 1000 else None
    if relation == "area_km2":
        return f"{int(value):,}"
    if relation == "atomic_weight" and "." not in value:
        return None  # An element without stable atoms: the number is only that of one isotope.
    return value[:1].lower() + value[1:] if relation == "series" else value


def read_raw(path: Path) -> list[Fact]:
    """Reads the raw facts, with tidy names and values, and leaves out what is listed above."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    copies = Counter((row["type"], row["entity"], row["relation"]) for row in rows)
    facts: list[Fact] = []
    for row in rows:
        kind, relation = row["type"], row["relation"]
        # An entity with several values of a relation has no one right answer.
        if relation not in RELATIONS or copies[kind, row["entity"], relation] > 1:
            continue
        entity = row["entity"].lower() if kind == "element" else rename(row["entity"])
        value = tidy_value(relation, row["value"])
        if value is None or entity in DROPPED_ENTITIES or entity in DROPPED_FACTS.get(relation, ()):
            continue
        facts.append((kind, entity, relation, value))
    return facts


@cache
def folded(name: str) -> str:
    """Strips accents and case, to compare spellings."""
    return "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c)).lower()


def stands_in(name: str, text: str) -> bool:
    """Tells whether the name stands in the text as whole words, whatever the accents."""
    name, text = folded(name), folded(text)
    # The plain test first: nearly all pairs fail it, and it is much faster.
    return name in text and re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) is not None


def keep_cities(facts: list[Fact]) -> list[Fact]:
    """Drops cities whose name means something else too, and all but the largest of a country."""
    cities = [fact for fact in facts if fact[0] == "city"]
    countries = {fact[1] for fact in facts if fact[0] == "country"}
    counted: Counter[str] = Counter()
    kept = [fact for fact in facts if fact[0] != "city"]
    others = [(fact[1], text) for fact in kept for text in (fact[1], fact[3])]
    for fact in cities:
        _, name, _, country = fact
        if (
            name in DROPPED_CITIES
            or country not in countries
            or country in ("Hong Kong", "Palestinian Territories")
        ):
            continue
        if counted[country] == CITIES_A_COUNTRY or re.search(r"[,'’]|-si$|District", name):
            continue
        if any(stands_in(other, name) for other in countries):
            continue  # "Mexico City" gives the answer away.
        if any(entity != country and stands_in(name, text) for entity, text in others):
            continue  # Also the capital of another country, or a part of its name.
        if any(city[3] != country and stands_in(name, city[1]) for city in cities):
            continue  # "Salvador" would stand in every sentence on "San Salvador".
        counted[country] += 1
        kept.append(fact)
    return kept


def respell_capitals(facts: list[Fact]) -> list[Fact]:
    """Gives a capital the spelling under which it is listed as a city (Bogota: Bogotá)."""
    spelling = {(fact[3], folded(fact[1])): fact[1] for fact in facts if fact[0] == "city"}
    return [
        (
            kind,
            entity,
            relation,
            spelling.get((entity, folded(value)), value) if relation == "capital" else value,
        )
        for kind, entity, relation, value in facts
    ]


def with_groups(facts: list[Fact]) -> list[tuple[str, str, str, str, str]]:
    """Adds the group of each fact: what must lie in one split, because the names occur in each other.

    A city belongs to its country; Niue, which pays with the New Zealand Dollar, to New Zealand; Guinea to
    Equatorial Guinea. A group has the name of its first country.
    """
    group = {fact[1]: fact[1] for fact in facts if fact[0] == "country"}
    pairs = sorted({(fact[1], text) for fact in facts if fact[0] == "country" for text in (fact[1], fact[3])})
    for name in list(group):
        for owner, text in pairs:
            if owner != name and stands_in(name, text):
                old, new = sorted((group[owner], group[name]), reverse=True)
                group = {entity: new if head == old else head for entity, head in group.items()}
    country_of = {fact[1]: fact[3] for fact in facts if fact[0] == "city"}
    return [(group.get(country_of.get(f[1], f[1]) if f[0] == "city" else f[1], f[1]), *f) for f in facts]


def write_table(rows: Iterable[tuple[str, ...]], path: Path) -> None:
    """Writes the table so that the same facts give the same bytes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("group", "type", "entity", "relation", "value"))
    writer.writerows(rows)
    path.write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))


def main() -> None:
    """Builds the table from the file named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("raw", type=Path, help="the raw facts, gzip JSON Lines")
    parser.add_argument("--out", type=Path, default=TABLE, help="where the table goes")
    arguments = parser.parse_args()
    facts = respell_capitals(keep_cities(read_raw(arguments.raw)))
    sizes = Counter(fact[1] for fact in facts if fact[0] != "city")
    # Avoid "the capital of Singapore is Singapore"; and an entity with two facts is hardly one.
    facts = [
        fact
        for fact in facts
        if not stands_in(fact[3], fact[1]) and (fact[0] == "city" or sizes[fact[1]] >= 3)
    ]
    rows = with_groups(facts)
    write_table(rows, arguments.out)
    print(f"{len(rows)} facts in {len({row[0] for row in rows})} groups: {arguments.out}")
    for (kind, relation), count in sorted(Counter((row[1], row[3]) for row in rows).items()):
        print(f"  {kind:8} {relation:18} {count}")


if __name__ == "__main__":
    main()
