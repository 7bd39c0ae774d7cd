"""Lets the threads of a process write to a SQLite file one after another, in the order in which they came."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

from sqlalchemy import Engine

from palate.errors import StoreError
from palate.store.urls import shown_url


class _Queue:
    """A lock that is handed to the thread that has waited longest; `threading.Lock` goes to any, even to the last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken = False
        self._waiting: deque[threading.Event] = deque()

    def acquire(self, timeout: float) -> bool:
        with self._lock:
            if not self._taken:
                self._taken = True
                return True
            mine = threading.Event()
            self._waiting.append(mine)
        if mine.wait(timeout):
            return True
        with self._lock:
            if mine.is_set():  # handed over after the wait ended
                return True
            self._waiting.remove(mine)
            return False

    def release(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._taken = False


_QUEUES: WeakKeyDictionary[Engine, _Queue] = WeakKeyDictionary()
_QUEUES_LOCK = threading.Lock()


@contextmanager
def turn(engine: Engine, timeout: float) -> Iterator[None]:
    """Waits until no other thread of this process writes to the engine's SQLite file; PostgreSQL needs no turns.

    SQLite itself tries again after sleeps of up to 0.1 s, in no order: of 20 threads that write all the time, some
    would wait for half a minute.

    Raises:
        StoreError: it was not this thread's turn within `timeout` seconds.
    """
    if engine.dialect.name != "sqlite":
        yield
        return
    with _QUEUES_LOCK:
        queue = _QUEUES.setdefault(engine, _Queue())
    if not queue.acquire(timeout):
        raise StoreError(f"{shown_url(engine.url)}: another transaction of this process does not end")
    try:
        yield
    finally:
        queue.release()
