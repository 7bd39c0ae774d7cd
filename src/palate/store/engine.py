"""Opens the database: connection settings, schema version, upgrade."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.orm import Session

from palate.errors import StoreError
from palate.store import transactions
from palate.store.migrate import prepare

T = TypeVar("T")

DEFAULT_URL = "sqlite:///palate.db"
VARIABLE = "PALATE_STORE"

_BUSY_MILLISECONDS = 10_000


@dataclass(frozen=True, slots=True)
class Store:
    """An open database. Work is done by functions of a session, `store.write(lambda session: …)`.

    Attributes:
        engine: SQLAlchemy's engine, with connection settings of palate.
    """

    engine: Engine

    @property
    def url(self) -> str:
        """The database's URL, without the password."""
        return self.engine.url.render_as_string()

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    def read(self, work: Callable[[Session], T]) -> T:
        """`transactions.read`"""
        return transactions.read(self.engine, work)

    def write(self, work: Callable[[Session], T]) -> T:
        """`transactions.write`: committed when it returns, repeated as a whole if the database was locked."""
        return transactions.write(self.engine, work)

    def close(self) -> None:
        self.engine.dispose()


def store_url(given: str | None = None, environment: Mapping[str, str] = os.environ) -> str:
    """The URL of `--store`, else of PALATE_STORE, else `palate.db` in the current folder. A path is a SQLite file."""
    url = given or environment.get(VARIABLE, "").strip() or DEFAULT_URL
    return url if "://" in url else f"sqlite:///{url}"


def open_store(url: str | None = None, *, create: bool = True, durable: bool = False) -> Store:
    """Open the database, create its tables, or upgrade them after a copy of the file.

    Args:
        url: as `store_url` reads it.
        create: whether a SQLite file that does not exist is created.
        durable: whether an acknowledged SQLite transaction survives a loss of power too (`synchronous=FULL`). Without
            it, it survives everything but that.

    Raises:
        StoreError: the URL is wrong, the database cannot be reached, is not palate's, or is of a newer version.
    """
    place = _parsed(store_url(url))
    if place.get_backend_name() == "sqlite":
        file = Path(place.database or "")
        if not place.database or place.database == ":memory:":
            raise StoreError(f"{place}: needs a file; processes and threads share it")
        if not create and not file.is_file():
            raise StoreError(f"{file}: there is no such database; name another one with --store")
        if not file.absolute().parent.is_dir():
            raise StoreError(f"{file}: the folder {file.absolute().parent} does not exist")
    try:
        engine = _engine(place, durable=durable)
        prepare(engine)
    except ModuleNotFoundError as error:
        raise StoreError(f"{place.render_as_string()}: needs psycopg; pip install 'palate[postgres]'") from error
    except SQLAlchemyError as error:
        cause = " ".join(str(getattr(error, "orig", None) or error).split())
        raise StoreError(f"{place.render_as_string()}: cannot be opened: {cause}") from error
    return Store(engine)


def _parsed(url: str) -> URL:
    try:
        place = make_url(url)
        backend = place.get_backend_name()
    except (ArgumentError, ValueError) as error:
        raise StoreError(f"--store {url}: write sqlite:///FILE.db or postgresql://USER@HOST/DATABASE") from error
    if backend == "postgres":
        place, backend = place.set(drivername="postgresql"), "postgresql"
    if backend == "postgresql":
        return place.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise StoreError(f"--store: {backend} is not supported; use sqlite:///FILE.db or postgresql://…")
    return place


def _engine(place: URL, *, durable: bool) -> Engine:
    if place.get_backend_name() == "postgresql":
        return create_engine(place, pool_pre_ping=True, pool_size=10, max_overflow=20)
    # The driver's own BEGIN is off: it would come too late for a transaction that reads first and then writes.
    engine = create_engine(place, connect_args={"timeout": _BUSY_MILLISECONDS / 1000}, pool_size=20, max_overflow=20)

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        for pragma in (
            f"busy_timeout={_BUSY_MILLISECONDS}",
            "journal_mode=WAL",
            f"synchronous={'FULL' if durable else 'NORMAL'}",
            "foreign_keys=ON",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        write = connection.get_execution_options().get("palate_write", True)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine
