"""Looking up what a config names, before any work is done."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agents.algorithms import find_algorithm
from agents.config import TrainConfig
from agents.data import check_data
from agents.offline_algorithms import OFFLINE
from agents.word_vectors import check_width
from qa_env.datasets import QAExample
from qa_env.errors import QAError
from qa_env.feedback.base import Feedback
from qa_env.feedback.loading import as_feedback, score_checked

REWARD_MODEL = "reward-model"
OF_USERS = ("simulated", "reference", REWARD_MODEL)
"""Feedback that comes from users, simulated ones by default."""


def check_names(config: TrainConfig) -> None:
    """Look up everything that a config names, before any work is done.

    Raises:
        QAError: If the algorithm, the feedback or the data file is not there.
    """
    if config.rl.algorithm in OFFLINE:
        if not config.feedback_store:
            raise QAError(
                f"rl.algorithm={config.rl.algorithm} learns from labels that are there: name their store, "
                "--feedback-store feedback.db"
            )
    else:
        find_algorithm(config.rl.algorithm)
    if config.feedback not in OF_USERS:
        as_feedback(config.feedback)
    if config.ask.fallback:
        as_feedback(config.ask.fallback)
    if config.vectors:
        check_width(config.vectors, config.lm.embedding)
    check_data(config)


def try_feedback(feedback: Feedback, examples: Sequence[QAExample]) -> None:
    """Ask about a reference answer and an empty one, so that a mistake shows before the warm start.

    Raises:
        QAError: If the feedback does not return two finite numbers.
    """
    asked = (examples[0], examples[-1])
    score_checked(feedback, asked, (asked[0].references[0], ""), np.random.default_rng(0).spawn(2))
