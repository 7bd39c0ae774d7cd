"""A kernel of packed rows against tree attention on random numbers, for one kind of layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from palate.models.attention.mask import TreeMask
from palate.text.batch import Layout, Span

# Completions of different lengths, one group with one of them: kernels that align queries and keys to the upper left
# instead of the lower right differ.
_ROW = Layout((Span(0, 9, (6, 4, 7)), Span(26, 5, (8,)), Span(39, 3, (2, 5))))

# Root mean square difference relative to the expected numbers. A wrong key changes them by about 1.
_LIMITS = {torch.bfloat16: 0.03, torch.float16: 0.01}
_LIMIT = 1e-3


@dataclass(frozen=True, slots=True)
class LayerCall:
    """How a model calls its attention, for one kind of layers.

    Attributes:
        heads, key_heads: numbers of query and key heads.
        width, value_width: of queries and keys, and of values.
        mask: the layers' rule, which knows any row; None if causal.
        scaling, softcap: as in `attention.interface.AttentionCall`.
    """

    heads: int
    key_heads: int
    width: int
    value_width: int
    mask: TreeMask | None
    scaling: float | None
    softcap: float | None

    def __str__(self) -> str:
        window = ", with its mask" if self.mask is not None else ""
        return f"{self.heads} query and {self.key_heads} key heads of width {self.width}{window}"


def kernel_differs(
    kernel: Callable[..., Any], tree: Callable[..., Any], call: LayerCall, device: torch.device, *, backward: bool
) -> str:
    """Why a kernel is not equal to tree attention, forward and backward; empty if it is.

    Args:
        kernel, tree: registered attention functions; `tree` computes in float32.
        call: what both compute.
        backward: compare gradients too.
    """
    half = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else torch.float32
    generator = torch.Generator().manual_seed(0)

    def random(heads: int, width: int) -> torch.Tensor:
        # Both sides get the same rounded numbers.
        return torch.randn(1, heads, _ROW.tokens, width, generator=generator).to(half).to(device)

    inputs = (
        random(call.heads, call.width),
        random(call.key_heads, call.width),
        random(call.key_heads, call.value_width),
    )
    upstream = random(call.heads, call.value_width).transpose(1, 2)
    found = _with_gradients(kernel, call, inputs, upstream, backward=backward)
    with torch.autocast(device.type, enabled=False):
        expected = _with_gradients(tree, call, [one.float() for one in inputs], upstream.float(), backward=backward)
    names = ("outputs", "gradients of queries", "gradients of keys", "gradients of values")
    for name, ours, theirs in zip(names, found, expected, strict=False):
        share = float((ours.float() - theirs).norm() / theirs.norm())
        if not share <= _LIMITS.get(half, _LIMIT):
            return f"its {name} differ from those of attention: tree by {share:.1%} for {call}"
    return ""


def _with_gradients(
    attention: Callable[..., Any], call: LayerCall, inputs: Any, upstream: torch.Tensor, *, backward: bool
) -> list[torch.Tensor]:
    """The output [1, T, heads, d_v], and the gradients of query, key and value."""
    leaves = [one.detach().requires_grad_(backward) for one in inputs]
    with torch.set_grad_enabled(backward):
        options = {"layout": _ROW, "scaling": call.scaling, "softcap": call.softcap}
        out = attention(nn.Identity(), *leaves, call.mask, **options)[0]
        gradients = torch.autograd.grad(out, leaves, upstream.to(out.dtype)) if backward else ()
    return [out.detach(), *gradients]
