"""The feedback store: queries for people and what they said, in SQLite or PostgreSQL.

Needs SQLAlchemy and alembic; not imported by `qa_env.feedback`.
"""

from qa_env.feedback.store.records import (
    AnswerRecord,
    FeedbackEvent,
    LeasedQuery,
    Purpose,
    Query,
    Rater,
    Role,
    Stats,
    StoredEvent,
)
from qa_env.feedback.store.store import Store

__all__ = [
    "AnswerRecord",
    "FeedbackEvent",
    "LeasedQuery",
    "Purpose",
    "Query",
    "Rater",
    "Role",
    "Stats",
    "Store",
    "StoredEvent",
]
