"""Invariance 1: padded = packed = shared-prefix, gradients included; and 6: order inside a batch is irrelevant."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from palate.models.probe.probe import probe
from palate.models.scoring.logps import per_completion
from palate.objectives import PairLogps
from palate.objectives.paired import sigmoid
from palate.text.batch import Batch, pack, pad
from palate.text.groups import EncodedGroup
from tiny import EAGER, PACKED, PADDED, random_groups, tiny_model


def loss_and_gradients(model: Any, batches: list[Batch]) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    """Mean sigmoid loss over all pairs against a reference of zeros, every completion's sum, and the gradients."""
    model.zero_grad()
    sums = torch.cat([per_completion(model(**batch.model_inputs()), batch).sums for batch in batches])
    tokens = torch.ones_like(sums[0::2])
    zero = torch.zeros_like(tokens)
    pairs = PairLogps(sums[0::2], sums[1::2], tokens, tokens, zero, zero)
    loss = sigmoid(pairs, beta=0.1).mean()
    loss.backward()
    return loss.detach(), sums.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert any(float(gradient.abs().max()) > 1e-4 for gradient in a.values())
    for name in a:
        torch.testing.assert_close(a[name], b[name], atol=2e-5, rtol=1e-3, msg=lambda m, name=name: f"{name}: {m}")


def split(group: EncodedGroup) -> list[EncodedGroup]:
    return [replace(group, completions=(completion,)) for completion in group.completions]


@pytest.mark.parametrize("kind", PACKED)
def test_packed_padded_and_unshared_prefixes_agree(kind: str) -> None:
    model = tiny_model(kind)
    found = probe(model)
    assert found.packed, found.reason
    groups = random_groups(4, seed=1)
    packed = loss_and_gradients(model, [pack(groups)])
    unshared = loss_and_gradients(model, [pack([one for group in groups for one in split(group)])])
    model.set_attn_implementation("eager" if kind in EAGER else "sdpa")
    padded = loss_and_gradients(model, [pad(groups)])
    torch.testing.assert_close(packed[1], padded[1], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(packed[1], unshared[1], atol=1e-4, rtol=1e-4)
    assert_same(packed[2], padded[2])
    assert_same(packed[2], unshared[2])


@pytest.mark.parametrize("kind", PADDED)
def test_what_a_tree_cannot_express_takes_the_padded_path(kind: str) -> None:
    model = tiny_model(kind)
    found = probe(model)
    assert not found.packed
    assert found.reason
    groups = random_groups(3, seed=2)
    together = loss_and_gradients(model, [pad(groups)])
    # Rows of equal length need no padding at all, so this is the model's own arithmetic.
    alone = loss_and_gradients(model, [pad([one]) for group in groups for one in split(group)])
    torch.testing.assert_close(together[1], alone[1], atol=1e-4, rtol=1e-4)
    assert_same(together[2], alone[2])


@pytest.mark.parametrize("completions", [1, 3, 5])
def test_any_number_of_completions_shares_one_prompt(completions: int) -> None:
    model = tiny_model("llama")
    probe(model)
    groups = random_groups(3, completions, seed=3)
    with torch.no_grad():
        packed = per_completion(model(**pack(groups).model_inputs()), pack(groups)).sums
        alone = [pack([one]) for group in groups for one in split(group)]
        separate = torch.cat([per_completion(model(**batch.model_inputs()), batch).sums for batch in alone])
    torch.testing.assert_close(packed, separate, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["llama", "mistral"])
def test_the_order_of_pairs_in_a_batch_is_irrelevant(kind: str) -> None:
    model = tiny_model(kind)
    probe(model)
    groups = random_groups(5, seed=4)
    forward = loss_and_gradients(model, [pack(groups)])
    backward = loss_and_gradients(model, [pack(groups[::-1])])
    torch.testing.assert_close(forward[0], backward[0], atol=1e-6, rtol=1e-6)
    assert_same(forward[2], backward[2])


def test_an_empty_prompt_leaves_each_first_token_unpredicted() -> None:
    model = tiny_model("llama")
    probe(model)
    [group] = random_groups(1, seed=5)
    group = replace(group, prompt_ids=group.prompt_ids[:0])
    packed, padded = pack([group]), pad([group])
    assert packed.target_ids.tolist() == padded.target_ids.tolist()
    with torch.no_grad():
        a = model(**packed.model_inputs()).logps
        model.set_attn_implementation("sdpa")
        b = model(**padded.model_inputs()).logps
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["llama", "mistral", "gpt2"])
def test_activation_checkpointing_changes_nothing(kind: str) -> None:
    model = tiny_model(kind)
    probe(model)
    groups = random_groups(4, seed=6)
    batches = [pack(groups[:2]), pack(groups[2:])]
    model.train()
    plain = loss_and_gradients(model, batches)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    checkpointed = loss_and_gradients(model, batches)
    assert_same(plain[2], checkpointed[2])
