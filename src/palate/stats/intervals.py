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

FEW_CLUSTERS = 10
"""With this many clusters or fewer, an interval over clusters covers less often than its level."""
_FEWEST_SKEWED = 20
"""With fewer units than this their skewness is not known well enough to correct for it."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its confidence interval.

    Attributes:
        estimate: the point estimate, in the units of the data (a rate is in [0, 1]).
        low: lower end.
        high: upper end.
        level: two-sided coverage, 0.95 by default.
        n: number of independent units (clusters if there are any, else items).
    """

    estimate: float
    low: float
    high: float
    level: float
    n: int

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def percent(self, digits: int = 1) -> str:
        """A rate as `63.2 % (54.0 to 71.5)`."""
        return f"{100 * self.estimate:.{digits}f} % ({100 * self.low:.{digits}f} to {100 * self.high:.{digits}f})"


def wilson(successes: float, n: float, *, level: float = 0.95, quantile: float | None = None) -> Interval:
    """Wilson's score interval of `successes` in `n` independent trials; ties may count ½.

    With W = successes / n and z the normal quantile, or `quantile` in its place: centre (W + z²/2n) / (1 + z²/n),
    half-width z·√(W(1−W)/n + z²/4n²) / (1 + z²/n). Wilson 1927.
    """
    if not 0 <= successes <= n or n <= 0:
        raise ValueError(f"need 0 <= successes <= n and n > 0, got {successes} of {n}")
    rate = successes / n
    return Interval(rate, *_wilson(rate, n, quantile or normal_quantile(level)), level, round(n))


def effective_size(scores: Floats, clusters: Sequence[Hashable] | None = None) -> float:
    """The number of independent 0/1 items with the same information as these scores in [0, 1].

    W(1−W) / Var(mean), which is n·W(1−W)/s² without clusters. If the scores do not vary between units (all are 1), it
    is the number of units: items, or clusters, because items of a cluster may depend on each other.
    """
    return size_of_rate(*_mean_variance(_checked(scores), clusters))


def rate_interval(scores: Floats, *, clusters: Sequence[Hashable] | None = None, level: float = 0.95) -> Interval:
    """Interval of the mean of item scores in [0, 1]: accuracies, win rates with ties at ½, any share.

    Wilson's interval with the effective size, for every n. `clusters` names the group of each item (the prompt of a
    pair); then the variance is computed from the G cluster sums, and Student's t with G−1 degrees of freedom replaces
    z. For a single cluster the variance is unknown and the interval is [0, 1].
    """
    values = _checked(scores)
    if values.min() < 0 or values.max() > 1:
        raise ValueError("scores of a rate must be in [0, 1]")
    mean, variance, units = _mean_variance(values, clusters)
    if clusters is not None and units == 1:
        return Interval(mean, 0.0, 1.0, level, units)
    size = size_of_rate(mean, variance, units)
    quantile = normal_quantile(level) if clusters is None else t_quantile(level, units - 1)
    return Interval(mean, *_wilson(mean, size, quantile), level, units)


def mean_interval(values: Floats, *, level: float = 0.95) -> Interval:
    """Mean ± t(n−1)·s/√n, s with n−1. For a single value the interval is infinite.

    Student's interval needs about n ≥ 25·γ² values of skewness γ (Cochran 1977, Sampling Techniques, section 2.15).
    From 20 values on and below that, the interval is mean − s/√n·g⁻¹(±t(n−1)), with Hall's transformation
    g(T) = T + aT² + a²T³/3 + γ/(6√n), a = γ/(3√n), of T = √n·(mean − μ)/s, which removes the skewness of T
    (Hall 1992, J. R. Statist. Soc. B 54:221). Towards the long tail it is wider than Student's.
    """
    return t_interval(values, None, level)


def cluster_mean_interval(values: Floats, clusters: Sequence[Hashable], *, level: float = 0.95) -> Interval:
    """Mean of all values, with a cluster-robust standard error.

    Var = G/(G−1) · Σ_g (Σ_{i∈g} (x_i − mean))² / N², t with G−1 degrees of freedom; `n` of the result is G, and γ
    that of the cluster sums. With one value a cluster it equals `mean_interval`.
    """
    return t_interval(values, clusters, level)


def standard_error(values: Floats, clusters: Sequence[Hashable] | None = None) -> float:
    """Standard error of the mean, cluster-robust if `clusters` names each value's group; infinite for one unit."""
    return math.sqrt(_mean_variance(_checked(values), clusters)[1])


def t_test(values: Floats, clusters: Sequence[Hashable] | None = None) -> float:
    """Two-sided p-value of a mean of 0, by what `mean_interval` is made of; 1 for a single unit."""
    array = _checked(values)
    mean, variance, units = _mean_variance(array, clusters)
    if units < 2 or mean == 0:
        return 1.0
    if variance == 0:
        return 0.0
    t, skewness = mean / math.sqrt(variance), _skewness(array, clusters)
    if skewness:
        a = skewness / (3 * math.sqrt(units))
        t += a * t * t + a * a * t**3 / 3 + a / 2
    return float(2 * special.stdtr(units - 1, -abs(t)))


