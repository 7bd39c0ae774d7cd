"""What goes wrong is seen, named and answered with its remedy; what is well is left alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from palate.errors import TrainingError
from palate.models.precision import BF16, FP32
from palate.models.probe.probe import probe
from palate.models.reference.kinds import FrozenCopy, SeparateModel
from palate.models.reference.store import ReferenceStore
from palate.models.reference.stored import StoredReference
from palate.models.score import TokenLogps
from palate.text.batch import pack
from palate.training.health.plateau import Stillness
from palate.training.health.step_checks import Finding, Health
from tiny import random_groups, tiny_model

CPU = torch.device("cpu")
LOG2 = 0.6931472


def step(**changed: float) -> dict[str, float]:
    names = {"margins": "rewards/margins", "chosen": "rewards/chosen", "rejected": "rewards/rejected"}
    row = {
        "loss": LOG2,
        "learning_rate": 1e-3,
        "rewards/margins": 0.0,
        "rewards/chosen": 0.0,
        "rewards/rejected": 0.0,
        "logps/chosen": -20.0,
        "ref_logps/chosen": -20.0,
    }
    return {**row, **{names.get(name, name): value for name, value in changed.items()}}


@pytest.fixture
def told() -> list[Finding]:
    return []


@pytest.fixture
def health(told: list[Finding]) -> Callable[..., Health]:
    def make(**changed: Any) -> Health:
        given: dict[str, Any] = {
            "starts_equal": True,
            "start_loss": lambda: LOG2,
            "fresh": True,
            "diagnose_still": lambda: None,
            "tell": told.append,
        }
        return Health(**{**given, **changed})

    return make


def test_a_first_margin_that_is_not_0_is_an_error(health: Callable[..., Health]) -> None:
    with pytest.raises(TrainingError, match=r"first margin must be 0, but it is 0.2500"):
        health().on_step(1, step(margins=0.25, loss=0.57))


def test_a_first_loss_that_is_not_the_known_one_is_an_error(health: Callable[..., Health]) -> None:
    with pytest.raises(TrainingError, match=r"first loss must be 0.6931 for this objective, but it is 1.0000"):
        health().on_step(1, step(loss=1.0))


@pytest.mark.parametrize("changed", [{"fresh": False}, {"starts_equal": False}])
def test_a_resumed_run_and_another_reference_may_start_anywhere(
    health: Callable[..., Health], changed: dict[str, bool], told: list[Finding]
) -> None:
    health(**changed).on_step(1, step(margins=0.9, loss=0.3))
    assert told == []


def test_stillness_is_asked_about_only_after_a_rate_above_0(health: Callable[..., Health]) -> None:
    asked: list[int] = []

    def diagnose() -> tuple[str, bool]:
        asked.append(len(asked))
        return "nothing moves", True

    watch = health(diagnose_still=diagnose)
    watch.on_step(1, step(learning_rate=0.0))  # warm-up: nothing can have moved
    watch.on_step(2, step())
    assert asked == []
    with pytest.raises(TrainingError, match=r"step 3: .* nothing moves"):
        watch.on_step(3, step())


def test_stillness_by_rounding_warns_once(health: Callable[..., Health], told: list[Finding]) -> None:
    watch = health(diagnose_still=lambda: ("a reason", False))
    for number in range(1, 5):
        watch.on_step(number, step())
    assert [finding.name for finding in told] == ["invisible_update"]
    assert told == watch.findings


def test_a_policy_that_moves_is_asked_once_and_nothing_is_said(
    health: Callable[..., Health], told: list[Finding]
) -> None:
    asked: list[int] = []
    watch = health(diagnose_still=lambda: asked.append(1))
    for number in range(1, 5):
        watch.on_step(number, step())
    assert (len(asked), told) == (1, [])


def test_values_stored_in_half_precision_may_start_a_rounding_away(health: Callable[..., Health]) -> None:
    rounded = {"margins": 0.03, "loss": 0.70, "logps/chosen": -20.4}
    with pytest.raises(TrainingError, match="first margin must be 0"):
        health().on_step(1, step(**rounded))
    health(exact=False).on_step(1, step(**rounded))
    with pytest.raises(TrainingError, match="first margin must be 0"):
        health(exact=False).on_step(1, step(**{"logps/chosen": -23.0}))
    with pytest.raises(TrainingError, match="first loss must be"):
        health(exact=False).on_step(1, step(loss=0.95))


def test_a_spike_is_named_and_noise_is_not(health: Callable[..., Health], told: list[Finding]) -> None:
    watch = health(starts_equal=False)
    for number in range(1, 41):
        watch.on_step(number, step(loss=0.6 + 0.05 * (-1) ** number))
    assert told == []
    watch.on_step(41, step(loss=4.0))
    assert [(finding.name, finding.step) for finding in told] == [("loss_spike", 41)]
    assert "learning_rate: 1e-7, pref_beta" in told[0].remedy


def test_a_remedy_names_no_key_that_the_stage_lacks(health: Callable[..., Health], told: list[Finding]) -> None:
    watch = health(starts_equal=False)
    for number in range(1, 22):
        watch.on_step(number, {"loss": 0.6 if number < 21 else 4.0, "learning_rate": 1e-5})
    assert "learning_rate: 1e-7, max_grad_norm" in told[0].remedy


def test_chosen_that_falls_is_named_once(health: Callable[..., Health], told: list[Finding]) -> None:
    watch = health(starts_equal=False)
    for number in range(1, 80):
        watch.on_step(number, step(**{"logps/chosen": -20.0 - number * 0.5}))
    assert [finding.name for finding in told] == ["chosen_falls"]
    assert "pref_ftx" in told[0].remedy
    assert told[0].to_json()["severity"] == "warning"


def test_chosen_that_rises_is_well(health: Callable[..., Health], told: list[Finding]) -> None:
    watch = health(starts_equal=False)
    for number in range(1, 60):
        watch.on_step(number, step(**{"logps/chosen": -20.0 + number}))
    assert told == []


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
    stillness = Stillness(policy.model, shared, policy.batch, FP32)
    policy.move(0.01)
    assert stillness.diagnose() == ("the reference moved: it shares weights with the policy that trains", True)


def test_an_optimiser_that_does_not_reach_the_policy_is_recognised() -> None:
    policy = Policy()
    reason, is_error = Stillness(policy.model, policy.reference, policy.batch, FP32).diagnose() or ("", False)
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
        store.put(policy.batch.groups[0].content_hash, scores.logps.numpy() + 1e-4)
        reference = StoredReference(store, policy.reference)
    stillness = Stillness(policy.model, reference, policy.batch, FP32)
    found = stillness.diagnose()
    assert found is not None
    assert found[1], "nothing has moved yet"
    policy.move(0.01)
    assert stillness.diagnose() is None


def test_an_update_below_the_precision_is_no_error() -> None:
    policy = Policy()
    stillness = Stillness(policy.model, policy.reference, policy.batch, BF16)
    with torch.no_grad():
        policy.model.model.layers[0].mlp.down_proj.weight[0, 0].mul_(1 + 1e-6)  # the same number in bf16
    reason, is_error = stillness.diagnose() or ("", True)
    assert not is_error
    assert "less than the run's precision" in reason


def test_a_reference_scores_as_token_logps() -> None:
    policy = Policy()
    (scored,) = policy.reference.logps([policy.batch])
    assert isinstance(scored, TokenLogps)
    assert scored.logps.shape == policy.batch.target_ids.shape
