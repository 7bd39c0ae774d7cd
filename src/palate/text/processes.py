"""Chunks of records encoded by several processes, in order and with the same result as by one.

Where this process may be forked, the others begin at once with the records and the tokenizer in memory, and only token
ids are sent back. Elsewhere they are spawned: a new interpreter each, which takes seconds, and is sent all it needs.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeAlias

from palate.errors import DataError
from palate.records import AnyRecord
from palate.text.groups import Encoded

CHUNK = 256
"""Records that are encoded together."""

# Fewer records are encoded before a second process has paid for itself.
_WORTH_FORKING = 2 * CHUNK
_WORTH_SPAWNING = 64 * CHUNK

Encode: TypeAlias = Callable[[Sequence[AnyRecord]], Encoded]

_encode: Encode | None = None
_inherited: Sequence[AnyRecord] = ()


def worthwhile(records: int) -> int:
    """Processes that pay off for so many records, where nobody says how many and torchrun's ranks share the cores."""
    if records < (_WORTH_FORKING if may_fork() else _WORTH_SPAWNING):
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(max(cores // ranks, 1), records // CHUNK)


def may_fork() -> bool:
    """Whether a copy of this process could only do what it is told: Linux, and no other thread of Python's runs.

    Idle threads of numerical libraries do no harm, because nothing in a worker computes with them.
    """
    return sys.platform == "linux" and threading.active_count() == 1


def encode_chunks(records: Sequence[AnyRecord], encode: Encode, workers: int | None = None) -> list[Encoded]:
    """`encode` of each chunk of `CHUNK` records, in order.

    Args:
        encode: can be pickled; each process has one of its own.
        workers: processes; None for as many as pay off. One chunk is never worth a second.

    Raises:
        DataError: a process was killed.
    """
    count = worthwhile(len(records)) if workers is None else workers
    starts = range(0, len(records), CHUNK)
    if count > 1 and len(starts) > 1:
        return _encode_in_processes(records, encode, count, starts)
    return [encode(records[start : start + CHUNK]) for start in starts]


def _encode_in_processes(
    records: Sequence[AnyRecord], encode: Encode, workers: int, starts: Sequence[int]
) -> list[Encoded]:
    global _encode, _inherited
    _encode, _inherited = encode, records
    try:
        if may_fork():
            with _pool("fork", workers, _begin, ()) as pool:
                with _forking():
                    encoded = pool.map(_encode_range, starts)
                return list(encoded)
        with _pool("spawn", workers, _begin_with, (encode,)) as pool:
            return list(pool.map(_encode_rows, (records[start : start + CHUNK] for start in starts)))
    except BrokenProcessPool:
        raise DataError(
            "a process that turns rows into tokens was killed, perhaps for want of memory; "
            "set preprocessing_num_workers: 1"
        ) from None
    finally:
        _encode, _inherited = None, ()


@contextlib.contextmanager
def _pool(
    method: str, workers: int, begin: Callable[..., None], arguments: tuple[object, ...]
) -> Iterator[ProcessPoolExecutor]:
    """Processes that, after an error or Ctrl-C, are not given what is still waiting."""
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context(method), begin, arguments)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _forking() -> Iterator[None]:
    """All processes are forked inside: with the first task. Ctrl-C waits for the end of it, and never reaches them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with warnings.catch_warnings():
            # Python 3.12 warns of any native thread; those of `may_fork` are known to be idle.
            warnings.filterwarnings("ignore", message=".*multi-threaded, use of fork", category=DeprecationWarning)
            yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin() -> None:
    """In a new process: Ctrl-C is for the one that started it, and its tokenizer works on one core of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def _end_with_parent() -> None:
    """Ends this process when the one that started it is gone, killed before it could say so."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _begin_with(encode: Encode) -> None:
    global _encode
    _begin()
    _encode = encode


def _encode_range(start: int) -> Encoded:
    return _encode_rows(_inherited[start : start + CHUNK])


def _encode_rows(records: Sequence[AnyRecord]) -> Encoded:
    if _encode is None:
        raise RuntimeError("the process was not started by encode_chunks")
    return _encode(records)
