"""The two sub-layers of a Llama layer: x + o(attention(norm x)) and x + down(silu(gate) · up)(norm x).

Each is one autograd node. It saves the residual stream and the projections, computes the norm (RMSNorm, 1910.07467) and
the activation (SwiGLU, 2002.05202) again in backward, and computes no gradient of frozen tensors.

Under autocast, matrix products run in its dtype and the residual stream keeps its own, as in the stock layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from palate.models.attention.cpu import tree_backward, tree_forward
from palate.models.attention.segments import Segment
from palate.models.cpu import kernels
from palate.models.cpu.projection import TENSORS, Projection, flatten, input_gradient, unflatten
from palate.models.precision import compute_dtype

Grads = tuple[torch.Tensor | None, ...]


@dataclass(frozen=True, slots=True)
class _Tree:
    """Arguments of attention that need no gradient: cos, sin [T, d], segments, scaling.

    `keep` saves the probabilities for a backward pass.
    """

    cos: torch.Tensor
    sin: torch.Tensor
    parts: Sequence[Segment]
    scaling: float
    keep: bool


def attention_sublayer(
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
        linear: the maps q, k, v and o, weights [out, in].
        cos, sin: float32 [T, head width].
        scaling: factor on the scores.
    """
    tree = _Tree(cos, sin, parts, scaling, torch.is_grad_enabled())
    rest = (eps, tree, compute_dtype(x, linear[0].weight), [part.scale for part in linear])
    return _AttentionSublayer.apply(x, norm, *rest, *flatten(linear))  # type: ignore[no-any-return,no-untyped-call]


def mlp_sublayer(x: torch.Tensor, norm: torch.Tensor, eps: float, linear: Sequence[Projection]) -> torch.Tensor:
    """x + down(silu(gate) · up) of the norm of x: [T, d] from [T, d]; `linear` are gate, up and down."""
    rest = (eps, compute_dtype(x, linear[0].weight), [part.scale for part in linear])
    return _MlpSublayer.apply(x, norm, *rest, *flatten(linear))  # type: ignore[no-any-return,no-untyped-call]


class _AttentionSublayer(torch.autograd.Function):
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
            q, k = (kernels.rotate(flat, tree.cos, tree.sin) for flat in (q, k))
            v = kernels.heads_first(v, tree.cos.shape[-1])
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
            heads = input_gradient([outer], [dy], [low], dtype).view(len(dy), len(q), q.shape[-1])
            *d_rotated, d_v = tree_backward(heads, q, k, v, tree.parts, tree.scaling, more[count:])
            grads = [kernels.rotate_backward(rotated, tree.cos, tree.sin, dtype) for rotated in d_rotated]
            grads.append(kernels.heads_last(d_v, dtype))
            d_outer = outer.gradients(dy, low, out, needs[-TENSORS:], dtype)
            saved = (x, scale, norm)
            d_x, d_norm, d_inner = _inputs_backward(inner, grads, saved, grad, (needs_x, needs_norm), needs, dtype)
        return d_x, d_norm, None, None, None, None, *d_inner, *d_outer


class _MlpSublayer(torch.autograd.Function):
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
    """Backward through the maps that read the norm, the norm itself, and the residual connection.

    Args:
        projections: the maps that read the norm.
        grads: gradients of their outputs, [T, out] each.
        saved: x [T, d], scale [T, 1] and weight [d] of the norm.
        residual: gradient [T, d] of the sub-layer's output.
        needs_norm: whether x and the norm's weight need gradients.
        needs: the same for the tensors of the maps, TENSORS for each.

    Returns:
        Gradients of x, the norm's weight and the maps' tensors.
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
