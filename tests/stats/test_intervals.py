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
    mean_interval,
    newcombe_paired,
    percentile_bound,
    rate_interval,
    standard_error,
    t_test,
    wilson,
)
from palate.stats.intervals import effective_size

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


def test_a_skewed_mean_by_hand() -> None:
    """36 values, one of them 36: mean 1, s² = 36, γ = 35·34/(35)^1.5 = 5.747, so 25γ² is above 36."""
    values = np.array([36.0] + [0.0] * 35)
    found = mean_interval(values)
    gamma = (35**3 + 35 * (-1) ** 3) / 36 / ((35**2 + 35) / 36) ** 1.5
    for end, sign in ((found.low, 1), (found.high, -1)):
        t = (1 - end) / 1.0  # s/√n is 1
        transformed = t + gamma * t**2 / 18 + gamma**2 * t**3 / (27 * 36) + gamma / 36
        assert transformed == pytest.approx(sign * 2.0301079)  # t(35)
    assert 1 - found.low < found.high - 1, "wider towards the long tail"
    mirrored = mean_interval(-values)
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low))


def test_the_skewness_of_clusters_counts() -> None:
    values = np.random.default_rng(0).exponential(1, 30)
    copied = np.repeat(values, 3)
    once = mean_interval(values)
    of_clusters = cluster_mean_interval(copied, np.repeat(np.arange(30), 3).tolist())
    assert (of_clusters.low, of_clusters.high) == pytest.approx((once.low, once.high))


@given(st.lists(st.floats(-5, 100), min_size=20, max_size=40).filter(lambda values: np.std(values) > 1e-3))
def test_the_p_value_agrees_with_the_interval(values: list[float]) -> None:
    """A mean at an end of the 95 % interval has a p-value of 5 %."""
    interval = mean_interval(values)
    assert t_test(np.array(values) - interval.low) == pytest.approx(0.05, abs=1e-6)
    assert t_test(np.array(values) - interval.high) == pytest.approx(0.05, abs=1e-6)


@pytest.mark.parametrize(("n", "least"), [(20, 0.93), (30, 0.93), (100, 0.93)])
def test_means_of_skewed_values_are_covered(n: int, least: float) -> None:
    """Exponential; Student's interval covers 91.7 % of samples of 20, and 92.6 % of 30."""
    rng = np.random.default_rng(11)
    hits = sum(1.0 in mean_interval(rng.exponential(1, n)) for _ in range(4_000))
    assert least <= hits / 4_000 <= 0.965


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


@pytest.mark.parametrize("wins", [3, 60, 199, 594])
def test_a_rate_gets_wilson_with_the_effective_size_at_every_n(wins: int) -> None:
    n = {3: 5, 60: 100, 199: 200, 594: 600}[wins]
    scores = [1.0] * wins + [0.0] * (n - wins)
    # 0/1 scores: s² = n/(n−1)·W(1−W), so n_e = n − 1.
    assert effective_size(scores) == pytest.approx(n - 1)
    around = wilson(wins / n * (n - 1), n - 1)
    found = rate_interval(scores)
    assert (found.estimate, found.low, found.high, found.n) == pytest.approx((wins / n, around.low, around.high, n))


