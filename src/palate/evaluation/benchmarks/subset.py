"""The items that are asked: of different ids, and some of them only, if so many are wanted."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

from palate.errors import DataError
from palate.evaluation.benchmarks.benchmark import Item
from palate.evaluation.benchmarks.options import BenchmarkOptions

Asked = TypeVar("Asked", bound=Item)


def refuse_repeated(items: Sequence[Item]) -> None:
    """Raises DataError if two items have one id; names both rows."""
    seen: dict[str, str] = {}
    for item in items:
        if item.id in seen:
            raise DataError(f"{item.where}: has the id {item.id} of {seen[item.id]} again; remove one of them")
        seen[item.id] = item.where


def chosen(items: Sequence[Asked], options: BenchmarkOptions) -> list[Asked]:
    """All items, or `max_samples` of them in the file's order."""
    if options.max_samples is None or options.max_samples >= len(items):
        return list(items)
    indices = random.Random(options.seed).sample(range(len(items)), options.max_samples)  # noqa: S311
    return [items[index] for index in sorted(indices)]
