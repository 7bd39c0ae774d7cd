"""A function over many items in order, by one process or several: the result is the same."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from typing import Any, TypeVar

from palate.errors import DataError

T = TypeVar("T")
U = TypeVar("U")

CHUNK = 256
"""Items that a process takes at a time."""
_WORTH_A_PROCESS = 8


def all_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ordered_map(function: Callable[[T], U], items: Iterable[T], workers: int = 1) -> Iterator[tuple[T, U]]:
    """(item, function(item)) in the order of the items, of which only a few chunks are in memory at a time.

    With several workers `function` and the items are pickled, so `function` must be one of a module.
    """
    for chunk, results in ordered_chunks(_Each(function), items, workers):
        yield from zip(chunk, results, strict=True)


def ordered_chunks(
    function: Callable[[Sequence[T]], U], items: Iterable[T], workers: int = 1
) -> Iterator[tuple[list[T], U]]:
    """(chunk, function(chunk)) of `CHUNK` items each, in order.

    The chunks are the same for any number of workers. `function` goes to each process once, the items chunk by chunk;
    for a few chunks no process is started.
    """
    source = iter(items)
    chunks = iter(lambda: list(islice(source, CHUNK)), [])
    first = list(islice(chunks, _WORTH_A_PROCESS))
    chunks = chain(first, chunks)
    if workers <= 1 or len(first) < _WORTH_A_PROCESS:
        for chunk in chunks:
            yield chunk, function(chunk)
        return
    # Spawned, not forked: the caller may hold threads (torch, Arrow) that a fork would leave locked.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _prepare, (function, os.getpid()))
    waiting: deque[tuple[list[T], Future[U]]] = deque()
    try:
        while True:
            while len(waiting) < 2 * workers and (chunk := next(chunks, [])):
                waiting.append((chunk, pool.submit(_run, chunk)))
            if not waiting:
                return
            chunk, result = waiting.popleft()
            yield chunk, result.result()
    except BrokenProcessPool:
        raise DataError("a worker process was killed, perhaps for want of memory; use fewer workers") from None
    finally:
        pool.shutdown(cancel_futures=True)


class _Each:
    """A function of one item as a function of many."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function

    def __call__(self, items: Sequence[Any]) -> list[Any]:
        return [self._function(item) for item in items]


_function: Callable[[Sequence[Any]], Any] = len


def _prepare(function: Callable[[Sequence[Any]], Any], parent: int) -> None:
    """In a new process: what it is to do. Ctrl-C is for the process that started it, which ends this one."""
    global _function
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    _function = function


def _end_with(parent: int) -> None:
    """Ends this process when the one that started it is gone, killed before it could say so."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _run(chunk: Sequence[Any]) -> Any:
    return _function(chunk)
