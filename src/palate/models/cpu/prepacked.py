"""Linear maps prepared for many calls with few rows: joined, in the compute dtype, in oneDNN's memory layout.

`F.linear` converts a weight to its kernel's layout at every call, which is expensive for the few rows of a decoding
step. Here it happens once. The map has a copy of the weights, so it is valid until they change.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from palate.models.cpu.projection import Projection
from palate.models.precision import native_bf16


def decoding_dtype(autocast: torch.dtype | None, weight: torch.dtype) -> torch.dtype:
    """The dtype of matrix products in decoding on this CPU, for the run's autocast dtype and that of the parameters.

    bf16 if requested and the CPU supports it; otherwise float32, which rounds less.
    """
    wanted = autocast or weight
    return torch.bfloat16 if wanted == torch.bfloat16 and native_bf16() else torch.float32


class PackedLinear:
    """x ↦ [x W₁ᵀ + b₁, x W₂ᵀ + b₂, …] of projections with the same input, as one product.

    LoRA adapters are merged into float32 weights. In bf16 they stay separate products, because small changes of a
    weight would be rounded away.

    Args:
        projections: the maps, in the order of their outputs.
        copy: whether a second copy of the weights is allowed; otherwise they are only cast, and multiplied separately.
        rows: expected rows of a call.
    """

    def __init__(self, projections: Sequence[Projection], dtype: torch.dtype, *, copy: bool, rows: int) -> None:
        self.dtype = dtype
        merge = dtype == torch.float32
        weights = [_merged(part) if merge else part.weight.detach().to(dtype) for part in projections]
        self._bias = _joined_bias(projections, dtype)
        self._low = None if merge else _joined_adapters(projections, dtype)
        self._weights = [torch.cat(weights) if len(weights) > 1 else weights[0]] if copy else weights
        self._packed = _packed(self._weights[0], rows) if copy else None
        if self._packed is not None:
            self._weights = []

    def __call__(self, x: Tensor) -> Tensor:
        """[rows, sum of outs] in the map's dtype from [rows, in] of any dtype."""
        x = x.to(self.dtype)
        if self._packed is not None:
            y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, self._bias, "none", [], "")
        elif len(self._weights) == 1:
            y = F.linear(x, self._weights[0], self._bias)
        else:
            y = torch.cat([F.linear(x, weight) for weight in self._weights], dim=-1)
            if self._bias is not None:
                y += self._bias
        if self._low is not None:
            down, up = self._low
            y.addmm_(F.linear(x, down), up)
        return y


def _merged(part: Projection) -> Tensor:
    """The weight [out, in] in float32, with the LoRA adapter added."""
    weight = part.weight.detach().float()
    if part.down is None or part.up is None:
        return weight
    return torch.addmm(weight, part.up.detach().float(), part.down.detach().float(), alpha=part.scale)


def _joined_bias(projections: Sequence[Projection], dtype: torch.dtype) -> Tensor | None:
    """All biases, [sum of outs], 0 for a projection without one; None if none has one."""
    if all(part.bias is None for part in projections):
        return None
    biases = [part.weight.new_zeros(len(part.weight)) if part.bias is None else part.bias for part in projections]
    return torch.cat([bias.detach().to(dtype) for bias in biases])


def _joined_adapters(projections: Sequence[Projection], dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
    """All adapters' A [sum of r, in], and their scaled Bᵀ as a block diagonal [sum of r, sum of outs]; None without."""
    adapted = [part for part in projections if part.down is not None and part.up is not None]
    if not adapted:
        return None
    down = torch.cat([part.down.detach().to(dtype) for part in adapted if part.down is not None])
    blocks = [
        part.weight.new_zeros(0, len(part.weight), dtype=torch.float32)
        if part.up is None
        else part.up.detach().float().T * part.scale
        for part in projections
    ]
    return down, torch.block_diag(*blocks).to(dtype)  # type: ignore[no-untyped-call]


def _packed(weight: Tensor, rows: int) -> Tensor | None:
    """The weight [out, in] in oneDNN's layout; None if this build or processor has no kernel for it."""
    try:
        packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
        probe = weight.new_ones(2, weight.shape[1])
        got = torch.ops.mkldnn._linear_pointwise(probe, packed, None, "none", [], "")
    except (RuntimeError, AttributeError):  # the operator is missing from this build, or refuses the dtype
        return None
    return packed if torch.allclose(got.float(), F.linear(probe, weight).float(), rtol=0.05, atol=1e-2) else None
