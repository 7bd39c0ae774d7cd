"""Sign tests and corrections for many tests, against SciPy and statsmodels; power, against known figures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.stats import (
    benjamini_hochberg,
    binomial_exact,
    binomial_midp,
    holm,
    items_needed,
    mcnemar_midp,
    pass_probability,
    smallest_effect,
)

counts = st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
p_values = st.lists(st.floats(0, 1), min_size=1, max_size=30)


def test_midp_by_hand() -> None:
    # 1 of 5: 2·(1/32 + ½·5/32) = 7/32.  5 of 5: 2·½·1/32.
    assert binomial_midp(1, 5) == pytest.approx(7 / 32)
    assert binomial_midp(5, 5) == pytest.approx(1 / 32)
    assert binomial_midp(0, 0) == 1.0
    # Bentur 2009: 1 and 7 discordant, mid-p 0.0391 (Fagerland et al. 2013).
    assert round(mcnemar_midp(1, 7), 4) == 0.0391


def test_midp_of_equal_counts_by_hand() -> None:
    """Fagerland et al. 2013, supplement: 1 − ½·P(B = b) where b = c, since no other outcome is as near to n/2."""
    assert binomial_midp(2, 4) == mcnemar_midp(2, 2) == pytest.approx(1 - 6 / 32)
    assert mcnemar_midp(1, 1) == pytest.approx(0.75)
    assert mcnemar_midp(5, 5) == pytest.approx(1 - 252 / 2048)
    assert mcnemar_midp(0, 0) == 1.0  # nothing is discordant
    assert binomial_exact(2, 4) == 1.0
    assert mcnemar_midp(2, 3) == pytest.approx(2 * 16 / 32 - 10 / 32)  # the neighbour, by the other formula


@settings(deadline=None)  # the first example imports the oracle
@given(counts)
def test_exact_equals_scipy_and_midp_counts_the_seen_half(count: tuple[int, int]) -> None:
    stats = pytest.importorskip("scipy.stats")
    k, n = count
    exact = stats.binomtest(k, n).pvalue
    assert binomial_exact(k, n) == pytest.approx(exact, rel=1e-9)
    seen = stats.binom.pmf(k, n, 0.5)
    assert binomial_midp(k, n) == pytest.approx(exact - seen if 2 * k != n else 1 - seen / 2, rel=1e-9)


@settings(deadline=None)  # the first example imports the oracle
@given(counts)
def test_sides_mirror(count: tuple[int, int]) -> None:
    k, n = count
    assert binomial_midp(k, n) == pytest.approx(binomial_midp(n - k, n))


def test_many_tosses_do_not_overflow() -> None:
    assert 0 < binomial_midp(50_500, 100_000) < 0.01


def test_the_sign_test_holds_its_level() -> None:
    wins = np.random.default_rng(0).binomial(40, 0.5, 20_000)
    table = [binomial_midp(k, 40) <= 0.05 for k in range(41)]
    assert np.mean([table[k] for k in wins]) <= 0.055


@settings(deadline=None, max_examples=20)  # the oracle takes a tenth of a second a call
@given(p_values)
def test_corrections_equal_statsmodels(values: list[float]) -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    assert holm(values) == pytest.approx(list(multitest.multipletests(values, method="holm")[1]))
    assert benjamini_hochberg(values) == pytest.approx(list(multitest.multipletests(values, method="fdr_bh")[1]))


def test_corrections_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert benjamini_hochberg([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.04, 0.04])
    assert holm([]) == []
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        holm([1.2])


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="5 of 4"):
        binomial_midp(5, 4)


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
