"""Reads the shipped table of facts."""

from __future__ import annotations

import csv
import gzip
from functools import cache
from importlib.resources import files
from typing import NamedTuple


class Fact(NamedTuple):
    """One fact, such as (Japan, country, Japan, capital, Tokyo).

    Attributes:
        group: What must lie in one split: a country with its cities, or one element.
        type: "country", "city" or "element".
        entity: The name, without "the".
        relation: A key of ``RELATIONS``.
        value: The value as sentences write it.
    """

    group: str
    type: str
    entity: str
    relation: str
    value: str


@cache
def load_facts() -> tuple[Fact, ...]:
    """Reads all facts, in the order of the table."""
    packed = (files("qa_env.datasets.facts") / "table.csv.gz").read_bytes()
    rows = csv.reader(gzip.decompress(packed).decode("utf-8").splitlines())
    next(rows)
    return tuple(Fact(*row) for row in rows)
