"""The probe at load: each architecture gets the path that is exact for it, whatever the scale of its outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
)

from palate.errors import ModelError
from palate.models.attention import tree as attention
from palate.models.attention.interface import tree_mask
from palate.models.attention.kernels import ATTENTION_FUNCTIONS
from palate.models.attention.tree import TREE
from palate.models.probe import probe as probing
from palate.models.probe.group import narrow_windows, probe_groups
from palate.models.probe.probe import probe
from tiny import BY_LENGTH, PACKED, PADDED, tiny_model

BASE = PACKED["qwen2"]
LFM2 = {**BASE, "layer_types": ["conv", "full_attention", "conv"]}
JAMBA = {**BASE, "num_experts": 2, "use_mamba_kernels": False, "attn_layer_period": 2, "attn_layer_offset": 1}
FRESH: dict[str, tuple[str, dict[str, Any], bool]] = {
    "llama": ("llama", PACKED["llama"], True),
    "gpt2": ("gpt2", PACKED["gpt2"], True),
    "a wide window": ("mistral", {**BASE, "sliding_window": 4096}, True),
    "a window of 64": ("mistral", {**BASE, "sliding_window": 64}, True),
    "window and full layers": ("gemma3_text", {**BASE, "head_dim": 8, "sliding_window": 512}, True),
    "experts": ("mixtral", {**BASE, "num_local_experts": 4}, True),
    "learned positions": ("opt", {**BASE, "ffn_dim": 48, "word_embed_proj_dim": 32}, True),
    "convolutions": ("lfm2", LFM2, False),
    "a recurrent hybrid": ("jamba", JAMBA, False),
    "linear attention": ("qwen3_5_text", PADDED["qwen3_5_text"], False),
    "ALiBi": ("bloom", PADDED["bloom"], False),
    "ALiBi, again": ("mpt", {**BASE, "d_model": 32, "n_heads": 4, "n_layers": 2}, False),
    "LongRoPE": ("phi3", BY_LENGTH["phi3"], False),
}


def fresh(kind: str, values: dict[str, Any]) -> Any:
    """A model as it is initialised: its log-probabilities are nearly equal, so an absolute difference says little."""
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **values)).eval()


@pytest.mark.parametrize("name", FRESH)
def test_a_model_that_was_just_initialised_gets_the_path_that_is_exact_for_it(name: str) -> None:
    kind, values, packed = FRESH[name]
    model = fresh(kind, values)
    found = probe(model)
    assert (found.packed, bool(found.reason)) == (packed, not packed), found.reason
    assert all(parameter.requires_grad for parameter in model.parameters())


class HalfLinear(nn.Linear):
    """Multiplies in bf16 and gives float32, as a quantised layer does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bias = None if self.bias is None else self.bias.bfloat16()
        return F.linear(x.bfloat16(), self.weight.bfloat16(), bias).to(x.dtype)


@pytest.mark.parametrize("kind", ["llama", "mistral"])
def test_a_quantised_model_is_packed_although_its_products_are_rounded(kind: str) -> None:
    model = tiny_model(kind, std=0.1)
    for module in model.model.layers.modules():
        if type(module) is nn.Linear:
            module.__class__ = HalfLinear
    assert not probe(model).packed  # nothing says that its rounding is wanted
    model.is_quantized = True
    found = probe(model)
    assert found.packed, found.reason


@pytest.mark.parametrize("name", ["convolutions", "linear attention", "ALiBi"])
def test_a_leak_is_found_by_its_share_of_what_a_prompt_changes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without looking at the kinds of layers: the scores of these differ by less than 2e-3 in log-probability."""
    monkeypatch.setattr(probing, "mixes_tokens", lambda model: "")
    kind, values, _ = FRESH[name]
    found = probe(fresh(kind, values))
    assert not found.packed
    assert "%" in found.reason or "log-probability" in found.reason


@pytest.fixture
def broken() -> Any:
    """Replaces a registered function for the length of a test."""

    def register(function: Callable[..., Any]) -> None:
        ATTENTION_FUNCTIONS[TREE] = function  # type: ignore[index]
        AttentionInterface.register(TREE, function)

    yield register
    register(attention.tree_attention)
    AttentionMaskInterface.register(TREE, tree_mask)


@pytest.mark.parametrize("window", [6, 64, 4096])
def test_a_lost_window_is_found_however_wide_it_is(broken: Any, window: int) -> None:
    """A mask function that returns None is right for purely causal layers only."""
    AttentionMaskInterface.register(TREE, lambda **_: None)
    values = {**BASE, "sliding_window": window}
    assert not probe(fresh("mistral", values)).packed
    assert probe(fresh("mistral", {**BASE, "sliding_window": None})).packed


def test_wrong_gradients_of_right_values_are_found(broken: Any) -> None:
    def without_gradient(module: Any, query: Any, key: Any, *args: Any, **kwargs: Any) -> Any:
        return attention.tree_attention(module, query, key.detach(), *args, **kwargs)

    broken(without_gradient)
    found = probe(tiny_model("llama"))
    assert not found.packed
    assert "gradients" in found.reason


def test_the_window_is_narrow_while_the_probe_runs_only() -> None:
    model = fresh("mistral", {**BASE, "sliding_window": 4096})
    with narrow_windows(model):
        assert model.config.sliding_window < probe_groups(model).group.longest_row
    assert model.config.sliding_window == 4096
    assert probe_groups(fresh("mistral", {**BASE, "sliding_window": 64})).group.longest_row > 64


def test_positions_cross_the_limits_that_a_config_names() -> None:
    yarn = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 64}
    groups = probe_groups(fresh("llama", {**BASE, "rope_parameters": yarn}))
    assert groups.beyond is not None
    assert groups.offset < 512 < groups.offset + groups.beyond.longest_row
    assert probe_groups(tiny_model("gpt2")).beyond is None


def test_a_model_whose_rows_change_with_their_batch_keeps_them_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Code that nobody knows: a score that depends on the width of the batch."""
    model = tiny_model("llama")
    own = model.model.forward

    def by_width(*args: Any, **kwargs: Any) -> Any:
        output = own(*args, **kwargs)
        output.last_hidden_state = output.last_hidden_state * (1.0 + 0.1 * kwargs["input_ids"].shape[1])
        return output

    monkeypatch.setattr(model.model, "forward", by_width)
    found = probe(model)
    assert not found.packed
    assert "length of other rows in its batch" in found.reason


def test_a_model_that_never_gives_the_same_twice_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama")
    own = model.model.forward

    def noisy(*args: Any, **kwargs: Any) -> Any:
        output = own(*args, **kwargs)
        output.last_hidden_state = output.last_hidden_state + torch.randn_like(output.last_hidden_state)
        return output

    monkeypatch.setattr(model.model, "forward", noisy)
    with pytest.raises(ModelError, match="depend on other rows of the batch"):
        probe(model)


@pytest.mark.parametrize("kind", ["llama", "gemma2", "gpt2"])
def test_bf16_rounding_is_no_leak(kind: str) -> None:
    assert probe(tiny_model(kind).to(torch.bfloat16)).packed


@pytest.mark.parametrize("kind", PACKED)
def test_reward_models_are_packed_where_their_language_models_are(kind: str) -> None:
    """The outputs of GPT-2's last layer norm sum to 0, and so did the gradient that was compared."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **PACKED[kind], num_labels=1)
    found = probe(AutoModelForSequenceClassification.from_config(config), head="reward")
    assert found.packed, found.reason
