"""Decoder layers of Llama's form, computed with fewer passes over memory: one call after loading, `apply_fused(model)`.

A layer is recognised by its parts and then tried: it is replaced only if it gives the stock layer's outputs and
gradients on random input, so an architecture with a twist of its own (a scaled residual, a norm of 1 + w, a layer
without positions) keeps its stock forward. Modules, parameter names and checkpoints stay what they are; only the
layer's class gains a `forward` that runs packed rows on a CPU and leaves every other call to the stock one.

LoRA's adapters run inside the fused halves; where a linear layer is wrapped in anything else, or dropout stands before
an adapter, that half of the layer runs piece by piece, through the wrapped module.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from palate.models.attention.cpu import segments
from palate.models.cpu.layer_halves import attention_half, attention_pieces, mlp_half, mlp_pieces
from palate.models.cpu.projection import hooked, projection_of
from palate.text.batch import Layout, Span

PARTS = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP = ("gate_proj", "up_proj", "down_proj")
_PROBE = Layout((Span(0, 13, ()),))
_TOLERANCE = 1e-4
_CLASSES: dict[type[nn.Module], type[nn.Module]] = {}


class FusedDecoderLayer(nn.Module):
    """What a recognised layer's class gains; `apply_fused` gives existing layers a class that mixes it in."""

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: Any = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Any = None,
        use_cache: bool | None = False,
        position_embeddings: tuple[torch.Tensor, torch.Tensor] | None = None,
        *,
        layout: Layout | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """[1, T, d] from [1, T, d]; a call that is no packed row on a CPU goes to the stock forward."""
        packed = layout is not None and attention_mask is None and past_key_values is None
        if not packed or position_embeddings is None or not _runs_fused(self, hidden_states, kwargs):
            extra = kwargs if layout is None else {**kwargs, "layout": layout}
            stock: torch.Tensor = super().forward(
                hidden_states,
                attention_mask=attention_mask,
                position_ids=position_ids,
                past_key_values=past_key_values,
                use_cache=use_cache,
                position_embeddings=position_embeddings,
                **extra,
            )
            return stock
        assert layout is not None  # `packed` says so; mypy cannot see it
        return _fused_forward(self, hidden_states, position_embeddings, layout)


def apply_fused(model: nn.Module) -> list[str]:
    """Give every layer that passes the trial its fused forward, and return the names of those layers.

    Call it on the loaded model before PEFT or accelerate wrap it. Results on other devices, and calls with a cache or
    without a packed layout, are untouched.
    """
    fused: list[str] = []
    for name, module in model.named_modules():
        if not isinstance(module, FusedDecoderLayer) and _recognised(module) and _equals_stock(module):
            module.__class__ = _fused_class(type(module))
            fused.append(name)
    return fused


def remove_fused(model: nn.Module) -> None:
    """Give the stock layers back."""
    for module in model.modules():
        if isinstance(module, FusedDecoderLayer):
            module.__class__ = type(module).__mro__[2]


def _fused_class(stock: type[nn.Module]) -> type[nn.Module]:
    """One class per stock class, under its name: FSDP policies and hooks look layers up by it."""
    if stock not in _CLASSES:
        _CLASSES[stock] = type(stock.__name__, (FusedDecoderLayer, stock), {"__module__": stock.__module__})
    return _CLASSES[stock]


def _recognised(layer: Any) -> bool:
    """Whether the layer has exactly the parts of Llama's, all on the CPU and in a floating-point format."""
    if set(dict(layer.named_children())) != PARTS:
        return False
    attention, mlp = layer.self_attn, layer.mlp
    linear = [getattr(attention, n, None) for n in ATTENTION] + [getattr(mlp, n, None) for n in MLP]
    if not all(type(part) is nn.Linear for part in linear):
        return False
    expected = len(ATTENTION), len(MLP) + isinstance(getattr(mlp, "act_fn", None), nn.Module)
    if (len(list(attention.children())), len(list(mlp.children()))) != expected:
        return False
    if not hasattr(attention, "scaling") or not hasattr(attention, "head_dim") or not hasattr(attention, "config"):
        return False
    norms = (layer.input_layernorm, layer.post_attention_layernorm)
    if any(rms_eps(norm) is None or [n for n, _ in norm.named_parameters()] != ["weight"] for norm in norms):
        return False
    return all(p.device.type == "cpu" and p.dtype in (torch.float32, torch.bfloat16) for p in layer.parameters())


