"""The trunk is computed once a group, replayed without running a frozen layer, and bounded in memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from palate.models.probe.probe import probe
from palate.models.scoring.forward import score
from palate.models.scoring.trunk import TrunkCache, first_trainable_layer
from palate.models.tuning.trainable import decoder_layers, train_last_layers
from palate.text.batch import pack, pad
from tiny import random_groups, tiny_model

GENEROUS = 1 << 30


@pytest.fixture
def model() -> Any:
    model = tiny_model("llama")
    assert probe(model).packed
    train_last_layers(model, 1)
    return model


def calls_of(model: Any, layer: int) -> list[int]:
    """A list that grows by one whenever the layer's attention runs."""
    seen: list[int] = []
    decoder_layers(model)[layer].self_attn.o_proj.register_forward_hook(lambda *_: seen.append(1))
    return seen


def test_the_frozen_layers_run_once_for_policy_reference_and_all_epochs(model: Any) -> None:
    frozen, trained = calls_of(model, 0), calls_of(model, 2)
    trunk, batch = TrunkCache(model, GENEROUS), pack(random_groups(3))
    first, second, third = (score(model, batch, trunk).logps for _ in range(3))
    assert (len(frozen), len(trained)) == (1, 3)
    assert torch.equal(second, third)
    torch.testing.assert_close(first, second)


def test_groups_are_found_in_other_batches_than_they_were_recorded_in(model: Any) -> None:
    trunk, groups = TrunkCache(model, GENEROUS), random_groups(5)
    for batch in (pack(groups[:2]), pack(groups[2:])):
        score(model, batch, trunk)
    frozen = calls_of(model, 0)
    mixed = pack([groups[4], groups[1], groups[2]])
    replayed = score(model, mixed, trunk).logps
    assert not frozen
    torch.testing.assert_close(replayed, score(model, mixed, None).logps, atol=1e-5, rtol=1e-5)


def test_a_batch_with_one_unknown_group_is_computed_whole(model: Any) -> None:
    trunk, groups = TrunkCache(model, GENEROUS), random_groups(3)
    score(model, pack(groups[:2]), trunk)
    frozen = calls_of(model, 0)
    torch.testing.assert_close(score(model, pack(groups), trunk).logps, score(model, pack(groups), None).logps)
    assert len(frozen) == 2
    score(model, pack(groups), trunk)
    assert len(frozen) == 2, "now it is known"


def test_it_keeps_what_fits_and_nothing_more(model: Any) -> None:
    groups = random_groups(4)
    room = groups[0].packed_tokens * 32 * 4
    trunk = TrunkCache(model, room)
    assert trunk.estimate(groups) == room
    for group in groups:
        score(model, pack([group]), trunk)
    assert 0 < trunk.bytes <= room


def test_the_estimate_is_what_it_grows_to(model: Any) -> None:
    groups = random_groups(4)
    trunk = TrunkCache(model, GENEROUS)
    foreseen = trunk.estimate(groups)
    score(model, pack(groups), trunk)
    assert trunk.bytes == foreseen


def test_layers_run_as_before_once_a_pass_is_over(model: Any) -> None:
    trunk, batch = TrunkCache(model, GENEROUS), pack(random_groups(2))
    before = score(model, batch, None).logps
    for _ in range(2):
        score(model, batch, trunk)
    assert all("forward" not in layer.__dict__ for layer in decoder_layers(model))
    assert torch.equal(score(model, batch, None).logps, before)


def test_layers_run_as_before_after_a_pass_that_failed(model: Any) -> None:
    trunk, batch = TrunkCache(model, GENEROUS), pack(random_groups(2))
    score(model, batch, trunk)
    broken = pack(random_groups(2))
    with pytest.raises(RuntimeError, match="no"), trunk.run(broken).installed():
        raise RuntimeError("no")
    assert all("forward" not in layer.__dict__ for layer in decoder_layers(model))


def test_padded_batches_have_no_trunk(model: Any) -> None:
    trunk, batch = TrunkCache(model, GENEROUS), pad(random_groups(2))
    model.set_attn_implementation("sdpa")
    score(model, batch, trunk)
    assert trunk.bytes == 0


def test_where_the_embedding_trains_nothing_is_frozen_below() -> None:
    model = tiny_model("qwen2")
    train_last_layers(model, 1)
    assert first_trainable_layer(model) == 2
    model.get_input_embeddings().weight.requires_grad_(True)
    assert first_trainable_layer(model) == 0
    assert not TrunkCache(model, GENEROUS)
