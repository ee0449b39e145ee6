"""Feedback from whatever a user hands in: an object, a function or a name."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Sequence
from typing import Any, TypeGuard, cast

import numpy as np

from qa_env.datasets.example import QAExample
from qa_env.errors import QAError
from qa_env.feedback.base import Feedback, FunctionFeedback, RewardFunction, Score, check_reward
from qa_env.feedback.components import (
    ChrF,
    ExactMatch,
    Length,
    Repetition,
    RougeL,
    TokenF1,
    ValueAccuracy,
)
from qa_env.feedback.reasoning import ReasoningGym

FeedbackSource = Feedback | RewardFunction | str

BUILT_IN: dict[str, Callable[[], Feedback]] = {
    "exact_match": ExactMatch,
    "f1": TokenF1,
    "rouge_l": RougeL,
    "chrf": ChrF,
    "value": ValueAccuracy,
    "length": Length,
    "repetition": Repetition,
    "reasoning-gym": ReasoningGym,
}


def load_object(path: str) -> Callable[..., Any]:
    """Return the callable that ``"package.module:attribute"`` names.

    Raises:
        QAError: If the path is malformed, the module cannot be imported, or it has no such callable.
    """
    found = _find(path)
    if not callable(found):
        raise QAError(f"'{path}' must be callable, got {type(found).__name__}")
    return cast(Callable[..., Any], found)


def _find(path: str) -> object:
    module_name, colon, attribute = path.partition(":")
    if not (colon and all(part.isidentifier() for part in (*module_name.split("."), *attribute.split(".")))):
        raise QAError(f"expected 'module:attribute', e.g. 'my_feedback:reward', got '{path}'")
    try:
        found: object = importlib.import_module(module_name)
    except ImportError as error:
        raise QAError(f"cannot import '{module_name}' for '{path}': {error}") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            near = difflib.get_close_matches(part, dir(found), n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise QAError(f"'{path}': '{module_name}' has no attribute '{attribute}'{hint}")
        found = getattr(found, part)
    return found


def _is_feedback(source: object) -> TypeGuard[Feedback]:
    is_instance = not isinstance(source, type)
    return (
        is_instance
        and callable(getattr(source, "score", None))
        and isinstance(getattr(source, "name", None), str)
    )


def as_feedback(source: FeedbackSource) -> Feedback:
    """Return `source` as a `Feedback`.

    Args:
        source: A `Feedback`; a plain function ``(examples, answers) -> rewards (batch,)``; a
            built-in name (`BUILT_IN`); or ``"module:attribute"`` naming a feedback object, a
            feedback class without arguments, or a plain function.

    Raises:
        QAError: If it is none of these.
    """
    if not isinstance(source, str):
        return _from_object(source, repr(source))
    if ":" in source:
        return _from_object(_find(source), f"'{source}'")
    if source not in BUILT_IN:
        near = difflib.get_close_matches(source.casefold(), BUILT_IN, n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise QAError(
            f"unknown feedback '{source}': {hint}Names are {', '.join(BUILT_IN)}, or 'module:attribute'"
        )
    return BUILT_IN[source]()


def _from_object(source: object, label: str) -> Feedback:
    if isinstance(source, type) and hasattr(source, "score"):
        try:
            source = source()
        except TypeError as error:
            raise QAError(
                f"feedback class {label:.80} must be constructible without arguments: {error}"
            ) from error
    if _is_feedback(source):
        return source
    if callable(source) and not isinstance(source, type):
        return FunctionFeedback(cast(RewardFunction, source))
    raise QAError(
        f"{label:.80} is no feedback: expected a name, a function, or an object with `name` and `score`"
    )


def score_checked(
    feedback: Feedback,
    examples: Sequence[QAExample],
    answers: Sequence[str],
    rngs: Sequence[np.random.Generator],
) -> Score:
    """Return ``feedback.score(...)`` with the reward and every component checked.

    Raises:
        QAError: If the arguments differ in length, or the reward or a component is not of shape
            ``(batch,)``, numeric and finite.
    """
    batch = len(answers)
    if not len(examples) == len(rngs) == batch:
        raise QAError(
            f"got {len(examples)} examples, {batch} answers and {len(rngs)} generators; expected as many"
        )
    score = feedback.score(examples, answers, rngs)
    if not isinstance(score, Score):
        raise QAError(f"feedback '{feedback.name}' must return a Score, got {type(score).__name__}")
    parts = {
        part: check_reward(values, batch, f"{feedback.name}/{part}")
        for part, values in score.components.items()
    }
    return Score(check_reward(score.reward, batch, feedback.name), parts)
