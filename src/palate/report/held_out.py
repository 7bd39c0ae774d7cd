"""Held-out figures with their 95 % intervals, from the rows, prompts and standard errors that evaluations log."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from scipy import special

from palate.report.contents import Row
from palate.report.scales import number
from palate.stats import Interval, wilson

FEWEST_PROMPTS = 10
"""With fewer held-out prompts an interval covers less than it says, so nothing is concluded."""
SHARES = frozenset({"rewards/accuracies", "ended"})
"""Metrics that are shares of rows, 0 … 1."""


def held_out_interval(row: Row, metric: str) -> Interval | None:
    """A metric of an evaluation with its interval; None where the row does not say how sure it is.

    A share has Wilson's interval with the effective number of rows, anything else Student's over prompts.
    """
    estimate, prompts = _finite(row.get(metric)), _finite(row.get("prompts"))
    error = _standard_error(row, metric)
    if estimate is None or prompts is None or prompts < 2 or error is None:
        return None
    if metric in SHARES:
        size = estimate * (1 - estimate) / error**2 if error > 0 else float(prompts)
        return wilson(min(estimate * size, size), size)
    half = float(special.stdtrit(prompts - 1, 0.975)) * error
    return Interval(estimate, estimate - half, estimate + half, 0.95, int(prompts))


def change(start: Interval, end: Interval) -> tuple[float, float]:
    """The interval of end − start of two independent figures (Zou and Donner's MOVER).

    Evaluations see the same rows, so the two depend on each other and the interval is wider than it had to be.
    """
    difference = end.estimate - start.estimate
    below = math.hypot(end.estimate - end.low, start.high - start.estimate)
    above = math.hypot(end.high - end.estimate, start.estimate - start.low)
    return difference - below, difference + above


def exactly(value: float) -> Interval:
    """A value that is known, such as a reward of 0 where the policy is its reference."""
    return Interval(value, value, value, 0.95, 0)


def shown(interval: Mapping[str, Any] | Interval | None, *, percent: bool = False) -> str:
    """`78.5 to 91.0 %` or `1.02 to 1.4`, the ends of an interval; empty where there is none."""
    if isinstance(interval, Interval):
        ends: tuple[Any, Any] = (interval.low, interval.high)
    else:
        ends = (interval.get("low"), interval.get("high")) if isinstance(interval, Mapping) else (None, None)
    low, high = (_finite(end) for end in ends)
    if low is None or high is None:
        return ""
    if percent:
        return f"{100 * low:.1f} to {100 * high:.1f} %"
    return f"{number(low, 3)} to {number(high, 3)}"


def _standard_error(row: Row, metric: str) -> float | None:
    error = _finite(row.get(f"se/{metric}"))
    if error is None and metric == "rewards/margins":
        # kto's margin is the difference of two means over different rows.
        chosen, rejected = (_finite(row.get(f"se/rewards/{side}")) for side in ("chosen", "rejected"))
        return None if chosen is None or rejected is None else math.hypot(chosen, rejected)
    return error


def _finite(item: Any) -> float | None:
    return float(item) if isinstance(item, int | float) and math.isfinite(item) else None
