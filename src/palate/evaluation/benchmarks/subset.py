"""The items that are asked: of different ids, and some of them only, if so many are wanted."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol, TypeVar

from palate.errors import DataError
from palate.evaluation.benchmarks.options import BenchmarkOptions


class Named(Protocol):
    """An item or a question: `where` names its file and row."""

    @property
    def id(self) -> str: ...

    @property
    def where(self) -> str: ...


Asked = TypeVar("Asked", bound=Named)


def refuse_repeated(items: Sequence[Named]) -> None:
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
