"""The length-controlled win rate against statsmodels, a bootstrap and its own symmetries."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.genmod.families import Binomial
from statsmodels.genmod.generalized_linear_model import GLM

from palate.stats import bootstrap_interval, length_controlled, position_report, win_rate


class Verdicts:
    """Verdicts of a seeded logistic judge: [2n] rows, A first and then B first."""

    def __init__(self, n: int, *, theta: float = 0.3, order: float = 0.4, length: float = 1.0, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.gaps = rng.normal(40, 300, n)
        item = rng.normal(0, 0.7, n)
        self.orders = np.repeat([1.0, -1.0], n)
        self.d = np.tile(self.gaps, 2)
        logits = theta + order * self.orders + length * np.tanh(self.d / self.gaps.std()) + np.tile(item, 2)
        self.s = (rng.random(2 * n) < 1 / (1 + np.exp(-logits))).astype(float)
        self.items = list(range(n)) * 2

    def fit(self, **options: Any) -> Any:
        return length_controlled(self.s, self.orders, self.d, self.items, **options)


def test_coefficients_and_sandwich_are_those_of_statsmodels() -> None:
    n = 200
    drawn = Verdicts(n)
    design = np.column_stack([np.ones(2 * n), drawn.orders, np.tanh(drawn.d / drawn.gaps.std())])
    groups = {"groups": np.array(drawn.items), "use_correction": False}
    oracle = GLM(drawn.s, design, family=Binomial()).fit(cov_type="cluster", cov_kwds=groups)
    covariance = np.asarray(oracle.cov_params()) * n / (n - 1)
    found = drawn.fit(ridge=0.0)
    assert found.order.estimate == pytest.approx(oracle.params[1], abs=1e-7)
    assert found.length.estimate == pytest.approx(oracle.params[2], abs=1e-7)
    theta, beta = oracle.params[:2]
    sides = 1 / (1 + np.exp(-np.array([theta + beta, theta - beta])))
    slopes = sides * (1 - sides)
    gradient = np.array([slopes.sum(), slopes[0] - slopes[1], 0]) / 2
    assert found.rate.estimate == pytest.approx(sides.mean(), abs=1e-8)
    assert found.standard_error == pytest.approx(np.sqrt(gradient @ covariance @ gradient), rel=1e-6)
    # t(199) at 97.5 %, on the logit scale
    half = 1.9719565 * found.standard_error / (found.rate.estimate * (1 - found.rate.estimate))
    logit = np.log(found.rate.estimate / (1 - found.rate.estimate))
    assert found.rate.high == pytest.approx(1 / (1 + np.exp(-logit - half)), abs=1e-6)
    assert drawn.fit().length.estimate == pytest.approx(found.length.estimate, abs=2e-3)
    assert 0 < drawn.fit().length.estimate < found.length.estimate  # the ridge shrinks


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000), st.integers(20, 150))
def test_swapping_the_two_models_mirrors_rate_and_interval(seed: int, n: int) -> None:
    drawn = Verdicts(n, seed=seed)
    one = drawn.fit()
    two = length_controlled(1 - drawn.s, -drawn.orders, -drawn.d, drawn.items)
    assert two.rate is not None
    assert two.rate.estimate == pytest.approx(1 - one.rate.estimate, abs=1e-9)
    assert (two.rate.low, two.rate.high) == pytest.approx((1 - one.rate.high, 1 - one.rate.low), abs=1e-9)
    assert two.order is not None
    assert two.order.estimate == pytest.approx(one.order.estimate)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000), st.integers(40, 150))
def test_each_verdict_row_twice_gives_the_same_error(seed: int, n: int) -> None:
    drawn = Verdicts(n, seed=seed)
    once = drawn.fit(ridge=0.0)
    twice = length_controlled(
        np.tile(drawn.s, 2), np.tile(drawn.orders, 2), np.tile(drawn.d, 2), drawn.items * 2, ridge=0.0
    )
    assert twice.standard_error == pytest.approx(once.standard_error, rel=1e-6)
    assert twice.rate is not None
    assert (twice.rate.low, twice.rate.high) == pytest.approx((once.rate.low, once.rate.high), rel=1e-6)


def test_two_thousand_bootstraps_by_prompt_have_the_same_spread() -> None:
    n = 150
    drawn = Verdicts(n, seed=5)

    def rate(chosen: np.ndarray[Any, Any]) -> float:
        rows = np.concatenate([chosen, chosen + n])
        # A prompt that is drawn twice is two items.
        found = length_controlled(drawn.s[rows], drawn.orders[rows], drawn.d[rows], list(range(n)) * 2)
        return float("nan") if found.rate is None else found.rate.estimate

    found = drawn.fit()
    resampled = bootstrap_interval(np.arange(n), rate, method="percentile", resamples=2000, seed=1)
    assert resampled.estimate == pytest.approx(found.rate.estimate, abs=1e-9)
    assert (resampled.low, resampled.high) == pytest.approx((found.rate.low, found.rate.high), abs=0.012)


def test_the_interval_contains_the_true_rate_as_often_as_it_says() -> None:
    """30 prompts, 500 seeded samples; the true rate is that of a sample of 40,000 (95 ± 3 points)."""
    large = Verdicts(40_000, seed=1).fit().rate.estimate
    covered = [large in Verdicts(30, seed=seed).fit().rate for seed in range(500)]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.03)


@pytest.mark.parametrize("seed", range(3))
def test_a_lover_of_length_is_corrected(seed: int) -> None:
    """A is longer in most items, and length is all that counts: raw far above 50 %, controlled near it."""
    rng = np.random.default_rng(seed)
    n = 400
    gaps = rng.normal(200, 300, n)
    judged = np.tile((rng.random(n) < 1 / (1 + np.exp(-gaps / 60))).astype(float), 2)
    raw = win_rate(judged[:n], judged[n:])
    found = length_controlled(judged, np.repeat([1.0, -1.0], n), np.tile(gaps, 2), list(range(n)) * 2)
    assert raw.rate is not None
    assert raw.rate.low > 0.65
    assert found.rate is not None
    assert found.rate.estimate == pytest.approx(0.5, abs=0.09)
    assert 0.5 in found.rate
    assert found.length is not None
    assert found.length.low > 1


def test_length_alone_decides_every_verdict() -> None:
    """The sandwich vanishes there; the interval must not."""
    rng = np.random.default_rng(0)
    gaps = rng.normal(100, 300, 300)
    judged = np.tile((gaps > 0).astype(float), 2)
    found = length_controlled(judged, np.repeat([1.0, -1.0], 300), np.tile(gaps, 2), list(range(300)) * 2)
    assert found.rate is not None
    assert 0.5 in found.rate
    assert found.rate.high - found.rate.low > 0.2


def total_win(n: int, gaps: np.ndarray[Any, Any], *, won: float = 1.0, level: float = 0.95) -> Any:
    return length_controlled(
        np.full(2 * n, won), np.repeat([1.0, -1.0], n), np.tile(gaps, 2), list(range(n)) * 2, level=level
    )


def test_a_total_win_has_firths_estimate() -> None:
    """Without an effect of length each order has its own probability, which Jeffreys' prior makes (n + ½)/(n + 1)."""
    n = 40
    found = total_win(n, np.zeros(n)).rate
    assert found.estimate == pytest.approx((n + 0.5) / (n + 1), abs=1e-9)
    assert 0.8 < found.low < found.estimate < found.high < 1
    lost = total_win(n, np.zeros(n), won=0.0).rate
    assert (lost.low, lost.high) == pytest.approx((1 - found.high, 1 - found.low))


