"""Writers of one process wait for each other without a connection, and one that never ends is an error."""

from __future__ import annotations

import threading
import time

import pytest
from sqlalchemy import func, select

from labelling import START
from palate.errors import StoreError
from palate.store import Store, transactions
from palate.store.tables import User

# More than the pool has connections.
THREADS = 60


def test_more_writers_than_connections_all_write(sqlite_store: Store) -> None:
    errors: list[Exception] = []

    def write(number: int) -> None:
        def work(session) -> None:  # type: ignore[no-untyped-def]
            session.add(User(name=f"p{number}", role="annotator", created=START))
            session.flush()
            time.sleep(0.005)

        try:
            sqlite_store.write(work)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sqlite_store.read(lambda session: session.scalar(select(func.count(User.id)))) == THREADS


def test_a_write_inside_a_write_is_an_error_and_no_hang(sqlite_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transactions, "_RETRY_SECONDS", 0.05)
    with pytest.raises(StoreError, match="another transaction of this process does not end"):
        sqlite_store.write(lambda _: sqlite_store.write(lambda _: None))
    sqlite_store.write(lambda _: None)
