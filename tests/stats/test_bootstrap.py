"""Bootstrap intervals against SciPy's."""

from __future__ import annotations

import numpy as np
import pytest

from palate.stats import bootstrap_interval

skewed = np.random.default_rng(5).exponential(2.0, 60)


@pytest.mark.parametrize("method", ["bca", "percentile"])
def test_it_agrees_with_scipy(method: str) -> None:
    stats = pytest.importorskip("scipy.stats")
    scipy_name = {"bca": "BCa", "percentile": "percentile"}[method]
    # Hesterberg's expanded tails: as at this level without the expansion.
    level = 2 * stats.norm.cdf(np.sqrt(60 / 59) * stats.t.ppf(0.975, 59)) - 1
    expected = stats.bootstrap(
        (skewed,),
        np.mean,
        n_resamples=10_000,
        confidence_level=level,
        method=scipy_name,
        rng=np.random.default_rng(0),
    ).confidence_interval
    interval = bootstrap_interval(skewed, method=method)
    # Two different streams of random numbers: equal to within the noise of 10,000 resamples.
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=0.03)
    assert interval.estimate == skewed.mean()


def test_bca_leans_towards_the_long_tail() -> None:
    bca = bootstrap_interval(skewed, resamples=4_000)
    percentile = bootstrap_interval(skewed, method="percentile", resamples=4_000)
    assert bca.low > percentile.low
    assert bca.high > percentile.high


def test_few_items_get_wider_tails() -> None:
    """(0, 1, 2, 3): 256 resamples; t(3) = 3.1824, times √(4/3) is 3.675 normal SDs: the least and most."""
    found = bootstrap_interval([0.0, 1.0, 2.0, 3.0], method="percentile", resamples=20_000)
    assert (found.low, found.high) == (0.0, 3.0)


def test_the_seed_decides() -> None:
    one = bootstrap_interval(skewed, resamples=300, seed=1)
    assert one == bootstrap_interval(skewed, resamples=300, seed=1)
    assert one != bootstrap_interval(skewed, resamples=300, seed=2)


def test_rows_are_drawn_whole() -> None:
    """With perfectly paired columns the difference never varies; drawn apart it would."""
    pairs = np.stack([skewed, skewed + 1], axis=1)
    interval = bootstrap_interval(pairs, lambda rows: float((rows[:, 1] - rows[:, 0]).mean()), resamples=200)
    assert (interval.low, interval.high) == pytest.approx((1, 1))


def test_too_little_to_resample() -> None:
    with pytest.raises(ValueError, match="two items"):
        bootstrap_interval([1.0])
    with pytest.raises(ValueError, match="not finite"):
        bootstrap_interval([1.0, float("nan")])
