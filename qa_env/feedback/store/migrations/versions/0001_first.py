"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make all tables."""
    _make_people_and_texts()
    _make_queries()
    _make_events()


def _make_people_and_texts() -> None:
    op.create_table(
        "meta",
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_meta"),
    )
    op.create_table(
        "rater",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("disabled", sa.Double),
        sa.PrimaryKeyConstraint("name", name="pk_rater"),
    )
    op.create_table(
        "question",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("question", sa.Text, nullable=False),
        sa.Column("context", sa.Text),
        sa.Column("example_id", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_question"),
    )
    op.create_table(
        "answer",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("question", sa.String(32), nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("step", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="pk_answer"),
        sa.ForeignKeyConstraint(["question"], ["question.id"], name="fk_answer_question"),
    )


def _make_queries() -> None:
    op.create_table(
        "query",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("answers", sa.JSON, nullable=False),
        sa.Column("purpose", sa.String(16), nullable=False),
        sa.Column("selector", sa.Text, nullable=False),
        sa.Column("priority", sa.Double, nullable=False),
        sa.Column("needed", sa.Integer, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("expires", sa.Double),
        sa.PrimaryKeyConstraint("id", name="pk_query"),
    )
    op.create_index("ix_query_order", "query", [sa.text("priority DESC"), "created", "id"])
    op.create_table(
        "lease",
        sa.Column("query", sa.String(32), nullable=False),
        sa.Column("rater", sa.Text, nullable=False),
        sa.Column("until", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("query", "rater", name="pk_lease"),
        sa.ForeignKeyConstraint(["query"], ["query.id"], name="fk_lease_query"),
        sa.ForeignKeyConstraint(["rater"], ["rater.name"], name="fk_lease_rater"),
    )
    op.create_index("ix_lease_rater", "lease", ["rater"])


def _make_events() -> None:
    op.create_table(
        "event",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), autoincrement=True),
        sa.Column("uuid", sa.String(36), nullable=False),
        sa.Column("query", sa.String(32), nullable=False),
        sa.Column("rater", sa.Text, nullable=False),
        sa.Column("form", sa.String(16), nullable=False),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("schema_version", sa.Integer, nullable=False),
        sa.Column("unsure", sa.Boolean, nullable=False),
        sa.Column("shown_order", sa.JSON, nullable=False),
        sa.Column("latency", sa.Double),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("supersedes", sa.String(36)),
        sa.PrimaryKeyConstraint("seq", name="pk_event"),
        sa.UniqueConstraint("uuid", name="uq_event_uuid"),
        sa.UniqueConstraint("supersedes", name="uq_event_supersedes"),
        sa.ForeignKeyConstraint(["query"], ["query.id"], name="fk_event_query"),
        sa.ForeignKeyConstraint(["rater"], ["rater.name"], name="fk_event_rater"),
        sa.ForeignKeyConstraint(["supersedes"], ["event.uuid"], name="fk_event_supersedes"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_event_query", "event", ["query"])
