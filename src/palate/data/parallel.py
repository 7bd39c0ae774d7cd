"""A function over chunks of many items, in one process or several, with the same results in the same order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
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
"""Items in a chunk."""
# Starting processes costs more than it saves for fewer chunks.
_FEWEST_CHUNKS = 8


def all_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ordered_chunks(
    function: Callable[[Sequence[T]], U], items: Iterable[T], workers: int = 1
) -> Iterator[tuple[list[T], U]]:
    """(chunk, function(chunk)) of `CHUNK` items each, in order; only a few chunks are in memory at a time.

    The chunks are the same for any number of workers. With several workers `function` and the items are pickled:
    `function` once per process, the items chunk by chunk.
    """
    source = iter(items)
    chunks = iter(lambda: list(islice(source, CHUNK)), [])
    first = list(islice(chunks, _FEWEST_CHUNKS))
    chunks = chain(first, chunks)
    if workers <= 1 or len(first) < _FEWEST_CHUNKS:
        for chunk in chunks:
            yield chunk, function(chunk)
        return
    # Spawned, because a fork would copy locks that the caller's threads (torch, Arrow) hold.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start_worker, (function,))
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
        raise DataError("a worker process was killed, perhaps for lack of memory; use fewer workers") from None
    finally:
        pool.shutdown(cancel_futures=True)


_function: Callable[[Sequence[Any]], Any] = len


def _start_worker(function: Callable[[Sequence[Any]], Any]) -> None:
    """Prepares a new worker process. Ctrl-C is left to the parent, which then ends its workers."""
    global _function
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    _function = function


def _exit_with_parent() -> None:
    """Ends this worker when its parent was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run(chunk: Sequence[Any]) -> Any:
    return _function(chunk)
