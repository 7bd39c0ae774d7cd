"""The version of a database's schema: created, upgraded after a copy, or refused if it is newer."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Connection, Engine, inspect

from palate.errors import StoreError

_MIGRATIONS = Path(__file__).with_name("migrations")


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
        found = _version(connection, engine)
    if found == newest():
        return
    if found is not None:
        _copy(engine, found)
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7205759)")
        if _version(connection, engine) != newest():
            config = Config()
            config.set_main_option("script_location", str(_MIGRATIONS))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def _scripts() -> ScriptDirectory:
    return ScriptDirectory(str(_MIGRATIONS))


def _version(connection: Connection, engine: Engine) -> str | None:
    """The database's version; None if it is empty."""
    found = MigrationContext.configure(connection).get_current_revision()
    if found is None:
        if names := inspect(connection).get_table_names():
            raise StoreError(
                f"{_place(engine)}: is not palate's: it has the table {sorted(names)[0]}; name another one"
            )
        return None
    try:
        known = _scripts().get_revision(found) is not None
    except CommandError:
        known = False
    if not known:
        raise StoreError(
            f"{_place(engine)}: was written by a newer palate (schema {found}, here {newest()}); update palate"
        )
    return found


def _copy(engine: Engine, version: str) -> None:
    """Copy a SQLite database beside itself before the upgrade, once. A PostgreSQL upgrade is one transaction."""
    if engine.dialect.name != "sqlite":
        return
    file = Path(engine.url.database or "")
    copy = file.with_name(f"{file.name}.before-upgrade-from-{version}")
    if copy.exists():
        return
    part = copy.with_name(copy.name + ".part")
    part.unlink(missing_ok=True)
    source, target = sqlite3.connect(file), sqlite3.connect(part)
    try:
        source.backup(target)
    finally:
        source.close()
        target.close()
    part.rename(copy)


def _place(engine: Engine) -> str:
    return engine.url.database or "" if engine.dialect.name == "sqlite" else engine.url.render_as_string()
