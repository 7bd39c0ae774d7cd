"""How far raters agree beyond chance."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from palate.stats.bootstrap import Statistic, bootstrap_interval
from palate.stats.intervals import Interval


def cohen_kappa(
    first: Sequence[Hashable], second: Sequence[Hashable], *, level: float = 0.95, resamples: int = 2_000, seed: int = 0
) -> Interval:
    """Cohen's kappa of two raters over the same items, κ = (p_o − p_e) / (1 − p_e), p_e = Σ_k p1(k)·p2(k).

    The interval is a percentile bootstrap over items. Where both raters only ever use one label, chance alone explains
    all agreement and kappa is undefined: the estimate is NaN and the interval [−1, 1].
    """
    if len(first) != len(second) or not first:
        raise ValueError(f"need the same items from both raters, got {len(first)} and {len(second)}")
    labels = {label: number for number, label in enumerate(dict.fromkeys([*first, *second]))}
    codes = np.array([[labels[a], labels[b]] for a, b in zip(first, second, strict=True)])

    def kappa(pairs: npt.NDArray[np.intp]) -> float:
        cells = np.bincount(pairs[:, 0] * len(labels) + pairs[:, 1], minlength=len(labels) ** 2)
        table = cells.reshape(len(labels), -1) / len(pairs)
        expected = float(table.sum(axis=1) @ table.sum(axis=0))
        return (float(np.trace(table)) - expected) / (1 - expected) if expected < 1 else math.nan

    return _with_interval(codes, kappa, level, resamples, seed)


def krippendorff_alpha(
    ratings: Sequence[Sequence[Hashable | None]],
    *,
    scale: Literal["nominal", "ordinal"] = "nominal",
    level: float = 0.95,
    resamples: int = 2_000,
    seed: int = 0,
) -> Interval:
    """Krippendorff's alpha of any number of raters, α = 1 − D_o / D_e from the coincidence matrix.

    Args:
        ratings: one row per item with one entry per rater, None where a rater left the item out. Items with fewer than
            two ratings say nothing about agreement and are left out.
        scale: `nominal` for {A, B, tie}; `ordinal` for levels that sort (1 … 5), where a distance counts the ratings
            that lie between.

    The interval is a percentile bootstrap over items. Without any variation alpha is undefined: NaN in [−1, 1].
    """
    rows = [[value for value in row if value is not None] for row in ratings]
    rows = [row for row in rows if len(row) >= 2]
    if not rows:
        raise ValueError("agreement needs items with two ratings or more")
    seen = dict.fromkeys(value for row in rows for value in row)
    ordered = sorted(seen) if scale == "ordinal" else list(seen)  # type: ignore[type-var]
    labels = {label: number for number, label in enumerate(ordered)}
    counts = np.zeros((len(rows), len(labels)))
    for number, row in enumerate(rows):
        for value in row:
            counts[number, labels[value]] += 1
    return _with_interval(counts, lambda drawn: _alpha(drawn, ordinal=scale == "ordinal"), level, resamples, seed)


def _alpha(counts: npt.NDArray[np.float64], *, ordinal: bool) -> float:
    """Alpha of `counts` [items, labels]: how often each item got each label."""
    weights = 1 / (counts.sum(axis=1) - 1)
    coincidence = (counts * weights[:, None]).T @ counts - np.diag(weights @ counts)
    totals = coincidence.sum(axis=1)
    n = totals.sum()
    if ordinal:
        upto = np.cumsum(totals)
        middle = upto - totals / 2  # mid-rank of each label; ranks between two labels are their distance
        distance = (middle[:, None] - middle[None, :]) ** 2
    else:
        distance = 1 - np.eye(len(totals))
    expected = float((np.outer(totals, totals) * distance).sum()) / (n - 1)
    return 1 - float((coincidence * distance).sum()) / expected if expected > 0 else math.nan


def _with_interval(
    items: npt.NDArray[np.generic], statistic: Statistic, level: float, resamples: int, seed: int
) -> Interval:
    estimate = float(statistic(items))
    if math.isnan(estimate) or len(items) < 2:
        return Interval(estimate, -1.0, 1.0, level, len(items))
    return bootstrap_interval(items, statistic, method="percentile", level=level, resamples=resamples, seed=seed)
