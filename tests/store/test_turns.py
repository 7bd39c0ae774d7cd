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
from palate.store.turns import turn

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


def test_the_thread_that_waits_longest_is_next(sqlite_store: Store) -> None:
    order: list[int] = []
    threads: list[threading.Thread] = []
    with turn(sqlite_store.engine, 1.0):
        for number in range(5):
            threads.append(
                threading.Thread(target=lambda number=number: sqlite_store.write(lambda _: order.append(number)))
            )
            threads[-1].start()
            time.sleep(0.05)
        assert order == []
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2, 3, 4]


def test_who_gave_up_is_not_handed_the_turn(sqlite_store: Store) -> None:
    with (
        turn(sqlite_store.engine, 1.0),
        pytest.raises(StoreError, match="does not end"),
        turn(sqlite_store.engine, 0.05),
    ):
        pass
    with turn(sqlite_store.engine, 0.05):
        pass
