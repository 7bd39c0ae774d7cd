"""The confidence sequence: by a direct computation, its coverage at every n together, and its symmetries."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.stats import mean_interval, sequential_interval

values = st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), min_size=1, max_size=40)


def wealth(x: list[float], m: float, alpha: float, sign: int) -> float:
    """The largest capital so far of the gambler against the mean m, step by step as in the paper."""
    capital, best, total, squares, variance = 1.0, 1.0, 0.0, 0.0, 0.25
    for i, value in enumerate(x, 1):
        bet = math.sqrt(2 * math.log(2 / alpha) / (variance * i * math.log(1 + i)))
        bet = min(bet, 0.5 / (m if sign > 0 else 1 - m))
        capital *= 1 + sign * bet * (value - m)
        best = max(best, capital)
        total += value
        squares += (value - (0.5 + total) / (i + 1)) ** 2
        variance = (0.25 + squares) / (i + 1)
    return best


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_the_ends_are_where_the_capital_reaches_its_limit(level: float) -> None:
    x = np.random.default_rng(0).choice([0, 0.5, 1], 60, p=[0.2, 0.2, 0.6]).tolist()
    found = sequential_interval(x, level=level)
    alpha = 1 - level
    assert wealth(x, found.low, alpha, 1) == pytest.approx(2 / alpha, rel=1e-6)
    assert wealth(x, found.high, alpha, -1) == pytest.approx(2 / alpha, rel=1e-6)
    assert wealth(x, found.low - 0.01, alpha, 1) > 2 / alpha > wealth(x, found.low + 0.01, alpha, 1)


@settings(deadline=None)
@given(values)
def test_it_mirrors_and_never_widens(x: list[float]) -> None:
    one, other = sequential_interval(x), sequential_interval([1 - value for value in x])
    assert (one.low, one.high) == pytest.approx((1 - other.high, 1 - other.low), abs=1e-9)
    assert 0 <= one.low <= one.estimate <= one.high <= 1
    before = sequential_interval(x[: max(1, len(x) // 2)])
    # But for the estimate, which is always inside.
    assert one.low >= before.low - 1e-9 or one.low == one.estimate
    assert one.high <= before.high + 1e-9 or one.high == one.estimate


def ever_missed(rate: float, rounds: int, most: int, seed: int) -> tuple[float, float]:
    """How often the sequence, and how often a fixed interval, has excluded the rate at any of n = 2 … most."""
    rng = np.random.default_rng(seed)
    missed = fixed = 0
    for _ in range(rounds):
        x = rng.choice([0.0, 0.5, 1.0], most, p=[1 - rate - 0.1, 0.2, rate - 0.1])
        # The sequence intersects itself, so that the interval at the end tells of every n before it.
        missed += rate not in sequential_interval(x)
        fixed += any(rate not in mean_interval(x[:n]) for n in range(10, most, 10))
    return missed / rounds, fixed / rounds


def test_it_holds_at_every_n_where_a_fixed_interval_does_not() -> None:
    missed, fixed = ever_missed(0.5, 300, 400, 1)
    assert missed <= 0.05
    assert fixed > 0.15


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.2, 0.5, 0.8])
def test_it_holds_at_every_n(rate: float) -> None:
    assert ever_missed(rate, 2_000, 1_000, 2)[0] <= 0.05


def test_it_finds_an_effect() -> None:
    x = np.random.default_rng(3).choice([0.0, 0.5, 1.0], 800, p=[0.3, 0.2, 0.5])
    found = sequential_interval(x, level=0.9)
    assert found.low > 0.5
    assert found.high - found.low < 0.15


def test_nonsense_is_refused() -> None:
    for x in ([], [0.5, 1.2], [math.nan]):
        with pytest.raises(ValueError, match=r"values in \[0, 1\]"):
            sequential_interval(x)
    with pytest.raises(ValueError, match="level"):
        sequential_interval([0.5], level=1.0)
