"""Tests of paired yes/no outcomes, p-values of many tests at once, and the effects that a test can show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy import special

from palate.stats.intervals import t_quantile

POWER, ALPHA = 0.8, 0.05


def binomial_midp(successes: int, n: int) -> float:
    """Two-sided mid-p of `successes` in `n` fair coin tosses: the sign test, where the observed outcome counts half.

    P(X farther from n/2 than k) + ½P(X as far as k). This is 2·P(X < k) + P(X = k) for the smaller side if k ≠ n/2, and
    1 − ½P(X = k) if k = n/2 (Fagerland et al. 2013, supplement, equation 2). It is 1 if n is 0. The test is less
    conservative than the exact test and keeps its level in practice.
    """
    return _binomial(successes, n, weight_of_observed=0.5)


def binomial_exact(successes: int, n: int) -> float:
    """Two-sided exact p-value of `successes` in `n` fair coin tosses; never above its level, but less powerful."""
    return _binomial(successes, n, weight_of_observed=1.0)


def mcnemar_midp(only_first: int, only_second: int) -> float:
    """Two-sided mid-p McNemar test of paired yes/no outcomes, from the two discordant counts."""
    return binomial_midp(only_first, only_first + only_second)


def _binomial(k: int, n: int, weight_of_observed: float) -> float:
    if not 0 <= k <= n:
        raise ValueError(f"need 0 <= successes <= n, got {k} of {n}")
    if n == 0:
        return 1.0
    k = min(k, n - k)
    seen = math.exp(math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2))
    if 2 * k == n:  # every other outcome is farther from n/2
        return 1 - (1 - weight_of_observed) * seen
    farther = float(special.bdtr(k - 1, n, 0.5)) if k > 0 else 0.0
    return min(1.0, 2 * (farther + weight_of_observed * seen))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given; they bound the probability of any false finding by alpha."""
    p = _checked(p_values)
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return [float(value) for value in np.minimum(steps, 1.0)[np.argsort(order)]]  # in the given order


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Benjamini–Hochberg adjusted p-values, in the order given; they bound the false discovery rate by q."""
    p = _checked(p_values)
    order = np.argsort(p, kind="stable")
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    adjusted = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return [float(value) for value in adjusted[np.argsort(order)]]  # in the given order


def _checked(p_values: Sequence[float]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    p = np.asarray(p_values, dtype=np.float64).reshape(-1)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError("p-values must be in [0, 1]")
    return p


def smallest_effect(
    standard_error: float,
    *,
    power: float = POWER,
    alpha: float = ALPHA,
    sides: Literal[1, 2] = 1,
    units: int | None = None,
) -> float:
    """The effect that a test at `alpha` finds with probability `power`: (z_{1−α/sides} + z_power)·SE.

    At 80 % and 5 % on one side it is 2.487·s/√n with the standard error s/√n of a mean; with clusters pass their
    standard error. With `units`, Student's t with units − 1 degrees of freedom replaces z_{1−α/sides}.
    """
    if standard_error < 0:
        raise ValueError(f"a standard error cannot be {standard_error}")
    z = _quantiles(power, alpha / sides)
    if units is not None:
        z += t_quantile(1 - 2 * alpha / sides, units - 1) - float(special.ndtri(1 - alpha / sides))
    return z * standard_error


def items_needed(effect: float, sd: float) -> int:
    """The n with which the one-sided `smallest_effect` is `effect`: ((z_{1−α} + z_power)·sd / effect)², rounded up.

    α is 5 %, the power 80 %.

    Args:
        effect: difference to be shown, above 0, in the units of `sd`.
        sd: standard deviation of an item's score.
    """
    if effect <= 0 or sd < 0:
        raise ValueError(f"need an effect above 0 and a standard deviation of 0 or more, got {effect} and {sd}")
    return max(1, math.ceil((_quantiles(POWER, ALPHA) * sd / effect) ** 2))


def pass_probability(margin: float, standard_error: float, *, alpha: float = ALPHA) -> float:
    """How often an equal model shows that it is not worse by `margin`: Φ(margin / SE − z_{1−α}).

    This is the probability that the one-sided 1 − α lower bound of a difference of 0 is above −margin.
    """
    return float(special.ndtr(margin / standard_error - special.ndtri(1 - alpha)))


def _quantiles(power: float, alpha: float) -> float:
    if not (0 < power < 1 and 0 < alpha < 1):
        raise ValueError(f"power and alpha must be between 0 and 1, got {power} and {alpha}")
    return float(special.ndtri(1 - alpha) + special.ndtri(power))
