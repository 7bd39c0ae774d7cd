"""Opening a database: settings of its connections, and every reason why it cannot be opened, in one line."""

from __future__ import annotations

import os
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from palate.errors import StoreError
from palate.store import Store, open_store
from palate.store.engine import schema_versions
from palate.store.tables import User

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def add_user(name: str) -> Callable[[Session], None]:
    """A unit of work."""

    def work(session: Session) -> None:
        session.add(User(name=name, role="annotator", created=NOW))

    return work


def refusal(url: object, **options: bool) -> str:
    """The message with which a database is refused."""
    with pytest.raises(StoreError) as found:
        open_store(str(url), **options)
    assert "\n" not in str(found.value)
    return str(found.value)


def test_a_store_is_made_where_it_is_named_and_opened_again(tmp_path: Path) -> None:
    file = tmp_path / "votes.db"
    store = open_store(str(file))
    assert (store.is_sqlite, store.url) == (True, str(file))
    store.write(add_user("ann"))
    store.close()
    again = open_store(f"sqlite:///{file}", create=False)
    assert again.read(lambda session: session.scalars(select(User.name)).all()) == ["ann"]
    again.close()


def test_the_default_is_a_file_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PALATE_STORE", raising=False)
    open_store().close()
    assert (tmp_path / "palate.db").exists()
    monkeypatch.setenv("PALATE_STORE", "sqlite:///other.db")
    open_store().close()
    assert (tmp_path / "other.db").exists()


@pytest.mark.parametrize(
    ("options", "durable", "synchronous"), [("", False, 1), ("", True, 2), ("?synchronous=full", False, 2)]
)
def test_the_settings_of_every_sqlite_connection(tmp_path: Path, options: str, durable: bool, synchronous: int) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'votes.db'}{options}", durable=durable)
    with store.engine.connect() as first, store.engine.connect().execution_options(palate_write=False) as second:
        for connection in (first, second):
            driver = connection.connection.driver_connection
            assert driver is not None
            read = {
                name: driver.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            }
            assert read == {
                "journal_mode": "wal",
                "synchronous": synchronous,
                "foreign_keys": 1,
                "busy_timeout": 10_000,
            }
    store.close()


def test_postgresql_needs_its_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    said = refusal("postgresql://me:CANARY@127.0.0.1/votes")
    assert said == "postgresql://me@127.0.0.1/votes: needs psycopg; pip install 'palate[postgres]'"


def test_a_server_that_does_not_answer_is_named_without_the_password() -> None:
    pytest.importorskip("psycopg")
    said = refusal("postgresql://me:CANARY@127.0.0.1:1/votes?connect_timeout=2&application_name=CANARY")
    assert said.startswith("postgresql://me@127.0.0.1:1/votes: ")
    assert "refused" in said
    assert "CANARY" not in said


def test_a_database_that_the_server_does_not_have_is_named(postgres: object) -> None:
    from store_servers import PostgresServer

    assert isinstance(postgres, PostgresServer)
    assert 'database "absent" does not exist' in refusal(postgres.url("absent"))


def test_folders_are_checked(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no" / "votes.db").endswith(f"the folder {tmp_path / 'no'} does not exist")
    assert refusal(tmp_path) == f"{tmp_path}: is a folder; name a file"
    assert "there is no such database" in refusal(tmp_path / "votes.db", create=False)
    assert not (tmp_path / "votes.db").exists()


@pytest.mark.parametrize("content", [b"no database at all " * 100, b"SQLite format 3\0" + b"x" * 500])
def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "votes.db"
    file.write_bytes(content)
    said = refusal(file)
    assert said.startswith(f"{file}: is damaged, or no SQLite database (")
    assert said.endswith("; restore a copy of it, or name another one with --store")
    with pytest.raises(StoreError) as found:
        schema_versions(str(file))
    assert str(found.value) == said
    assert file.read_bytes() == content


def test_a_file_of_no_bytes_is_made_a_store_but_not_read_as_one(tmp_path: Path) -> None:
    file = tmp_path / "votes.db"
    file.touch()
    assert refusal(file, create=False).startswith(f"{file}: is empty (0 bytes)")
    assert file.read_bytes() == b""
    open_store(str(file)).close()  # what a creation leaves that was killed
    open_store(str(file), create=False).close()


@pytest.mark.parametrize("table", ["birds", "alembic_version"])
def test_another_programs_database_is_left_alone(tmp_path: Path, table: str) -> None:
    file = tmp_path / "birds.db"
    with closing(sqlite3.connect(file)) as other:
        other.execute(f"CREATE TABLE {table} (version_num TEXT)")
        other.execute(f"INSERT INTO {table} VALUES ('a1b2')")
        other.commit()
    said = refusal(file)
    assert said == f"{file}: is not palate's: it has the table {table}; name another one with --store"
    with closing(sqlite3.connect(file)) as other:
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [(table,)]


@contextmanager
def ordinary_user() -> Iterator[None]:
    """Root may write to every file, so the block runs as another user."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder for every user; those of pytest are private."""
    with tempfile.TemporaryDirectory(prefix="palate-store-") as name:
        folder = Path(name)
        folder.chmod(0o777)
        yield folder
        folder.chmod(0o777)


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")
def test_a_file_that_may_only_be_read(public_folder: Path) -> None:
    file = public_folder / "votes.db"
    store = open_store(str(file))
    store.write(add_user("ann"))
    store.close()
    file.chmod(0o444)
    with ordinary_user():
        store = open_store(str(file))
        assert store.read(lambda session: session.scalars(select(User.name)).all()) == ["ann"]
        with pytest.raises(StoreError, match=r"cannot be written to .*; grant write permission") as found:
            store.write(add_user("bob"))
        assert "\n" not in str(found.value)
        store.close()


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")
def test_a_folder_that_may_only_be_read(public_folder: Path) -> None:
    public_folder.chmod(0o555)
    with ordinary_user():
        found = refusal(public_folder / "new.db")
    assert "unable to open database file" in found
    assert "palate needs read and write permission for the file and its folder" in found


def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "votes.db"
    store = open_store(str(file))
    for number in range(20):
        store.write(add_user(f"user {number}"))
    store.close()
    content = bytearray(file.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    file.write_bytes(content)

    def use() -> None:
        damaged = open_store(str(file))
        damaged.read(lambda session: session.scalar(select(func.count()).select_from(User)))

    with pytest.raises(StoreError, match=r"is damaged, .*; restore a copy of it") as found:
        use()
    assert "\n" not in str(found.value)


def test_the_url_of_a_postgresql_store_has_no_options(store: Store) -> None:
    assert "host=" not in store.url
    assert store.is_sqlite == store.url.endswith("palate.db")
