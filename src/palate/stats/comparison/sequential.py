"""Confidence sequences: intervals of means in [0, 1] that hold at all n at once, so one may look at any time."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from palate.stats.intervals import Floats, Interval

_TRUNCATION = 0.5
"""c of the paper: a bet never loses more than this share of the capital's distance to 0."""
_HALVINGS = 40


def sequential_interval(values: Floats, *, level: float = 0.95) -> Interval:
    """The interval after these n values, in the order in which they came; it holds at all n with probability `level`.

    Hedged capital of Waudby-Smith and Ramdas 2020 (2010.09686, theorem 3, with the predictable plug-in bets of its
    empirical-Bernstein sequence). For a mean m two gamblers start with 1, one bets that values are above m and one that
    they are below:

        K±_t(m) = Π_{i≤t} (1 ± λ±_i(m)·(x_i − m)),  λ+_i = min(λ_i, c/m),  λ−_i = min(λ_i, c/(1−m)),  c = ½,
        λ_i = √(2·log(2/α) / (σ²_{i−1}·i·log(1 + i))),
        σ²_i = (¼ + Σ_{j≤i} (x_j − mean_j)²) / (i + 1),  mean_i = (½ + Σ_{j≤i} x_j) / (i + 1)

    m is left out for good once ½·K+ or ½·K− has reached 1/α (Ville's inequality). K+ falls in m and K− rises, so the
    rest is an interval. Each end alone holds with probability 1 − α/2: the bound of a one-sided test at α/2.

    Args:
        values: [n], in [0, 1], independent given the past (one value for each prompt).

    Raises:
        ValueError: there is no value, or one is outside [0, 1].
    """
    x = np.asarray(values, dtype=np.float64).reshape(-1)
    if len(x) == 0 or not ((x >= 0) & (x <= 1)).all():
        raise ValueError("a confidence sequence needs values in [0, 1], at least one")
    if not 0 < level < 1:
        raise ValueError(f"a level must be between 0 and 1, got {level}")
    alpha = 1 - level
    bets, limit = _bets(x, alpha), math.log(2 / alpha)

    def reached(m: float, of: npt.NDArray[np.float64]) -> bool:
        """Whether the gambler on values above m has once had the capital that refutes m."""
        most = _TRUNCATION / m if m > 0 else math.inf
        return bool(np.cumsum(np.log1p(np.minimum(bets, most) * (of - m))).max() >= limit)

    low = _boundary(lambda m: reached(m, x))
    high = 1 - _boundary(lambda m: reached(m, 1 - x))  # a value below m is one above 1 − m in 1 − x
    mean = float(x.mean())
    return Interval(mean, min(low, mean), max(high, mean), level, len(x))


def sequential_difference(before: Floats, after: Floats, *, level: float = 0.95) -> Interval:
    """The interval of mean(after) − mean(before) of two groups; it holds at all pairs of sizes at once.

    Each group has a `sequential_interval` at 1 − α/2, and the ends are the differences of opposite ends, so both hold
    together with probability 1 − α by the union bound, however the sizes of the groups depend on what was seen. Each
    end alone holds with probability 1 − α/2: the bound of a one-sided test at α/2. `n` is the smaller size.

    Args:
        before, after: [n] and [m] values in [0, 1], as for `sequential_interval`.
        level: 1 − α.

    Raises:
        ValueError: as `sequential_interval`.
    """
    one, other = (sequential_interval(values, level=(1 + level) / 2) for values in (before, after))
    estimate = other.estimate - one.estimate
    return Interval(estimate, other.low - one.high, other.high - one.low, level, min(one.n, other.n))


def _bets(x: npt.NDArray[np.float64], alpha: float) -> npt.NDArray[np.float64]:
    """[n] λ_i, each from the values before it."""
    steps = np.arange(1, len(x) + 1)
    means = (0.5 + np.cumsum(x)) / (steps + 1)
    variances = (0.25 + np.cumsum((x - means) ** 2)) / (steps + 1)
    before = np.concatenate([[0.25], variances[:-1]])
    return np.asarray(np.sqrt(2 * math.log(2 / alpha) / (before * steps * np.log1p(steps))), dtype=np.float64)


def _boundary(refuted: Callable[[float], bool]) -> float:
    """The largest m in [0, 1] up to which every mean is refuted, rounded down; 0 if 0 is not."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low
