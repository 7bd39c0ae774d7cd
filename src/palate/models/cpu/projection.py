"""A linear map of a fused layer: a weight, and optionally a LoRA adapter (2106.09685).

y = x Wᵀ + b + scale · (x Aᵀ) Bᵀ. The adapter's backward needs only x, which the layer has or computes again, so nothing
is saved for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn

TENSORS = 4
"""Number of tensors of a projection, None included."""


class Projection(NamedTuple):
    """Tensors of one linear map.

    Attributes:
        weight: W [out, in].
        bias: b [out], or None.
        down: the adapter's A [r, in], or None without an adapter.
        up: the adapter's B [out, r], or None.
        scale: the adapter's scale.
    """

    weight: Tensor
    bias: Tensor | None = None
    down: Tensor | None = None
    up: Tensor | None = None
    scale: float = 1.0

    def forward(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """[T, out] from [T, in], both in `dtype`."""
        y = F.linear(x, self.weight.to(dtype), None if self.bias is None else self.bias.to(dtype))
        if self.down is not None and self.up is not None:
            y.addmm_(F.linear(x, self.down.to(dtype)), self.up.to(dtype).T, alpha=self.scale)
        return y

    def lowered(self, grad: Tensor, dtype: torch.dtype) -> Tensor | None:
        """Gradient of the adapter's inner product x Aᵀ: scale · grad B [T, r]; None without an adapter."""
        return None if self.up is None else (grad @ self.up.to(dtype)).mul_(self.scale)

    def gradients(
        self, grad: Tensor, low: Tensor | None, x: Tensor | None, needs: Sequence[bool], dtype: torch.dtype
    ) -> tuple[Tensor | None, ...]:
        """Gradients of weight, bias, A and B; None for those that are not needed.

        Args:
            grad: gradient of the output, [T, out].
            low: `lowered(grad)`, [T, r].
            x: the input [T, in]; may be None if only the bias trains.
            needs: which of the four train.
        """
        d_weight = grad.T @ x if needs[0] and x is not None else None
        d_bias = grad.sum(0) if needs[1] else None
        d_down = low.T @ x if needs[2] and low is not None and x is not None else None
        d_up = None
        if needs[3] and self.down is not None and x is not None:
            d_up = grad.T @ F.linear(x, self.down.to(dtype)).mul_(self.scale)
        return d_weight, d_bias, d_down, d_up


def input_gradient(
    projections: Sequence[Projection], grads: Sequence[Tensor], lows: Sequence[Tensor | None], dtype: torch.dtype
) -> Tensor:
    """Gradient [T, in] of the input that all projections share; grads [T, out] each, lows [T, r] each."""
    total = grads[0] @ projections[0].weight.to(dtype)
    for grad, projection in zip(grads[1:], projections[1:], strict=True):
        total.addmm_(grad, projection.weight.to(dtype))
    for low, projection in zip(lows, projections, strict=True):
        if low is not None and projection.down is not None:
            total.addmm_(low, projection.down.to(dtype))
    return total


def flatten(projections: Iterable[Projection]) -> list[Tensor | None]:
    """All tensors in a flat list, because an autograd Function tracks only tensors that are its own arguments."""
    return [tensor for part in projections for tensor in (part.weight, part.bias, part.down, part.up)]


def unflatten(tensors: Sequence[Any], scales: Sequence[float]) -> list[Projection]:
    """The inverse of `flatten`."""
    return [Projection._make([*tensors[i * TENSORS : (i + 1) * TENSORS], scale]) for i, scale in enumerate(scales)]


def projection_of(module: Any) -> Projection | None:
    """The map that the module computes now, or None if `Projection` cannot express it.

    Not expressed: hooks, dropout before an adapter, several active adapters, DoRA and similar variants, other wrappers.
    """
    if type(module) is nn.Linear:
        return None if hooked(module) else Projection(module.weight, module.bias)
    if type(module) is not LoraLinear or hooked(module):
        return None
    base = module.base_layer
    if type(base) is not nn.Linear or hooked(base) or module.merged:
        return None
    adapters = [name for name in module.active_adapters if name in module.lora_A]
    if module.disable_adapters or not adapters:
        return Projection(base.weight, base.bias)
    return _adapted(module, base, adapters[0]) if len(adapters) == 1 else None


def _adapted(module: Any, base: nn.Linear, adapter: str) -> Projection | None:
    """The map of a linear layer with one LoRA adapter; None with active dropout or a LoRA variant."""
    down, up, dropout = module.lora_A[adapter], module.lora_B[adapter], module.lora_dropout[adapter]
    drops = isinstance(dropout, nn.Dropout) and dropout.training and dropout.p > 0
    plain = all(type(part) is nn.Linear and part.bias is None and not hooked(part) for part in (down, up))
    if drops or not isinstance(dropout, nn.Dropout | nn.Identity) or not plain or adapter in module.lora_variant:
        return None
    return Projection(base.weight, base.bias, down.weight, up.weight, float(module.scaling[adapter]))


def hooked(module: Any) -> bool:
    """Whether calling the module runs more than the forward of its class."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return any(hooks) or "forward" in module.__dict__
