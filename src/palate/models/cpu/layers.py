"""Decoder layers of Llama's form (2302.13971) with fewer passes over memory: `apply_fused(model)` after loading.

A layer is recognised by its parts and then tested: it is replaced only if it gives the original layer's outputs and
gradients on random input, so an architecture with a variation (a scaled residual, a norm of 1 + w, a layer without
positions) keeps its forward. Modules, parameter names and checkpoints stay the same. Only the layer's class gets a
`forward` for packed rows on a CPU; every other call goes to the original one.

LoRA adapters are computed inside the fused layer. A layer with anything else in it (dropout before an adapter, DoRA,
several adapters at once, hooks) runs its original forward.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from palate.models.attention.cpu import segments
from palate.models.cpu.projection import Projection, hooked, projection_of
from palate.models.cpu.sublayers import Attention, GatedMlp, rms_eps, sublayer
from palate.models.frozen import float_products
from palate.models.upstream import CALL_ERRORS, changed, evaluating
from palate.text.batch import Layout, Span

PARTS = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP = ("gate_proj", "up_proj", "down_proj")
_PROBE = Layout((Span(0, 13, ()),))
_TOLERANCE = 1e-4
_CLASSES: dict[type[nn.Module], type[nn.Module]] = {}


class FusedDecoderLayer(nn.Module):
    """Mixed into the class of a recognised layer by `apply_fused`."""

    def forward(self, hidden_states: Tensor, *args: Any, layout: Layout | None = None, **kwargs: Any) -> Tensor:
        """[1, T, d] from [1, T, d]; a call without a packed row on a CPU goes to the original forward."""
        positions = kwargs.get("position_embeddings")
        # transformers calls layers by keyword; positional arguments would be a mask or a cache.
        packed = layout is not None and not args and _runs_fused(self, hidden_states, kwargs)
        maps = projections(self) if packed else None
        if layout is None or positions is None or maps is None:
            extra = kwargs if layout is None else {**kwargs, "layout": layout}
            original: Tensor = super().forward(hidden_states, *args, **extra)
            return original
        return _fused_forward(self, hidden_states, positions, layout, maps)


def apply_fused(model: nn.Module) -> list[str]:
    """Give every layer that passes the test its fused forward, before PEFT or accelerate wrap the model.

    Returns the names of these layers. Calls on other devices, with a cache or without a packed layout are not affected.
    """
    fused: list[str] = []
    for name, module in model.named_modules():
        if not isinstance(module, FusedDecoderLayer) and _recognised(module) and _equals_original(module):
            original = type(module)
            if original not in _CLASSES:
                # With the same name, because FSDP policies find layers by class name.
                names = {"__module__": original.__module__}
                _CLASSES[original] = type(original.__name__, (FusedDecoderLayer, original), names)
            module.__class__ = _CLASSES[original]
            fused.append(name)
    return fused


def has_llama_parts(layer: Any) -> bool:
    """Whether the layer consists of exactly Llama's parts, LoRA allowed, without hooks between them."""
    if set(layer._modules) != PARTS:
        return False
    attention, mlp = layer.self_attn, layer.mlp
    for module, names, optional in ((attention, ATTENTION, set()), (mlp, MLP, {"act_fn"})):
        if module._parameters or not set(names) <= set(module._modules) <= {*names, *optional}:
            return False
    if not isinstance(getattr(attention, "scaling", None), float):
        return False
    return isinstance(getattr(attention, "head_dim", None), int) and projections(layer) is not None


def _recognised(layer: Any) -> bool:
    """Whether the layer can be tested: it has Llama's parts, on the CPU, in float32 or bf16."""
    if not has_llama_parts(layer) or not hasattr(layer.self_attn, "config"):
        return False
    return all(p.device.type == "cpu" and p.dtype in (torch.float32, torch.bfloat16) for p in layer.parameters())


def projections(layer: Any) -> tuple[list[Projection], list[Projection]] | None:
    """The current linear maps of attention and MLP; None if the layer has anything but these and two plain norms."""
    if not all(map(plain_norm, (layer.input_layernorm, layer.post_attention_layernorm))):
        return None
    found = []
    for module, names in ((layer.self_attn, ATTENTION), (layer.mlp, MLP)):
        # An adapter may have replaced the whole module, and with it the linear layers.
        maps = [projection_of(getattr(module, name, None)) for name in names]
        known = [linear for linear in maps if linear is not None]
        if hooked(module) or len(known) < len(names):
            return None
        found.append(known)
    return found[0], found[1]


def plain_norm(norm: Any) -> bool:
    """Whether the norm has a weight and an epsilon only, without hooks."""
    return rms_eps(norm) is not None and set(norm._parameters) == {"weight"} and not norm._modules and not hooked(norm)


def _runs_fused(layer: Any, hidden: Tensor, kwargs: dict[str, Any]) -> bool:
    if any(kwargs.get(name) is not None for name in ("attention_mask", "past_key_values", "cache")):
        return False
    if hidden.device.type != "cpu" or hidden.shape[0] != 1 or kwargs.get("output_attentions"):
        return False
    return not (layer.training and getattr(layer.self_attn, "attention_dropout", 0.0))


def _fused_forward(
    layer: Any, hidden: Tensor, positions: tuple[Tensor, Tensor], layout: Layout, maps: Sequence[list[Projection]]
) -> Tensor:
    """[1, T, d] from hidden [1, T, d] and positions (cos, sin), [1, T, head width] each."""
    cos, sin = (p[0].float() for p in positions)
    attention = Attention(cos, sin, segments(layout), layer.self_attn.scaling, torch.is_grad_enabled())
    x = sublayer(hidden[0], layer.input_layernorm, maps[0], attention)
    return sublayer(x, layer.post_attention_layernorm, maps[1], GatedMlp())[None]


def _equals_original(layer: Any) -> bool:
    """Whether the fused forward gives the original layer's outputs and input gradients on random input."""
    maps = projections(layer)
    if maps is None:
        return False
    tokens = _PROBE.tokens
    generator = torch.Generator().manual_seed(0)
    width, head = layer.self_attn.q_proj.in_features, layer.self_attn.head_dim
    dtype = layer.input_layernorm.weight.dtype
    hidden = torch.randn(1, tokens, width, generator=generator).to(dtype)
    angle = torch.rand(1, tokens, head // 2, generator=generator).mul_(6.0).repeat(1, 1, 2)
    positions = angle.cos().to(dtype), angle.sin().to(dtype)
    mask = torch.full((tokens, tokens), float("-inf"), dtype=dtype).triu_(1)[None, None]
    upstream = torch.randn(1, tokens, width, generator=generator).to(dtype)
    try:
        eager = changed(layer.self_attn.config, _attn_implementation="eager")
        with evaluating(layer), eager, float_products(), torch.enable_grad():
            a, b = hidden.clone().requires_grad_(True), hidden.clone().requires_grad_(True)
            original = layer.forward(a, attention_mask=mask, position_embeddings=positions)
            fused = _fused_forward(layer, b, positions, _PROBE, maps)
            (d_original,) = torch.autograd.grad(original, a, upstream)
            (d_fused,) = torch.autograd.grad(fused, b, upstream)
    except CALL_ERRORS:  # the original forward takes other arguments, so the layer keeps it
        return False
    return _close(fused, original) and _close(d_fused, d_original)


def _close(ours: Tensor, original: Tensor) -> bool:
    tolerance = _TOLERANCE if original.dtype == torch.float32 else 0.05
    return ours.shape == original.shape and bool((ours - original).abs().max() <= tolerance * original.abs().max())
