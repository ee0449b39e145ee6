"""Runs the scripts in the transaction that `qa_env.feedback.store.schema` has begun."""

from __future__ import annotations

from alembic import context

from qa_env.feedback.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=context.config.attributes["version_table"],
    render_as_batch=True,  # SQLite alters a table by copying it
)
with context.begin_transaction():
    context.run_migrations()
