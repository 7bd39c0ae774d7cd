"""Rates and paired comparisons, against values by hand, scipy and statsmodels."""

from __future__ import annotations

import random

import numpy as np
import pytest
from scipy import stats as scipy_stats

from palate.evaluation.benchmarks.statistics import differences, rates
from palate.stats import newcombe_paired


def scores(values: list[float], metric: str = "mc1") -> dict[str, dict[str, float]]:
    return {str(number): {metric: value} for number, value in enumerate(values)}


def test_rates_by_category() -> None:
    found = rates(scores([1, 0, 1, 1]), {"0": "a", "1": "a", "2": "b", "3": "b"}, ["mc1"])
    assert [(rate.category, rate.mean.estimate, rate.mean.n) for rate in found] == [
        (None, 0.75, 4),
        ("a", 0.5, 2),
        ("b", 1.0, 2),
    ]
    # A single category is all items once more, so it has no row of its own.
    assert len(rates(scores([1, 0]), {"0": "a", "1": "a"}, ["mc1"])) == 1


def test_yes_and_no_by_mcnemar() -> None:
    """10 items gained and 2 lost of 20: mid-p = 2·P(X ≤ 1) + P(X = 2) with X ~ B(12, ½) = (2·13 + 66)/4096."""
    before = [1.0] * 2 + [0.0] * 10 + [1.0] * 4 + [0.0] * 4
    after = [0.0] * 2 + [1.0] * 10 + [1.0] * 4 + [0.0] * 4
    [found] = differences(scores(before), scores(after), {}, ["mc1"])
    assert (found.test, found.only_before, found.only_after) == ("mcnemar_midp", 2, 10)
    assert found.p == pytest.approx(92 / 4096)
    assert found.p_holm is None
    assert (found.before.estimate, found.after.estimate) == pytest.approx((0.3, 0.7))
    assert found.difference == newcombe_paired(4, 10, 2, 4)
    assert found.difference.estimate == pytest.approx(0.4)
    assert found.difference.low > 0


def test_shares_by_the_paired_t_test() -> None:
    draw = random.Random(0)
    before = [draw.random() for _ in range(40)]
    after = [min(1.0, value + 0.1 * draw.random()) for value in before]
    [found] = differences(scores(before, "mc2"), scores(after, "mc2"), {}, ["mc2"])
    expected = scipy_stats.ttest_rel(after, before)
    assert found.test == "paired_t"
    assert found.p == pytest.approx(expected.pvalue)
    low, high = expected.confidence_interval(0.95)
    assert (found.difference.low, found.difference.high) == pytest.approx((low, high))


def test_only_shared_items_are_compared() -> None:
    before = {"a": {"mc1": 1.0}, "b": {"mc1": 0.0}, "c": {"mc1": 1.0}}
    after = {"b": {"mc1": 1.0}, "c": {"mc1": 1.0, "binary": 1.0}, "d": {"mc1": 0.0}}
    [found] = differences(before, after, {}, ["mc1", "binary"])
    assert (found.difference.n, found.before.estimate, found.after.estimate) == (2, 0.5, 1.0)
    assert differences({"a": {"mc1": 1.0}}, {"b": {"mc1": 1.0}}, {}, ["mc1"]) == []


def test_categories_are_a_family() -> None:
    """Holm over three categories: the smallest p times 3, the next times 2."""
    before = scores([0.0] * 30)
    after = scores([1.0] * 10 + [1.0] * 5 + [0.0] * 5 + [0.0] * 10)
    categories = {str(number): "abc"[number // 10] for number in range(30)}
    overall, *found = differences(before, after, categories, ["mc1"])
    assert overall.p_holm is None
    raw = [one.p for one in found]
    assert raw == pytest.approx([2 * 0.5 * 0.5**10, 2 * 0.5 * 0.5**5, 1.0])
    assert [one.p_holm for one in found] == pytest.approx([3 * raw[0], 2 * raw[1], 1.0])


def test_one_test_for_all_categories_of_a_metric() -> None:
    """A category whose scores happen to be 0 or 1 is tested like the others."""
    before, after = scores([0.5, 0.25, 1.0, 0.0], "mc2"), scores([0.6, 0.5, 1.0, 0.0], "mc2")
    found = differences(before, after, {"0": "a", "1": "a", "2": "b", "3": "b"}, ["mc2"])
    assert {one.test for one in found} == {"paired_t"}
    assert found[2].p == 1.0


def test_grades_are_compared_by_a_bootstrap_of_questions() -> None:
    """Against scipy's BCa interval; the means are Student's t, because grades are no shares."""
    rng = np.random.default_rng(0)
    before = {str(n): {"score": float(grade)} for n, grade in enumerate(rng.integers(2, 9, 80))}
    after = {key: {"score": min(10.0, each["score"] + float(rng.gamma(1.0)))} for key, each in before.items()}
    categories = {key: "abcdefgh"[int(key) // 10] for key in before}
    whole, *parts = differences(before, after, categories, ["score"], grades=["score"])
    changes = np.array([after[key]["score"] - each["score"] for key, each in before.items()])
    found = scipy_stats.bootstrap((changes,), np.mean, n_resamples=10_000, method="BCa", rng=np.random.default_rng(1))
    assert whole.test == "paired_t_bca"
    assert whole.difference.estimate == pytest.approx(changes.mean())
    ends = (found.confidence_interval.low, found.confidence_interval.high)
    assert (whole.difference.low, whole.difference.high) == pytest.approx(ends, abs=0.02)
    assert whole.p == pytest.approx(scipy_stats.ttest_1samp(changes, 0).pvalue)
    assert len(parts) == 8
    assert all(part.difference.n == 10 for part in parts)
    mean = rates(before, {}, ["score"], grades=["score"])[0].mean
    grades = [each["score"] for each in before.values()]
    half = scipy_stats.t.ppf(0.975, 79) * np.std(grades, ddof=1) / 80**0.5
    assert (mean.low, mean.high) == pytest.approx((np.mean(grades) - half, np.mean(grades) + half))
