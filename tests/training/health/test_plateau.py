"""Whether the policy moved, and the reference did not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from palate.models.precision import BF16, FP32
from palate.models.probe.probe import probe
from palate.models.reference.kinds import FrozenCopy, SeparateModel
from palate.models.reference.precomputed import PrecomputedReference
from palate.models.reference.store import ReferenceStore
from palate.models.scoring.logps import TokenLogps
from palate.text.batch import pack
from palate.training.health.plateau import PlateauCheck
from tiny import random_groups, tiny_model

CPU = torch.device("cpu")


class Policy:
    """A tiny policy with a frozen copy of itself as reference, and one batch."""

    def __init__(self) -> None:
        self.model: Any = tiny_model("llama", seed=3)
        assert probe(self.model).packed
        self.batch = pack(random_groups(1, seed=3))
        self.reference = FrozenCopy(self.model, FP32, CPU, "start")

    def move(self, amount: float) -> None:
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.add_(amount)


def test_a_reference_that_moves_with_the_policy_is_recognised() -> None:
    policy = Policy()
    shared = SeparateModel(policy.model, FP32, CPU, "shared", is_start=True)
    policy.model.requires_grad_(True)
    plateau = PlateauCheck(policy.model, shared, policy.batch, FP32)
    policy.move(0.01)
    assert plateau.diagnose() == ("the reference moved: it shares weights with the policy that trains", True)


def test_an_optimiser_that_does_not_reach_the_policy_is_recognised() -> None:
    policy = Policy()
    reason, is_error = PlateauCheck(policy.model, policy.reference, policy.batch, FP32).diagnose() or ("", False)
    assert is_error
    assert "no trainable weight changed" in reason


@pytest.mark.parametrize("stored", [False, True])
def test_a_policy_that_moved_is_well(tmp_path: Path, stored: bool) -> None:
    """Stored values of other batches are a rounding away from live ones: Δ is never 0, moved or not."""
    policy = Policy()
    reference: Any = policy.reference
    if stored:
        store = ReferenceStore(tmp_path / "values.safetensors", "start")
        (scores,) = policy.reference.logps([policy.batch])
        store[policy.batch.groups[0].content_hash] = scores.logps.numpy() + 1e-4
        reference = PrecomputedReference(store, policy.reference)
    plateau = PlateauCheck(policy.model, reference, policy.batch, FP32)
    found = plateau.diagnose()
    assert found is not None
    assert found[1], "nothing has moved yet"
    policy.move(0.01)
    assert plateau.diagnose() is None


def test_an_update_below_the_precision_is_no_error() -> None:
    policy = Policy()
    plateau = PlateauCheck(policy.model, policy.reference, policy.batch, BF16)
    with torch.no_grad():
        policy.model.model.layers[0].mlp.down_proj.weight[0, 0].mul_(1 + 1e-6)  # the same number in bf16
    reason, is_error = plateau.diagnose() or ("", True)
    assert not is_error
    assert "less than the run's precision" in reason


def test_a_reference_scores_as_token_logps() -> None:
    policy = Policy()
    (scored,) = policy.reference.logps([policy.batch])
    assert isinstance(scored, TokenLogps)
    assert scored.logps.shape == policy.batch.target_ids.shape
