"""Paired differences against scipy, statsmodels and values by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar

from palate.stats import paired_difference, smallest_effect
from palate.stats.comparison.paired import EXACT_BELOW


def test_few_yes_no_items_get_mcnemar_and_newcombe() -> None:
    # 10 right in both, 9 only after, 2 only before, 4 in neither.
    before = [1] * 10 + [0] * 9 + [1] * 2 + [0] * 4
    after = [1] * 10 + [1] * 9 + [0] * 2 + [0] * 4
    found = paired_difference(before, after)
    assert (found.test, found.n, found.higher, found.lower) == ("McNemar mid-p", 25, 9, 2)
    assert found.difference.estimate == pytest.approx(7 / 25)
    exact = float(mcnemar([[10, 2], [9, 4]], exact=True).pvalue)
    assert found.p_value == pytest.approx(exact - stats.binom.pmf(2, 11, 0.5))  # mid-p = exact − P(X = observed)
    assert found.difference.low > 0
    assert found.bootstrap is None


def test_the_other_way_round_is_mirrored() -> None:
    rng = np.random.default_rng(1)
    for count in (60, 400):
        one, other = rng.integers(0, 2, count), rng.integers(0, 2, count)
        there, back = paired_difference(one, other), paired_difference(other, one)
        assert there.p_value == pytest.approx(back.p_value)
        assert (there.difference.low, there.difference.high) == pytest.approx(
            (-back.difference.high, -back.difference.low)
        )


@pytest.mark.parametrize("count", [EXACT_BELOW, 40])
def test_many_yes_no_items_and_any_numbers_get_the_paired_t(count: int) -> None:
    rng = np.random.default_rng(count)
    many = count >= EXACT_BELOW
    before = rng.integers(0, 2, count) if many else rng.normal(size=count)
    after = rng.integers(0, 2, count) if many else before + rng.normal(0.3, 1, size=count)
    found = paired_difference(before, after)
    expected = stats.ttest_rel(after, before)
    ends = expected.confidence_interval(0.95)
    assert found.test == "paired t"
    assert found.p_value == pytest.approx(expected.pvalue)
    assert (found.difference.low, found.difference.high) == pytest.approx((ends.low, ends.high))
    assert (found.bootstrap is None) == many


def test_the_bootstrap_agrees_with_scipy() -> None:
    rng = np.random.default_rng(3)
    before = rng.exponential(size=50)
    after = before + rng.exponential(size=50) - 0.7
    found = paired_difference(before, after).bootstrap
    assert found is not None
    expected = stats.bootstrap((after - before,), np.mean, n_resamples=10_000, rng=np.random.default_rng(5))
    ends = expected.confidence_interval
    assert (found.low, found.high) == pytest.approx((ends.low, ends.high), abs=0.02)


def test_copies_of_an_item_in_a_cluster_say_nothing_new() -> None:
    rng = np.random.default_rng(4)
    before, after = rng.normal(size=30), rng.normal(0.5, 1, size=30)
    once = paired_difference(before, after)
    copies = paired_difference(np.tile(before, 3), np.tile(after, 3), clusters=list(range(30)) * 3)
    assert (copies.test, copies.n, copies.units) == ("cluster t", 90, 30)
    assert copies.p_value == pytest.approx(once.p_value)
    assert copies.difference.low == pytest.approx(once.difference.low)
    assert copies.detectable == pytest.approx(once.detectable)
    assert copies.bootstrap is not None
    assert once.bootstrap is not None
    assert copies.bootstrap.low == pytest.approx(once.bootstrap.low)
    naive = paired_difference(np.tile(before, 3), np.tile(after, 3))
    assert naive.difference.low > copies.difference.low


def test_clusters_of_one_item_are_no_clusters() -> None:
    found = paired_difference([0, 1, 1], [1, 1, 1], clusters=["a", "b", "c"])
    assert found.test == "McNemar mid-p"


def test_the_detectable_difference_is_found_in_four_of_five_studies() -> None:
    """With that true difference, the paired t test at 5 % rejects in 80 % of simulated studies."""
    count = 50
    size = smallest_effect(1 / math.sqrt(count), sides=2, units=count)
    drawn = np.random.default_rng(6).normal(size, 1, size=(20_000, count))
    assert (stats.ttest_1samp(drawn, 0, axis=1).pvalue < 0.05).mean() == pytest.approx(0.8, abs=0.015)


def test_nothing_is_detectable_without_spread() -> None:
    assert paired_difference([1, 0, 1], [1, 0, 1]).detectable is None
    assert paired_difference([1, 0, 1], [1, 0, 1]).p_value == 1
    assert paired_difference([0, 1], [1, 1]).detectable is None  # it would be 6.8, and no difference is above 1
    alone = paired_difference([0.2], [0.7])
    assert (alone.p_value, alone.detectable, alone.bootstrap) == (1, None, None)
    assert math.isinf(alone.difference.high)


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="2 first values but 1 second"):
        paired_difference([1, 0], [1])
