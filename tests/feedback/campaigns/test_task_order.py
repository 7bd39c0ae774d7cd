"""Weights derived by hand, and sampling in proportion to them."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from scipy import stats

from palate.errors import DataError
from palate.feedback.campaigns.task_order import (
    disagreement_weights,
    draw_probabilities,
    margin_weights,
    priority,
    uniform,
)


def test_a_margin_of_zero_weighs_most_and_the_median_half() -> None:
    # |margins| are 0, 1, 2, 4: their median is 1.5.
    weights = margin_weights([0.0, -1.0, 2.0, 4.0, None])
    assert weights == pytest.approx([1, 1 / (1 + 1 / 1.5), 1 / (1 + 2 / 1.5), 1 / (1 + 4 / 1.5), 0.5])
    assert margin_weights([0.0, 0.0]) == [1, 1]
    assert margin_weights([0.0, 0.0, 0.0, 2.0]) == pytest.approx([1, 1, 1, 1 / (1 + 2 / 0.5)])  # median 0: the mean
    with pytest.raises(DataError, match="no item has a column margin or policy_margin"):
        margin_weights([None, None])


def test_split_judges_weigh_most() -> None:
    weights = disagreement_weights([[1, 0], [1, 1], [0, 0, 0], [0.5, 0.5], [1, 0.5], [1], []])
    # variances: 1/4, 0, 0, 0, 1/16; with fewer than two votes it is not known
    assert weights == pytest.approx([1, 0.05, 0.05, 0.05, 0.05 + 0.95 / 4, 0.5, 0.5])
    with pytest.raises(DataError, match="no task has two votes of judges"):
        disagreement_weights([[1], []])


def test_probabilities_sum_to_one() -> None:
    assert draw_probabilities([1, 2, 5]) == [1 / 8, 2 / 8, 5 / 8]
    assert math.fsum(draw_probabilities([1 / (1 + n) for n in range(10_000)])) == pytest.approx(1, abs=1e-12)


def test_uniform_numbers_are_uniform_and_depend_on_seed_and_text_only() -> None:
    numbers = [uniform(0, f"task {n}") for n in range(2_000)]
    assert stats.kstest(numbers, "uniform").pvalue > 0.01
    assert uniform(0, "task 3") == numbers[3] != uniform(1, "task 3")


def test_the_first_draw_is_in_proportion_to_the_weights() -> None:
    weights = {"a": 1.0, "b": 2.0, "c": 5.0}
    draws = 4_000
    first = Counter(min(weights, key=lambda name: priority(seed, name, weights[name])) for seed in range(draws))
    assert stats.chisquare([first["a"], first["b"], first["c"]], [draws / 8, draws / 4, draws * 5 / 8]).pvalue > 0.01


def test_the_second_draw_is_in_proportion_to_the_weights_that_are_left() -> None:
    weights = {"a": 1.0, "b": 2.0, "c": 5.0}
    order = [sorted(weights, key=lambda name: priority(seed, name, weights[name])) for seed in range(4_000)]
    after_c = Counter(names[1] for names in order if names[0] == "c")
    drawn = after_c["a"] + after_c["b"]
    assert stats.binomtest(after_c["b"], drawn, 2 / 3).pvalue > 0.01
