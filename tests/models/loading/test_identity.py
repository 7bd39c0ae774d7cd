"""A model's identity: equal weights that compute something else are another model."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from palate.models.loading.identity import adapter_hash, computing, model_hash
from tiny import PACKED, tiny_model

YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 64}


def changed(kind: str, **values: Any) -> tuple[Any, Any]:
    """Two models of equal weights; the second has other values in its config."""
    first = tiny_model(kind)
    second = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**PACKED[kind], **values}))
    second.load_state_dict(first.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values()))
    return first, second.eval()


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("mistral", {"sliding_window": None}),
        ("mistral", {"sliding_window": 64}),
        ("llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}),
        ("llama", {"rope_parameters": YARN}),
        ("llama", {"rms_norm_eps": 1e-3}),
        ("llama", {"hidden_act": "gelu"}),
        ("gemma2", {"attn_logit_softcapping": None}),
        ("gemma2", {"attn_logit_softcapping": 5.0}),
        ("gemma2", {"final_logit_softcapping": 5.0}),
        ("gemma2", {"query_pre_attn_scalar": 64}),
        ("gemma2", {"layer_types": ["full_attention"] * 3}),
        ("gpt_oss", {"num_experts_per_tok": 1}),
        ("gpt2", {"layer_norm_epsilon": 1e-3}),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}),
    ],
)
def test_equal_weights_that_compute_something_else_are_another_model(kind: str, values: dict[str, Any]) -> None:
    first, second = changed(kind, **values)
    assert model_hash(first) != model_hash(second)


def test_a_scaling_factor_of_the_logits_counts() -> None:
    base = {**PACKED["llama"], "tie_word_embeddings": True}
    one = AutoModelForCausalLM.from_config(AutoConfig.for_model("granite", **base, logits_scaling=1.0))
    other = AutoModelForCausalLM.from_config(AutoConfig.for_model("granite", **base, logits_scaling=8.0))
    other.load_state_dict(one.state_dict())
    assert model_hash(one) != model_hash(other)


@pytest.mark.parametrize(
    "values", [{"pad_token_id": 0}, {"eos_token_id": 5}, {"attention_dropout": 0.1}, {"use_cache": False}]
)
def test_what_computes_nothing_does_not_count(values: dict[str, Any]) -> None:
    first, second = changed("llama", **values)
    second.config._name_or_path = "elsewhere"
    assert model_hash(first) == model_hash(second)


def test_quantised_weights_are_another_model() -> None:
    """What computes with them differs, even where their bytes would not."""
    first, second = tiny_model("llama"), tiny_model("llama")
    second.config.quantization_config = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    assert model_hash(first) != model_hash(second)


def test_the_same_files_are_the_same_model_wherever_they_are(tmp_path: Any) -> None:
    model = tiny_model("gemma2")
    for name in ("one", "two"):
        model.save_pretrained(tmp_path / name)
    one, two = (AutoModelForCausalLM.from_pretrained(tmp_path / name) for name in ("one", "two"))
    assert model_hash(model) == model_hash(one) == model_hash(two)


def test_a_key_that_nobody_knows_counts() -> None:
    assert computing({"text_config": {"new_scale": 2.0}}) != computing({"text_config": {"new_scale": 1.0}})
    assert computing({"text_config": {"use_cache": True}}) == computing({"text_config": {"use_cache": False}})


@pytest.mark.parametrize("values", [{"lora_alpha": 32}, {"use_rslora": True}, {"use_dora": True}])
def test_an_adapter_of_equal_weights_with_another_scaling_is_another(values: dict[str, Any]) -> None:
    def adapted(**more: Any) -> Any:
        torch.manual_seed(0)
        given = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj"], **more}
        return get_peft_model(copy.deepcopy(tiny_model("llama")), LoraConfig(**given))

    assert adapter_hash(adapted()) == adapter_hash(adapted(lora_dropout=0.1))
    assert adapter_hash(adapted()) != adapter_hash(adapted(**values))