def test_a_rate_without_variation_counts_its_units() -> None:
    assert rate_interval([1.0] * 300) == wilson(300, 300)
    # 20 prompts, 5 pairs each, all right: 20 units, not 100, with t(19) = 2.0930 in place of z.
    found = rate_interval([1.0] * 100, clusters=[pair // 5 for pair in range(100)])
    assert (found.low, found.high, found.n) == pytest.approx((20 / (20 + 2.0930241**2), 1, 20), abs=1e-6)
    # Rounding is no variation: a third of each prompt's pairs is right, everywhere.
    thirds = rate_interval([1.0, 0.0, 0.0] * 50, clusters=[pair // 3 for pair in range(150)])
    assert effective_size([1.0, 0.0, 0.0] * 50, [pair // 3 for pair in range(150)]) == 50
    assert thirds.high - thirds.low > 0.2
    assert effective_size([0.7] * 50) == 50
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        rate_interval([0.5, 2.0])


def test_a_clustered_rate_by_hand() -> None:
    # Prompts a (1, 1), b (1, 0), c (0, 0): W = ½, sums of deviations 1, 0, −1, V = 3/2·2/36 = 1/12, n_e = ¼·12 = 3.
    scores, prompts = [1, 1, 1, 0, 0, 0], "aabbcc"
    assert effective_size(scores, prompts) == pytest.approx(3)
    t2 = 4.3026527**2  # t(2), squared
    half = math.sqrt(t2) * math.sqrt(0.25 / 3 + t2 / 36) / (1 + t2 / 3)
    found = rate_interval(scores, clusters=prompts)
    assert (found.low, found.high, found.n) == pytest.approx((0.5 - half, 0.5 + half, 3), abs=1e-6)


def test_one_unit_says_next_to_nothing() -> None:
    assert rate_interval([1.0]) == wilson(1, 1)
    one_prompt = rate_interval([1.0, 0.0, 1.0], clusters="aaa")
    assert (one_prompt.low, one_prompt.high, one_prompt.n) == (0, 1, 1)
    assert rate_interval([1.0], clusters="a").low == 0


clustered = st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.integers(0, 8)), min_size=2, max_size=40).map(
    lambda rows: tuple(zip(*rows, strict=True))
)


@given(clustered)
def test_swapping_mirrors_a_clustered_rate(table: tuple[tuple[float, ...], tuple[int, ...]]) -> None:
    scores, prompts = table
    one, other = rate_interval(scores, clusters=prompts), rate_interval([1 - x for x in scores], clusters=prompts)
    assert one.estimate == pytest.approx(1 - other.estimate)
    assert (one.low, one.high, one.n) == pytest.approx((1 - other.high, 1 - other.low, other.n), abs=1e-9)
    assert 0 <= one.low <= one.estimate <= one.high <= 1


@given(clustered, st.integers(2, 4))
def test_copies_of_every_row_change_nothing(table: tuple[tuple[float, ...], tuple[int, ...]], copies: int) -> None:
    scores, prompts = table
    for interval in (rate_interval, cluster_mean_interval):
        once = interval(scores, clusters=prompts)
        copied = interval(scores * copies, clusters=prompts * copies)
        assert (copied.estimate, copied.low, copied.high, copied.n) == pytest.approx(
            (once.estimate, once.low, once.high, once.n), abs=1e-9
        )


def test_the_standard_error_is_that_of_the_interval() -> None:
    values, prompts = [0.0, 1.0, 4.0, 2.0], "aabb"
    # Means 0.5 and 3 of clusters of two: s/√2 of the two.
    assert standard_error(values, prompts) == pytest.approx(2.5 / 2)
    assert standard_error([0.7]) == math.inf


def covered(rng: np.random.Generator, correlation: float, rate: float, rounds: int) -> dict[str, float]:
    """How often 95 % intervals hold the true rate: 50 prompts × 5 pairs, correlated within a prompt (beta-binomial)."""
    prompts, pairs = 50, 5
    size = 1 / correlation - 1
    names = np.repeat(np.arange(prompts), pairs).tolist()
    hits = {"clusters": 0, "independent": 0}
    for _ in range(rounds):
        tendency = rng.beta(rate * size, (1 - rate) * size, prompts)
        scores = (rng.random((prompts, pairs)) < tendency[:, None]).astype(float).ravel()
        hits["clusters"] += rate in rate_interval(scores, clusters=names)
        hits["independent"] += rate in rate_interval(scores)
    return {kind: count / rounds for kind, count in hits.items()}


@pytest.mark.parametrize(("correlation", "rate"), [(0.8, 0.7), (0.5, 0.6), (0.95, 0.8)])
def test_pairs_of_one_prompt_are_covered_as_often_as_said(correlation: float, rate: float) -> None:
    found = covered(np.random.default_rng(1), correlation, rate, 1_500)
    assert 0.93 <= found["clusters"] <= 0.97
    assert found["independent"] < 0.85


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


def test_the_bound_of_a_percentile() -> None:
    # P(B ≤ 97) = 0.882 and P(B ≤ 98) = 0.963 for B ~ binomial(100, 0.95), by hand from 0.95^100 = 0.00592.
    values = list(range(1, 101))
    assert percentile_bound(values, 0.95, 0.05) == 99
    assert percentile_bound(values, 0.95, 0.001) is None
    assert percentile_bound([], 0.95, 0.05) is None