def rms_eps(norm: Any) -> float | None:
    """What a norm adds to the mean square, or None where it does not say."""
    for name in ("variance_epsilon", "eps"):
        if isinstance(getattr(norm, name, None), float):
            return float(getattr(norm, name))
    return None


def _runs_fused(layer: Any, hidden: torch.Tensor, kwargs: dict[str, Any]) -> bool:
    """Whether nothing stands between the layer and its parts that the fused forward would walk past."""
    attention = layer.self_attn
    if hidden.device.type != "cpu" or hidden.shape[0] != 1 or kwargs.get("output_attentions"):
        return False
    if layer.training and getattr(attention, "attention_dropout", 0.0):
        return False
    # An adapter that replaces a whole attention or MLP takes its linear layers out of sight.
    return _untouched(attention, ATTENTION) and _untouched(layer.mlp, MLP)


def _untouched(module: Any, parts: tuple[str, ...]) -> bool:
    return not hooked(module) and all(part in module._modules for part in parts)


def untouched_norm(norm: Any) -> bool:
    """Whether the norm is one weight and a number, with nothing hung to it."""
    return rms_eps(norm) is not None and set(norm._parameters) == {"weight"} and not norm._modules and not hooked(norm)


def _fused_forward(
    layer: Any, hidden: torch.Tensor, positions: tuple[torch.Tensor, torch.Tensor], layout: Layout
) -> torch.Tensor:
    attention, mlp = layer.self_attn, layer.mlp
    cos, sin = (p[0].float() for p in positions)
    parts = segments(layout)
    x = hidden[0]
    norm = layer.input_layernorm
    linear = [getattr(attention, name) for name in ATTENTION]
    maps = [one for one in map(projection_of, linear) if one is not None]
    if untouched_norm(norm) and len(maps) == len(linear):
        x = attention_half(x, norm.weight, rms_eps(norm) or 0.0, maps, cos, sin, parts, attention.scaling)
    else:
        x = attention_pieces(x, norm, rms_eps(norm), untouched_norm(norm), linear, cos, sin, parts, attention.scaling)
    norm = layer.post_attention_layernorm
    linear = [getattr(mlp, name) for name in MLP]
    maps = [one for one in map(projection_of, linear) if one is not None]
    if untouched_norm(norm) and len(maps) == len(linear):
        x = mlp_half(x, norm.weight, rms_eps(norm) or 0.0, maps)
    else:
        x = mlp_pieces(x, norm, rms_eps(norm), untouched_norm(norm), linear)
    return x[None]


def _equals_stock(layer: Any) -> bool:
    """Outputs and input gradients of the layer on random input, stock against fused."""
    tokens = _PROBE.tokens
    generator = torch.Generator().manual_seed(0)
    width, head = layer.self_attn.q_proj.in_features, layer.self_attn.head_dim
    dtype = layer.input_layernorm.weight.dtype
    hidden = torch.randn(1, tokens, width, generator=generator).to(dtype)
    angle = torch.rand(1, tokens, head // 2, generator=generator).mul_(6.0).repeat(1, 1, 2)
    positions = angle.cos().to(dtype), angle.sin().to(dtype)
    mask = torch.full((tokens, tokens), float("-inf"), dtype=dtype).triu_(1)[None, None]
    upstream = torch.randn(1, tokens, width, generator=generator).to(dtype)
    training = layer.training
    layer.eval()
    try:
        with _eager(layer.self_attn.config), torch.enable_grad():
            a, b = hidden.clone().requires_grad_(True), hidden.clone().requires_grad_(True)
            stock = layer.forward(a, attention_mask=mask, position_embeddings=positions)
            fused = _fused_forward(layer, b, positions, _PROBE)
            (d_stock,) = torch.autograd.grad(stock, a, upstream)
            (d_fused,) = torch.autograd.grad(fused, b, upstream)
    # A layer of another make may refuse this call in any way it likes; it then keeps its own forward.
    except Exception:
        return False
    finally:
        layer.train(training)
    return _close(fused, stock) and _close(d_fused, d_stock)


def _close(ours: torch.Tensor, stock: torch.Tensor) -> bool:
    tolerance = _TOLERANCE if stock.dtype == torch.float32 else 0.05
    return ours.shape == stock.shape and bool((ours - stock).abs().max() <= tolerance * stock.abs().max())


@contextlib.contextmanager
def _eager(config: Any) -> Iterator[None]:
    chosen = config._attn_implementation
    config._attn_implementation = "eager"
    try:
        yield
    finally:
        config._attn_implementation = chosen
