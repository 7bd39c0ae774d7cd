"""Intervals against independent implementations, by hand, and by their coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.stats import (
    Interval,
    cluster_mean_interval,
    effective_size,
    mean_interval,
    newcombe_paired,
    rate_interval,
    wilson,
)

counts = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def test_wilson_by_hand() -> None:
    # 81 of 263, the example of Newcombe (1998): 0.2553 to 0.3662.
    interval = wilson(81, 263)
    assert (round(interval.low, 4), round(interval.high, 4)) == (0.2553, 0.3662)
    # None of 20: z²/(n + z²) with z² = 3.8415 is 0.1611, and the lower end is exactly 0.
    assert wilson(0, 20).low == 0.0
    assert wilson(0, 20).high == pytest.approx(3.841459 / 23.841459, abs=1e-6)


@settings(deadline=None)  # the first example imports the oracle
@given(counts, st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_wilson_equals_statsmodels(count: tuple[int, int], level: float) -> None:
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    expected = proportion.proportion_confint(*count, alpha=1 - level, method="wilson")
    interval = wilson(*count, level=level)
    assert (interval.low, interval.high) == pytest.approx(expected, abs=1e-12)


@settings(deadline=None)  # the first example imports the oracle
@given(counts)
def test_wilson_mirrors(count: tuple[int, int]) -> None:
    k, n = count
    one, other = wilson(k, n), wilson(n - k, n)
    assert (one.low, one.high) == pytest.approx((1 - other.high, 1 - other.low))
    assert 0 <= one.low <= one.estimate <= one.high <= 1


@pytest.mark.parametrize(("k", "n", "level"), [(1, 0, 0.95), (3, 2, 0.95), (-1, 2, 0.95), (1, 2, 1.0), (1, 2, 95)])
def test_wilson_refuses_nonsense(k: int, n: int, level: float) -> None:
    with pytest.raises(ValueError):
        wilson(k, n, level=level)


def test_mean_interval_equals_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(0).normal(3, 2, 17)
    interval = mean_interval(values, level=0.9)
    expected = stats.t.interval(0.9, 16, loc=values.mean(), scale=stats.sem(values))
    assert (interval.low, interval.high) == pytest.approx(expected)
    assert interval.n == 17


def test_one_value_tells_nothing_of_the_spread() -> None:
    assert mean_interval([0.7]) == Interval(0.7, -math.inf, math.inf, 0.95, 1)


@pytest.mark.parametrize("values", [[], [0.5, math.nan], [math.inf, 0.0]])
def test_values_must_be_there_and_finite(values: list[float]) -> None:
    with pytest.raises(ValueError):
        mean_interval(values)


def test_cluster_interval_equals_statsmodels() -> None:
    sm = pytest.importorskip("statsmodels.api")
    rng = np.random.default_rng(1)
    groups = rng.integers(0, 12, 90)
    values = rng.normal(size=90) + rng.normal(size=12)[groups]
    fit = sm.OLS(values, np.ones(90)).fit(
        cov_type="cluster", cov_kwds={"groups": groups, "use_correction": True}, use_t=True
    )
    # statsmodels' small-sample factor is G/(G−1)·(N−1)/(N−k), and with the mean alone k is 1.
    interval = cluster_mean_interval(values, groups.tolist())
    assert (interval.low, interval.high) == pytest.approx(tuple(fit.conf_int()[0]))
    assert interval.n == len(set(groups.tolist()))


def test_clusters_of_one_are_no_clusters() -> None:
    values = [0.0, 1.0, 0.5, 1.0]
    assert cluster_mean_interval(values, "abcd") == mean_interval(values)


def test_copies_of_an_item_add_no_certainty() -> None:
    values = [0.0, 1.0, 0.5, 1.0, 1.0]
    copied = cluster_mean_interval(values * 3, list("abcde") * 3)
    once = mean_interval(values)
    assert (copied.low, copied.high, copied.n) == pytest.approx((once.low, once.high, once.n))


def test_effective_size_by_hand() -> None:
    # W = 0.5, s² = 1/3 for (1, 0, 1, 0) with n−1: 4·0.25/(1/3) = 3.
    assert effective_size([1, 0, 1, 0]) == pytest.approx(3)
    # (0, ½, 1) has s² = 1/4 as a coin would with n, so three items count as three; so do three that never vary.
    assert effective_size([0.0, 0.5, 1.0]) == pytest.approx(3)
    assert effective_size([0.5, 0.5, 0.5]) == 3
    # Ties vary less than verdicts and so count more: s² = 1/16, n_e = 4·(3/8)(5/8)/(1/16) = 15.
    assert effective_size([0.5, 0.5, 0.5, 0.0]) == pytest.approx(15)


def test_few_items_get_wilson_and_many_the_t_interval() -> None:
    few, many = [1.0] * 60 + [0.0] * 40, [1.0] * 120 + [0.0] * 80
    size = effective_size(few)
    around = wilson(0.6 * size, size)
    assert (rate_interval(few).low, rate_interval(few).high) == pytest.approx((around.low, around.high))
    assert rate_interval(many) == mean_interval(many)
    assert rate_interval([1.0] * 50).low == pytest.approx(wilson(50, 50).low)
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        rate_interval([0.5, 2.0])


@pytest.mark.parametrize("true_rate", [0.5, 0.8])
def test_the_rate_interval_covers(true_rate: float) -> None:
    """30 items judged in two dependent orders: the 95 % interval must cover the truth about as often as it says."""
    rng = np.random.default_rng(7)
    truth = np.clip(rng.normal(true_rate, 0.15, 100_000), 0, 1).mean()
    covered = 0
    for _ in range(2_000):
        tendency = np.clip(rng.normal(true_rate, 0.15, 30), 0, 1)
        scores = (rng.random(30) < tendency).astype(float) / 2 + (rng.random(30) < tendency).astype(float) / 2
        covered += truth in rate_interval(scores)
    assert 0.93 <= covered / 2_000 <= 0.975


def test_newcombe_without_correlation_equals_statsmodels() -> None:
    """Where φ is 0 the paired interval is the independent one."""
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    # Bentur 2009: 2 of 21 before, 8 of 21 after; the small positive φ falls to the continuity correction.
    interval = newcombe_paired(1, 1, 7, 12)
    expected = proportion.confint_proportions_2indep(2, 21, 8, 21, method="newcomb", compare="diff")
    assert (interval.low, interval.high) == pytest.approx(expected)
    assert (round(interval.low, 3), round(interval.high, 3)) == (-0.507, -0.026)


def test_newcombe_with_correlation_by_hand() -> None:
    # 59 both, 6 only first, 16 only second, 80 neither (Cavo 2012), n = 161: p1 = 65/161, p2 = 75/161.
    one, two = wilson(65, 161), wilson(75, 161)
    phi = (59 * 80 - 6 * 16 - 161 / 2) / math.sqrt(65 * 96 * 75 * 86)
    down, up = one.estimate - one.low, two.high - two.estimate
    low = (6 - 16) / 161 - math.sqrt(down**2 - 2 * phi * down * up + up**2)
    assert newcombe_paired(59, 6, 16, 80).low == pytest.approx(low)


@settings(deadline=None)  # the first example imports the oracle
@given(st.tuples(*[st.integers(0, 60)] * 4).filter(lambda cells: sum(cells) > 0))
def test_newcombe_mirrors_and_stays_inside(cells: tuple[int, int, int, int]) -> None:
    a, b, c, d = cells
    one, other = newcombe_paired(a, b, c, d), newcombe_paired(a, c, b, d)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    assert -1 <= one.low <= one.estimate <= one.high <= 1


def test_newcombe_covers() -> None:
    rng = np.random.default_rng(3)
    cells = np.array([0.5, 0.08, 0.12, 0.3])
    drawn = rng.multinomial(120, cells, size=3_000)
    covered = sum((0.08 - 0.12) in newcombe_paired(*map(int, row)) for row in drawn)
    assert 0.94 <= covered / 3_000 <= 0.98


def test_a_rate_as_a_person_reads_it() -> None:
    assert wilson(63, 100).percent() == "63.0 % (53.2 to 71.8)"
