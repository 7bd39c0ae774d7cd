"""Chance-corrected agreement of raters: Cohen's kappa and Krippendorff's alpha."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from palate.stats.bootstrap import bootstrap_interval
from palate.stats.intervals import Interval, wilson


@dataclass(frozen=True, slots=True)
class Agreement:
    """A coefficient of agreement, or why it is undefined.

    Attributes:
        interval: the coefficient with its confidence interval, `n` is the number of items; None if undefined.
        reason: why it is undefined; empty otherwise.
    """

    interval: Interval | None
    reason: str = ""

    @property
    def estimate(self) -> float | None:
        """The coefficient, at most 1; None where it is undefined."""
        return None if self.interval is None else self.interval.estimate

    def __str__(self) -> str:
        found = self.interval
        if found is None:
            return f"undefined: {self.reason}"
        return f"{found.estimate:.2f} ({found.low:.2f} to {found.high:.2f})"


def cohen_kappa(
    first: Sequence[Hashable], second: Sequence[Hashable], *, level: float = 0.95, resamples: int = 2_000, seed: int = 0
) -> Agreement:
    """Cohen's kappa of two raters over the same items, κ = (p_o − p_e) / (1 − p_e), p_e = Σ_k p1(k)·p2(k).

    The interval is a percentile bootstrap over items. If no resample changes κ (for example, if all items agree), it is
    Wilson's interval of p_o, transformed by the same formula with p_e fixed. If both raters use a single label, p_e is
    1 and κ is undefined.
    """
    if len(first) != len(second):
        raise ValueError(f"need the same items from both raters, got {len(first)} and {len(second)}")
    if not first:
        return Agreement(None, "no item has two ratings")
    labels = {label: number for number, label in enumerate(dict.fromkeys([*first, *second]))}
    codes = np.array([[labels[a], labels[b]] for a, b in zip(first, second, strict=True)])

    def kappa(pairs: npt.NDArray[np.intp]) -> tuple[float, float]:
        cells = np.bincount(pairs[:, 0] * len(labels) + pairs[:, 1], minlength=len(labels) ** 2)
        table = cells.reshape(len(labels), -1) / len(pairs)
        disagreement = 1 - float(table.sum(axis=1) @ table.sum(axis=0))
        return _beyond_chance(float(np.trace(table)), disagreement), disagreement

    return _agreement(codes, kappa, len(labels), level, resamples, seed)


def krippendorff_alpha(
    ratings: Sequence[Sequence[Hashable | None]],
    *,
    scale: Literal["nominal", "ordinal"] = "nominal",
    level: float = 0.95,
    resamples: int = 2_000,
    seed: int = 0,
) -> Agreement:
    """Krippendorff's alpha of any number of raters, α = 1 − D_o / D_e from the coincidence matrix.

    Args:
        ratings: one row per item with one entry per rater, None if a rater did not rate the item. Items with fewer than
            two ratings are ignored.
        scale: `nominal` for {A, B, tie}; `ordinal` for ordered levels (1 … 5), where the distance of two levels is the
            number of ratings between them.

    The interval is a percentile bootstrap over items, or Wilson's as in `cohen_kappa`. Alpha is undefined if no item
    has two ratings (one rater), or if all ratings are equal.
    """
    rows = [[value for value in row if value is not None] for row in ratings]
    rows = [row for row in rows if len(row) >= 2]
    if not rows:
        return Agreement(None, "no item has two ratings")
    seen = dict.fromkeys(value for row in rows for value in row)
    ordered = sorted(seen) if scale == "ordinal" else list(seen)  # type: ignore[type-var]
    labels = {label: number for number, label in enumerate(ordered)}
    counts = np.zeros((len(rows), len(labels)))
    for number, row in enumerate(rows):
        for value in row:
            counts[number, labels[value]] += 1
    return _agreement(
        counts, lambda drawn: _alpha(drawn, ordinal=scale == "ordinal"), len(labels), level, resamples, seed
    )


def _alpha(counts: npt.NDArray[np.float64], *, ordinal: bool) -> tuple[float, float]:
    """Alpha, and the expected share of differing ratings, of `counts` [items, labels]: ratings by item and label."""
    weights = 1 / (counts.sum(axis=1) - 1)
    coincidence = (counts * weights[:, None]).T @ counts - np.diag(weights @ counts)
    totals = coincidence.sum(axis=1)
    n = totals.sum()
    differ = 1 - np.eye(len(totals))
    distance = differ
    if ordinal:
        upto = np.cumsum(totals)
        middle = upto - totals / 2  # mid-rank of each label; ranks between two labels are their distance
        distance = (middle[:, None] - middle[None, :]) ** 2
    by_chance = np.outer(totals, totals) / (n - 1)
    expected = float((by_chance * distance).sum())
    alpha = 1 - float((coincidence * distance).sum()) / expected if expected > 0 else math.nan
    return alpha, float((by_chance * differ).sum() / n)


def _beyond_chance(agreement: float, disagreement: float) -> float:
    """1 − (1 − p_o) / (1 − p_e), which is (p_o − p_e) / (1 − p_e); NaN if p_e is 1."""
    return 1 - (1 - agreement) / disagreement if disagreement > 0 else math.nan


def _agreement(
    items: npt.NDArray[np.generic],
    statistic: Callable[[npt.NDArray[Any]], tuple[float, float]],
    labels: int,
    level: float,
    resamples: int,
    seed: int,
) -> Agreement:
    """The coefficient of the items with its interval; `statistic` returns it and the expected disagreement 1 − p_e."""
    if labels == 1:
        return Agreement(None, "all ratings are of one category")
    estimate, disagreement = statistic(items)
    if len(items) > 1:
        found = bootstrap_interval(
            items,
            lambda drawn: statistic(drawn)[0],
            method="percentile",
            level=level,
            resamples=resamples,
            seed=seed,
        )
        if found.high - found.low > 1e-9:
            return Agreement(found)
    observed = min(1.0, max(0.0, 1 - (1 - estimate) * disagreement))
    share = wilson(observed * len(items), len(items), level=level)
    low, high = (_beyond_chance(end, disagreement) for end in (share.low, share.high))
    return Agreement(Interval(estimate, low, high, level, len(items)))
