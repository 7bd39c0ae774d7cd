"""The reference never moves, whatever the policy does, and is never the policy's own trained weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from palate.errors import ModelError
from palate.models.precision import BF16, FP32
from palate.models.probe.probe import probe
from palate.models.reference.kinds import AdapterOff, FrozenCopy, Reference, SeparateModel, check_separate
from palate.models.scoring.value_head import add_value_head
from palate.models.tuning import trainable
from palate.text.batch import Batch, pack
from tiny import random_groups, tiny_model

CPU = torch.device("cpu")


@pytest.fixture
def batch() -> Batch:
    return pack(random_groups(3, seed=4))


def policy_and_reference(kind: str) -> tuple[Any, Reference]:
    model = tiny_model("llama", seed=1)
    assert probe(model).packed
    if kind == "adapter":
        policy: Any = trainable.add_lora(model, rank=4, alpha=8)
        return policy, AdapterOff(policy, FP32, CPU, "start")
    if kind == "model":
        other = tiny_model("llama", seed=2)
        probe(other)
        return model, SeparateModel(other, FP32, CPU, "other", is_start=False)
    if kind == "last layer":
        trainable.train_last_layers(model, 1)
    return model, FrozenCopy(model, FP32, CPU, "start")


@pytest.mark.parametrize("kind", ["copy", "last layer", "adapter", "model"])
def test_it_does_not_move_and_has_no_gradient(kind: str, batch: Batch) -> None:
    policy, reference = policy_and_reference(kind)
    check_separate(policy, reference)
    before = reference.logps([batch])[0].logps
    assert not before.requires_grad
    with torch.no_grad():
        start = policy(**batch.model_inputs()).logps
        for parameter in policy.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
        moved = policy(**batch.model_inputs()).logps
    assert float((moved - start).abs().max()) > 1e-2
    assert torch.equal(reference.logps([batch])[0].logps, before)
    with reference.active() as model, torch.no_grad():
        torch.testing.assert_close(model(**batch.model_inputs()).logps, before, atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        assert torch.equal(policy(**batch.model_inputs()).logps, moved)


def test_it_has_no_dropout_and_leaves_the_policy_training(batch: Batch) -> None:
    model = tiny_model("llama", seed=1)
    model.config.attention_dropout = 0.5
    for module in model.modules():
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.5
    probe(model)
    reference = FrozenCopy(model, FP32, CPU, "start")
    model.train()
    first, second = (reference.logps([batch])[0].logps for _ in range(2))
    assert torch.equal(first, second)
    assert model.training


def test_a_copy_holds_only_what_trains() -> None:
    model, reference = policy_and_reference("last layer")
    assert isinstance(reference, FrozenCopy)
    assert set(reference.copies) == {name for name, p in model.named_parameters() if p.requires_grad}
    assert all(".layers.2." in name for name in reference.copies)


def test_linear_copies_under_bf16_take_half_the_memory_and_score_the_same(batch: Batch) -> None:
    model = tiny_model("qwen2", seed=1)
    probe(model)
    reference = FrozenCopy(model, BF16, CPU, "start")
    assert reference.copies["model.layers.0.mlp.up_proj.weight"].dtype == torch.bfloat16
    assert reference.copies["model.embed_tokens.weight"].dtype == torch.float32
    with torch.no_grad(), BF16.context(CPU):
        expected = model(**batch.model_inputs()).logps.float()
    assert torch.equal(reference.logps([batch])[0].logps, expected)


def test_shared_storage_is_an_error_that_names_the_parameter() -> None:
    model = tiny_model("llama", seed=1)
    reference = SeparateModel(tiny_model("llama", seed=1), FP32, CPU, "start", is_start=True)
    check_separate(model, reference)
    reference.model.model.norm.weight = model.model.norm.weight  # type: ignore[union-attr,assignment]
    with pytest.raises(ModelError, match=r"model\.norm\.weight shares its storage with the policy's model\.norm"):
        check_separate(model, reference)


def test_a_copy_that_is_no_copy_is_an_error() -> None:
    model, reference = policy_and_reference("copy")
    assert isinstance(reference, FrozenCopy)
    reference.copies["model.norm.weight"] = model.model.norm.weight.detach()
    with pytest.raises(ModelError, match="the reference would change"):
        check_separate(model, reference)


def test_a_copy_keeps_a_value_head_in_float32_in_which_it_is_computed(batch: Batch) -> None:
    model = tiny_model("llama", seed=1)
    assert probe(model).packed
    plain = FrozenCopy(model, BF16, CPU, "start").logps([batch])[0].logps
    add_value_head(model)
    reference = FrozenCopy(model, BF16, CPU, "start")
    assert reference.copies["value_head.weight"].dtype == torch.float32
    assert torch.equal(reference.logps([batch])[0].logps, plain)
