"""The version of a database's schema: created, upgraded after a copy, or refused if it is newer."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Connection, Engine, inspect

from palate.artifacts.files import sync_folder, temporary_path
from palate.errors import StoreError
from palate.progress import print_line
from palate.store.urls import shown_url

VERSION_TABLE = "palate_version"
"""Alembic's table of the version, under a name of palate's, so that other programs' databases are told apart."""

_MIGRATIONS = Path(__file__).with_name("migrations")
_ADVISORY_LOCK = 7205759  # any number, the same in every process
# Alembic's `context` is one per process.
_ALEMBIC = threading.Lock()


def newest() -> str:
    """The version of the schema that this palate reads and writes."""
    return str(_scripts().get_current_head())


def prepare(engine: Engine) -> None:
    """Bring the database to the newest version.

    Two processes may do it at the same time: the transaction that begins first upgrades, the other finds it done.

    Raises:
        StoreError: the database has tables but is not palate's, or is of a version that this palate does not know.
    """
    with engine.connect().execution_options(palate_write=False) as connection:
        if schema_version(connection) == newest():
            return
    with _upgrading(engine) as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
        found = schema_version(connection)
        if found == newest():
            return
        copy = _copy(engine, found) if found is not None and engine.dialect.name == "sqlite" else None
        try:
            _upgrade(connection)
        except BaseException:
            if copy is not None:  # nothing has changed
                copy.unlink(missing_ok=True)
            raise
    if copy is not None:
        line = f"{shown_url(engine.url)}: upgraded from schema {found} to {newest()}; {copy} is a copy from before"
        print_line(line, notice=True)


@contextlib.contextmanager
def _upgrading(engine: Engine) -> Iterator[Connection]:
    """A transaction for the upgrade; in SQLite with foreign keys off, because it changes a table by replacing it."""
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        if engine.dialect.name == "sqlite":
            assert driver is not None
            driver.execute("PRAGMA foreign_keys=OFF")  # has no effect within a transaction
        try:
            with connection.begin():
                yield connection
        finally:
            if engine.dialect.name == "sqlite" and driver is not None:
                driver.execute("PRAGMA foreign_keys=ON")


def _upgrade(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    with _ALEMBIC:
        command.upgrade(config, "head")
    if connection.dialect.name == "sqlite":
        broken = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
        if broken is not None:
            raise StoreError(
                f"{shown_url(connection.engine.url)}: cannot be upgraded: row {broken[1]} of {broken[0]} refers to a "
                f"row of {broken[2]} that does not exist; nothing was changed"
            )


def _scripts() -> ScriptDirectory:
    return ScriptDirectory(str(_MIGRATIONS))


def schema_version(connection: Connection) -> str | None:
    """The database's version; None if it is empty."""
    place = shown_url(connection.engine.url)
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    found = context.get_current_revision()
    if found is None:
        names = set(inspect(connection).get_table_names()) - {VERSION_TABLE}
        if names:
            raise StoreError(f"{place}: is not palate's: it has the table {min(names)}; name another one with --store")
        return None
    try:
        known = _scripts().get_revision(found) is not None
    except CommandError:
        known = False
    if not known and found < newest():
        raise StoreError(f"{place}: has schema {found}, from before the first release; name another one with --store")
    if not known:
        raise StoreError(f"{place}: was written by a newer palate (schema {found}, here {newest()}); update palate")
    return found


def _copy(engine: Engine, version: str) -> Path:
    """Copy a SQLite database beside itself before the upgrade. A PostgreSQL upgrade is one transaction.

    The caller holds the write lock, so the copy is the state that the upgrade begins with.

    Raises:
        StoreError: the copy cannot be written.
    """
    file = Path(engine.url.database or "")
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    copy = file.with_name(f"{file.name}.schema-{version}.{stamp}")
    part = temporary_path(copy)
    try:
        with contextlib.closing(sqlite3.connect(file)) as source, contextlib.closing(sqlite3.connect(part)) as target:
            source.backup(target)
        shutil.copymode(file, part)  # it has the same password hashes
        with part.open("rb+") as written:
            os.fsync(written.fileno())
        part.replace(copy)
        sync_folder(copy.parent)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(
            f"{file}: is not upgraded: the copy {copy} cannot be written ({error}); free space or allow it"
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return copy
