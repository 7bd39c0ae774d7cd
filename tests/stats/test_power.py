"""Power against the figures of STATISTICS and a simulation."""

from __future__ import annotations

import numpy as np
import pytest

from palate.stats import items_needed, smallest_effect


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


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="effect above 0"):
        items_needed(0, 0.4)
    with pytest.raises(ValueError, match="cannot be -1"):
        smallest_effect(-1)
    with pytest.raises(ValueError, match="between 0 and 1"):
        smallest_effect(0.1, power=1)
