"""From labels to what is known of answers and raters, and how far raters agree."""

from qa_env.feedback.aggregation.aggregate import (
    Aggregate,
    Estimate,
    FormFit,
    Quality,
    RaterFit,
    aggregate,
    demonstrations,
)
from qa_env.feedback.aggregation.agreement import (
    Agreement,
    agreement,
    krippendorff_alpha,
    krippendorff_interval,
)
from qa_env.feedback.aggregation.config import AggregationConfig, Role, Roles
from qa_env.feedback.aggregation.terms import Terms

__all__ = [
    "Aggregate",
    "AggregationConfig",
    "Agreement",
    "Estimate",
    "FormFit",
    "Quality",
    "RaterFit",
    "Role",
    "Roles",
    "Terms",
    "aggregate",
    "agreement",
    "demonstrations",
    "krippendorff_alpha",
    "krippendorff_interval",
]
