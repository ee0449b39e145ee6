"""The schema's version: a new database gets the tables, an older one is upgraded, a newer one refused."""

from __future__ import annotations

import threading
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection

from qa_env.errors import QAError
from qa_env.feedback.store.database import Database

SCRIPTS = Path(__file__).parent / "migrations"
VERSION_TABLE = "qa_env_schema"
_one_at_a_time = threading.Lock()  # alembic keeps what it works on in a module


def prepare(database: Database, must_exist: bool = False) -> None:
    """Bring the database to the current schema, in one transaction.

    Raises:
        QAError: If it was made by a newer version, holds something else, or does not exist though it must.
    """
    missing = QAError(f"there is no feedback store {database.name}")
    if must_exist and not database.exists():
        raise missing
    known = [script.revision for script in ScriptDirectory(str(SCRIPTS)).walk_revisions()]  # newest first
    with database.read() as connection:
        found = _revision(connection, database.name)
    if found == known[0]:
        return
    if found is None and must_exist:
        raise missing
    if found is None:
        database.set_journal()
    with _one_at_a_time, database.write() as connection:
        found = _revision(connection, database.name)  # another process may have been faster
        if found is not None and found not in known:
            raise QAError(
                f"the feedback store {database.name} has schema {found}, newer than {known[0]}, the newest "
                "that this version knows: upgrade qa-env-rl"
            )
        _upgrade(connection)


def _revision(connection: Connection, name: str) -> str | None:
    """The version of the schema, None in an empty database."""
    tables = sa.inspect(connection).get_table_names()
    if VERSION_TABLE in tables:
        version = sa.table(VERSION_TABLE, sa.column("version_num"))
        return str(connection.execute(sa.select(version.c.version_num)).scalar_one())
    if tables:
        raise QAError(
            f"{name} is a database of something else (it has a table {tables[0]}); give an empty one"
        )
    return None


def _upgrade(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.attributes.update(connection=connection, version_table=VERSION_TABLE)
    command.upgrade(config, "head")
