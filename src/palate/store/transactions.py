"""The only way to the database: a unit of work in one transaction, repeated as a whole if the database was locked."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, TypeVar

from sqlalchemy import Engine
from sqlalchemy.engine import URL
from sqlalchemy.exc import DatabaseError, DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from palate.errors import StoreError
from palate.store.turns import turn
from palate.store.urls import shown_url, without_password

T = TypeVar("T")

_RETRY_SECONDS = 30.0
_LOCKED = ("database is locked", "database table is locked", "database is busy")
# SQLite twice (the second also for a quota or `ulimit -f`), then PostgreSQL.
_NO_SPACE = ("disk is full", "disk I/O error", "No space left")
_NO_DATABASE = ("file is not a database", "malformed", "unsupported file format")
# PostgreSQL: serialization failure, deadlock, lock not available.
_CONFLICTS = ("40001", "40P01", "55P03")
# PostgreSQL: two transactions inserted the same unique value at the same time; the second finds it when it runs again.
_UNIQUE_VIOLATION = "23505"
_UNIQUE_ATTEMPTS = 3
# Exactly these classes are troubles of the database; their siblings (wrong SQL, wrong values) are bugs of the caller.
_TROUBLES = (OperationalError, InterfaceError, DatabaseError)


def retried(place: URL, attempt: Callable[[], T]) -> T:
    """The result of `attempt`, which is called again as long as the database is locked, for half a minute at most.

    Args:
        place: of the database, for messages.
        attempt: runs one transaction from its begin to its commit.

    Raises:
        StoreError: the database stayed locked, or has another trouble.
    """
    end = time.monotonic() + _RETRY_SECONDS
    wait = 0.005
    races = 0
    while True:
        try:
            return attempt()
        except PoolTimeoutError as error:
            raise StoreError(f"{shown_url(place)}: too many transactions at once; try again") from error
        except IntegrityError as error:
            races += 1
            if getattr(error.orig, "sqlstate", None) != _UNIQUE_VIOLATION or races == _UNIQUE_ATTEMPTS:
                raise
        except DBAPIError as error:
            if type(error) not in _TROUBLES:
                raise
            if not _is_conflict(error) or time.monotonic() > end:
                raise StoreError(f"{shown_url(place)}: {_cause(error, place)}") from error
        time.sleep(wait * (0.5 + random.random()))  # noqa: S311 - spreads the writers
        wait = min(2 * wait, 0.25)


def run(engine: Engine, work: Callable[[Session], T], *, write: bool) -> T:
    """The result of `work`, as `Store.read` and `Store.write` have it."""
    options: dict[str, Any] = {"palate_write": write}
    if not write and engine.dialect.name == "postgresql":  # by default each statement there sees a state of its own
        options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}

    def attempt() -> T:
        with (
            turn(engine, _RETRY_SECONDS) if write else nullcontext(),
            engine.connect().execution_options(**options) as connection,
            Session(connection, expire_on_commit=False) as session,
        ):
            found = work(session)
            if write:
                session.commit()
            return found

    return retried(engine.url, attempt)


def _is_conflict(error: DBAPIError) -> bool:
    state = getattr(error.orig, "sqlstate", None)
    return state in _CONFLICTS or any(words in str(error.orig) for words in _LOCKED)


def _cause(error: DBAPIError, place: URL) -> str:
    text = without_password(str(error.orig), place)
    if _is_conflict(error):
        return f"the database stays locked ({text}); close what else uses it"
    if "readonly" in text:
        return f"cannot be written to ({text}); grant write permission to the file and its folder"
    if "unable to open" in text:
        return f"cannot be opened ({text}); palate needs read and write permission for the file and its folder"
    if any(words in text for words in _NO_SPACE):
        return f"cannot be written to ({text}); free space on its disk, or check the disk, and try again"
    if any(words in text for words in _NO_DATABASE):
        return f"is damaged, or no SQLite database ({text}); restore a copy of it, or name another one with --store"
    return text
