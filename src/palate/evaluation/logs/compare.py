"""Paired comparison of two results on the same items."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from palate.charts.text import amount
from palate.errors import DataError
from palate.evaluation.logs.items import ItemValues
from palate.stats import PairedDifference, benjamini_hochberg, holm, paired_difference

Adjustment: TypeAlias = Literal["holm", "bh"]


@dataclass(frozen=True, slots=True)
class MetricComparison:
    """One metric of two results.

    Attributes:
        metric: its name.
        found: the difference, second − first.
        adjusted: p-value adjusted for all metrics of the comparison (`Comparison.adjustment`).
        missing_first, missing_second: items of both results that have no value in the first, in the second; they are
            left out of `found`.
    """

    metric: str
    found: PairedDifference
    adjusted: float
    missing_first: int
    missing_second: int


@dataclass(frozen=True, slots=True)
class ResultComparison:
    """Two results, compared on the items of both.

    Attributes:
        first, second: names of the results.
        metrics: the metrics of both results.
        items: number of items in both.
        only_first, only_second: ids of the items in one result only, in natural order.
        metrics_only_first, metrics_only_second: metrics of one result only.
        not_compared: metrics of both results without an item that has a value in both.
        notes: lines about the logs: what they left out, and items measured several times.
        adjustment: of the p-values for several metrics.
    """

    first: str
    second: str
    metrics: Sequence[MetricComparison]
    items: int
    only_first: Sequence[str]
    only_second: Sequence[str]
    metrics_only_first: Sequence[str]
    metrics_only_second: Sequence[str]
    not_compared: Sequence[str]
    notes: Sequence[str]
    adjustment: Adjustment = "holm"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def compare_items(
    first: ItemValues, second: ItemValues, *, adjustment: Adjustment = "holm", seed: int = 0
) -> ResultComparison:
    """Compare two results on the items of both, joined by id; every metric with `paired_difference`.

    Args:
        adjustment: `holm` bounds the probability of any false finding, `bh` (Benjamini–Hochberg) the expected share of
            false ones among the findings, for exploring many metrics.

    Raises:
        DataError: an id stands for different content in the two results, or they share no metric or no item.
    """
    names = [name for name in first.metrics if name in second.metrics]
    if not names:
        one, other = (", ".join(result.metrics) for result in (first, second))
        raise DataError(f"no metric in common: the first result has {one}, the second {other}")
    ids = [_ids(result) for result in (first, second)]
    shared = [item for item in ids[0] if item in ids[1]]
    if not shared:
        one, other = (next(iter(found), "none") for found in ids)
        raise DataError(
            f"no item in common: the first result has ids such as {one}, the second {other}; "
            "compare results on the same data"
        )
    _check_content(first, second, shared)
    compared, empty = {}, []
    for name in names:
        kept = _values(first, second, name)
        if kept:
            clusters = _clusters(first, second, list(kept))
            values = list(kept.values())
            compared[name] = paired_difference(
                [one for one, _ in values], [other for _, other in values], clusters=clusters, seed=seed
            )
        else:
            empty.append(name)
    if not compared:
        raise DataError(f"no item has a value of {', '.join(names)} in both results; nothing can be compared")
    adjust = {"holm": holm, "bh": benjamini_hochberg}[adjustment]
    adjusted = adjust([found.p_value for found in compared.values()])
    return ResultComparison(
        first=first.name,
        second=second.name,
        metrics=[
            MetricComparison(name, found, p, *_missing(first, second, name))
            for (name, found), p in zip(compared.items(), adjusted, strict=True)
        ],
        items=len(shared),
        only_first=natural_order(ids[0].keys() - ids[1].keys()),
        only_second=natural_order(ids[1].keys() - ids[0].keys()),
        metrics_only_first=[name for name in first.metrics if name not in second.metrics],
        metrics_only_second=[name for name in second.metrics if name not in first.metrics],
        not_compared=empty,
        notes=[*_notes("first", first), *_notes("second", second), *_same(first, second, list(compared))],
        adjustment=adjustment,
    )


def natural_order(ids: Sequence[str] | set[str]) -> list[str]:
    """Ids with numbers in them by value: 2 before 10."""
    return sorted(
        ids,
        key=lambda item: [
            (part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"([0-9]+)", item)
        ],
    )


def _ids(result: ItemValues) -> dict[str, None]:
    """The item ids of all metrics in the order of the log."""
    return dict.fromkeys(item for values in result.metrics.values() for item in values)


def _check_content(first: ItemValues, second: ItemValues, shared: Sequence[str]) -> None:
    known = [item for item in shared if item in first.hashes and item in second.hashes]
    different = [item for item in known if first.hashes[item] != second.hashes[item]]
    if different:
        raise DataError(
            f"id {different[0]} stands for different content in the two results ({len(different)} of {len(known)} "
            "items); compare results on the same version of the data"
        )


def _values(first: ItemValues, second: ItemValues, name: str) -> dict[str, tuple[float, float]]:
    """The items with a value in both."""
    one, other = first.metrics[name], second.metrics[name]
    return {
        item: (value, later)
        for item, value in one.items()
        if value is not None and (later := other.get(item)) is not None
    }


def _clusters(first: ItemValues, second: ItemValues, items: Sequence[str]) -> list[str] | None:
    """The cluster of each item, of itself where no result names one; None if no item has one."""
    named = {**second.clusters, **first.clusters}
    if not any(item in named for item in items):
        return None
    # The marks keep a cluster apart from an item that has the same name.
    return [f"cluster {named[item]}" if item in named else f"item {item}" for item in items]


def _same(first: ItemValues, second: ItemValues, names: Sequence[str]) -> list[str]:
    """A note if no item differs in any metric."""
    values = [pair for name in names for pair in _values(first, second, name).values()]
    equal = all(one == other for one, other in values)
    return ["both results are equal on every item: a model compared with itself?"] if equal else []


def _missing(first: ItemValues, second: ItemValues, name: str) -> tuple[int, int]:
    one, other = first.metrics[name], second.metrics[name]
    shared = [item for item in one if item in other]
    return sum(one[item] is None for item in shared), sum(other[item] is None for item in shared)


def _notes(which: str, result: ItemValues) -> list[str]:
    notes = [f"{which}: {note}" for note in result.notes]
    if result.repeated:
        repeated = amount(result.repeated, "item was", "items were")
        notes.append(f"{which}: {repeated} measured more than once (epochs); each counts with its mean")
    return notes
