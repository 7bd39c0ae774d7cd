"""Accuracies by dimension, by hand."""

from __future__ import annotations

import pytest

from palate.evaluation.accuracy import preference_accuracy
from palate.stats import wilson

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
    found = preference_accuracy(REFERENCE, POLICY, dimensions=DIMENSIONS).dimensions
    assert found["helpful"].n == 3
    assert found["helpful"].implied == wilson(2, 3)
    assert found["helpful"].reference == wilson(1.5, 3)
    assert found["safe"].n == 2
    assert found["safe"].implied == wilson(0, 2)
    assert found["safe"].policy == wilson(1, 2)


def test_dimensions_are_told_and_kept() -> None:
    found = preference_accuracy(REFERENCE, POLICY, dimensions=DIMENSIONS)
    assert any(line.startswith("helpful: policy 66.7%") and "3 pairs" in line for line in found.lines())
    assert found.to_json()["dimensions"]["helpful"]["implied"]["estimate"] == pytest.approx(2 / 3)


def test_without_dimensions_nothing_is_said_of_them() -> None:
    found = preference_accuracy(REFERENCE, POLICY)
    assert "dimensions" not in found.to_json()
    assert len(found.lines()) == 5
