"""Bootstrap intervals by resampling whole items."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import special

from palate.stats.intervals import Interval, t_quantile

Statistic: TypeAlias = Callable[[npt.NDArray[Any]], float]


def bootstrap_interval(
    items: Sequence[Any] | npt.NDArray[Any],
    statistic: Statistic | None = None,
    *,
    method: Literal["bca", "percentile"] = "bca",
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Bootstrap interval of `statistic(items)`, by default the mean.

    `items` is [n, …]; its rows are the independent units (a prompt, not a verdict), drawn with replacement. `bca` is
    Efron's bias-corrected and accelerated interval: bias z0 from the share of resamples below the estimate (ties half),
    acceleration from the jackknife. Resamples of n items vary less than new samples do, and by a normal distribution
    rather than Student's, so that both methods take the tails Φ(±√(n/(n−1))·t(n−1)) in place of those of the level
    (Hesterberg 2015, 1411.5279). Resamples whose statistic is not finite are left out. The same seed gives the same
    interval. If no resample changes the estimate, the interval has no width.
    """
    array = np.asarray(items)
    if len(array) < 2:
        raise ValueError(f"a bootstrap needs two items or more, got {len(array)}")
    compute: Statistic = statistic or (lambda sample: float(sample.mean()))
    estimate = float(compute(array))
    rng = np.random.default_rng(seed)
    drawn = np.array(
        [compute(array[rng.integers(0, len(array), len(array))]) for _ in range(resamples)], dtype=np.float64
    )
    drawn = drawn[np.isfinite(drawn)]
    if len(drawn) == 0 or not np.isfinite(estimate):
        raise ValueError("the statistic is not finite on these items")
    quantile = math.sqrt(len(array) / (len(array) - 1)) * t_quantile(level, len(array) - 1)
    quantiles = np.array([-quantile, quantile])
    if method == "bca":
        quantiles = _bca_quantiles(array, compute, estimate, drawn, quantiles)
    low, high = np.quantile(drawn, special.ndtr(quantiles))
    return Interval(estimate, float(low), float(high), level, len(array))


def _bca_quantiles(
    items: npt.NDArray[Any],
    statistic: Statistic,
    estimate: float,
    drawn: npt.NDArray[np.float64],
    quantiles: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Normal quantiles of the two ends in the bootstrap distribution, corrected for bias and acceleration."""
    share = ((drawn < estimate).mean() + (drawn <= estimate).mean()) / 2
    if share in (0.0, 1.0):
        return quantiles
    left_out = np.array([statistic(np.delete(items, row, axis=0)) for row in range(len(items))], dtype=np.float64)
    influence = left_out[np.isfinite(left_out)].mean() - left_out[np.isfinite(left_out)]
    spread = float((influence**2).sum()) ** 1.5
    acceleration = float((influence**3).sum()) / (6 * spread) if spread > 0 else 0.0
    bias = float(special.ndtri(share))
    shifted = bias + quantiles
    return np.asarray(bias + shifted / (1 - acceleration * shifted), dtype=np.float64)
