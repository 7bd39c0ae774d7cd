"""Opens the database: connection settings, schema version, upgrade."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from palate.errors import MissingStoreError, StoreError
from palate.store import transactions
from palate.store.migrate import newest, prepare, schema_version
from palate.store.urls import parse_url, shown_url, store_url, without_password

T = TypeVar("T")

_BUSY_SECONDS = 10.0
"""How long a connection waits for a lock before the transaction is tried again as a whole."""


@dataclass(frozen=True, slots=True)
class Store:
    """An open database. Work is done by functions of a session, `store.write(lambda session: …)`.

    Attributes:
        engine: SQLAlchemy's engine, with connection settings of palate.
    """

    engine: Engine

    @property
    def url(self) -> str:
        """The database as messages show it: a SQLite file, or the URL without password and options."""
        return shown_url(self.engine.url)

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    def read(self, work: Callable[[Session], T]) -> T:
        """The result of `work`, which sees one state of the database and changes nothing.

        Raises:
            StoreError: the database cannot be reached or is damaged.
        """
        return transactions.run(self.engine, work, write=False)

    def write(self, work: Callable[[Session], T]) -> T:
        """The result of `work`, committed when this returns.

        `work` may run several times, each time in a new transaction, so it must have no effect outside the database; it
        must not wait for a model or the network.

        Raises:
            StoreError: the database stayed locked, is full, cannot be reached or cannot be written to.
        """
        return transactions.run(self.engine, work, write=True)

    def close(self) -> None:
        self.engine.dispose()


def open_store(url: str | None = None, *, create: bool = True, durable: bool = False) -> Store:
    """Open the database, create its tables, or upgrade them after a copy of the file.

    Args:
        durable: whether an acknowledged SQLite transaction survives a loss of power too (`synchronous=FULL`, as the
            URL's option `?synchronous=full`). Without it, it survives everything but that.

    Raises:
        StoreError: the URL is wrong, the database cannot be reached, is not palate's, or is of a newer version.
    """
    with _opening(url, create=create, durable=durable) as engine:
        transactions.retried(engine.url, lambda: prepare(engine))
        return Store(engine)


def schema_versions(url: str | None = None) -> tuple[str | None, str]:
    """Version of a database's schema (None for an empty database), and the newest one; nothing is changed.

    Raises:
        StoreError: as `open_store`.
    """
    with _opening(url, create=False) as engine:

        def versions() -> tuple[str | None, str]:
            with engine.connect().execution_options(palate_write=False) as connection:
                return schema_version(connection), newest()

        try:
            return transactions.retried(engine.url, versions)
        finally:
            engine.dispose()


@contextmanager
def _opening(url: str | None, *, create: bool, durable: bool = False) -> Iterator[Engine]:
    """A context with the engine of a database, which is disposed of if using it fails, with the cause as StoreError."""
    place = parse_url(store_url(url))
    if place.get_backend_name() == "sqlite":
        _check_file(Path(place.database or ""), create=create)
    try:
        engine = _engine(place, durable=durable)
    except ImportError as error:  # also if psycopg is there without PostgreSQL's own library
        raise StoreError(f"{shown_url(place)}: needs psycopg; pip install 'palate[postgres]'") from error
    try:
        yield engine
    except BaseException as error:
        engine.dispose()
        if not isinstance(error, SQLAlchemyError):
            raise
        cause = without_password(str(getattr(error, "orig", None) or error), place)
        raise StoreError(f"{shown_url(place)}: cannot be opened: {cause}") from error


def _check_file(file: Path, *, create: bool) -> None:
    folder = file.absolute().parent
    if file.is_dir():
        raise StoreError(f"{file}: is a folder; name a file")
    if not create and not file.is_file():
        raise MissingStoreError(f"{file}: there is no such database; name another one with --store")
    if not create and file.stat().st_size == 0:  # a creation that was killed, or all rows are lost: not a list of none
        raise MissingStoreError(
            f"{file}: is empty (0 bytes), so no database; restore a copy, or name another one with --store"
        )
    if not folder.is_dir():
        raise StoreError(f"{file}: the folder {folder} does not exist")


def _engine(place: URL, *, durable: bool) -> Engine:
    if place.get_backend_name() == "postgresql":
        engine = create_engine(place, pool_pre_ping=True, pool_size=10, max_overflow=20)

        @event.listens_for(engine, "connect")
        def _limit_waits(connection: Any, _record: Any) -> None:
            connection.execute(f"SET lock_timeout = '{_BUSY_SECONDS:g}s'")  # a server waits for ever by default
            connection.commit()

        return engine
    durable = durable or place.query.get("synchronous") == "full"
    engine = create_engine(place.set(query={}), connect_args={"timeout": _BUSY_SECONDS}, pool_size=20, max_overflow=20)

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        # The driver's own BEGIN is off: it would come too late for a transaction that reads first and then writes.
        connection.isolation_level = None
        connection.execute("PRAGMA foreign_keys=ON")
        # Without WAL (some network disks refuse it), NORMAL could damage the file when the power fails.
        normal = _write_ahead_log(connection) and not durable
        connection.execute(f"PRAGMA synchronous={'NORMAL' if normal else 'FULL'}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        write = connection.get_execution_options().get("palate_write", True)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def _write_ahead_log(connection: Any) -> bool:
    """Switch a SQLite database to WAL, which its file remembers; whether it is in WAL now.

    Several processes that create one file switch at the same time. SQLite does not wait for that lock by itself.
    """
    end = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            return bool(connection.execute("PRAGMA journal_mode=WAL").fetchone()[0] == "wal")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > end:
                raise
        time.sleep(0.01)
