"""Power: the smallest effect that n items can show, the items that an effect needs, and how often equal models pass."""

from __future__ import annotations

import math
from typing import Literal

from scipy import special

from palate.stats.intervals import t_quantile

POWER, ALPHA = 0.8, 0.05


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
