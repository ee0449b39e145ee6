"""What judges finished answers: text metrics, simulated users, plain functions, and their sums.

`qa_env.feedback.fluency` is not imported here, since it alone needs torch.
"""

from qa_env.feedback.base import Feedback, FloatArray, FunctionFeedback, RewardFunction, Score, check_reward
from qa_env.feedback.components import (
    AnswerMetric,
    ChrF,
    ExactMatch,
    Fluency,
    FluencyJudge,
    Length,
    Repetition,
    RougeL,
    TokenF1,
    ValueAccuracy,
    WeightedSum,
)
from qa_env.feedback.loading import BUILT_IN, FeedbackSource, as_feedback, load_object, score_checked
from qa_env.feedback.simulated import SimulatedUsers, SimulatedUsersConfig

__all__ = [
    "BUILT_IN",
    "AnswerMetric",
    "ChrF",
    "ExactMatch",
    "Feedback",
    "FeedbackSource",
    "FloatArray",
    "Fluency",
    "FluencyJudge",
    "FunctionFeedback",
    "Length",
    "Repetition",
    "RewardFunction",
    "RougeL",
    "Score",
    "SimulatedUsers",
    "SimulatedUsersConfig",
    "TokenF1",
    "ValueAccuracy",
    "WeightedSum",
    "as_feedback",
    "check_reward",
    "load_object",
    "score_checked",
]
