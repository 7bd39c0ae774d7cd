"""Power: the smallest effect that n items can show, and the number of items that an effect needs."""

from __future__ import annotations

import math

from scipy import special

POWER, ALPHA = 0.8, 0.05


def smallest_effect(standard_error: float, *, power: float = POWER, alpha: float = ALPHA) -> float:
    """The effect that a one-sided test at `alpha` finds with probability `power`: (z_{1−α} + z_power)·SE.

    At 80 % and 5 % it is 2.487·s/√n with the standard error s/√n of a mean; with clusters pass their standard error.
    """
    if standard_error < 0:
        raise ValueError(f"a standard error cannot be {standard_error}")
    return _quantiles(power, alpha) * standard_error


def items_needed(effect: float, sd: float, *, power: float = POWER, alpha: float = ALPHA) -> int:
    """The n with which `smallest_effect` is `effect`: ((z_{1−α} + z_power)·sd / effect)², rounded up.

    Args:
        effect: difference to be shown, above 0, in the units of `sd`.
        sd: standard deviation of an item's score.
    """
    if effect <= 0 or sd < 0:
        raise ValueError(f"need an effect above 0 and a standard deviation of 0 or more, got {effect} and {sd}")
    return max(1, math.ceil((_quantiles(power, alpha) * sd / effect) ** 2))


def _quantiles(power: float, alpha: float) -> float:
    if not (0 < power < 1 and 0 < alpha < 1):
        raise ValueError(f"power and alpha must be between 0 and 1, got {power} and {alpha}")
    return float(special.ndtri(1 - alpha) + special.ndtri(power))
