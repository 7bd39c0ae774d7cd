"""Fused layers against the original ones: outputs, gradients, and everything that may stand around them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import Linear as LoraLinear
from torch import nn

from palate.models.attention.tree import TREE
from palate.models.cpu.layers import FusedDecoderLayer, apply_fused
from palate.models.scoring.forward import install
from palate.models.scoring.head import head_of
from palate.text.batch import Batch, pack
from tiny import random_groups, tiny_model


def scoring_model(kind: str = "llama", **changes: Any) -> Any:
    """A tiny model on the packed path, with norm weights that are not 1."""
    model = tiny_model(kind, **changes)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.rand_like(parameter))
    model.set_attn_implementation(TREE)
    install(model, head_of(model))
    return model


def batch() -> Batch:
    return pack(random_groups(3, completions=3))


def score(model: Any, packed: Batch, *, autocast: bool = False) -> tuple[torch.Tensor, dict[str, torch.Tensor | None]]:
    """Log-probabilities [M], and every parameter's gradient of a fixed weighting of them."""
    model.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        logps = model(**packed.model_inputs()).logps
    (logps * torch.linspace(-1, 1, len(logps))).sum().backward()
    gradients = {n: None if p.grad is None else p.grad.clone() for n, p in model.named_parameters()}
    return logps.detach(), gradients


def assert_same(ours: Any, stock: Any, atol: float, rtol: float = 1e-4) -> None:
    torch.testing.assert_close(ours[0], stock[0], atol=atol, rtol=0.0)
    assert ours[1].keys() == stock[1].keys()
    for name, want in stock[1].items():
        got = ours[1][name]
        assert (got is None) == (want is None), name
        if want is not None:
            assert (got - want).norm() <= rtol * want.norm() + 1e-6, name


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_float32_equals_stock(kind: str) -> None:
    model, packed = scoring_model(kind), batch()
    stock = score(model, packed)
    assert apply_fused(model) == ["model.layers.0", "model.layers.1", "model.layers.2"]
    assert_same(score(model, packed), stock, atol=1e-4)


def test_the_fused_forward_runs_and_is_not_the_original_one(monkeypatch: pytest.MonkeyPatch) -> None:
    model, stock, packed = scoring_model(), scoring_model(), batch()
    apply_fused(model)
    monkeypatch.setattr(type(model.model.layers[0].mlp), "forward", _refuse)
    score(model, packed)
    with pytest.raises(AssertionError, match="original forward"):
        score(stock, packed)


def _refuse(*_: Any, **__: Any) -> None:
    raise AssertionError("original forward was called")


def test_bf16_autocast_is_as_close_to_float32_as_stock() -> None:
    model, packed = scoring_model(std=0.1), batch()
    exact, _ = score(model, packed)
    stock, stock_gradients = score(model, packed, autocast=True)
    apply_fused(model)
    ours, gradients = score(model, packed, autocast=True)
    assert (ours - exact).square().mean() <= 2.0 * (stock - exact).square().mean()
    assert abs(float((ours - stock).mean())) < 2e-2
    for name, want in stock_gradients.items():
        assert want is not None
        assert (gradients[name] - want).norm() <= 0.1 * want.norm(), name  # type: ignore[operator]


def test_bf16_weights_without_autocast() -> None:
    model, packed = scoring_model(std=0.1).bfloat16(), batch()
    stock = score(model, packed)
    assert len(apply_fused(model)) == 3
    ours = score(model, packed)
    assert ours[1]["model.layers.0.mlp.up_proj.weight"].dtype == torch.bfloat16  # type: ignore[union-attr]
    assert_same(ours, stock, atol=0.1, rtol=0.1)


@pytest.mark.parametrize("target", [["q_proj", "v_proj"], ["down_proj"], "all-linear"])
@pytest.mark.parametrize("autocast", [False, True])
def test_under_lora(target: Any, autocast: bool) -> None:
    packed = batch()
    outcomes = []
    for fuse in (False, True):
        model = scoring_model(std=0.1)
        if fuse:
            assert len(apply_fused(model)) == 3
        torch.manual_seed(0)
        peft = get_peft_model(model, LoraConfig(r=4, target_modules=target, init_lora_weights=False))
        outcomes.append(score(peft, packed, autocast=autocast))
        with peft.disable_adapter(), torch.no_grad():
            off = peft(**packed.model_inputs()).logps
        assert (off - outcomes[-1][0]).abs().max() > 1e-3
    trained = [n for n, g in outcomes[1][1].items() if g is not None]
    assert trained
    assert all("lora_" in name for name in trained)
    assert_same(outcomes[1], outcomes[0], *((0.1, 0.1) if autocast else (1e-4, 1e-4)))


def adapted(model: Any, **given: Any) -> Any:
    torch.manual_seed(0)
    wanted = {"r": 4, "target_modules": "all-linear", "init_lora_weights": False, **given}
    return get_peft_model(model, LoraConfig(**wanted))


def test_adapters_run_inside_the_fused_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    model, packed = scoring_model(), batch()
    apply_fused(model)
    peft = adapted(model)
    monkeypatch.setattr(LoraLinear, "forward", _refuse)
    score(peft, packed)
    with peft.disable_adapter():
        peft(**packed.model_inputs())


def test_an_adapter_keeps_nothing_of_a_token_that_the_layer_does_not_keep_anyway() -> None:
    def kept(wrap: bool) -> int:
        model, packed = scoring_model(), batch()
        apply_fused(model)
        whole = adapted(model) if wrap else model
        own = {p.untyped_storage().data_ptr() for p in whole.parameters()}
        sizes: dict[int, int] = {}

        def note(tensor: torch.Tensor) -> torch.Tensor:
            if tensor.untyped_storage().data_ptr() not in own:
                sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            logps = whole(**packed.model_inputs()).logps
        assert logps.requires_grad
        return sum(sizes.values())

    assert kept(wrap=True) <= kept(wrap=False)


