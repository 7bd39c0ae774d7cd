"""An offloaded reference scores as the one that filled the store."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import torch

from palate.models.precision import FP32
from palate.models.probe.probe import probe
from palate.models.reference.kinds import FrozenCopy, PolicyAtStart, Reference, SeparateModel
from palate.models.reference.precomputed import PrecomputedReference, offload
from palate.models.reference.store import ReferenceStore
from palate.models.scoring.forward import score
from palate.text.batch import pack
from tiny import random_groups, tiny_model

CPU = torch.device("cpu")
BATCH = pack(random_groups(3))


def scored(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return score(model, BATCH, None).logps


def moved(model: torch.nn.Module) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05)


@pytest.fixture
def policy() -> torch.nn.Module:
    model = tiny_model()
    probe(model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("layers.2" in name)
    return model.train()


def stored(live: Reference, folder: Path) -> PrecomputedReference:
    return PrecomputedReference(ReferenceStore(folder / "references.safetensors", "some"), live)


def test_the_starting_weights_are_read_from_disk_and_the_policy_goes_on(
    policy: torch.nn.Module, tmp_path: Path
) -> None:
    start = scored(policy)
    reference = stored(PolicyAtStart(policy, FP32, CPU, "some"), tmp_path)
    offloaded = offload(reference, tmp_path)
    reference.release()
    moved(policy)
    now, storage = scored(policy), [p.data_ptr() for p in policy.parameters()]
    assert not torch.allclose(now, start, atol=1e-2)
    with contextlib.suppress(RuntimeError), offloaded.active() as model:
        assert not model.training
        assert torch.equal(scored(model), start)
        raise RuntimeError("an evaluation that fails")
    assert policy.training
    assert torch.equal(scored(policy), now)
    assert [p.data_ptr() for p in policy.parameters()] == storage
    offloaded.close()
    assert list(tmp_path.iterdir()) == []


def test_only_what_trains_is_written(policy: torch.nn.Module, tmp_path: Path) -> None:
    offload(PolicyAtStart(policy, FP32, CPU, "some"), tmp_path)
    [file] = tmp_path.iterdir()
    trained = sum(p.numel() * p.element_size() for p in policy.parameters() if p.requires_grad)
    assert trained <= file.stat().st_size < trained + 4096


def test_a_stored_separate_model_is_read_again(tmp_path: Path) -> None:
    def reload() -> torch.nn.Module:
        model = tiny_model(seed=7)
        probe(model)
        return model

    live = SeparateModel(reload(), FP32, CPU, "other", is_start=False, reload=reload)
    expected = scored(live.model)
    reference = stored(live, tmp_path)
    offloaded = offload(reference, tmp_path)
    reference.release()
    with offloaded.active() as model:
        assert model is not live.model
        assert torch.equal(scored(model), expected)


def test_a_live_reference_is_taken_as_it_is(policy: torch.nn.Module, tmp_path: Path) -> None:
    start = scored(policy)
    offloaded = offload(FrozenCopy(policy, FP32, CPU, "some"), tmp_path)
    moved(policy)
    with offloaded.active() as model:
        assert torch.allclose(scored(model), start, atol=1e-6)
    offloaded.close()
    assert list(tmp_path.iterdir()) == []
