"""The tables of the feedback store. A change here needs a script in `migrations/versions`."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

meta = Table(
    "meta",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)

rater = Table(
    "rater",
    metadata,
    Column("name", Text, primary_key=True),
    Column("role", String(16), nullable=False),
    Column("created", Double, nullable=False),
    Column("disabled", Double),
)

question = Table(
    "question",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("question", Text, nullable=False),
    Column("context", Text),
    Column("example_id", Text, nullable=False),
)

answer = Table(
    "answer",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("question", ForeignKey("question.id"), nullable=False),
    Column("text", Text, nullable=False),
    Column("step", BigInteger),
)

query = Table(
    "query",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("answers", JSON, nullable=False),
    Column("purpose", String(16), nullable=False),
    Column("selector", Text, nullable=False),
    Column("priority", Double, nullable=False),
    Column("needed", Integer, nullable=False),
    Column("created", Double, nullable=False),
    Column("expires", Double),
)

lease = Table(
    "lease",
    metadata,
    Column("query", ForeignKey("query.id"), primary_key=True),
    Column("rater", ForeignKey("rater.name"), primary_key=True, index=True),
    Column("until", Double, nullable=False),
)

event = Table(
    "event",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("uuid", String(36), nullable=False, unique=True),
    Column("query", ForeignKey("query.id"), nullable=False, index=True),
    Column("rater", ForeignKey("rater.name"), nullable=False),
    Column("form", String(16), nullable=False),
    Column("label", Text, nullable=False),
    Column("schema_version", Integer, nullable=False),
    Column("unsure", Boolean, nullable=False),
    Column("shown_order", JSON, nullable=False),
    Column("latency", Double),
    Column("created", Double, nullable=False),
    Column("supersedes", ForeignKey("event.uuid"), unique=True),
    sqlite_autoincrement=True,  # a number is never given twice, or a cursor could miss an event
)

Index("ix_query_order", query.c.priority.desc(), query.c.created, query.c.id)
