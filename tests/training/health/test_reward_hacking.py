"""Correlations from moments, and margins that gain nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from palate.config.stages.health import HealthFields
from palate.text.groups import EncodedCompletion, EncodedGroup
from palate.training.health.reward_hacking import LengthCorrelation, MarginsWithoutGain, length_signs

CPU = torch.device("cpu")


def pair(chosen: int, rejected: int, weight: float = 1.0) -> EncodedGroup:
    completions = tuple(EncodedCompletion(np.zeros(n, np.int32), np.ones(n, bool)) for n in (chosen, rejected))
    return EncodedGroup("p", np.zeros(1, np.int32), completions, weight)


def test_it_is_pearsons_correlation_over_batches_and_ranks() -> None:
    random = np.random.default_rng(0)
    lengths = random.integers(1, 30, size=(20, 2))
    margins = torch.from_numpy(random.normal(size=20) + 0.1 * (lengths[:, 0] - lengths[:, 1]))
    groups = [pair(*map(int, row)) for row in lengths]
    seen = LengthCorrelation(lambda tensor: 2 * tensor, CPU)
    seen.see(groups[:7], margins[:7])
    seen.see([*groups[7:], pair(30, 1, weight=0.0)], torch.cat([margins[7:], torch.tensor([-99.0])]))
    expected = np.corrcoef(margins.numpy(), lengths[:, 0] - lengths[:, 1])[0, 1]
    assert seen.take() == pytest.approx(expected)
    assert seen.take() is None, "taken once"


def test_few_pairs_or_no_spread_say_nothing() -> None:
    seen = LengthCorrelation(lambda tensor: tensor, CPU)
    seen.see([pair(n + 1, 1) for n in range(15)], torch.arange(15.0))
    assert seen.take() is None
    seen.see([pair(n + 1, 1) for n in range(20)], torch.zeros(20))
    assert seen.take() is None


@pytest.mark.parametrize(("correlation", "words"), [(0.8, "longer"), (-0.8, "shorter"), (0.6, None), (None, None)])
def test_a_strong_correlation_is_a_sign(correlation: float | None, words: str | None) -> None:
    found = [sign.message for sign in length_signs(correlation, HealthFields())]
    assert len(found) == (words is not None)
    assert all(str(words) in message for message in found)


def told(*evaluations: tuple[float, float], **limits: float) -> list[bool]:
    """For each (training margin, held-out accuracy) whether it is a sign."""
    watch, found = MarginsWithoutGain(HealthFields.model_validate(limits)), []
    for margin, accuracy in evaluations:
        for _ in range(10):
            watch.on_step({"rewards/margins": margin})
        found.append(bool(list(watch.on_evaluation(accuracy))))
    return found


def test_margins_without_gain() -> None:
    assert told((0.2, 0.5), (0.9, 0.51)) == [False, True], "chance is no gain"
    assert told((0.6, 0.7), (1.2, 0.7), (2.0, 0.7)) == [False, False, True], "three times the margin for nothing"
    assert told((0.6, 0.7), (1.2, 0.7), (2.0, 0.7), health_margin_growth=1.5) == [False, True, True]
    assert told((0.6, 0.7), (2.0, 0.75), (3.0, 0.8)) == [False, False, False]
    assert told((0.6, 0.95), (9.0, 0.89)) == [False, True]
    assert told((0.6, 0.95), (9.0, 0.95)) == [False, False], "there is little left to gain"
