"""Units of work: whole or not at all, repeated after a lock, one line when the database cannot go on."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import event, func, select, update
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session

from palate.errors import StoreError
from palate.store import Store, engine, transactions
from palate.store.tables import User

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def add_user(name: str) -> Callable[[Session], None]:
    """A unit of work."""

    def work(session: Session) -> None:
        session.add(User(name=name, role="annotator", created=NOW))

    return work


def names(session: Session) -> list[str]:
    """A unit of work: the users in the order of their names."""
    return list(session.scalars(select(User.name).order_by(User.name)))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection waits 20 ms for a lock, not 10 s, before the transaction is tried again."""
    monkeypatch.setattr(engine, "_BUSY_SECONDS", 0.02)


def locked(store: Store) -> sqlite3.Connection:
    """Another program's connection that holds the write lock."""
    other = sqlite3.connect(store.engine.url.database or "", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    return other


def test_a_unit_of_work_waits_for_another_programs_lock(
    quick: None, sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    sleep = time.sleep

    def wait(seconds: float) -> None:
        waits.append(seconds)
        sleep(seconds)

    monkeypatch.setattr(time, "sleep", wait)
    with closing(locked(sqlite_store)) as other:
        release = threading.Timer(0.3, other.rollback)
        release.start()
        sqlite_store.write(add_user("ann"))
        release.join()
    assert sqlite_store.read(names) == ["ann"]
    assert len(waits) >= 2, "it was tried again and again"
    assert waits[-1] > waits[0], "less and less often"


def test_a_lock_that_stays_is_one_line(quick: None, sqlite_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transactions, "_RETRY_SECONDS", 0.2)
    with closing(locked(sqlite_store)):
        assert sqlite_store.read(names) == [], "readers do not wait for a writer"
        with pytest.raises(StoreError, match=r"the database stays locked .*; close what else uses it") as found:
            sqlite_store.write(add_user("ann"))
    assert "\n" not in str(found.value)
    sqlite_store.write(add_user("bob"))
    assert sqlite_store.read(names) == ["bob"]


def test_the_whole_unit_runs_again_when_its_middle_is_refused(store: Store) -> None:
    runs = []

    def work(session: Session) -> str:
        runs.append(len(names(session)))
        add_user("ann")(session)
        session.flush()
        if len(runs) < 3:
            raise OperationalError("UPDATE", {}, sqlite3.OperationalError("database is locked"))
        return "done"

    assert store.write(work) == "done"
    assert runs == [0, 0, 0], "every attempt begins with the state before"
    assert store.read(names) == ["ann"]


def test_a_unit_that_fails_changes_nothing(store: Store) -> None:
    def work(session: Session) -> None:
        add_user("ann")(session)
        session.flush()
        raise KeyError("a bug of the caller")

    with pytest.raises(KeyError):
        store.write(work)
    assert store.read(names) == []


def test_reading_changes_nothing(sqlite_store: Store) -> None:
    def work(session: Session) -> int:
        add_user("ann")(session)
        session.flush()
        return len(names(session))

    assert sqlite_store.read(work) == 1
    assert sqlite_store.read(names) == []


def test_a_reader_sees_one_state(store: Store) -> None:
    def work(session: Session) -> tuple[list[str], list[str]]:
        before = names(session)
        writer = threading.Thread(target=store.write, args=(add_user("ann"),))
        writer.start()
        writer.join()
        return before, names(session)

    assert store.read(work) == ([], [])
    assert store.read(names) == ["ann"]


def test_a_value_that_is_there_already_is_the_callers_to_handle(store: Store) -> None:
    store.write(add_user("ann"))
    with pytest.raises(IntegrityError):
        store.write(add_user("ann"))
    assert store.read(names) == ["ann"]


def together(*works: Callable[[], Any]) -> list[Any]:
    """The results of functions that run at the same time."""
    results: list[Any] = [None] * len(works)

    def run(number: int) -> None:
        results[number] = works[number]()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_of_two_that_add_the_same_value_the_second_finds_it(store: Store) -> None:
    both_looked = threading.Barrier(2)

    def find_or_add(session: Session) -> str:
        if session.scalar(select(func.count()).where(User.name == "ann")):
            return "found"
        if not store.is_sqlite:  # there the second one cannot look before the first has committed
            both_looked.wait(60)
        add_user("ann")(session)
        session.flush()
        return "added"

    done = together(lambda: store.write(find_or_add), lambda: store.write(find_or_add))
    assert sorted(done) == ["added", "found"]
    assert store.read(names) == ["ann"]


def test_two_that_wait_for_each_other_both_succeed(store: Store) -> None:
    store.write(add_user("ann"))
    store.write(add_user("bob"))
    both_hold_one = threading.Barrier(2)
    attempts = []

    def work(first: str, second: str) -> Callable[[Session], None]:
        def unit(session: Session) -> None:
            attempts.append(first)
            session.execute(update(User).where(User.name == first).values(role=f"{first} first"))
            if not store.is_sqlite and len(attempts) <= 2:
                both_hold_one.wait(60)
            session.execute(update(User).where(User.name == second).values(role=f"{first} first"))

        return unit

    together(lambda: store.write(work("ann", "bob")), lambda: store.write(work("bob", "ann")))
    roles = store.read(lambda session: set(session.scalars(select(User.role))))
    assert len(roles) == 1, "one of them ran after the other as a whole"
    assert len(attempts) == (2 if store.is_sqlite else 3), "PostgreSQL ends one of the two, which runs again"


def test_a_full_disk_is_one_line_and_nothing_is_lost(sqlite_store: Store) -> None:
    sqlite_store.write(add_user("ann"))
    sqlite_store.close()

    @event.listens_for(sqlite_store.engine, "connect")
    def limit(connection: Any, record: object) -> None:
        connection.execute("PRAGMA max_page_count=1")  # SQLite takes the present size where it is larger

    def work(session: Session) -> None:
        for number in range(2000):
            session.add(User(name=f"a user with a long name {number}", role="annotator", created=NOW))

    with pytest.raises(StoreError, match=r"full.*; free space") as found:
        sqlite_store.write(work)
    assert "\n" not in str(found.value)
    assert sqlite_store.read(names) == ["ann"]


def test_too_many_transactions_at_once_are_one_line(sqlite_store: Store) -> None:
    from sqlalchemy import create_engine

    small = create_engine(sqlite_store.engine.url, pool_size=1, max_overflow=0, pool_timeout=0.05)
    with small.connect(), pytest.raises(StoreError, match="too many transactions at once"):
        Store(small).read(names)
    small.dispose()
