"""A database by path or URL: SQLite or PostgreSQL, one writer at a time, and errors in one line."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from qa_env.errors import QAError

DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg"}
_WRITER = 0x71615F656E76  # the key of PostgreSQL's advisory lock: "qa_env" in ASCII
_PAUSE = 0.02  # seconds between two tries to get a lock

_LOCKED = "is locked by another process for longer than {timeout:g} s; end that process, or try again"
_SQLITE_ERRORS = {
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_READONLY: "may only be read; make the file and its folder writable",
    sqlite3.SQLITE_FULL: "has no room left; make room on the disk. Nothing of this write was kept",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened; are its folder there and the rights as they should be?",
    sqlite3.SQLITE_NOTADB: "is not an SQLite database; give another path",
    sqlite3.SQLITE_CORRUPT: "is damaged; take a copy of it from before, or an export",
    sqlite3.SQLITE_IOERR: "cannot be read or written: the disk reports an error",
}
_POSTGRES_ERRORS = {
    "55P03": _LOCKED,
    "25006": "may only be read; connect to a server that can write",
    "42501": "refuses this user; give it the rights to make and write tables",
    "53100": "has no room left; make room on the server's disk. Nothing of this write was kept",
}


class Database:
    """Connections to one database, made when they are needed.

    Args:
        url: A path, or a URL of SQLAlchemy's for SQLite or PostgreSQL.
        timeout: How many seconds to wait for another writer, or for a server.

    Raises:
        QAError: If the URL is malformed, names another database, or its driver is not installed.
    """

    def __init__(self, url: str | Path, timeout: float = 10.0) -> None:
        self.url = parse_url(url)
        self.timeout = timeout
        self.name = _shown(self.url)
        self.dialect = self.url.get_backend_name()
        self.engine = _new_engine(self.url, timeout)
        self._held: ContextVar[Connection | None] = ContextVar("held", default=None)
        if self.dialect == "sqlite":
            self._reading: Engine = self.engine.execution_options(begin="BEGIN")
            # IMMEDIATE: a transaction that reads first and writes later could not wait for another writer.
            self._writing: Engine = self.engine.execution_options(begin="BEGIN IMMEDIATE")
        else:
            # A reader sees one moment throughout, as it does in SQLite.
            self._reading = self.engine.execution_options(isolation_level="REPEATABLE READ")
            self._writing = self.engine

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one moment and writes nothing.

        Raises:
            QAError: If the database cannot be read.
        """
        held = self._held.get()
        if held is not None:
            yield held
            return
        with self._one_line(), self._reading.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction in which nobody else writes; committed at the end, undone by an exception.

        One writer at a time, on PostgreSQL too: so the events' numbers become visible in their order (a
        sequence alone does not promise that), and what was counted still holds when it is acted upon.

        Raises:
            QAError: If the database cannot be written; then nothing was.
        """
        held = self._held.get()
        if held is not None:
            yield held
            return
        with self._one_line(), self._writing.begin() as connection:
            if self.dialect == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_WRITER)))
            yield connection

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything that this thread reads and writes inside is one transaction of `write`."""
        with self.write() as connection:
            before = self._held.set(connection)
            try:
                yield
            finally:
                self._held.reset(before)

    def set_journal(self) -> None:
        """Let readers and the writer work side by side: SQLite's write-ahead log, a property of the file.

        Where another connection is about to write SQLite refuses at once, whatever the timeout: this waits.
        """
        if self.dialect != "sqlite":
            return
        end = time.monotonic() + self.timeout
        with self._one_line():
            while True:
                try:
                    with self.engine.begin() as connection:
                        connection.exec_driver_sql("PRAGMA journal_mode=WAL")
                    return
                except DBAPIError as error:
                    busy = _sqlite_code(error) == sqlite3.SQLITE_BUSY
                    if not busy or time.monotonic() > end:
                        raise
                time.sleep(_PAUSE)

    def exists(self) -> bool:
        """Whether there is a file; a server is asked when it is used."""
        return self.dialect != "sqlite" or self._in_uri() or Path(str(self.url.database)).is_file()

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def _in_uri(self) -> bool:
        return str(self.url.database).startswith("file:")

    @contextmanager
    def _one_line(self) -> Iterator[None]:
        """Database errors as a QAError; any other passes."""
        try:
            yield
        except DBAPIError as error:
            raise QAError(f"the feedback store {self.name} {self._reason(error)}") from error
        except SQLAlchemyError as error:
            raise QAError(f"the feedback store {self.name} failed: {_first_line(error)}") from error

    def _reason(self, error: DBAPIError) -> str:
        code: Any
        if self.dialect == "sqlite":
            code = _sqlite_code(error)
            known: Any = _SQLITE_ERRORS
        else:
            code = getattr(error.orig, "sqlstate", None)
            known = _POSTGRES_ERRORS
        if code in known:
            return str(known[code]).format(timeout=self.timeout)
        if error.connection_invalidated:
            return (
                f"was lost: {_first_line(error.orig)}; whether a write under way is stored is not known: "
                "send it again, its uuid keeps it single"
            )
        if self.dialect == "postgresql" and code is None:
            return f"cannot be reached: {_first_line(error.orig)}"
        return f"failed: {_first_line(error.orig)}"


