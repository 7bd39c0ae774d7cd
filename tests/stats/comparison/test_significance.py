"""Sign tests and corrections for many tests, against SciPy and statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.stats import benjamini_hochberg, binomial_exact, binomial_midp, holm, mcnemar_midp

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