def newcombe_paired(both: int, only_first: int, only_second: int, neither: int, *, level: float = 0.95) -> Interval:
    """Interval of p1 − p2 for two yes/no measurements of the same items (before, after), by Newcombe's method 10.

    Squares and adds Wilson's two intervals, with the correlation φ of the 2×2 table, continuity-corrected if
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

    def combine(x: float, y: float) -> float:
        return math.sqrt(max(x * x - 2 * phi * x * y + y * y, 0.0))

    difference = (b - c) / n
    below = combine(first.estimate - first.low, second.high - second.estimate)
    above = combine(first.high - first.estimate, second.estimate - second.low)
    return Interval(difference, difference - below, difference + above, level, n)


def independent_difference(first: Interval, second: Interval) -> Interval:
    """first − second of two independent estimates: the distances to the ends, added in squares.

    MOVER (Zou and Donner 2008); `n` is the smaller one. If the estimates are positively correlated, it is too wide.
    """
    below = math.hypot(first.estimate - first.low, second.high - second.estimate)
    above = math.hypot(first.high - first.estimate, second.estimate - second.low)
    difference = first.estimate - second.estimate
    return Interval(difference, difference - below, difference + above, first.level, min(first.n, second.n))


def numbered(clusters: Sequence[Hashable]) -> npt.NDArray[np.int64]:
    """The number of each row's cluster, from 0 in the order of their first rows."""
    names = {name: number for number, name in enumerate(dict.fromkeys(clusters))}
    return np.array([names[name] for name in clusters], dtype=np.int64)


def normal_quantile(level: float) -> float:
    """z with P(|Z| ≤ z) = level."""
    return float(special.ndtri(_upper_tail(level)))


def t_quantile(level: float, degrees: int) -> float:
    """t with P(|T| ≤ t) = level, T with `degrees` degrees of freedom."""
    return float(special.stdtrit(degrees, _upper_tail(level)))


def _upper_tail(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"a level must be between 0 and 1, got {level}")
    return 0.5 + level / 2


def _wilson(rate: float, n: float, quantile: float) -> tuple[float, float]:
    """The two ends for a rate of `n` trials, or of an effective size `n`."""
    z2n = quantile * quantile / n
    centre = (rate + z2n / 2) / (1 + z2n)
    half = quantile * math.sqrt(rate * (1 - rate) / n + z2n / (4 * n)) / (1 + z2n)
    return 0.0 if rate <= 0 else max(0.0, centre - half), 1.0 if rate >= 1 else min(1.0, centre + half)


def size_of_rate(mean: float, variance: float, units: int) -> float:
    """The effective size of a rate whose mean has this variance; `units` where it has none."""
    spread = mean * (1 - mean)
    # If every cluster has the same scores, such as (1, 0, 0), rounding leaves a variance of 1e-34 in place of 0.
    return spread / variance if 1e-18 * spread < variance < math.inf else float(units)


def _checked(values: Floats) -> npt.NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or len(array) == 0:
        raise ValueError(f"need a non-empty list of numbers, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError("values must be finite; leave out what was not measured, and count it")
    return array


def _mean_variance(values: npt.NDArray[np.float64], clusters: Sequence[Hashable] | None) -> tuple[float, float, int]:
    """The mean, its variance, and the number of independent units."""
    if clusters is None:
        n = len(values)
        return float(values.mean()), float(values.var(ddof=1) / n) if n > 1 else math.inf, n
    sums = _deviations(values, clusters)
    groups = len(sums)
    variance = groups / (groups - 1) * float(sums @ sums) / len(values) ** 2 if groups > 1 else math.inf
    return float(values.mean()), variance, groups


def _deviations(values: npt.NDArray[np.float64], clusters: Sequence[Hashable] | None) -> npt.NDArray[np.float64]:
    """Deviations from the mean, summed over each cluster."""
    if clusters is None:
        return np.asarray(values - values.mean(), dtype=np.float64)
    if len(clusters) != len(values):
        raise ValueError(f"{len(values)} values but {len(clusters)} cluster names")
    return np.asarray(np.bincount(numbered(clusters), weights=values - values.mean()), dtype=np.float64)


def _skewness(values: npt.NDArray[np.float64], clusters: Sequence[Hashable] | None) -> float:
    """γ of the independent units; 0 where Student's t needs no correction for it, or γ is not known."""
    units = _deviations(values, clusters)
    spread = float((units**2).mean())
    skewness = float((units**3).mean()) / spread**1.5 if spread > 0 else 0.0
    return skewness if _FEWEST_SKEWED <= len(units) < 25 * skewness**2 else 0.0


def t_interval(values: Floats, clusters: Sequence[Hashable] | None, level: float) -> Interval:
    """`mean_interval`, or with clusters `cluster_mean_interval`."""
    array = _checked(values)
    mean, variance, units = _mean_variance(array, clusters)
    if units < 2:
        _upper_tail(level)
        return Interval(mean, -math.inf, math.inf, level, units)
    quantile, skewness = t_quantile(level, units - 1), _skewness(array, clusters)
    ends = np.array([quantile, -quantile])
    if skewness:
        a = skewness / (3 * math.sqrt(units))
        ends = (np.cbrt(1 + 3 * a * (ends - a / 2)) - 1) / a
    low, high = mean - ends * math.sqrt(variance)
    return Interval(mean, float(low), float(high), level, units)


def percentile_bound(values: Floats, share: float, alpha: float) -> float | None:
    """An upper bound of a percentile, which holds with probability 1 − alpha; None if there are too few values.

    The order statistic x_(k) with the smallest k for which P(B < k) ≥ 1 − alpha, B ~ binomial(n, share).
    """
    n = len(values)
    below = int(np.searchsorted(special.bdtr(np.arange(n), n, share), 1 - alpha)) if n else 0
    return float(np.sort(values)[below]) if below < n else None
