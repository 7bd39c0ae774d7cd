"""A kernel of packed rows against tree attention on random numbers, for one kind of layers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from palate.models.attention.interface import TreeMask
from palate.models.attention.kernels import ATTENTION_FUNCTIONS
from palate.models.attention.tree import TREE
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


@contextlib.contextmanager
def attention_calls(kernel: str, calls: list[LayerCall]) -> Iterator[None]:
    """Inside, adds to `calls` how a model calls the attention function with this name."""
    function = ATTENTION_FUNCTIONS[kernel]

    def noted(module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **kwargs: Any) -> Any:
        heads = query.shape[1], key.shape[1], query.shape[-1], value.shape[-1]
        calls.append(LayerCall(*heads, attention_mask, kwargs.get("scaling"), kwargs.get("softcap")))
        return function(module, query, key, value, attention_mask, **kwargs)

    AttentionInterface.register(kernel, noted)
    try:
        yield
    finally:
        AttentionInterface.register(kernel, function)


def kernel_differs(kernel: str, call: LayerCall, device: torch.device, *, backward: bool) -> str:
    """Why a kernel is not equal to tree attention in float32, forward and with `backward`; empty if it is."""
    half = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else torch.float32
    generator = torch.Generator().manual_seed(0)

    def random(heads: int, width: int) -> Tensor:
        # Both sides get the same rounded numbers.
        return torch.randn(1, heads, _ROW.tokens, width, generator=generator).to(half).to(device)

    shapes = (call.heads, call.width), (call.key_heads, call.width), (call.key_heads, call.value_width)
    inputs = [random(*shape) for shape in shapes]
    upstream = random(call.heads, call.value_width).transpose(1, 2)
    found = _with_gradients(ATTENTION_FUNCTIONS[kernel], call, inputs, upstream, backward=backward)
    with torch.autocast(device.type, enabled=False):
        tree = ATTENTION_FUNCTIONS[TREE]
        expected = _with_gradients(tree, call, [one.float() for one in inputs], upstream.float(), backward=backward)
    names = ("outputs", "gradients of queries", "gradients of keys", "gradients of values")
    for name, ours, theirs in zip(names, found, expected, strict=False):
        share = float((ours.float() - theirs).norm() / theirs.norm())
        if not share <= _LIMITS.get(half, _LIMIT):
            return f"its {name} differ from those of attention: tree by {share:.1%} for {call}"
    return ""


def _with_gradients(
    attention: Callable[..., Any], call: LayerCall, inputs: Any, upstream: Tensor, *, backward: bool
) -> list[Tensor]:
    """The output [1, T, heads, d_v], and the gradients of query, key and value."""
    leaves = [one.detach().requires_grad_(backward) for one in inputs]
    with torch.set_grad_enabled(backward):
        options = {"layout": _ROW, "scaling": call.scaling, "softcap": call.softcap}
        out = attention(nn.Identity(), *leaves, call.mask, **options)[0]
        gradients = torch.autograd.grad(out, leaves, upstream.to(out.dtype)) if backward else ()
    return [out.detach(), *gradients]
