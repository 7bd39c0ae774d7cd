"""The only way to the database: a unit of work in one transaction, repeated as a whole if the database was locked."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from palate.errors import StoreError

T = TypeVar("T")

_RETRY_SECONDS = 30.0
_LOCKED = ("database is locked", "database table is locked", "database is busy")
# PostgreSQL: serialization failure, deadlock, lock not available.
_CONFLICTS = ("40001", "40P01", "55P03")


def read(engine: Engine, work: Callable[[Session], T]) -> T:
    """The result of `work`, which sees one state of the database and changes nothing."""
    return _run(engine, work, write=False)


def write(engine: Engine, work: Callable[[Session], T]) -> T:
    """The result of `work`, committed when this returns.

    `work` may run several times, each time in a new transaction, so it must have no effect outside the database; it
    must not wait for a model or the network.

    Raises:
        StoreError: the database stayed locked, is full or cannot be written to.
    """
    return _run(engine, work, write=True)


def _run(engine: Engine, work: Callable[[Session], T], *, write: bool) -> T:
    end = time.monotonic() + _RETRY_SECONDS
    wait = 0.005
    while True:
        try:
            with (
                engine.connect().execution_options(palate_write=write) as connection,
                Session(connection, expire_on_commit=False) as session,
            ):
                found = work(session)
                if write:
                    session.commit()
                return found
        except OperationalError as error:
            if not _is_conflict(error) or time.monotonic() > end:
                raise StoreError(f"{engine.url.render_as_string()}: {_cause(error)}") from error
        time.sleep(wait * (0.5 + random.random()))  # noqa: S311 - spreads the writers
        wait = min(2 * wait, 0.25)


def _is_conflict(error: OperationalError) -> bool:
    state = getattr(error.orig, "sqlstate", None)
    return state in _CONFLICTS or any(words in str(error.orig) for words in _LOCKED)


def _cause(error: OperationalError) -> str:
    text = " ".join(str(error.orig).split())
    return f"the database stays locked ({text}); close what else uses it" if _is_conflict(error) else text
