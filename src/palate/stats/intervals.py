"""Confidence intervals of rates and means."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import special

Floats: TypeAlias = Sequence[float] | npt.NDArray[np.floating] | npt.NDArray[np.integer] | npt.NDArray[np.bool_]

FEW = 200
"""Below this many units a rate gets a Wilson interval, from here on the t interval."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its confidence interval.

    Attributes:
        estimate: the point estimate, in the units of the data (a rate is in [0, 1]).
        low: lower end.
        high: upper end.
        level: two-sided coverage, 0.95 unless asked otherwise.
        n: independent units the estimate rests on (items; clusters where there are any).
    """

    estimate: float
    low: float
    high: float
    level: float
    n: int

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def percent(self, digits: int = 1) -> str:
        """A rate as a person reads it: `63.2 % (54.0 to 71.5)`."""
        return f"{100 * self.estimate:.{digits}f} % ({100 * self.low:.{digits}f} to {100 * self.high:.{digits}f})"


def wilson(successes: float, n: float, *, level: float = 0.95) -> Interval:
    """Wilson's score interval of a rate; `successes` and `n` may be fractional (ties ½, effective sizes).

    With W = successes / n and z the normal quantile: centre (W + z²/2n) / (1 + z²/n),
    half-width z·√(W(1−W)/n + z²/4n²) / (1 + z²/n). Wilson 1927.
    """
    if not 0 <= successes <= n or n <= 0:
        raise ValueError(f"need 0 <= successes <= n and n > 0, got {successes} of {n}")
    z = normal_quantile(level)
    rate, z2n = successes / n, z * z / n
    centre = (rate + z2n / 2) / (1 + z2n)
    half = z * math.sqrt(rate * (1 - rate) / n + z2n / (4 * n)) / (1 + z2n)
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return Interval(rate, low, high, level, round(n))


def effective_size(scores: Floats, clusters: Sequence[Hashable] | None = None) -> float:
    """Of item scores in [0, 1]: how many independent 0/1 items would be as informative.

    W(1−W) / Var(mean), which is n·W(1−W)/s² without clusters; n itself when the scores do not vary.
    """
    values = _checked(scores)
    mean, variance, units = _mean_variance(values, clusters)
    return mean * (1 - mean) / variance if variance > 0 else float(units)


def rate_interval(
    scores: Floats, *, clusters: Sequence[Hashable] | None = None, level: float = 0.95, few: int = FEW
) -> Interval:
    """Interval of the mean of item scores in [0, 1] (accuracies, win rates with ties at ½).

    From `few` units on it is the t interval (cluster-robust where `clusters` name each item's group), below it Wilson's
    with the effective size: the t interval covers too little for a few dozen items and can leave [0, 1].
    """
    values = _checked(scores)
    if values.min() < 0 or values.max() > 1:
        raise ValueError("scores of a rate lie in [0, 1]")
    interval = (
        mean_interval(values, level=level) if clusters is None else cluster_mean_interval(values, clusters, level=level)
    )
    if interval.n >= few:
        return Interval(interval.estimate, max(0.0, interval.low), min(1.0, interval.high), level, interval.n)
    size = effective_size(values, clusters)
    around = wilson(min(interval.estimate * size, size), size, level=level)
    return Interval(interval.estimate, around.low, around.high, level, interval.n)


def mean_interval(values: Floats, *, level: float = 0.95) -> Interval:
    """Mean ± t(n−1)·s/√n, s with n−1. Of a single value the interval is infinite."""
    array = _checked(values)
    return _t_interval(*_mean_variance(array, None), level)


def cluster_mean_interval(values: Floats, clusters: Sequence[Hashable], *, level: float = 0.95) -> Interval:
    """Mean of all values, with a standard error that lets values of one cluster depend on each other.

    Var = G/(G−1) · Σ_g (Σ_{i∈g} (x_i − mean))² / N², t with G−1 degrees of freedom; `n` of the result is G.
    With one value a cluster it equals `mean_interval`.
    """
    return _t_interval(*_mean_variance(_checked(values), clusters), level)


def newcombe_paired(both: int, only_first: int, only_second: int, neither: int, *, level: float = 0.95) -> Interval:
    """Interval of p1 − p2 for two yes/no measurements of the same items (before and after): Newcombe's method 10.

    Squares and adds Wilson's two intervals, with the correlation φ of the 2×2 table, continuity-corrected when it is
    positive. Newcombe 1998, Statistics in Medicine 17:2635.
    """
    a, b, c, d = both, only_first, only_second, neither
    n = a + b + c + d
    if min(a, b, c, d) < 0 or n == 0:
        raise ValueError(f"need counts of at least one item, got {(a, b, c, d)}")
    first, second = wilson(a + b, n, level=level), wilson(a + c, n, level=level)
    product = float((a + b) * (c + d) * (a + c) * (b + d))
    excess = a * d - b * c
    phi = 0.0 if product == 0 else (max(excess - n / 2, 0) if excess > 0 else excess) / math.sqrt(product)

    def combine(one: float, other: float) -> float:
        return math.sqrt(max(one * one - 2 * phi * one * other + other * other, 0.0))

    difference = (b - c) / n
    below = combine(first.estimate - first.low, second.high - second.estimate)
    above = combine(first.high - first.estimate, second.estimate - second.low)
    return Interval(difference, difference - below, difference + above, level, n)


def normal_quantile(level: float) -> float:
    """z with P(|Z| ≤ z) = level."""
    if not 0 < level < 1:
        raise ValueError(f"a level lies between 0 and 1, got {level}")
    return float(special.ndtri(0.5 + level / 2))


def _checked(values: Floats) -> npt.NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or len(array) == 0:
        raise ValueError(f"need a non-empty list of numbers, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError("values must be finite; leave out what was not measured, and count it")
    return array


def _mean_variance(values: npt.NDArray[np.float64], clusters: Sequence[Hashable] | None) -> tuple[float, float, int]:
    """Mean, the variance of the mean, and the number of independent units."""
    if clusters is None:
        n = len(values)
        return float(values.mean()), float(values.var(ddof=1) / n) if n > 1 else math.inf, n
    if len(clusters) != len(values):
        raise ValueError(f"{len(values)} values but {len(clusters)} cluster names")
    names = {name: number for number, name in enumerate(dict.fromkeys(clusters))}
    sums = np.bincount([names[name] for name in clusters], weights=values - values.mean())
    groups = len(sums)
    variance = groups / (groups - 1) * float(sums @ sums) / len(values) ** 2 if groups > 1 else math.inf
    return float(values.mean()), variance, groups


def _t_interval(mean: float, variance: float, units: int, level: float) -> Interval:
    normal_quantile(level)
    if units < 2:
        return Interval(mean, -math.inf, math.inf, level, units)
    half = float(special.stdtrit(units - 1, 0.5 + level / 2)) * math.sqrt(variance)
    return Interval(mean, mean - half, mean + half, level, units)
