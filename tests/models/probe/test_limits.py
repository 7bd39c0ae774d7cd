"""Limits that are in a model's weights: a table of positions, and the rows of its embedding."""

from __future__ import annotations

from typing import Any

import pytest
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from palate.models.probe.limits import position_limit, token_rows, trained_length
from tiny import PACKED, tiny_model

GPTJ = {"vocab_size": 199, "n_embd": 32, "n_layer": 1, "n_head": 4, "n_positions": 96, "rotary_dim": 4}


def fresh(kind: str, **values: Any) -> Any:
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **values))


@pytest.mark.parametrize(
    ("kind", "values", "limit"),
    [
        ("gpt2", PACKED["gpt2"], 512),
        ("opt", {**PACKED["qwen2"], "ffn_dim": 48, "word_embed_proj_dim": 32, "max_position_embeddings": 80}, 80),
        ("gptj", GPTJ, 96),
        ("gpt_bigcode", {**PACKED["gpt2"], "n_positions": 100}, 100),
        ("llama", PACKED["llama"], None),
        ("gemma2", PACKED["gemma2"], None),
        ("phi", PACKED["phi"], None),
        ("bloom", {"vocab_size": 199, "hidden_size": 32, "n_layer": 2, "n_head": 4}, None),
    ],
)
def test_a_table_of_positions_is_found(kind: str, values: dict[str, Any], limit: int | None) -> None:
    assert position_limit(fresh(kind, **values)) == limit


def test_what_a_config_was_made_for() -> None:
    assert trained_length(tiny_model("llama")) == 512
    assert trained_length(tiny_model("bloom")) is None


def test_ids_must_have_a_row_in_embedding_and_head() -> None:
    model = tiny_model("qwen2")
    assert token_rows(model) == 199
    model.lm_head = nn.Linear(32, 150)
    assert token_rows(model) == 150


def test_a_head_that_peft_ties_to_the_embedding_counts_as_many_rows() -> None:
    """PEFT's copy of a tied head has in_features and out_features the wrong way round."""
    model = tiny_model("llama")
    targets = {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]}
    adapted = get_peft_model(model, LoraConfig(r=2, ensure_weight_tying=True, **targets))
    assert token_rows(adapted) == token_rows(adapted.get_base_model()) == 199
