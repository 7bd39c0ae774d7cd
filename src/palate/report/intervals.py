"""Figures with their 95 % intervals: of metric rows, and as JSON files have them."""

from __future__ import annotations

import math
from typing import Any

from scipy import special

from palate.charts.text import estimate_text, interval_text
from palate.report.contents import MetricRow, finite, mapping
from palate.stats import Interval, wilson

FEWEST_PROMPTS = 10
"""With fewer held-out prompts an interval covers less than 95 %, so no verdict is given."""
SHARES = frozenset({"rewards/accuracies", "ended"})
"""Metrics that are shares of rows, 0 … 1."""


def held_out_interval(row: MetricRow, metric: str) -> Interval | None:
    """A metric of an evaluation with its interval; None where the row has no standard error.

    A share has Wilson's interval with the effective number of rows, any other mean Student's over prompts.
    """
    estimate, prompts, error = finite(row.get(metric)), finite(row.get("prompts")), _standard_error(row, metric)
    if estimate is None or prompts is None or prompts < 2 or error is None:
        return None
    if metric in SHARES:
        size = estimate * (1 - estimate) / error**2 if error > 0 else prompts
        return wilson(min(estimate * size, size), size)
    half = float(special.stdtrit(prompts - 1, 0.975)) * error
    return Interval(estimate, estimate - half, estimate + half, 0.95, int(prompts))


def json_interval(item: Any) -> Interval | None:
    """An interval of a JSON file; None for anything else, and infinite where an end is null."""
    found = mapping(item)
    estimate, low, high = (finite(found.get(key)) for key in ("estimate", "low", "high"))
    if estimate is None:
        return None
    ends = (-math.inf if low is None else low, math.inf if high is None else high)
    return Interval(estimate, *ends, finite(found.get("level")) or 0.95, int(finite(found.get("n")) or 0))


def ends(interval: Interval | None, *, as_percent: bool = False) -> str:
    """`78.5 to 91.0 %` or `1.02 to 1.4`; empty where there is no interval."""
    return "" if interval is None else interval_text(interval.low, interval.high, as_percent=as_percent)


def shown(interval: Interval | None, *, as_percent: bool = False) -> str:
    """`1.21 (1.02 to 1.4)`; an en dash for None."""
    if interval is None:
        return "–"
    return estimate_text(interval.estimate, interval.low, interval.high, as_percent=as_percent)


def _standard_error(row: MetricRow, metric: str) -> float | None:
    error = finite(row.get(f"se/{metric}"))
    if error is None and metric == "rewards/margins":
        # In KTO the margin is the difference of two means over different rows.
        chosen, rejected = (finite(row.get(f"se/rewards/{side}")) for side in ("chosen", "rejected"))
        return None if chosen is None or rejected is None else math.hypot(chosen, rejected)
    return error
