"""A PostgreSQL server of the tests' own, and the fixtures of stores on SQLite and on it.

- `store`: an open, empty store; the test runs twice, on SQLite and on PostgreSQL.
- `store_address`: the same as a URL whose database is empty (no tables), for tests with several processes.
- `sqlite_store`: an open, empty store on SQLite only.
- `postgres`: the server; `postgres.database()` makes an empty database and returns its URL.

Tests on PostgreSQL skip where its programs are not installed.
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from palate.store import Store

_PROGRAMS = Path("/usr/lib/postgresql")
_OLDEST = 15
_START_SECONDS = 60
# A test's database is thrown away, so nothing of it needs to reach the disk.
_SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "32MB",
    "max_wal_size": "256MB",
    "deadlock_timeout": "50ms",
    "timezone": "Asia/Kathmandu",  # not UTC, so that a time without zone would show
}


@dataclass
class PostgresServer:
    """A running server that listens on a socket in `folder`."""

    folder: Path
    _numbers: Iterator[int] = field(default_factory=count)

    def url(self, database: str) -> str:
        return f"postgresql://palate@/{database}?host={self.folder}"

    def database(self, template: str = "template0") -> str:
        """The URL of a new database, a copy of `template`."""
        name = f"test_{next(self._numbers)}"
        self.run(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.url(name)

    def drop(self, url: str) -> None:
        """Remove a database of `database`, so that many tests do not fill the disk."""
        name = url.partition("@/")[2].partition("?")[0]
        self.run(f'DROP DATABASE "{name}" WITH (FORCE)')

    def run(self, statement: str, database: str = "postgres") -> list[Any]:
        """Run a statement outside of palate, and its rows."""
        import psycopg

        with psycopg.connect(f"host={self.folder} user=palate dbname={database}", autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    programs = _programs()
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'palate[postgres]'")
    folder = Path(tempfile.mkdtemp(prefix="palate-postgres-"))  # a socket's path has at most 107 characters
    try:
        with _server(programs, folder) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_template(postgres: PostgresServer) -> str:
    """The name of a database with palate's tables, which is quicker to copy than to make."""
    from palate.store import open_store

    postgres.run("CREATE DATABASE palate_template")
    open_store(postgres.url("palate_template")).close()
    return "palate_template"


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with palate's tables, which is quicker to copy than to make."""
    from palate.store import open_store

    path = tmp_path_factory.mktemp("template") / "palate.db"
    open_store(f"sqlite:///{path}").close()
    return path


def _sqlite_copy(template: Path, folder: Path) -> str:
    return f"sqlite:///{shutil.copyfile(template, folder / 'palate.db')}"


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    from palate.store import open_store

    server: PostgresServer | None = None
    if request.param == "sqlite":
        url = _sqlite_copy(request.getfixturevalue("sqlite_template"), tmp_path)
    else:
        server = request.getfixturevalue("postgres")
        url = server.database(request.getfixturevalue("postgres_template"))
    opened = open_store(url)
    yield opened
    opened.close()
    if server is not None:
        server.drop(url)


@pytest.fixture
def sqlite_store(sqlite_template: Path, tmp_path: Path) -> Iterator[Store]:
    from palate.store import open_store

    opened = open_store(_sqlite_copy(sqlite_template, tmp_path))
    yield opened
    opened.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def store_address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'palate.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.database()
    yield url
    server.drop(url)


def _programs() -> Path:
    """The folder of PostgreSQL's programs; the test skips without them."""
    found = [folder for folder in _PROGRAMS.glob("*/bin") if folder.parent.name.isdigit()]
    newest = max(found, key=lambda folder: int(folder.parent.name), default=None)
    on_path = shutil.which("initdb")
    if newest is not None and int(newest.parent.name) >= _OLDEST and (newest / "initdb").exists():
        return newest
    if on_path is not None:
        return Path(on_path).resolve().parent
    pytest.skip(f"PostgreSQL {_OLDEST} is not installed: apt-get install postgresql")


@contextmanager
def _server(programs: Path, folder: Path) -> Iterator[PostgresServer]:
    """A server with its data in `folder`. It refuses to run as root, so root starts it as another user."""
    user: dict[str, Any] = {}
    if os.geteuid() == 0:
        import pwd

        names = {entry.pw_name for entry in pwd.getpwall()}
        owner = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
        os.chown(folder, owner.pw_uid, owner.pw_gid)
        user = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
    data, log = folder / "data", folder / "log"
    made = subprocess.run(
        [programs / "initdb", "-D", data, "-A", "trust", "-U", "palate", "-E", "UTF8", "--locale=C", "--no-sync"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        **user,
    )
    assert made.returncode == 0, made.stderr
    settings = {**_SETTINGS, "unix_socket_directories": str(folder)}
    arguments = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [programs / "postgres", "-D", data, *arguments], cwd=folder, stdout=output, stderr=output, **user
        )
    try:
        server = PostgresServer(folder)
        _wait_until_it_answers(server, process, log)
        yield server
    finally:
        process.send_signal(signal.SIGQUIT)  # stops at once and writes nothing more
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_it_answers(server: PostgresServer, process: subprocess.Popen[bytes], log: Path) -> None:
    import psycopg

    end = time.monotonic() + _START_SECONDS
    while True:
        try:
            server.run("SELECT 1")
        except psycopg.OperationalError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.05)
        else:
            return


def can_be_written(path: Path, seconds: float = 5.0) -> bool:
    """Whether another program gets the write lock of a SQLite file within this time."""
    with closing(sqlite3.connect(path, timeout=seconds, isolation_level=None)) as other:
        try:
            other.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        other.execute("ROLLBACK")
        return True
