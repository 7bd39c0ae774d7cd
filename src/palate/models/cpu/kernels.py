"""Parts of a decoder layer as functions with hand-written gradients: RMSNorm, rotary positions, gated MLP.

They read and write memory as few times as PyTorch's own operations allow, and need no compiler. `models.cpu.layers`
builds layers of them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def rms_scale(x: Tensor, eps: float) -> Tensor:
    """1 / √(mean x² + eps) per row: float32 [T, 1] from [T, d]."""
    norm: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
    return norm.square_().mul_(1.0 / x.shape[-1]).add_(eps).rsqrt_()


def rms_norm(x: Tensor, scale: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
    """weight · x · scale [T, d] in `dtype`, of x [T, d] and scale [T, 1]; rounded to x's dtype first, as in Llama."""
    normed = (x * scale).to(x.dtype)
    return (normed.mul_(weight) if normed.dtype == weight.dtype else normed * weight).to(dtype)


def rms_norm_backward(
    grad: Tensor, x: Tensor, scale: Tensor, weight: Tensor, weight_trains: bool
) -> tuple[Tensor, Tensor | None]:
    """(d loss / d x float32 [T, d], d loss / d weight float32 [d] or None) from `grad` [T, d] of any dtype."""
    w = weight.float()
    normed = x * scale
    g = grad.to(torch.float32, copy=True)
    product = normed * g
    d_weight = product.sum(0) if weight_trains else None
    # The norm ignores a row's length, so the gradient along the row is removed.
    along = torch.mv(product, w).mul_(-1.0 / x.shape[-1])
    g.mul_(w).addcmul_(normed, along[:, None]).mul_(scale)
    return g, d_weight


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions (2104.09864): [H, T, d] from a projection x [T, H·d], in x's dtype, computed in float32.

    cos, sin: float32 [T, d], of Llama's half-split form.
    """
    half = cos.shape[-1] // 2
    heads = x.view(x.shape[0], -1, cos.shape[-1]).transpose(0, 1)
    y = heads.to(torch.float32, memory_format=torch.contiguous_format)
    out = y * cos
    out[..., :half].addcmul_(y[..., half:], sin[:, :half], value=-1)
    out[..., half:].addcmul_(y[..., :half], sin[:, half:])
    return out.to(x.dtype)


def rotate_backward(grad: Tensor, cos: Tensor, sin: Tensor, dtype: torch.dtype) -> Tensor:
    """Gradient of `rotate`: [T, H·d] in `dtype` from `grad` [H, T, d]. The inverse rotation: signs of sin change."""
    half = cos.shape[-1] // 2
    g = grad.float()
    out = g * cos
    out[..., :half].addcmul_(g[..., half:], sin[:, half:])
    out[..., half:].addcmul_(g[..., :half], sin[:, :half], value=-1)
    return heads_last(out, dtype)


def heads_first(x: Tensor, width: int) -> Tensor:
    """[H, T, d] contiguous from [T, H·d]."""
    return x.view(x.shape[0], -1, width).transpose(0, 1).contiguous()


def heads_last(x: Tensor, dtype: torch.dtype) -> Tensor:
    """[T, H·d] contiguous in `dtype` from [H, T, d]."""
    return x.transpose(0, 1).to(dtype, memory_format=torch.contiguous_format).flatten(1)


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) · up (SwiGLU, 2002.05202), all [T, f]."""
    return F.silu(gate).mul_(up)


def swiglu_backward(grad: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(silu(gate) · up again, d loss / d gate, d loss / d up), all [T, f]. `grad` is overwritten."""
    activated = F.silu(gate)
    d_up = grad * activated
    d_gate = torch.ops.aten.silu_backward(grad.mul_(up), gate)
    return activated.mul_(up), d_gate, d_up
