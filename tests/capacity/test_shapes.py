"""Sizes from config.json equal those of the models that transformers builds from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from palate.capacity.shapes import SIZES, read_shape, shape_of
from palate.errors import ModelError

SMALL = {
    "vocab_size": 3000,
    "hidden_size": 256,
    "intermediate_size": 640,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}


@pytest.mark.parametrize(
    ("kind", "further"),
    [
        ("llama", {"tie_word_embeddings": True}),
        ("llama", {"tie_word_embeddings": False, "head_dim": 64}),
        ("qwen2", {}),
        ("qwen3", {"head_dim": 32}),
        ("mistral", {}),
        ("gemma2", {"head_dim": 32}),
        ("olmo2", {}),
        ("smollm3", {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}),
        ("phi3", {"pad_token_id": 0}),
        ("gpt2", {"n_embd": 256, "n_layer": 6, "n_head": 8, "n_positions": 512}),
        ("mixtral", EXPERTS),
        ("qwen3_moe", {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 96, "head_dim": 32}),
    ],
)
def test_parameters_are_those_of_the_built_model(tmp_path: Path, kind: str, further: dict[str, object]) -> None:
    config = AutoConfig.for_model(kind, **({"vocab_size": 3000} if kind == "gpt2" else SMALL), **further)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    config.save_pretrained(tmp_path)
    shape = read_shape(str(tmp_path))
    assert shape.counts.total == pytest.approx(sum(p.numel() for p in model.parameters()), rel=0.005)
    words = model.get_input_embeddings().weight.numel()
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert (shape.counts.embedding, shape.counts.head) == (words, 0 if tied else words)
    assert shape.max_positions == 512


def test_a_token_reads_only_the_active_experts() -> None:
    shape = shape_of({**SMALL, **EXPERTS, "model_type": "mixtral"}, "m")
    one = 3 * 256 * 640
    attention = 256 * 256 * 2 + 2 * 256 * 64
    assert shape.active_weights == 6 * (attention + 2 * one + 4 * 256)
    assert shape.counts.linear == 6 * (attention + 4 * 256)


def test_size_names_have_the_published_numbers_of_parameters() -> None:
    billions = {"1b": 1.24, "3b": 3.21, "8b": 8.03, "70b": 70.55, "smollm2-135m-instruct": 0.1345}
    assert {name: pytest.approx(shape.counts.total / 1e9, rel=0.005) for name, shape in SIZES.items()} == billions
    assert read_shape("8B") == SIZES["8b"]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"hidden_size": 8}, "no whole number above 0 as num_hidden_layers or n_layer"),
        ({**SMALL, "hidden_size": 0}, "no whole number above 0 as hidden_size or n_embd"),
        ({**SMALL, "vocab_size": "many"}, "no whole number above 0 as vocab_size"),
        ({**SMALL, "head_dim": -4}, "no whole number above 0 as head_dim"),
        ([], "no whole number above 0 as num_hidden_layers"),
    ],
)
def test_an_unusable_config_is_one_line(tmp_path: Path, config: object, words: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ModelError, match=words) as raised:
        read_shape(str(tmp_path))
    assert "\n" not in str(raised.value)


def test_a_missing_model_names_the_sizes(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="a size: 1B, 3B, 8B, 70B"):
        read_shape(str(tmp_path / "nothing"))


def test_a_state_space_model_counts_heads_of_64() -> None:
    mamba = {"model_type": "mamba2", "num_hidden_layers": 2, "hidden_size": 256, "vocab_size": 100}
    assert (shape_of(mamba, "m").heads, shape_of(mamba, "m").head_dim) == (4, 64)
