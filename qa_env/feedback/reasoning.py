"""The scorers of `reasoning-gym` as feedback on the questions that it made."""

from __future__ import annotations

from typing import Any

from qa_env.datasets.example import QAExample
from qa_env.datasets.reasoning import ENTRY, REASONING, library
from qa_env.errors import QAError
from qa_env.feedback.components import AnswerMetric


class ReasoningGym(AnswerMetric):
    """What the generator of a question says of an answer, from 0 to 1.

    Many tasks take any right solution, not the reference alone, and some give a small part for a good try. An
    answer that a scorer cannot read is wrong. Some scorers work an answer out as a formula (with SymPy, which
    evaluates it): keep to others where strangers write answers.

    Raises:
        QAError: If the package is not installed.
    """

    name = "reasoning-gym"

    def __init__(self) -> None:
        self._library = library()
        self._scorers: dict[str, Any] = {}

    def measure(self, example: QAExample, answer: str) -> float:
        """Return the score of one answer."""
        entry = example.metadata.get(ENTRY)
        if entry is None:
            raise QAError(
                f"'{self.name}' knows its own questions only, and example '{example.id}' is none; "
                f"give --data {REASONING}TASK, or other feedback"
            )
        task = entry["metadata"]["source_dataset"]
        if task not in self._scorers:
            self._scorers[task] = self._library.create_dataset(task, size=1, seed=0)
        try:
            return float(self._scorers[task].score_answer(answer, entry))
        except Exception:  # whatever an answer makes a scorer stumble over
            return 0.0
