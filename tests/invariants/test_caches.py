"""Invariance 3: cached = live reference; and 5: frozen trunk cached = recomputed. Gradients included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from palate.models.precision import FP32
from palate.models.probe.probe import probe
from palate.models.reference.kinds import FrozenCopy
from palate.models.reference.precomputed import PrecomputedReference, fill
from palate.models.reference.store import ReferenceStore
from palate.models.scoring.forward import score
from palate.models.scoring.logps import TokenLogps, per_completion
from palate.models.scoring.trunk import TrunkCache
from palate.models.tuning.trainable import train_last_layers
from palate.objectives import PairLogps
from palate.objectives.paired import sigmoid
from palate.text.batch import Batch, pack
from palate.text.groups import EncodedGroup
from runs import distance, metrics, run
from tiny import PACKED, random_groups, tiny_model

CPU = torch.device("cpu")
RUN: dict[str, Any] = {"rows": 10, "per_device_train_batch_size": 4, "num_train_epochs": 2}
FREEZE: dict[str, Any] = {
    "finetuning_type": "freeze",
    "freeze_trainable_layers": 1,
    "freeze_extra_modules": ["lm_head"],
}


def loss_and_gradients(
    model: Any, batch: Batch, reference: TokenLogps, trunk: TrunkCache | None = None
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Mean sigmoid loss of a batch of pairs, and what it sends to each parameter."""
    model.zero_grad()
    policy = per_completion(score(model, batch, trunk), batch)
    theirs = per_completion(reference, batch).sums
    pairs = PairLogps(
        policy.sums[0::2], policy.sums[1::2], policy.tokens[0::2], policy.tokens[1::2], theirs[0::2], theirs[1::2]
    )
    loss = sigmoid(pairs, beta=0.5).mean()
    loss.backward()
    return loss.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def moved(model: Any) -> None:
    """Policies after some training: elsewhere than their reference."""
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert any(float(gradient.abs().max()) > 1e-4 for gradient in a.values())
    for name in a:
        torch.testing.assert_close(a[name], b[name], atol=2e-6, rtol=1e-4, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("kind", PACKED)
def test_stored_values_give_the_gradients_of_the_live_reference(kind: str, tmp_path: Path) -> None:
    model = tiny_model(kind)
    assert probe(model).packed
    groups = random_groups(6, seed=1)
    live = FrozenCopy(model, FP32, CPU, "start")
    store = ReferenceStore(tmp_path / "values.safetensors", "start")
    # Scored in an order and in batches that no step will have.
    fill(store, live, groups[::-1], lambda them: [pack(them[:1]), pack(them[1:])], CPU)
    store.save()
    again = PrecomputedReference(ReferenceStore.open(store.path, "start"), live)
    again.release()
    assert again.live is None
    moved(model)
    batch = pack([groups[4], groups[0], groups[3]])
    expected = loss_and_gradients(model, batch, live.logps([batch])[0])
    got = loss_and_gradients(model, batch, again.logps([batch])[0])
    torch.testing.assert_close(got[0], expected[0], atol=1e-5, rtol=1e-5)
    assert_same(got[1], expected[1])


@pytest.mark.parametrize(
    "tuning", [{}, FREEZE, {"finetuning_type": "lora", "lora_rank": 4}], ids=["full", "last", "lora"]
)
def test_a_run_ends_with_the_same_weights_whatever_holds_its_reference(
    model: Path, tmp_path: Path, tuning: dict[str, Any]
) -> None:
    kept = str(tmp_path / "values.safetensors")
    run(model, tmp_path / "live", **RUN, **tuning)
    run(model, tmp_path / "filled", **RUN, **tuning, reference_cache=kept)
    written = Path(kept).stat().st_mtime_ns
    run(model, tmp_path / "found", **RUN, **tuning, reference_cache=kept)
    assert Path(kept).stat().st_mtime_ns == written, "what was found need not be written again"
    assert distance(tmp_path / "live", tmp_path / "filled") < 2e-5
    assert distance(tmp_path / "filled", tmp_path / "found") == 0.0
    for ours, theirs in zip(metrics(tmp_path / "found"), metrics(tmp_path / "live"), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-4)


@pytest.mark.parametrize("kind", PACKED)
@pytest.mark.parametrize("trained", [1, 2])
def test_a_replayed_trunk_gives_the_gradients_of_a_recomputed_one(kind: str, trained: int) -> None:
    model = tiny_model(kind)
    assert probe(model).packed
    train_last_layers(model, trained)
    groups: list[EncodedGroup] = random_groups(5, seed=2)
    reference = FrozenCopy(model, FP32, CPU, "start").logps([pack(groups)])[0]
    moved(model)
    trunk = TrunkCache(model, limit_bytes=1 << 30)
    assert len(trunk.layers) == 3 - trained
    batch = pack(groups)
    expected = loss_and_gradients(model, batch, reference)
    recorded = loss_and_gradients(model, batch, reference, trunk)
    assert trunk.bytes > 0
    replayed = loss_and_gradients(model, batch, reference, trunk)
    for got in (recorded, replayed):
        torch.testing.assert_close(got[0], expected[0], atol=1e-6, rtol=1e-6)
        assert_same(got[1], expected[1])


def test_a_run_ends_with_the_same_weights_whether_its_trunk_is_kept_or_not(model: Path, tmp_path: Path) -> None:
    run(model, tmp_path / "kept", **RUN, **FREEZE)
    run(model, tmp_path / "off", **RUN, **FREEZE, trunk_cache="off")
    assert distance(tmp_path / "kept", tmp_path / "off") < 2e-5