@pytest.mark.parametrize("case", ["dropout", "dora", "two adapters", "merged", "rslora", "evaluated with dropout"])
def test_every_kind_of_adapter_equals_the_stock_layers(case: str) -> None:
    given = {
        "dropout": {"lora_dropout": 0.5},
        "dora": {"use_dora": True},
        "rslora": {"use_rslora": True},
        "evaluated with dropout": {"lora_dropout": 0.5},
    }.get(case, {})
    packed, outcomes = batch(), []
    for fuse in (False, True):
        model = scoring_model(std=0.1)
        if fuse:
            apply_fused(model)
        peft = adapted(model, **given)
        if case == "two adapters":
            peft.add_adapter("other", LoraConfig(r=2, target_modules=["v_proj", "up_proj"], init_lora_weights=False))
            peft.base_model.set_adapter(["default", "other"])
        if case == "merged":
            peft.merge_adapter()
            peft.requires_grad_(True)  # else nothing would have a gradient to compare
        peft.train(case == "dropout")
        torch.manual_seed(7)
        outcomes.append(score(peft, packed))
    assert_same(outcomes[1], outcomes[0], 1e-4)


def test_frozen_weights_get_no_gradient() -> None:
    model, packed = scoring_model(), batch()
    model.requires_grad_(False)
    model.model.layers[2].requires_grad_(True)
    model.model.layers[1].mlp.up_proj.weight.requires_grad_(True)
    model.model.layers[1].post_attention_layernorm.weight.requires_grad_(True)
    stock = score(model, packed)
    apply_fused(model)
    assert_same(score(model, packed), stock, atol=1e-4)


def test_under_activation_checkpointing() -> None:
    model, packed = scoring_model().train(), batch()
    stock = score(model, packed)
    apply_fused(model)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    assert_same(score(model, packed), stock, atol=1e-4)


def test_a_frozen_copy_by_functional_call() -> None:
    model, packed = scoring_model(), batch()
    apply_fused(model)
    copies = {n: p.detach().clone() for n, p in model.named_parameters()}
    start, _ = score(model, packed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    with torch.no_grad():
        moved = model(**packed.model_inputs()).logps
        kept = torch.func.functional_call(model, copies, kwargs=packed.model_inputs()).logps
    torch.testing.assert_close(kept, start)
    assert (moved - start).abs().max() > 1e-2


def test_a_deep_copy_has_weights_of_its_own() -> None:
    model, packed = scoring_model(), batch()
    apply_fused(model)
    twin = copy.deepcopy(model)
    before = score(model, packed)[0]
    with torch.no_grad():
        twin.model.layers[0].mlp.up_proj.weight.zero_()
    twin_logps = twin.model(**_decoder_inputs(packed)).last_hidden_state
    torch.testing.assert_close(score(model, packed)[0], before)
    assert (twin_logps - model.model(**_decoder_inputs(packed)).last_hidden_state).abs().max() > 1e-3


def _decoder_inputs(packed: Batch) -> dict[str, Any]:
    return {"input_ids": packed.input_ids, "position_ids": packed.position_ids, "layout": packed.layout}


def test_generation_with_a_cache_is_untouched() -> None:
    model = scoring_model()
    model.set_attn_implementation("sdpa")
    ids = torch.arange(5, 12)[None]
    options = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 2, "eos_token_id": None}
    stock = model.generate(ids, attention_mask=torch.ones_like(ids), **options)
    apply_fused(model)
    assert torch.equal(model.generate(ids, attention_mask=torch.ones_like(ids), **options), stock)


@pytest.mark.parametrize("kind", ["gpt2", "gemma2", "phi"])
def test_other_architectures_keep_their_layers(kind: str) -> None:
    model, packed = scoring_model(kind), batch()
    stock = score(model, packed)
    assert apply_fused(model) == []
    assert_same(score(model, packed), stock, atol=0.0, rtol=0.0)


def test_a_sliding_window_is_honoured() -> None:
    model, packed = scoring_model("mistral"), batch()
    stock = score(model, packed)
    apply_fused(model)
    assert_same(score(model, packed), stock, atol=1e-4)


class _Doubled(nn.Module):
    """A Llama norm in all but its formula."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.variance_epsilon = 1e-6

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * self.weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.variance_epsilon)


def test_a_layer_that_only_looks_alike_is_refused() -> None:
    model, packed = scoring_model(), batch()
    model.model.layers[1].input_layernorm = _Doubled(32)
    stock = score(model, packed)
    assert apply_fused(model) == ["model.layers.0", "model.layers.2"]
    assert_same(score(model, packed), stock, atol=1e-4)


def test_a_hook_on_a_linear_layer_still_runs() -> None:
    model, packed = scoring_model(), batch()
    apply_fused(model)
    calls: list[int] = []
    model.model.layers[1].mlp.gate_proj.register_forward_hook(lambda *_: calls.append(1))
    model.model.layers[2].self_attn.register_forward_hook(lambda *_: calls.append(2))
    score(model, packed)
    assert calls == [1, 2]


def test_attention_dropout_still_drops() -> None:
    model, packed = scoring_model(), batch()
    apply_fused(model)
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    still = score(model.eval(), packed)[0]
    assert (score(model.train(), packed)[0] - still).abs().max() > 1e-3


def test_fused_layers_keep_their_class_name_and_are_fused_once() -> None:
    model = scoring_model()
    apply_fused(model)
    assert all(
        isinstance(layer, FusedDecoderLayer) and type(layer).__name__ == "LlamaDecoderLayer"
        for layer in model.model.layers
    )
    assert apply_fused(model) == []
