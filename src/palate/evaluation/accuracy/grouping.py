"""Parts of the pairs for which accuracies are given: by source, by a column, by the difference in length."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeAlias, TypeVar

import numpy as np

from palate.errors import UsageError
from palate.records import PreferencePair

Figures = TypeVar("Figures")
Groupings: TypeAlias = Mapping[str, Sequence[str]]
"""Name of the grouping → the group of each pair."""

CATEGORY = "category"
"""The column that is used, where rows have it, if no other is named."""
GAP = "length gap, tokens"
NONE = "(none)"
_GAP_BINS = 5


def groupings(pairs: Sequence[PreferencePair], gaps: Sequence[int], columns: Sequence[str] | None = None) -> Groupings:
    """The groupings of the pairs that have two groups or more.

    Args:
        gaps: tokens of chosen minus tokens of rejected, pair by pair; they make five bins with about as many pairs.
        columns: columns of the rows; by default `category`, where there is one. Pairs without a value are a group.

    Raises:
        UsageError: no row has a named column.
    """
    found: dict[str, list[str]] = {"source": [pair.source or NONE for pair in pairs]}
    check_columns(pairs, columns)
    for column in (CATEGORY,) if columns is None else columns:
        found[column] = [_text(pair.extra.get(column)) for pair in pairs]
    found[GAP] = gap_bins(gaps)
    return {name: groups for name, groups in found.items() if len(set(groups)) > 1}


def check_columns(pairs: Sequence[PreferencePair], columns: Sequence[str] | None) -> None:
    """Raises UsageError if no pair has a named column; callers that load a model check before they do."""
    for column in columns or ():
        if not any(column in pair.extra for pair in pairs):
            known = sorted({name for pair in pairs for name in pair.extra})
            raise UsageError(f"--by {column}: no row has the column; the rows have {', '.join(known) or 'no others'}")


def gap_bins(gaps: Sequence[int]) -> list[str]:
    """The bin of each difference in length: fifths of the sorted differences, named by their smallest and largest.

    Equal differences are in the same bin, so bins may have more or fewer pairs, and there may be fewer of them.
    """
    values = np.asarray(gaps)
    if len(values) == 0:
        return []
    edges = np.quantile(values, np.arange(1, _GAP_BINS) / _GAP_BINS)
    numbers = np.searchsorted(edges, values)
    names = {}
    for number in np.unique(numbers):
        inside = values[numbers == number]
        low, high = int(inside.min()), int(inside.max())
        names[int(number)] = f"{low:+d}" if low == high else f"{low:+d} to {high:+d}"
    return [names[int(number)] for number in numbers]


def figures_by_group(
    groupings: Groupings | None,
    prompts: Sequence[Hashable],
    columns: Sequence[Sequence[float]],
    figures: Callable[[Sequence[Hashable], Sequence[Sequence[float]]], Figures],
) -> dict[str, dict[str, Figures]]:
    """`figures` of the prompts and columns of each group, by grouping and group; columns and groups are by pair."""
    found: dict[str, dict[str, Figures]] = {}
    for grouping, groups in (groupings or {}).items():
        found[grouping] = {}
        for name in order_of(grouping, groups):
            rows = [row for row, group in enumerate(groups) if group == name]
            parts = [[values[row] for row in rows] for values in columns]
            found[grouping][name] = figures([prompts[row] for row in rows], parts)
    return found


def order_of(name: str, groups: Sequence[str]) -> list[str]:
    """The groups of a grouping in the order of a table: bins by their lower end, others by size."""
    different = list(dict.fromkeys(groups))
    if name == GAP:
        return sorted(different, key=lambda group: int(group.split()[0]))
    return sorted(different, key=lambda group: (-groups.count(group), group))


def _text(value: object) -> str:
    if value is None or value in ("", [], {}):
        return NONE
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