def test_a_total_win_covers_a_true_rate_near_one() -> None:
    """Of 100 prompts, with a true rate of 97 %, 5 % of samples are total wins: their lower bound must be below it."""
    gaps = np.random.default_rng(0).normal(40, 300, 100)
    assert 0.9 < total_win(100, gaps, level=0.9).rate.low < 0.97


def test_a_total_win_of_longer_answers_only_says_nothing() -> None:
    """At equal length nothing was seen."""
    found = total_win(200, np.random.default_rng(0).uniform(500, 700, 200)).rate
    assert found.low < 0.01
    assert found.high > 0.99


def test_wins_whenever_shown_first_and_some_of_the_others() -> None:
    n = 400
    drawn = Verdicts(n, seed=3)
    drawn.s[:n] = 1
    found = drawn.fit().rate
    assert found.estimate == pytest.approx((1 + drawn.s[n:].mean()) / 2, abs=0.03)
    assert 0.02 < found.high - found.low < 0.1


def test_a_judge_that_takes_the_first_slot_has_exactly_one_half() -> None:
    n = 50
    first, second = np.ones(n), np.zeros(n)
    raw, position = win_rate(first, second), position_report(first, second)
    assert raw.rate is not None
    assert raw.rate.estimate == 0.5
    assert raw.inconsistent == n
    assert position.p_value < 1e-9
    found = length_controlled(
        np.concatenate([first, second]), np.repeat([1, -1], n), np.tile(np.arange(n), 2), list(range(n)) * 2
    )
    assert found.rate is not None
    assert found.rate.estimate == pytest.approx(0.5)
    assert found.rate.low < 0.5 < found.rate.high


def test_style_takes_away_what_bold_text_gains() -> None:
    rng = np.random.default_rng(2)
    n = 400
    bold, gaps = rng.choice([-1.0, 0.0, 1.0], n, p=[0.1, 0.3, 0.6]), rng.normal(0, 100, n)
    judged = np.tile((rng.random(n) < 1 / (1 + np.exp(-2 * bold))).astype(float), 2)
    rows = (judged, np.repeat([1.0, -1.0], n), np.tile(gaps, 2), list(range(n)) * 2)
    plain, styled = length_controlled(*rows), length_controlled(*rows, style=[np.tile(bold, 2)])
    assert plain.rate is not None
    assert styled.rate is not None
    assert plain.rate.low > 0.6
    assert 0.5 in styled.rate
    assert styled.style[0].estimate == pytest.approx(2, abs=0.5)


def test_equal_lengths_give_the_raw_rate() -> None:
    s = [1, 1, 0, 0.5, 1, 0, 0, 1]
    found = length_controlled(s, [1] * 4 + [-1] * 4, [7] * 8, [0, 1, 2, 3] * 2)
    assert found.rate is not None
    assert found.rate.estimate == pytest.approx(sum(s) / 8, abs=1e-9)


def test_what_cannot_be_fitted_is_refused() -> None:
    assert length_controlled([1, 0], [1, -1], [3, 3], ["a", "a"]).reason == "a controlled rate needs two items or more"
    with pytest.raises(ValueError, match="one value a row"):
        length_controlled([1, 0], [1], [3, 3], ["a", "b"])
    with pytest.raises(ValueError, match=r"verdicts must be in \[0, 1\]"):
        length_controlled([2, 0], [1, -1], [3, 3], ["a", "b"])
