"""Accuracies by dimension and group, and calibration, by hand."""

from __future__ import annotations

import math

import pytest
from sklearn.metrics import brier_score_loss

from palate.evaluation.accuracy.preference import preference_accuracy, preference_calibration
from palate.evaluation.accuracy.rewards import reward_accuracy
from palate.evaluation.logs.compare import compare_items
from palate.evaluation.logs.items import find_block, read_block
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


def test_a_model_compared_with_itself_is_noted() -> None:
    prompts = list(range(4))
    assert preference_accuracy(POLICY, POLICY, prompts=prompts).lines()[-1].endswith("a model compared with itself")
    assert not any("itself" in line for line in preference_accuracy(REFERENCE, POLICY, prompts=prompts).lines())


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


def test_groups_have_the_accuracies_of_their_pairs() -> None:
    found = preference_accuracy(REFERENCE, POLICY, prompts="aabb", groupings={"source": ["x", "y", "x", "x"]})
    groups = found.groups["source"]
    assert list(groups) == ["x", "y"]
    assert (groups["x"].n, groups["x"].prompts) == (3, 2)
    assert groups["x"].implied == rate_interval([1, 1, 0], clusters="abb")
    assert groups["y"].policy == rate_interval([0], clusters="a")
    assert found.to_json()["groups"]["source"]["x"]["policy"]["estimate"] == 1.0
    rewards = reward_accuracy([(1.0, 0.0), (0.0, 1.0)], prompts="ab", groupings={"source": ["x", "y"]})
    assert [group.reward.estimate for group in rewards.groups["source"].values()] == [1.0, 0.0]


def test_the_calibration_is_that_of_the_preferred_answer() -> None:
    # Margins 4, −4, 2, −5 with β ½: confidences σ(2), σ(2), σ(1), σ(2.5); the first and third prefer chosen.
    found = preference_accuracy(REFERENCE, POLICY, prompts=range(4), beta=0.5).calibration
    assert found is not None
    sigma = {x: 1 / (1 + math.exp(-x)) for x in (1, 2, 2.5)}
    assert [(one.n, one.observed.estimate) for one in found.bins] == [(1, 1.0), (2, 0.5), (1, 0.0)]
    assert [one.predicted for one in found.bins] == pytest.approx([sigma[1], sigma[2], sigma[2.5]])
    assert found.brier.estimate == pytest.approx(
        brier_score_loss([1, 0, 1, 0], [sigma[2], sigma[2], sigma[1], sigma[2.5]])
    )
    chosen = [sigma[2], 1 - sigma[2], sigma[1], 1 - sigma[2.5]]  # the same score from p(chosen), which always happened
    assert found.brier.estimate == pytest.approx(sum((1 - p) ** 2 for p in chosen) / 4)
    assert found.ece == pytest.approx((1 - sigma[1] + 2 * (sigma[2] - 0.5) + sigma[2.5]) / 4)
    tie = preference_accuracy(REFERENCE[:2], REFERENCE[:2], prompts=range(2), beta=0.5).calibration
    assert tie is not None
    assert (tie.ece, tie.bins[0].predicted, tie.bins[0].observed.estimate) == (0.0, 0.5, 0.5)
    assert preference_accuracy(REFERENCE, POLICY, prompts=range(4)).calibration is None


def test_huge_margins_do_not_overflow() -> None:
    assert preference_calibration([9e9, -9e9], "ab").bins[0].predicted == 1.0


def test_values_of_pairs_can_be_compared_with_another_result() -> None:
    ids = ["f:1", "f:2", "f:3", "f:4"]
    hashes = dict.fromkeys(ids, "h")
    after = preference_accuracy(REFERENCE, POLICY, prompts="aabb", ids=ids, hashes=hashes, name="dpo")
    before = preference_accuracy(REFERENCE, REFERENCE, prompts="aabb", ids=ids, hashes=hashes, name="start")
    block = find_block(after.to_json())
    assert block is not None
    assert read_block(block, "f") == after.items
    assert block["metrics"]["policy"] == {"f:1": 1.0, "f:2": 0.0, "f:3": 1.0, "f:4": 1.0}
    assert block["metrics"]["margin"] == {"f:1": 4.0, "f:2": -4.0, "f:3": 2.0, "f:4": -5.0}
    assert before.items is not None
    assert after.items is not None
    found = {one.metric: one.found for one in compare_items(before.items, after.items).metrics}
    assert (found["policy"].test, found["policy"].units) == ("cluster t", 2)
    assert found["policy"].difference.estimate == pytest.approx(3 / 4 - 2.5 / 4)


def test_the_change_is_paired_and_what_was_left_out_is_kept() -> None:
    found = preference_accuracy(REFERENCE, POLICY, prompts="aabc", groupings={"kind": "xyxy"}, left_out=2)
    # Scores before ½, ½, ½, 1 and after 1, 0, 1, 1.
    assert found.change == cluster_mean_interval([0.5, -0.5, 0.5, 0.0], "aabc")
    assert found.groups["kind"]["x"].margin == cluster_mean_interval([4.0, 2.0], "ab")
    assert found.to_json()["left_out"] == 2
    rewards = reward_accuracy([(1.0, 0.0), (0.0, 3.0)], prompts="ab", groupings={"kind": "xy"}, left_out=1)
    assert rewards.groups["kind"]["y"].margin.estimate == -3.0
    assert rewards.to_json()["left_out"] == 1
