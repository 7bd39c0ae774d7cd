"""A database's schema: equal to the tables, made once, upgraded after a copy, refused if it is newer."""

from __future__ import annotations

import shutil
import sqlite3
import stat
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, select, text
from sqlalchemy.orm import Session

from palate.errors import StoreError
from palate.store import Store, migrate, open_store
from palate.store.tables import Base, Campaign, CampaignItem, LoginSession, Response, User

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def test_the_migrations_make_the_tables_of_the_source(store: Store) -> None:
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": migrate.VERSION_TABLE})
        assert compare_metadata(context, Base.metadata) == []
        assert set(inspect(connection).get_table_names()) == {*Base.metadata.tables, migrate.VERSION_TABLE}


def set_version(store: Store, version: str) -> None:
    store.write(lambda session: session.execute(text(f"UPDATE {migrate.VERSION_TABLE} SET version_num = '{version}'")))


def address(store: Store) -> str:
    return store.engine.url.render_as_string(hide_password=False)


def test_a_newer_database_is_refused_in_one_line(store: Store) -> None:
    set_version(store, "9999")
    with pytest.raises(StoreError) as found:
        open_store(address(store))
    assert str(found.value) == (
        f"{store.url}: was written by a newer palate (schema 9999, here {migrate.newest()}); update palate"
    )


def test_a_database_from_before_the_first_release_is_not_called_newer(store: Store) -> None:
    set_version(store, "0002")
    with pytest.raises(StoreError, match=r"has schema 0002, from before the first release; name another one"):
        open_store(address(store))


NEXT = '''"""Adds a column, and replaces a table that others refer to."""

import sqlalchemy as sa
from alembic import op

revision = "next"
down_revision = {newest!r}


def upgrade() -> None:
    op.add_column("users", sa.Column("email", sa.String(), nullable=False, server_default="none"))
    with op.batch_alter_table("items") as items:
        items.alter_column("tools", new_column_name="functions")
    {then}
'''


@pytest.fixture
def newer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """`newer(then)` lets this process have one migration more, which ends with the statement `then`."""

    def install(then: str = "pass") -> None:
        newest = migrate.newest()
        folder = tmp_path / "migrations"
        shutil.copytree(migrate._MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "versions" / "9999_next.py").write_text(NEXT.format(newest=newest, then=then))
        monkeypatch.setattr(migrate, "_MIGRATIONS", folder)

    return install


def fill(session: Session) -> None:
    """A unit of work: a row in tables that refer to each other."""
    session.add_all([User(id=1, name="ann", role="admin", created=NOW), Campaign(id=1, name="c", created=NOW)])
    session.flush()
    session.add(LoginSession(token_hash="t", user_id=1, created=NOW, expires=NOW))
    session.add(CampaignItem(id=1, campaign_id=1, name="i", prompt=[], content_hash="h", created=NOW))
    session.flush()
    session.add(Response(item_id=1, number=0, text="a", content_hash="h"))


def copies(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if ".schema-" in path.name]


def test_an_older_database_is_upgraded_and_keeps_its_rows(
    store: Store, newer: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    store.write(fill)
    before = migrate.newest()
    if store.is_sqlite:
        Path(store.url).chmod(0o600)
    newer()
    upgraded = open_store(address(store))
    rows = "SELECT u.email, i.functions, r.text FROM users u, items i JOIN responses r ON r.item_id = i.id"
    assert upgraded.read(lambda session: session.execute(text(rows)).all()) == [("none", None, "a")]
    version = f"SELECT version_num FROM {migrate.VERSION_TABLE}"
    assert upgraded.read(lambda session: session.scalar(text(version))) == "next"
    if store.is_sqlite:
        (copy,) = copies(tmp_path)
        assert stat.S_IMODE(copy.stat().st_mode) == 0o600, "it holds the same password hashes"
        with closing(sqlite3.connect(copy)) as old:
            assert old.execute(version).fetchall() == [(before,)]
            assert old.execute("SELECT name, tools FROM items").fetchall() == [("i", None)]
        said = " ".join(capfd.readouterr().err.split())
        assert f"upgraded from schema {before} to next; {copy} is a copy from before" in said
        with pytest.raises(Exception, match="FOREIGN KEY"):  # checks are on again
            upgraded.write(lambda session: session.execute(text("DELETE FROM items")))
    upgraded.close()
    open_store(address(store)).close()
    assert len(copies(tmp_path)) == store.is_sqlite, "a database that is up to date is not copied"


def test_an_upgrade_that_fails_changes_nothing(store: Store, newer: Any, tmp_path: Path) -> None:
    store.write(fill)
    before = migrate.newest()
    newer("raise RuntimeError('a bug of the migration')")
    with pytest.raises(RuntimeError):
        open_store(address(store))
    assert copies(tmp_path) == []
    version = f"SELECT version_num FROM {migrate.VERSION_TABLE}"
    assert store.read(lambda session: session.scalar(text(version))) == before
    assert store.read(lambda session: session.scalars(select(CampaignItem.tools)).all()) == [None], (
        "the old column is there"
    )


def test_an_upgrade_that_would_break_references_is_refused(sqlite_store: Store, newer: Any, tmp_path: Path) -> None:
    sqlite_store.write(fill)
    newer('op.execute("DELETE FROM items")')
    with pytest.raises(StoreError, match="of responses refers to a row of items that does not exist; nothing was"):
        open_store(address(sqlite_store))
    assert copies(tmp_path) == []
    assert sqlite_store.read(lambda session: session.scalars(select(CampaignItem.name)).all()) == ["i"]


def test_without_space_for_the_copy_nothing_is_upgraded(
    sqlite_store: Store, newer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    newer()
    monkeypatch.setattr(shutil, "copymode", full)
    with pytest.raises(StoreError, match=r"is not upgraded: the copy .* cannot be written .*No space left") as found:
        open_store(address(sqlite_store))
    assert "\n" not in str(found.value)
    assert "email" not in [column["name"] for column in inspect(sqlite_store.engine).get_columns("users")]
    assert [path for path in Path(sqlite_store.url).parent.iterdir() if "tmp" in path.name] == []


OPENER = """
import sys, time
from pathlib import Path
from palate.store import open_store
from palate.store.tables import User
from datetime import UTC, datetime
url, name, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
(folder / f"ready-{name}").touch()
while not (folder / "go").exists():
    time.sleep(0.001)
store = open_store(url)
store.write(lambda session: session.add(User(name=name, role="annotator", created=datetime.now(UTC))))
"""


def test_processes_that_make_one_database_at_the_same_time(store_address: str, tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPENER, store_address, str(number), str(tmp_path)], stderr=subprocess.PIPE, text=True
        )
        for number in range(3)
    ]
    end = time.monotonic() + 60
    while len(list(tmp_path.glob("ready-*"))) < 3 and time.monotonic() < end:
        time.sleep(0.01)
    (tmp_path / "go").touch()
    for process in processes:
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
    store = open_store(store_address)
    assert store.read(lambda session: sorted(session.scalars(select(User.name)))) == ["0", "1", "2"]
    store.close()
