"""How each form of label that is a grade depends on cut points, and these on a rater's parameters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qa_env.feedback.base import FloatArray

PERCENT_BINS = 10
"""Percentages are graded by tens: finer steps say more of a person's habits than of the answer."""


@dataclass(frozen=True)
class OrdinalForm:
    """Grades from worst to best, told apart by cut points that are linear in a rater's parameters.

    Attributes:
        name: As in `qa_env.feedback.labels.LABELS`.
        design: Shape ``(grades - 1, parameters)``; ``cuts = design @ parameters``.
        default: The parameters of a rater of whom nothing is known, shape ``(parameters,)``.
        located: Whether the first parameter is a location. All others are gaps, above 0.
    """

    name: str
    design: FloatArray
    default: FloatArray
    located: bool

    @property
    def grades(self) -> int:
        """How many there are."""
        return len(self.design) + 1

    def bounds(self, parameters: FloatArray) -> FloatArray:
        """Cut points, the infinite ones too: ``(..., grades + 1)`` from ``(..., parameters)``."""
        cuts = parameters @ self.design.T
        ends = np.full((*cuts.shape[:-1], 1), np.inf)
        return np.concatenate([-ends, cuts, ends], axis=-1)


def graded(name: str, grades: int, gap: float) -> OrdinalForm:
    """A form whose cut points are a location, their mean, and the gaps between them."""
    steps = np.tril(np.ones((grades - 1, grades - 2)), -1)
    design = np.concatenate([np.ones((grades - 1, 1)), steps - steps.mean(axis=0)], axis=1)
    return OrdinalForm(name, design, np.array([0.0] + [gap] * (grades - 2)), located=True)


def paired(ties: bool, strengths: bool) -> OrdinalForm:
    """Comparisons: grades of the difference of two answers, with cut points symmetric about 0.

    With ties alone it is the model of Rao and Kupper (1967), ``P(first) = sigmoid(difference - t)``.
    A crowd that never says "tie" was not offered it, so there is no such grade (Bradley and Terry 1952);
    neither are there strengths if nobody ever says more than "slightly".
    """
    gaps = (3 if strengths else 1) - (0 if ties else 1)
    above = np.tril(np.ones((gaps, gaps)))
    middle = np.zeros((0 if ties else 1, gaps))
    default = np.array(([0.5] if ties else []) + [1.2] * (2 if strengths else 0))
    return OrdinalForm("pair", np.concatenate([-above[::-1], middle, above]), default, located=False)


RATING = graded("rating", 5, 1.3)
PERCENT = graded("percent", PERCENT_BINS, 0.75)
THUMB = graded("thumb", 2, 0.0)
