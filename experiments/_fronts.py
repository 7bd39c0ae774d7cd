"""Means over seeds, with what a page says and a figure draws of them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import sqrt
from typing import Any

from _markdown import interval
from _places import end, records_of

from palate.charts import DataPoint
from palate.stats import mean_interval

Key = tuple[str, float | None]


def grouped(result: Mapping[str, Any]) -> dict[Key, list[dict[str, Any]]]:
    """(method, strength) → the records of its seeds."""
    found: dict[Key, list[dict[str, Any]]] = {}
    for record in records_of(result):
        found.setdefault((record["method"], record["strength"]), []).append(record)
    return found


def mean(values: Sequence[float]) -> float:
    return statistics.fmean(values)


def spread(values: Sequence[float]) -> str:
    """` ± 0.03`, the standard deviation over seeds, where there are several."""
    return f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""


def over_seeds(values: Sequence[Mapping[str, float]]) -> tuple[float, float, float]:
    """Estimate and interval: of the mean over seeds (Student's t over seeds), of one seed its own over prompts."""
    if len(values) == 1:
        return values[0]["estimate"], values[0]["low"], values[0]["high"]
    found = mean_interval([value["estimate"] for value in values])
    return found.estimate, found.low, found.high


def told(values: Sequence[Mapping[str, float]]) -> str:
    """`0.52 (0.48 to 0.57)`, as `over_seeds` has it."""
    estimate, low, high = over_seeds(values)
    return interval({"estimate": estimate, "low": low, "high": high})


def front_marks(result: Mapping[str, Any]) -> dict[str, list[DataPoint]]:
    """method → a mark for each strength: KL and true reward at the end, bars as `over_seeds` has them."""
    found: dict[str, list[DataPoint]] = {}
    for (method, strength), records in grouped(result).items():
        ends = [end(record) for record in records]
        kl, reward = (over_seeds(values) for values in ([e["kl"] for e in ends], [e["rewards"]["true"] for e in ends]))
        # A KL is not below 0, whatever Student's interval of three seeds says.
        mark = DataPoint(kl[0], max(0.0, kl[1]), kl[2], *reward, "" if strength is None else f"{strength:g}")
        found.setdefault(method, []).append(mark)
    return found


def reward_at_kl(records: Sequence[Mapping[str, Any]], target: float) -> float | None:
    """The true reward at a KL, between the reference and the ends of these runs; None beyond the farthest.

    Straight lines over √KL, along which reward grows about evenly at first (https://arxiv.org/abs/2210.10760): over KL
    itself a line from the reference to a run far away would pass well below the runs of methods that ended nearer.

    Args:
        records: runs of one method and seed at different strengths.
        target: nats.
    """
    start = records[0]["points"][0]
    places = sorted(
        [(one["kl"]["estimate"], one["rewards"]["true"]["estimate"]) for one in (start, *map(end, records))]
    )
    for (left, low), (right, high) in pairwise(places):
        if left <= target <= right:
            share = (sqrt(target) - sqrt(left)) / (sqrt(right) - sqrt(left)) if right > left else 0.0
            return float(low + share * (high - low))
    return None
