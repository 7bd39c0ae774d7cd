"""Weights that do not train: loaded in 16 bits where files have 16 bits, with the values of a load in float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from palate.models.cpu.layers import apply_fused
from palate.models.frozen import float_products, saved_in, store_frozen_in
from palate.models.loading.identity import model_hash
from palate.models.loading.load import load_frozen, load_model
from palate.models.precision import BF16, FP16, FP32
from palate.models.probe.probe import probe
from palate.models.reward.head import end_index, probe_rewards
from palate.text.batch import pack
from tiny import PACKED, random_groups

CPU = torch.device("cpu")
GEMMA3 = {"head_dim": 8, "sliding_window": 6, "layer_types": ["sliding_attention", "full_attention", "full_attention"]}
KINDS = {
    **{kind: PACKED[kind] for kind in ("llama", "qwen2", "gpt2", "gemma2")},
    "gemma3_text": {**PACKED["qwen2"], **GEMMA3},  # it computes the scale of its embeddings when it is made
}


def saved(folder: Path, kind: str, dtype: torch.dtype = torch.bfloat16) -> str:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **KINDS[kind]), dtype=dtype)
    model.save_pretrained(folder)
    return str(folder)


def tensors(model: Any) -> dict[str, torch.Tensor]:
    return {**model.state_dict(), **dict(model.named_buffers())}


@pytest.mark.parametrize("kind", KINDS)
def test_tensors_are_those_of_a_load_in_float32(kind: str, tmp_path: Path) -> None:
    name = saved(tmp_path, kind)
    wide, narrow = load_model(name, device=CPU), load_model(name, device=CPU, frozen=BF16)
    assert model_hash(narrow) == model_hash(wide)
    assert narrow.config.dtype == torch.float32
    store_frozen_in(wide.requires_grad_(False), BF16)
    expected, found = tensors(wide), tensors(narrow)
    assert expected.keys() == found.keys()
    for key, tensor in expected.items():
        assert found[key].dtype == tensor.dtype, key
        assert torch.equal(found[key], tensor), key
    halves = [key for key, tensor in found.items() if tensor.dtype == torch.bfloat16]
    assert bool(halves) == (kind != "gpt2")  # whose layers are not linear ones of torch
    assert not [key for key in halves if "embed" in key or "norm" in key]


def test_files_with_other_numbers_are_loaded_in_float32(tmp_path: Path) -> None:
    name = saved(tmp_path, "llama", torch.float32)
    assert not saved_in(name, torch.bfloat16)
    for precision in (BF16, FP16, FP32):
        model = load_model(name, device=CPU, frozen=precision)
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_checks_at_load_compute_as_in_float32(kind: str, tmp_path: Path) -> None:
    name = saved(tmp_path, kind)
    wide, narrow = load_model(name, device=CPU), load_model(name, device=CPU, frozen=BF16)
    ids = torch.arange(3, 20)[None]
    results = []
    for model in (wide, narrow):
        embedded = model.get_input_embeddings().weight.detach()[ids].requires_grad_(True)
        with float_products():
            logits = model(inputs_embeds=embedded).logits
            results.append((logits, torch.autograd.grad(logits.square().sum(), embedded)[0]))
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)
    assert probe(narrow) == probe(wide)
    assert apply_fused(narrow) == apply_fused(wide) != []


def test_a_reward_models_scalar_head_is_float32(tmp_path: Path) -> None:
    name = saved(tmp_path, "qwen2")
    loaded = load_frozen(name, BF16, CPU, head="reward", probe_of=probe_rewards)
    batch = pack(random_groups(2))
    with torch.no_grad(), BF16.context(CPU):
        rewards = loaded.model(**batch.model_inputs(), end_index=end_index(batch)).rewards
    assert rewards.tolist() == [0.0] * 4  # a head that no file has
    assert loaded.model.score.weight.dtype == torch.float32
    assert loaded.model.model.layers[0].mlp.up_proj.weight.dtype == torch.bfloat16
