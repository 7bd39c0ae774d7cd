"""The two halves of a Llama layer, x + o(attention(norm x)) and x + down(silu(gate) · up)(norm x), each twice.

`attention_half` and `mlp_half` are one autograd node each: they save the residual stream and the projections, compute
the norm and the activation again in backward, and give no gradient to what is frozen. `attention_pieces` and
`mlp_pieces` compute the same around linear layers that are modules of their own (LoRA's).

Under autocast, matrix products run in its dtype and the residual stream keeps its own, as in the stock layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from palate.models import kernels
from palate.models.casts import cast, compute_dtype
from palate.models.span_attention import Segment, tree_backward, tree_forward

Grads = tuple[torch.Tensor | None, ...]


@dataclass(frozen=True, slots=True)
class _Tree:
    """What attention needs beside tensors that may train; `keep` where a backward may come."""

    cos: torch.Tensor
    sin: torch.Tensor
    parts: Sequence[Segment]
    scaling: float
    keep: bool


def attention_half(
    x: torch.Tensor,
    norm: torch.Tensor,
    eps: float,
    linear: Sequence[nn.Linear],
    cos: torch.Tensor,
    sin: torch.Tensor,
    parts: Sequence[Segment],
    scaling: float,
) -> torch.Tensor:
    """x + o(tree attention(rotate(q, k), v)) of the norm of x: [T, d] from [T, d].

    Args:
        norm: [d], RMSNorm's weight, with its `eps`.
        linear: the layers q, k, v and o.
        cos, sin: float32 [T, head width].
        parts: the packed row's segments.
        scaling: factor of the scores.
    """
    weights = [layer.weight for layer in linear]
    biases = [layer.bias for layer in linear]
    tree = _Tree(cos, sin, parts, scaling, torch.is_grad_enabled())
    dtype = compute_dtype(x, weights[0])
    return _AttentionHalf.apply(x, norm, *weights, *biases, eps, tree, dtype)  # type: ignore[no-any-return,no-untyped-call]


def mlp_half(x: torch.Tensor, norm: torch.Tensor, eps: float, linear: Sequence[nn.Linear]) -> torch.Tensor:
    """x + down(silu(gate) · up) of the norm of x: [T, d] from [T, d]; `linear` are gate, up and down."""
    weights = [layer.weight for layer in linear]
    biases = [layer.bias for layer in linear]
    dtype = compute_dtype(x, weights[0])
    return _MlpHalf.apply(x, norm, *weights, *biases, eps, dtype)  # type: ignore[no-any-return,no-untyped-call]


class _AttentionHalf(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, norm: torch.Tensor, *rest: Any) -> torch.Tensor:
        weights, biases, (eps, tree, dtype) = rest[:4], rest[4:8], rest[8:]
        with torch.autocast("cpu", enabled=False):
            scale = kernels.rms_scale(x, eps)
            n = kernels.rms_norm(x, scale, norm, dtype)
            q, k, v = (_linear(n, w, b, dtype) for w, b in zip(weights[:3], biases[:3]))
            q, k, v = _heads(q, k, v, tree)
            out, kept = tree_forward(q, k, v, tree.parts, tree.scaling, tree.keep)
            out = out.flatten(1)
            y = x + _linear(out, weights[3], biases[3], dtype)
        ctx.save_for_backward(x, norm, scale, q, k, v, out, *weights, *kept)
        ctx.rest = (tree, dtype)
        return y

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Grads:
        x, norm, scale, q, k, v, out, *more = ctx.saved_tensors
        weights, kept = more[:4], more[4:]
        tree, dtype = ctx.rest
        needs_x, needs_norm = ctx.needs_input_grad[:2]
        trains_w, trains_b = ctx.needs_input_grad[2:6], ctx.needs_input_grad[6:10]
        with torch.autocast("cpu", enabled=False):
            dy = grad.to(dtype)
            d_out = dy @ cast(weights[3], dtype)
            heads = d_out.view(len(d_out), *_head_shape(q))
            grads = _unheads(*tree_backward(heads, q, k, v, tree.parts, tree.scaling, kept), tree, dtype)
            n = kernels.rms_norm(x, scale, norm, dtype) if any(trains_w[:3]) else None
            outer, inner = (*grads, dy), (n, n, n, out)
            d_weights = [_outer(g, a, need) for g, a, need in zip(outer, inner, trains_w)]
            d_biases = [g.sum(0) if need else None for g, need in zip(outer, trains_b)]
            dx, d_norm = _norm_backward(grads, weights[:3], dtype, (x, scale, norm), grad, needs_x, needs_norm)
        return dx, d_norm, *d_weights, *d_biases, None, None, None


class _MlpHalf(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, norm: torch.Tensor, *rest: Any) -> torch.Tensor:
        weights, biases, (eps, dtype) = rest[:3], rest[3:6], rest[6:]
        with torch.autocast("cpu", enabled=False):
            scale = kernels.rms_scale(x, eps)
            n = kernels.rms_norm(x, scale, norm, dtype)
            gate, up = (_linear(n, w, b, dtype) for w, b in zip(weights[:2], biases[:2]))
            del n
            y = x + _linear(kernels.swiglu(gate, up), weights[2], biases[2], dtype)
        ctx.save_for_backward(x, norm, scale, gate, up, *weights)
        ctx.dtype = dtype
        return y

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Grads:
        x, norm, scale, gate, up, *weights = ctx.saved_tensors
        dtype = ctx.dtype
        needs_x, needs_norm = ctx.needs_input_grad[:2]
        trains_w, trains_b = ctx.needs_input_grad[2:5], ctx.needs_input_grad[5:8]
        with torch.autocast("cpu", enabled=False):
            dy = grad.to(dtype)
            hidden, d_gate, d_up = kernels.swiglu_backward(dy @ cast(weights[2], dtype), gate, up)
            n = kernels.rms_norm(x, scale, norm, dtype) if any(trains_w[:2]) else None
            outer, inner = (d_gate, d_up, dy), (n, n, hidden)
            d_weights = [_outer(g, a, need) for g, a, need in zip(outer, inner, trains_w)]
            d_biases = [g.sum(0) if need else None for g, need in zip(outer, trains_b)]
            dx, d_norm = _norm_backward(outer[:2], weights[:2], dtype, (x, scale, norm), grad, needs_x, needs_norm)
        return dx, d_norm, *d_weights, *d_biases, None, None


def _linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor:
    return F.linear(x, cast(weight, dtype), None if bias is None else cast(bias, dtype))


def _outer(grad: torch.Tensor, x: torch.Tensor | None, needed: bool) -> torch.Tensor | None:
    """A linear layer's weight gradient, where it trains."""
    return grad.T @ x if needed and x is not None else None


