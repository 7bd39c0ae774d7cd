"""The two sub-layers of a Llama layer: x + o(attention(norm x)) and x + down(silu(gate) · up)(norm x).

Each is one autograd node. It saves the residual stream and the projections, computes the norm (RMSNorm, 1910.07467) and
the activation (SwiGLU, 2002.05202) again in backward, and computes no gradient of frozen tensors.

Under autocast, matrix products run in its dtype and the residual stream keeps its own, as in the original layers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from palate.models.attention.cpu import Segment, tree_backward, tree_forward
from palate.models.cpu import kernels
from palate.models.cpu.projection import TENSORS, Projection, flatten, input_gradient, unflatten
from palate.models.precision import compute_dtype


class Attention(NamedTuple):
    """Tree attention of rotated q and k, and v, of a packed row.

    Attributes:
        cos, sin: float32 [T, head width].
        scaling: factor on the scores.
        keep: whether the probabilities are saved for backward.
    """

    cos: Tensor
    sin: Tensor
    parts: Sequence[Segment]
    scaling: float
    keep: bool

    def forward(self, projected: Iterable[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """The input [T, H·d] of o from the outputs [T, heads · d] of q, k and v, and what backward needs."""
        q, k, v = projected
        q, k = (kernels.rotate(flat, self.cos, self.sin) for flat in (q, k))
        v = kernels.heads_first(v, self.cos.shape[-1])
        out, kept = tree_forward(q, k, v, self.parts, self.scaling, self.keep)
        out = out.flatten(1)
        return out, [out, q, k, v, *kept]

    def backward(self, grad: Tensor, saved: Sequence[Tensor], dtype: torch.dtype) -> tuple[Tensor, list[Tensor]]:
        """The input of o, and the gradients of the outputs of q, k and v, from the gradient of that input."""
        out, q, k, v, *kept = saved
        heads = grad.view(len(grad), len(q), q.shape[-1])
        *d_rotated, d_v = tree_backward(heads, q, k, v, self.parts, self.scaling, kept)
        grads = [kernels.rotate_backward(rotated, self.cos, self.sin, dtype) for rotated in d_rotated]
        return out, [*grads, kernels.heads_last(d_v, dtype)]


class GatedMlp:
    """silu(gate) · up."""

    def forward(self, projected: Iterable[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """The input [T, f] of down from the outputs [T, f] of gate and up, and what backward needs."""
        gate, up = projected
        return kernels.swiglu(gate, up), [gate, up]

    def backward(self, grad: Tensor, saved: Sequence[Tensor], dtype: torch.dtype) -> tuple[Tensor, list[Tensor]]:
        """The input of down, and the gradients of the outputs of gate and up, from the gradient of that input."""
        del dtype
        hidden, *grads = kernels.swiglu_backward(grad, *saved)
        return hidden, grads


def sublayer(x: Tensor, norm: nn.Module, linear: Sequence[Projection], core: Attention | GatedMlp) -> Tensor:
    """x + outer(core(inner maps of the norm of x)): [T, d] from [T, d].

    Args:
        norm: an RMSNorm that `rms_eps` knows.
        linear: the inner maps (q, k and v, or gate and up) and the outer one (o, or down), weights [out, in].
    """
    rest = (rms_eps(norm) or 0.0, core, compute_dtype(x, linear[0].weight), [part.scale for part in linear])
    return _Sublayer.apply(x, norm.weight, *rest, *flatten(linear))  # type: ignore[no-any-return,no-untyped-call]


def rms_eps(norm: Any) -> float | None:
    """The norm's epsilon, or None if the module has none."""
    for name in ("variance_epsilon", "eps"):
        if isinstance(getattr(norm, name, None), float):
            return float(getattr(norm, name))
    return None


class _Sublayer(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        norm: Tensor,
        eps: float,
        core: Attention | GatedMlp,
        dtype: torch.dtype,
        scales: Sequence[float],
        *tensors: Tensor | None,
    ) -> Tensor:
        *inner, outer = unflatten(tensors, scales)
        with torch.autocast("cpu", enabled=False):
            scale = kernels.rms_scale(x, eps)
            n = kernels.rms_norm(x, scale, norm, dtype)
            # A generator: the core frees each output when it has used it.
            hidden, saved = core.forward(part.forward(n, dtype) for part in inner)
            del n
            y = x + outer.forward(hidden, dtype)
        ctx.save_for_backward(x, norm, scale, *tensors, *saved)
        ctx.rest = (core, dtype, scales)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        core, dtype, scales = ctx.rest
        x, norm, scale, *more = ctx.saved_tensors
        count = TENSORS * len(scales)
        *inner, outer = unflatten(more[:count], scales)
        needs_x, needs_norm = ctx.needs_input_grad[:2]
        needs = ctx.needs_input_grad[-count:]
        d_x = d_norm = None
        with torch.autocast("cpu", enabled=False):
            dy = grad.to(dtype)
            low = outer.lowered(dy, dtype)
            hidden, grads = core.backward(input_gradient([outer], [dy], [low], dtype), more[count:], dtype)
            d_outer = outer.gradients(dy, low, hidden, needs[-TENSORS:], dtype)
            del hidden
            lows = [part.lowered(one, dtype) for part, one in zip(inner, grads, strict=True)]
            n = kernels.rms_norm(x, scale, norm, dtype) if any(needs[:-TENSORS]) else None
            d_inner = [
                tensor
                for i, part in enumerate(inner)
                for tensor in part.gradients(grads[i], lows[i], n, needs[i * TENSORS : (i + 1) * TENSORS], dtype)
            ]
            if needs_x or needs_norm:
                d_normed = input_gradient(inner, grads, lows, dtype)
                d_x, d_norm = kernels.rms_norm_backward(d_normed, x, scale, norm, needs_norm)
                d_x = d_x.add_(grad).to(x.dtype) if needs_x else None
        return d_x, d_norm, None, None, None, None, *d_inner, *d_outer
