"""Accuracies by dimension, by hand."""

from __future__ import annotations

import pytest

from palate.evaluation.accuracy import preference_accuracy
from palate.evaluation.rewards import reward_accuracy
from palate.stats import cluster_mean_interval, rate_interval

# Σ log π of chosen and rejected, and their tokens: the reference is indifferent but for the last pair.
REFERENCE = [((-10.0, -10.0), (5, 5))] * 3 + [((-10.0, -20.0), (5, 5))]
POLICY = [((-8.0, -12.0), (5, 5)), ((-12.0, -8.0), (5, 5)), ((-9.0, -11.0), (5, 5)), ((-15.0, -20.0), (5, 5))]
DIMENSIONS = [
    {"helpful": (2.0, 1.0), "safe": (0.0, 1.0)},  # chosen wins: helpful is right, safe is wrong
    {"helpful": (1.0, 2.0), "safe": (1.0, 1.0)},  # rejected wins: helpful is right, safe is tied
    {"helpful": (1.0, 3.0)},  # chosen wins: helpful is wrong
    {"safe": (1.0, 0.0)},  # the margin fell, though the policy still prefers chosen
]


def test_a_dimension_counts_the_pairs_that_it_decides() -> None:
    found = preference_accuracy(REFERENCE, POLICY, prompts=range(4), dimensions=DIMENSIONS).dimensions
    assert found["helpful"].n == 3
    assert found["helpful"].implied == rate_interval([1, 1, 0], clusters=range(3))
    assert found["helpful"].reference == rate_interval([0.5, 0.5, 0.5], clusters=range(3))
    assert found["safe"].n == 2
    assert found["safe"].implied == rate_interval([0, 0], clusters=range(2))
    assert found["safe"].policy == rate_interval([0, 1], clusters=range(2))


def test_dimensions_are_told_and_kept() -> None:
    found = preference_accuracy(REFERENCE, POLICY, prompts=range(4), dimensions=DIMENSIONS)
    assert any(line.startswith("helpful: policy 66.7%") and "3 pairs of 3 prompts" in line for line in found.lines())
    assert found.to_json()["dimensions"]["helpful"]["implied"]["estimate"] == pytest.approx(2 / 3)


def test_without_dimensions_nothing_is_said_of_them() -> None:
    found = preference_accuracy(REFERENCE, POLICY, prompts=range(4))
    assert "dimensions" not in found.to_json()
    assert len(found.lines()) == 5


def test_pairs_of_one_prompt_are_a_cluster_in_every_figure() -> None:
    found = preference_accuracy(REFERENCE, POLICY, prompts="aabb", dimensions=DIMENSIONS)
    assert (found.n, found.prompts) == (4, 2)
    assert found.reference == rate_interval([0.5, 0.5, 0.5, 1], clusters="aabb")
    assert found.policy == rate_interval([1, 0, 1, 1], clusters="aabb")
    assert found.implied == rate_interval([1, 0, 1, 0], clusters="aabb")
    assert found.margin == cluster_mean_interval([4.0, -4.0, 2.0, -5.0], "aabb")
    assert found.dimensions["helpful"].implied == rate_interval([1, 1, 0], clusters="aab")
    assert (found.dimensions["helpful"].n, found.dimensions["helpful"].prompts) == (3, 2)
    assert (found.to_json()["n"], found.to_json()["prompts"]) == (4, 2)
    rewards = reward_accuracy([(1.0, 0.0), (0.0, 1.0), (2.0, 0.0), (0.0, 0.0)], prompts="aabb")
    assert rewards.reward == rate_interval([1, 0, 1, 0.5], clusters="aabb")
    assert rewards.margin == cluster_mean_interval([1.0, -1.0, 2.0, 0.0], "aabb")
    assert rewards.lines()[-1] == "on 4 held-out pairs of 2 prompts (intervals from 10 prompts or fewer are rough)"


def test_many_prompts_are_counted_without_a_remark() -> None:
    found = reward_accuracy([(1.0, 0.0)] * 44, prompts=[pair // 4 for pair in range(44)])
    assert found.lines()[-1] == "on 44 held-out pairs of 11 prompts"
