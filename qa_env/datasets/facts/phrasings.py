"""The container for the phrasings of one relation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Phrasings:
    """How one relation is asked for and stated; ``{e}`` stands for the entity, ``{v}`` for the value.

    Attributes:
        questions: Asked in every split.
        heldout_questions: Asked in the test split alone.
        statements: Used in every split; the first is the canonical answer sentence.
        heldout_statements: Used in the test split alone.
    """

    questions: tuple[str, ...]
    heldout_questions: tuple[str, ...]
    statements: tuple[str, ...]
    heldout_statements: tuple[str, ...]
