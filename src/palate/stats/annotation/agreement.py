"""Agreement of raters: percent, Cohen's and Fleiss's kappa, Krippendorff's alpha."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from palate.stats.bootstrap import bootstrap_interval
from palate.stats.intervals import FEW_CLUSTERS, Interval, numbered, rate_interval, wilson

Ratings: TypeAlias = Sequence[Sequence[Hashable | None]]
"""One row per item with its ratings, None for a rater who did not rate the item."""


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
        few = f", rough: n = {found.n}" if found.n <= FEW_CLUSTERS else ""
        return f"{found.estimate:.2f} ({found.low:.2f} to {found.high:.2f}{few})"


def percent_agreement(ratings: Ratings, *, clusters: Sequence[Hashable] | None = None) -> Agreement:
    """Share of agreeing pairs of ratings, P_i = Σ_k n_ik·(n_ik − 1) / (n_i·(n_i − 1)), averaged over items.

    Of two raters it is the share of items on which they agree. Items with fewer than two ratings are ignored. The
    interval is `rate_interval` over the items, or over `clusters` of them. Undefined if no item has two ratings.
    """
    counts, groups, _ = _counts(ratings, clusters)
    if len(counts) == 0:
        return Agreement(None, _NO_PAIR)
    return Agreement(rate_interval(_agreeing(counts), clusters=groups))


def cohen_kappa(
    first: Sequence[Hashable],
    second: Sequence[Hashable],
    *,
    clusters: Sequence[Hashable] | None = None,
    resamples: int = 2_000,
) -> Agreement:
    """Cohen's kappa of two raters over the same items, κ = (p_o − p_e) / (1 − p_e), p_e = Σ_k p1(k)·p2(k).

    The interval is a percentile bootstrap over items, or over `clusters` of items that depend on each other (the pairs
    of one prompt). If no resample changes κ (for example, if all items agree), it is Wilson's interval of p_o,
    transformed by the same formula with p_e fixed. If both raters use a single label, p_e is 1 and κ is undefined.
    """
    if len(first) != len(second):
        raise ValueError(f"need the same items from both raters, got {len(first)} and {len(second)}")
    if not first:
        return Agreement(None, _NO_PAIR)
    codes = numbered([*first, *second]).reshape(2, -1).T
    labels = int(codes.max()) + 1

    def kappa(pairs: npt.NDArray[np.intp]) -> tuple[float, float]:
        table = np.bincount(pairs[:, 0] * labels + pairs[:, 1], minlength=labels**2).reshape(labels, -1) / len(pairs)
        disagreement = 1 - float(table.sum(axis=1) @ table.sum(axis=0))
        return _beyond_chance(float(np.trace(table)), disagreement), disagreement

    return _agreement(codes, kappa, labels, clusters, resamples)


def fleiss_kappa(
    ratings: Ratings,
    *,
    clusters: Sequence[Hashable] | None = None,
    resamples: int = 2_000,
) -> Agreement:
    """Fleiss's kappa of any raters, κ = (P − P_e) / (1 − P_e), P_e = Σ_k p_k² (Fleiss 1971).

    P is the percent agreement and p_k the share of label k among all ratings. The raters may differ from item to item,
    but each item must have the same number of ratings, two or more; None entries are not counted. Otherwise κ is
    undefined, as it is if all ratings are of one category. The interval is as in `cohen_kappa`.
    """
    numbers = {sum(value is not None for value in row) for row in ratings}
    if len(numbers) > 1:
        return Agreement(
            None, f"items have {min(numbers)} to {max(numbers)} ratings; Fleiss's kappa needs equally many"
        )
    counts, groups, labels = _counts(ratings, clusters)
    if len(counts) == 0:
        return Agreement(None, _NO_PAIR)

    def kappa(drawn: npt.NDArray[np.float64]) -> tuple[float, float]:
        shares = drawn.sum(axis=0) / drawn.sum()
        disagreement = 1 - float(shares @ shares)
        return _beyond_chance(float(_agreeing(drawn).mean()), disagreement), disagreement

    return _agreement(counts, kappa, len(labels), groups, resamples)


def krippendorff_alpha(
    ratings: Ratings,
    *,
    scale: Literal["nominal", "ordinal", "interval"] = "nominal",
    clusters: Sequence[Hashable] | None = None,
    resamples: int = 2_000,
) -> Agreement:
    """Krippendorff's alpha of any number of raters, α = 1 − D_o / D_e from the coincidence matrix.

    Args:
        ratings: one row per item with one entry per rater, None if a rater did not rate the item. Items with fewer than
            two ratings are ignored.
        scale: `nominal` for {A, B, tie}; `ordinal` for ordered levels (1 … 5), where the distance of two levels is the
            number of ratings between them; `interval` for numbers, where it is their difference.
        resamples: of the bootstrap interval over items, or Wilson's as in `cohen_kappa`.

    Alpha is undefined if no item has two ratings (one rater), or if all ratings are equal.
    """
    counts, groups, labels = _counts(ratings, clusters)
    if len(counts) == 0:
        return Agreement(None, _NO_PAIR)
    if scale == "nominal":
        return _agreement(counts, _alpha, len(labels), groups, resamples)
    order = sorted(range(len(labels)), key=lambda number: labels[number])  # type: ignore[arg-type, return-value]
    places = np.array([labels[number] for number in order], dtype=np.float64) if scale == "interval" else None
    return _agreement(
        counts[:, order],
        lambda drawn: _alpha(drawn, places if places is not None else _mid_ranks(drawn)),
        len(labels),
        groups,
        resamples,
    )


_NO_PAIR = "no item has two ratings"


def _counts(
    ratings: Ratings, clusters: Sequence[Hashable] | None
) -> tuple[npt.NDArray[np.float64], list[Hashable] | None, list[Hashable]]:
    """Number of ratings [items, labels] of the items with two ratings or more, their clusters, and the labels."""
    if clusters is not None and len(clusters) != len(ratings):
        raise ValueError(f"{len(ratings)} items but {len(clusters)} cluster names")
    rows = [[value for value in row if value is not None] for row in ratings]
    kept = [number for number, row in enumerate(rows) if len(row) >= 2]
    labels = {label: number for number, label in enumerate(dict.fromkeys(value for k in kept for value in rows[k]))}
    counts = np.zeros((len(kept), len(labels)))
    for number, k in enumerate(kept):
        for value in rows[k]:
            counts[number, labels[value]] += 1
    return counts, None if clusters is None else [clusters[k] for k in kept], list(labels)


def _agreeing(counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """[items] Share of each item's pairs of ratings that agree."""
    ratings = counts.sum(axis=1)
    return np.asarray((counts * (counts - 1)).sum(axis=1) / (ratings * (ratings - 1)), dtype=np.float64)


