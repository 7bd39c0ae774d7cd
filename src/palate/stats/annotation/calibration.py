"""Calibration of predicted probabilities: reliability curve, expected calibration error, Brier score."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from palate.stats.intervals import Floats, Interval, cluster_mean_interval, rate_interval


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """The predictions in (low, high]; the first bin holds its low end too.

    Attributes:
        low, high: ends of the bin.
        n: number of predictions in it.
        predicted: mean prediction.
        observed: share of predictions that were right, with its interval (`rate_interval`, over clusters if given).
    """

    low: float
    high: float
    n: int
    predicted: float
    observed: Interval


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far predicted probabilities are from observed shares.

    Attributes:
        n: number of predictions.
        bins: the bins that hold predictions, ascending.
        ece: Σ n_b/n · |observed − predicted| over the bins.
        brier: mean of (prediction − outcome)², with Student's interval, over clusters if given.
    """

    n: int
    bins: tuple[CalibrationBin, ...]
    ece: float
    brier: Interval


def calibration(
    predicted: Floats,
    outcomes: Floats,
    *,
    clusters: Sequence[Hashable] | None = None,
    low: float = 0.0,
    bins: int = 10,
) -> Calibration:
    """Calibration in `bins` bins of equal width over [low, 1].

    The bins and the error are those of Guo et al. 2017 (1706.04599). The error of a finite sample is above 0 even if
    the predictions are calibrated, and depends on the number of bins.

    Args:
        predicted: [n], probabilities in [low, 1].
        outcomes: [n], 1 if the predicted event happened, 0 if not, ½ for a tie.
        clusters: the cluster of each prediction, if some depend on each other.
        low: lower end of the bins.

    Raises:
        ValueError: the lengths differ, there is no prediction, or one is outside [low, 1].
    """
    p, y = np.asarray(predicted, dtype=np.float64), np.asarray(outcomes, dtype=np.float64)
    if p.shape != y.shape or len(p) == 0:
        raise ValueError(f"need as many outcomes as predictions and at least one, got {len(p)} and {len(y)}")
    if not ((p >= low) & (p <= 1)).all():
        raise ValueError(f"predictions must be in [{low:g}, 1]")
    edges = np.linspace(low, 1, bins + 1)
    numbers = np.searchsorted(edges[1:-1], p)
    names = None if clusters is None else list(clusters)
    found = []
    for number in np.unique(numbers):
        rows = np.flatnonzero(numbers == number)
        groups = None if names is None else [names[row] for row in rows]
        observed = rate_interval(y[rows], clusters=groups)
        found.append(
            CalibrationBin(float(edges[number]), float(edges[number + 1]), len(rows), float(p[rows].mean()), observed)
        )
    error = sum(one.n * abs(one.observed.estimate - one.predicted) for one in found) / len(p)
    squares = (p - y) ** 2
    brier = cluster_mean_interval(squares, names if names is not None else range(len(p)))
    return Calibration(len(p), tuple(found), float(error), brier)
