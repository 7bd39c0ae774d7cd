"""Power against the figures of STATISTICS and a simulation."""

from __future__ import annotations

import numpy as np
import pytest

from palate.stats import items_needed, pass_probability, smallest_effect


@pytest.mark.parametrize(("n", "points"), [(80, 11.7), (200, 7.4), (400, 5.2), (805, 3.7), (1600, 2.6)])
def test_known_smallest_differences(n: int, points: float) -> None:
    # sd 0.42; by hand for n = 400: (1.64485 + 0.84162) · 0.42 / 20 = 0.05222
    assert 100 * smallest_effect(0.42 / n**0.5) == pytest.approx(points, abs=0.05)


def test_needed_is_the_inverse_of_smallest() -> None:
    n = items_needed(0.05, 0.42)
    assert smallest_effect(0.42 / n**0.5) <= 0.05 < smallest_effect(0.42 / (n - 1) ** 0.5)
    assert n == 437  # (2.486475 · 0.42 / 0.05)² = 436.2


def test_eighty_percent_of_simulated_tests_find_it() -> None:
    rng = np.random.default_rng(0)
    n, sd = 400, 0.42
    means = 0.5 + smallest_effect(sd / n**0.5) + rng.normal(0, sd / n**0.5, 20_000)
    assert ((means - 0.5) / (sd / n**0.5) > 1.644854).mean() == pytest.approx(0.8, abs=0.01)


def test_two_sides_and_few_units_need_more() -> None:
    # z_0.975 + z_0.8 = 1.959964 + 0.841621; with 10 units t(9) = 2.262157 replaces z_0.975.
    assert smallest_effect(1, sides=2) == pytest.approx(2.801585, abs=1e-6)
    assert smallest_effect(1, sides=2, units=10) == pytest.approx(3.103778, abs=1e-6)
    assert smallest_effect(1, units=10) == pytest.approx(1.833113 + 0.841621, abs=1e-6)


@pytest.mark.parametrize(
    ("margin", "sd", "n", "percent"),
    [(0.02, 0.1**0.5, 817, 56), (0.03, 0.1**0.5, 817, 86), (0.3, 1.2, 80, 72), (0.4, 1.2, 80, 91)],
)
def test_how_often_equal_models_pass(margin: float, sd: float, n: int, percent: int) -> None:
    """TruthfulQA with 10 % discordant items, MT-Bench with a standard deviation of 1.2 (simulated: 55, 85, 72, 91)."""
    assert 100 * pass_probability(margin, sd / n**0.5) == pytest.approx(percent, abs=0.5)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="effect above 0"):
        items_needed(0, 0.4)
    with pytest.raises(ValueError, match="cannot be -1"):
        smallest_effect(-1)
    with pytest.raises(ValueError, match="between 0 and 1"):
        smallest_effect(0.1, power=1)