def _mid_ranks(counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """[labels] Mid-rank of each label among the pairable ratings; ranks between two labels are their distance."""
    totals = counts.sum(axis=0)
    return np.asarray(np.cumsum(totals) - totals / 2, dtype=np.float64)


def _alpha(counts: npt.NDArray[np.float64], places: npt.NDArray[np.float64] | None = None) -> tuple[float, float]:
    """Alpha, and the expected share of differing ratings, of `counts` [items, labels]: ratings by item and label.

    `places` [labels] are the labels' positions, whose squared differences are their distances; without them every two
    labels are equally far from each other.
    """
    weights = 1 / (counts.sum(axis=1) - 1)
    coincidence = (counts * weights[:, None]).T @ counts - np.diag(weights @ counts)
    totals = coincidence.sum(axis=1)
    n = totals.sum()
    differ = 1 - np.eye(len(totals))
    distance = differ if places is None else (places[:, None] - places[None, :]) ** 2
    by_chance = np.outer(totals, totals) / (n - 1)
    expected = float((by_chance * distance).sum())
    alpha = 1 - float((coincidence * distance).sum()) / expected if expected > 0 else math.nan
    return alpha, float((by_chance * differ).sum() / n)


def _beyond_chance(agreement: float, disagreement: float) -> float:
    """1 − (1 − p_o) / (1 − p_e), which is (p_o − p_e) / (1 − p_e); NaN if p_e is 1."""
    return 1 - (1 - agreement) / disagreement if disagreement > 0 else math.nan


def _agreement(
    items: npt.NDArray[Any],
    statistic: Callable[[npt.NDArray[Any]], tuple[float, float]],
    labels: int,
    clusters: Sequence[Hashable] | None,
    resamples: int,
) -> Agreement:
    """The coefficient of the items with its interval; `statistic` returns it and the expected disagreement 1 − p_e."""
    if labels == 1:
        return Agreement(None, "all ratings are of one category")
    estimate, disagreement = statistic(items)
    units = None if clusters is None else _units(len(items), clusters)
    n = len(items) if units is None else len(units)
    if n > 1:
        found = bootstrap_interval(
            np.arange(n),
            lambda drawn: statistic(items[drawn if units is None else np.concatenate([units[u] for u in drawn])])[0],
            method="percentile",
            resamples=resamples,
        )
        if found.high - found.low > 1e-9:
            return Agreement(found)
    observed = min(1.0, max(0.0, 1 - (1 - estimate) * disagreement))
    share = wilson(observed * n, n)
    low, high = (_beyond_chance(end, disagreement) for end in (share.low, share.high))
    return Agreement(Interval(estimate, low, high, share.level, n))


def _units(items: int, clusters: Sequence[Hashable]) -> list[npt.NDArray[np.intp]]:
    """The row numbers of each cluster."""
    if len(clusters) != items:
        raise ValueError(f"{items} items but {len(clusters)} cluster names")
    numbers = numbered(clusters)
    return np.split(np.argsort(numbers, kind="stable"), np.cumsum(np.bincount(numbers))[:-1])
