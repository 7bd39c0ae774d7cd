"""Calibration against scikit-learn and a table by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from palate.stats import calibration, rate_interval


def test_bins_error_and_score_by_hand() -> None:
    found = calibration([0.52, 0.54, 0.97, 0.99], [1, 0, 1, 1], low=0.5)
    assert [(one.low, one.high, one.n) for one in found.bins] == [
        (0.5, pytest.approx(0.55), 2),
        (pytest.approx(0.95), 1.0, 2),
    ]
    assert [one.predicted for one in found.bins] == pytest.approx([0.53, 0.98])
    assert [one.observed for one in found.bins] == [rate_interval([1, 0]), rate_interval([1, 1])]
    assert found.ece == pytest.approx((2 * 0.03 + 2 * 0.02) / 4)
    assert found.brier.estimate == pytest.approx((0.48**2 + 0.54**2 + 0.03**2 + 0.01**2) / 4)


def test_the_curve_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    predicted = rng.uniform(size=500)
    outcomes = (rng.uniform(size=500) < predicted**2).astype(int)
    found = calibration(predicted, outcomes)
    observed, mean = calibration_curve(outcomes, predicted, n_bins=10)
    assert [one.observed.estimate for one in found.bins] == pytest.approx(list(observed))
    assert [one.predicted for one in found.bins] == pytest.approx(list(mean))
    assert found.brier.estimate == pytest.approx(brier_score_loss(outcomes, predicted))
    assert found.ece > 0.1  # these predictions are not calibrated
    good = calibration(predicted, (rng.uniform(size=500) < predicted).astype(int))
    assert good.ece < 0.07


def test_ends_of_bins_belong_to_the_bin_below() -> None:
    found = calibration([0.0, 0.5, 0.5, 1.0], [0, 1, 0, 1], bins=2)
    assert [(one.n, one.predicted) for one in found.bins] == [(3, pytest.approx(1 / 3)), (1, 1.0)]


def test_clusters_widen_the_intervals() -> None:
    predicted, outcomes = [0.7] * 40, [1, 1, 1, 1, 0, 0, 1, 1] * 5
    clusters = [row // 4 for row in range(40)]
    plain, clustered = calibration(predicted, outcomes), calibration(predicted, outcomes, clusters=clusters)
    assert clustered.bins[0].observed == rate_interval(outcomes, clusters=clusters)
    assert clustered.brier.n == 10
    assert clustered.brier.high > plain.brier.high
    assert clustered.ece == plain.ece


def test_wrong_predictions_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must be in \[0.5, 1\]"):
        calibration([0.4], [1], low=0.5)
    with pytest.raises(ValueError, match="at least one, got 0 and 0"):
        calibration([], [])
    with pytest.raises(ValueError, match="got 2 and 1"):
        calibration([0.1, 0.2], [1])
