"""A function over many items in order, by one process or several: the result is the same."""

from __future__ import annotations

import multiprocessing
import multiprocessing.pool
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")

_CHUNK = 256


def ordered_map(function: Callable[[T], U], items: Iterable[T], workers: int = 1) -> Iterator[tuple[T, U]]:
    """(item, function(item)) in the order of the items, of which only a few chunks are in memory at a time.

    With several workers `function` and the items are pickled, so `function` must be one of a module.
    """
    if workers <= 1:
        for item in items:
            yield item, function(item)
        return
    # Spawned, not forked: the caller may hold threads (torch, Arrow) that a fork would leave locked.
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        waiting: list[tuple[list[T], multiprocessing.pool.AsyncResult[list[U]]]] = []
        source = iter(items)
        while True:
            while len(waiting) < 2 * workers and (chunk := list(islice(source, _CHUNK))):
                waiting.append((chunk, pool.apply_async(_each, (function, chunk))))
            if not waiting:
                return
            chunk, result = waiting.pop(0)
            yield from zip(chunk, result.get(), strict=True)


def _each(function: Callable[[T], U], items: list[T]) -> list[U]:
    return [function(item) for item in items]
