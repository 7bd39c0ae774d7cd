"""Win rates: ties, both orders, what could not be read, and position bias."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.stats import binomial_midp, position_report, rate_interval, win_rate

verdict = st.sampled_from([0.0, 0.5, 1.0])
verdicts = st.lists(st.tuples(verdict, verdict), min_size=2, max_size=60).map(
    lambda rows: tuple(zip(*rows, strict=True))
)


def test_every_kind_of_item_is_counted_once() -> None:
    #          win  loss tie  inconsistent ×2  (tie, win)  unreadable ×2
    first = [1.0, 0.0, 0.5, 1.0, 0.0, 0.5, math.nan, 1.0]
    second = [1.0, 0.0, 0.5, 0.0, 1.0, 1.0, 0.5, math.nan]
    result = win_rate(first, second)
    assert (result.wins, result.ties, result.inconsistent, result.losses, result.unparsed) == (2, 1, 2, 1, 2)
    assert result.rate == rate_interval([1, 0, 0.5, 0.5, 0.5, 0.75])
    assert result.decided is not None
    assert result.decided.estimate == pytest.approx(2 / 3)
    assert result.p_value == binomial_midp(2, 3)
    assert result.both_orders


@settings(deadline=None)
@given(verdicts)
def test_swapping_the_sides_mirrors_everything(pair: tuple[tuple[float, ...], tuple[float, ...]]) -> None:
    first, second = (np.array(side) for side in pair)
    one, other = win_rate(first, second), win_rate(1 - second, 1 - first)
    assert one.rate is not None
    assert other.rate is not None
    assert (one.rate.low, one.rate.high) == pytest.approx((1 - other.rate.high, 1 - other.rate.low))
    assert (one.wins, one.ties, one.inconsistent) == (other.losses, other.ties, other.inconsistent)
    assert one.p_value == pytest.approx(other.p_value)


def test_a_judge_who_only_looks_at_the_first_slot_says_one_half_and_is_found_out() -> None:
    first, second = np.ones(40), np.zeros(40)
    result = win_rate(first, second)
    assert result.rate is not None
    assert result.rate.estimate == 0.5
    assert result.inconsistent == 40
    report = position_report(first, second)
    assert (report.consistency.estimate, report.first_slot, report.first_both, report.second_both) == (0, 1, 40, 0)
    assert report.p_value < 1e-9


def test_an_unbiased_judge_is_not() -> None:
    report = position_report([1, 0, 1, 0, 0.5, math.nan], [1, 0, 0, 1, 0.5, 1])
    assert report.consistency.estimate == pytest.approx(3 / 5)
    assert report.first_slot == pytest.approx(0.5)
    assert report.p_value == 1.0
    assert report.consistency == rate_interval([1, 1, 0, 0, 1])


def test_items_of_one_prompt_are_a_cluster_in_every_figure() -> None:
    first, second = [1.0, 1, 0, 1, 0.5, math.nan], [1.0, 1, 1, 1, 0.5, 1]
    prompts = ["a", "a", "b", "b", "c", "c"]
    found = win_rate(first, second, clusters=prompts)
    assert found.rate == rate_interval([1, 1, 0.5, 1, 0.5], clusters="aabbc")
    assert found.decided == rate_interval([1, 1, 1], clusters="aab")
    assert (found.wins, found.losses) == (3, 0)
    assert found.p_value == binomial_midp(2, 2)  # two prompts were won, not three independent items
    report = position_report(first, second, clusters=prompts)
    assert report.consistency == rate_interval([1, 1, 0, 1, 1], clusters="aabbc")


@settings(deadline=None)
@given(verdicts, st.data())
def test_swapping_mirrors_with_clusters_too(
    pair: tuple[tuple[float, ...], tuple[float, ...]], data: st.DataObject
) -> None:
    first, second = (np.array(side) for side in pair)
    prompts = data.draw(st.lists(st.integers(0, 4), min_size=len(first), max_size=len(first)))
    one = win_rate(first, second, clusters=prompts)
    other = win_rate(1 - second, 1 - first, clusters=prompts)
    assert one.rate is not None
    assert other.rate is not None
    assert one.rate.estimate == pytest.approx(1 - other.rate.estimate)
    assert (one.rate.low, one.rate.high) == pytest.approx((1 - other.rate.high, 1 - other.rate.low), abs=1e-9)
    assert one.p_value == pytest.approx(other.p_value)


def test_one_order_only_is_said() -> None:
    assert not win_rate([1, 0, 1]).both_orders


def test_copies_within_a_cluster_add_no_certainty() -> None:
    first = np.random.default_rng(0).integers(0, 2, 250).astype(float)
    once = win_rate(first, first, clusters=range(250)).rate
    copied = win_rate(np.tile(first, 2), np.tile(first, 2), clusters=list(range(250)) * 2).rate
    assert once is not None
    assert copied is not None
    assert (copied.low, copied.high) == pytest.approx((once.low, once.high))


def test_nothing_readable_is_no_rate_and_not_one_half() -> None:
    result = win_rate([math.nan], [1.0])
    assert (result.rate, result.decided, result.unparsed, result.p_value) == (None, None, 1, 1.0)


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="1 win"):
        win_rate([2.0])
    with pytest.raises(ValueError, match="2 verdicts shown first but 1"):
        win_rate([1, 0], [1])
    with pytest.raises(ValueError, match="no item"):
        position_report([math.nan], [1])


def test_equal_models_are_rarely_called_different() -> None:
    rng = np.random.default_rng(11)
    called = sum(0.5 not in interval for _ in range(1_000) if (interval := win_rate(*rng.integers(0, 2, (2, 60))).rate))
    assert called / 1_000 <= 0.065


def test_a_prompt_whose_soft_verdicts_cancel_counts_for_neither_side() -> None:
    """0.7 − ½ and 0.3 − ½ do not sum to 0 in floating point."""
    found = win_rate([0.7, 0.3, 0.3, 0.7, 1.0], clusters=["a", "a", "b", "b", "c"])
    assert found.p_value == win_rate([1.0], clusters=["c"]).p_value