def _sqlite_code(error: DBAPIError) -> int:
    """SQLite's primary code of an error."""
    return int(getattr(error.orig, "sqlite_errorcode", 0)) & 0xFF  # the high bits say which sort


def parse_url(url: str | Path) -> URL:
    """A path or URL as SQLAlchemy's URL with the driver that is used here.

    Raises:
        QAError: If it is malformed, or of another database.
    """
    if isinstance(url, Path) or "://" not in url:
        if not str(url).strip() or str(url) == ":memory:":
            raise QAError(f"a feedback store needs a file or a URL, got '{url}'")
        return URL.create("sqlite", database=str(url))
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (ArgumentError, NoSuchModuleError, ValueError):
        raise QAError(f"not a database URL: '{url.split('://')[0]}://...'; {_examples()}") from None
    if backend not in DRIVERS:
        raise QAError(f"a feedback store is in SQLite or PostgreSQL, not in {backend}; {_examples()}")
    if backend == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise QAError(f"a feedback store in SQLite needs a file; {_examples()}")
    return parsed.set(drivername=DRIVERS[backend])


def _examples() -> str:
    return "e.g. feedback.db, sqlite:///feedback.db or postgresql://user@host/database"


def _shown(url: URL) -> str:
    """The URL for messages: no password, and no query string, which may hold one."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    return url.set(query={}).render_as_string(hide_password=True)


def _new_engine(url: URL, timeout: float) -> Engine:
    if url.get_backend_name() == "sqlite":
        engine = sa.create_engine(url, connect_args={"timeout": timeout})
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    options = f"-c lock_timeout={max(1, round(1000 * timeout))}"
    given = url.query.get("options")
    if given:
        options = f"{given if isinstance(given, str) else ' '.join(given)} {options}"
    try:
        return sa.create_engine(
            url.difference_update_query(["options"]),
            connect_args={"connect_timeout": max(2, round(timeout)), "options": options},
            pool_pre_ping=True,  # a server that was restarted is found again
        )
    except ModuleNotFoundError as error:
        raise QAError(
            f"PostgreSQL needs the package {error.name}: pip install 'qa-env-rl[postgres]'"
        ) from None


def _set_up_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver would begin transactions late: `_begin_sqlite` does
    connection.execute("PRAGMA foreign_keys=ON")
    # With FULL a commit is on the disk when it returns; NORMAL may lose the last ones when power fails.
    connection.execute("PRAGMA synchronous=FULL")


def _begin_sqlite(connection: Connection) -> None:
    statement = connection.get_execution_options().get("begin")
    if statement:
        connection.exec_driver_sql(statement)


def _first_line(error: object) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
