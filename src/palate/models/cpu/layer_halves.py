"""The two halves of a Llama layer, x + o(attention(norm x)) and x + down(silu(gate) · up)(norm x), each twice.

`attention_half` and `mlp_half` are one autograd node each: they save the residual stream and the projections, compute
the norm and the activation again in backward, and give no gradient to what is frozen. `attention_pieces` and
`mlp_pieces` compute the same around linear layers that must be called as modules (`models.cpu.projection` says which).

Under autocast, matrix products run in its dtype and the residual stream keeps its own, as in the stock layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from palate.models.attention.cpu import Segment, tree_backward, tree_forward
from palate.models.casts import compute_dtype
from palate.models.cpu import kernels
from palate.models.cpu.projection import TENSORS, Projection, flatten, input_gradient, unflatten

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
    linear: Sequence[Projection],
    cos: torch.Tensor,
    sin: torch.Tensor,
    parts: Sequence[Segment],
    scaling: float,
) -> torch.Tensor:
    """x + o(tree attention(rotate(q, k), v)) of the norm of x: [T, d] from [T, d].

    Args:
        norm: [d], RMSNorm's weight, with its `eps`.
        linear: the maps q, k, v and o.
        cos, sin: float32 [T, head width].
        parts: the packed row's segments.
        scaling: factor of the scores.
    """
    tree = _Tree(cos, sin, parts, scaling, torch.is_grad_enabled())
    rest = (eps, tree, compute_dtype(x, linear[0].weight), [part.scale for part in linear])
    return _AttentionHalf.apply(x, norm, *rest, *flatten(linear))  # type: ignore[no-any-return,no-untyped-call]


def mlp_half(x: torch.Tensor, norm: torch.Tensor, eps: float, linear: Sequence[Projection]) -> torch.Tensor:
    """x + down(silu(gate) · up) of the norm of x: [T, d] from [T, d]; `linear` are gate, up and down."""
    rest = (eps, compute_dtype(x, linear[0].weight), [part.scale for part in linear])
    return _MlpHalf.apply(x, norm, *rest, *flatten(linear))  # type: ignore[no-any-return,no-untyped-call]


class _AttentionHalf(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        norm: torch.Tensor,
        eps: float,
        tree: _Tree,
        dtype: torch.dtype,
        scales: Sequence[float],
        *tensors: torch.Tensor | None,
    ) -> torch.Tensor:
        *inner, outer = unflatten(tensors, scales)
        with torch.autocast("cpu", enabled=False):
            scale = kernels.rms_scale(x, eps)
            n = kernels.rms_norm(x, scale, norm, dtype)
            q, k, v = (part.forward(n, dtype) for part in inner)
            q, k, v = _heads(q, k, v, tree)
            out, kept = tree_forward(q, k, v, tree.parts, tree.scaling, tree.keep)
            out = out.flatten(1)
            y = x + outer.forward(out, dtype)
        ctx.save_for_backward(x, norm, scale, q, k, v, out, *tensors, *kept)
        ctx.rest = (tree, dtype, scales)
        return y

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Grads:
        tree, dtype, scales = ctx.rest
        x, norm, scale, q, k, v, out, *more = ctx.saved_tensors
        count = TENSORS * len(scales)
        *inner, outer = unflatten(more[:count], scales)
        needs_x, needs_norm = ctx.needs_input_grad[:2]
        needs = ctx.needs_input_grad[-count:]
        with torch.autocast("cpu", enabled=False):
            dy = grad.to(dtype)
            low = outer.lowered(dy, dtype)
            heads = input_gradient([outer], [dy], [low], dtype).view(len(dy), *_head_shape(q))
            grads = _unheads(*tree_backward(heads, q, k, v, tree.parts, tree.scaling, more[count:]), tree, dtype)
            d_outer = outer.gradients(dy, low, out, needs[-TENSORS:], dtype)
            saved = (x, scale, norm)
            d_x, d_norm, d_inner = _inputs_backward(inner, grads, saved, grad, (needs_x, needs_norm), needs, dtype)
        return d_x, d_norm, None, None, None, None, *d_inner, *d_outer


class _MlpHalf(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        norm: torch.Tensor,
        eps: float,
        dtype: torch.dtype,
        scales: Sequence[float],
        *tensors: torch.Tensor | None,
    ) -> torch.Tensor:
        *inner, outer = unflatten(tensors, scales)
        with torch.autocast("cpu", enabled=False):
            scale = kernels.rms_scale(x, eps)
            n = kernels.rms_norm(x, scale, norm, dtype)
            gate, up = (part.forward(n, dtype) for part in inner)
            del n
            y = x + outer.forward(kernels.swiglu(gate, up), dtype)
        ctx.save_for_backward(x, norm, scale, gate, up, *tensors)
        ctx.rest = (dtype, scales)
        return y

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Grads:
        dtype, scales = ctx.rest
        x, norm, scale, gate, up, *tensors = ctx.saved_tensors
        *inner, outer = unflatten(tensors, scales)
        needs_x, needs_norm = ctx.needs_input_grad[:2]
        needs = ctx.needs_input_grad[-len(tensors) :]
        with torch.autocast("cpu", enabled=False):
            dy = grad.to(dtype)
            low = outer.lowered(dy, dtype)
            d_hidden = input_gradient([outer], [dy], [low], dtype)
            hidden, *grads = kernels.swiglu_backward(d_hidden, gate, up)
            d_outer = outer.gradients(dy, low, hidden, needs[-TENSORS:], dtype)
            del hidden
            saved = (x, scale, norm)
            d_x, d_norm, d_inner = _inputs_backward(inner, grads, saved, grad, (needs_x, needs_norm), needs, dtype)
        return d_x, d_norm, None, None, None, *d_inner, *d_outer


def _inputs_backward(
    projections: Sequence[Projection],
    grads: Sequence[torch.Tensor],
    saved: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    residual: torch.Tensor,
    needs_norm: tuple[bool, bool],
    needs: Sequence[bool],
    dtype: torch.dtype,
) -> tuple[torch.Tensor | None, torch.Tensor | None, list[torch.Tensor | None]]:
    """Back through the maps that read the norm, the norm, and the residual beside it.

    Args:
        projections: the maps, with the gradients of their outputs, [T, out] each.
        saved: x, scale and weight of the norm.
        residual: gradient of the half's output.
        needs_norm: whether x and the norm's weight need gradients.
        needs: the same for the maps' tensors, TENSORS for each.

    Returns:
        Gradients of x, of the norm's weight, and of the maps' tensors.
    """
    x, scale, norm = saved
    lows = [part.lowered(grad, dtype) for part, grad in zip(projections, grads, strict=True)]
    needs = needs[: TENSORS * len(projections)]
    n = kernels.rms_norm(x, scale, norm, dtype) if any(needs) else None
    own = [
        tensor
        for i, part in enumerate(projections)
        for tensor in part.gradients(grads[i], lows[i], n, needs[i * TENSORS : (i + 1) * TENSORS], dtype)
    ]
    if not any(needs_norm):
        return None, None, own
    d_normed = input_gradient(projections, grads, lows, dtype)
    d_x, d_norm = kernels.rms_norm_backward(d_normed, x, scale, norm, needs_norm[1])
    return (d_x.add_(residual).to(x.dtype) if needs_norm[0] else None), d_norm, own


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