def _norm_backward(
    grads: Sequence[torch.Tensor],
    weights: Sequence[torch.Tensor],
    dtype: torch.dtype,
    saved: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    residual: torch.Tensor,
    needs_x: bool,
    needs_norm: bool,
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Back through the linear layers that read the norm, the norm, and the residual beside it."""
    if not needs_x and not needs_norm:
        return None, None
    d_normed = grads[0] @ cast(weights[0], dtype)
    for g, w in zip(grads[1:], weights[1:]):
        d_normed.addmm_(g, cast(w, dtype))
    dx, d_norm = kernels.rms_norm_backward(d_normed, *saved, needs_norm)
    return (dx.add_(residual).to(saved[0].dtype) if needs_x else None), d_norm


def _heads(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, tree: _Tree
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Projections [T, heads · d] as rotated, head-major [heads, T, d]."""
    width = tree.cos.shape[-1]
    return (
        kernels.rotate(q, tree.cos, tree.sin),
        kernels.rotate(k, tree.cos, tree.sin),
        kernels.heads_first(v, width),
    )


def _unheads(
    d_q: torch.Tensor, d_k: torch.Tensor, d_v: torch.Tensor, tree: _Tree, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of `_heads`: [T, heads · d] in `dtype`."""
    return (
        kernels.rotate_backward(d_q, tree.cos, tree.sin, dtype),
        kernels.rotate_backward(d_k, tree.cos, tree.sin, dtype),
        kernels.heads_last(d_v, dtype),
    )


def _head_shape(q: torch.Tensor) -> tuple[int, int]:
    return q.shape[0], q.shape[2]


def attention_pieces(
    x: torch.Tensor,
    norm: nn.Module,
    eps: float | None,
    plain_norm: bool,
    linear: Sequence[Callable[[torch.Tensor], torch.Tensor]],
    cos: torch.Tensor,
    sin: torch.Tensor,
    parts: Sequence[Segment],
    scaling: float,
) -> torch.Tensor:
    """`attention_half` around linear layers that are called as modules."""
    n = _normed(x, norm, eps, plain_norm)
    q, k, v = (layer(n) for layer in linear[:3])
    out = _RotarySpans.apply(q, k, v, _Tree(cos, sin, parts, scaling, torch.is_grad_enabled()))  # type: ignore[no-untyped-call]
    return x + linear[3](out)


def mlp_pieces(
    x: torch.Tensor,
    norm: nn.Module,
    eps: float | None,
    plain_norm: bool,
    linear: Sequence[Callable[[torch.Tensor], torch.Tensor]],
) -> torch.Tensor:
    """`mlp_half` around linear layers that are called as modules."""
    n = _normed(x, norm, eps, plain_norm)
    gate, up, down = linear
    return x + down(_SwiGlu.apply(gate(n), up(n)))  # type: ignore[no-untyped-call]


def _normed(x: torch.Tensor, norm: Any, eps: float | None, plain: bool) -> torch.Tensor:
    if not plain or eps is None:
        return norm(x)  # type: ignore[no-any-return]
    return _RmsNorm.apply(x, norm.weight, eps, compute_dtype(x, norm.weight))  # type: ignore[no-any-return,no-untyped-call]


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, eps: float, dtype: torch.dtype) -> torch.Tensor:
        scale = kernels.rms_scale(x, eps)
        ctx.save_for_backward(x, scale, weight)
        return kernels.rms_norm(x, scale, weight, dtype)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Grads:
        x, scale, weight = ctx.saved_tensors
        dx, d_weight = kernels.rms_norm_backward(grad, x, scale, weight, ctx.needs_input_grad[1])
        return dx, d_weight, None, None


class _RotarySpans(torch.autograd.Function):
    """[T, H · d] from projections q [T, H · d], k and v [T, Hkv · d]."""

    @staticmethod
    def forward(ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, tree: _Tree) -> torch.Tensor:
        with torch.autocast("cpu", enabled=False):
            q, k, v = _heads(q, k, v, tree)
            out, kept = tree_forward(q, k, v, tree.parts, tree.scaling, tree.keep)
        ctx.save_for_backward(q, k, v, *kept)
        ctx.tree = tree
        return out.flatten(1)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Grads:
        q, k, v, *kept = ctx.saved_tensors
        heads = grad.view(len(grad), *_head_shape(q))
        grads = tree_backward(heads, q, k, v, ctx.tree.parts, ctx.tree.scaling, kept)
        return *_unheads(*grads, ctx.tree, q.dtype), None


class _SwiGlu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gate, up)
        return kernels.swiglu(gate, up)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Grads:
        gate, up = ctx.saved_tensors
        _, d_gate, d_up = kernels.swiglu_backward(grad.clone(), gate, up)
        return d_gate, d_up
