"""What a facts data set is made of."""

from __future__ import annotations

from dataclasses import dataclass

from qa_env.errors import QAError


@dataclass(frozen=True)
class FactsConfig:
    """Sizes and kind of the questions that ``make_facts`` makes.

    Attributes:
        labelled: Questions with references that supervised training may read.
        unlabelled: Questions that are answered for feedback.
        validation: Questions for choices such as early stopping.
        test: Questions for the report.
        seed: The same seed gives the same data set.
        level: 1 asks for one fact; 2 asks for a fact on the country in which a city lies.
        open_book: Give each question a context to read; without, the context is None.
        min_statements: The fewest statements in a context.
        max_statements: The most statements in a context.
        counterfactual: The share of contexts that state another value than the true one, and of which
            the reference says what the context says: they tell reading from remembering.
    """

    labelled: int = 150
    unlabelled: int = 8000
    validation: int = 400
    test: int = 1000
    seed: int = 0
    level: int = 1
    open_book: bool = True
    min_statements: int = 2
    max_statements: int = 6
    counterfactual: float = 0.3

    def __post_init__(self) -> None:
        """Checks every value.

        Raises:
            QAError: A value is out of its range.
        """
        for name, least in (("labelled", 1), ("unlabelled", 0), ("validation", 0), ("test", 0), ("seed", 0)):
            _check_whole(name, getattr(self, name), least)
        _check_whole("min_statements", self.min_statements, 2)
        _check_whole("max_statements", self.max_statements, self.min_statements)
        if self.level not in (1, 2):
            raise QAError(f"FactsConfig.level must be 1 (one step) or 2 (two steps), got {self.level!r}")
        if self.level == 2 and self.open_book and self.max_statements < 4:
            raise QAError(
                "FactsConfig.max_statements must be at least 4 at level 2 (two steps for the answer, two for "
                f"the distractor), got {self.max_statements}"
            )
        if not 0.0 <= self.counterfactual <= 1.0:
            raise QAError(
                f"FactsConfig.counterfactual must be a share from 0 to 1, got {self.counterfactual!r}"
            )


def _check_whole(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise QAError(f"FactsConfig.{name} must be a whole number, {least} or more, got {value!r}")
