"""The LM head: log-probabilities of the targets from hidden states, in chunks.

No [tokens, vocabulary] tensor outlives a chunk, forward or backward. Log-sum-exp is float32 in every precision.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from palate.models.cpu.head import plain_head_logps
from palate.models.precision import compute_dtype

# Elements of a chunk [rows, vocabulary]: large enough for the matmul's peak rate, small enough for the caches.
CHUNK_ELEMENTS = 1 << 23


@dataclass(frozen=True, slots=True)
class Head:
    """How an architecture turns the last hidden state into logits: softcap(scale · (W h + b)).

    Attributes:
        scale: factor on the logits (Granite divides by `logits_scaling`, Cohere multiplies by `logit_scale` …).
        softcap: c in c·tanh(logits / c) (Gemma 2), or None.
        stock: True if this form is not exact for the model; then its own forward computes the logits.
    """

    scale: float = 1.0
    softcap: float | None = None
    stock: bool = False


def head_of(model: Any) -> Head:
    """The head's transform as the config describes it; the probe at load compares it with the model's own logits."""
    config = model.config.get_text_config()
    scale = 1.0
    if getattr(config, "logits_scaling", None):
        # Granite divides and HyperCLOVAX multiplies under the same key.
        value = float(config.logits_scaling)
        scale = value if "hyperclovax" in config.model_type else 1.0 / value
    for key in ("logit_scale", "lm_head_multiplier"):
        if isinstance(getattr(config, key, None), int | float):
            scale *= float(getattr(config, key))
    softcap = getattr(config, "final_logit_softcapping", None)
    return Head(scale=scale, softcap=float(softcap) if softcap else None)


def dense_logps(logits: torch.Tensor, target_ids: torch.Tensor) -> torch.Tensor:
    """log softmax(logits)[target] per row: float32 [M] from logits [M, V]. The definition, without chunks."""
    return F.log_softmax(logits.float(), dim=-1).gather(-1, target_ids[:, None]).squeeze(-1)


def head_logps(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    target_ids: torch.Tensor,
    *,
    scale: float = 1.0,
    softcap: float | None = None,
) -> torch.Tensor:
    """log softmax(softcap(scale · (h Wᵀ + b)))[target], in chunks.

    Args:
        hidden: [M, H].
        weight: [V, H].
        bias: [V] or None.
        target_ids: int64 [M].
        scale: factor on the logits.
        softcap: bound of the logits.

    Returns:
        float32 [M].
    """
    compute = compute_dtype(hidden, weight)
    if hidden.device.type == "cpu" and scale == 1.0 and softcap is None:
        return plain_head_logps(hidden, weight, bias, target_ids, compute)
    return _HeadLogps.apply(hidden, weight, bias, target_ids, scale, softcap, compute)  # type: ignore[no-any-return,no-untyped-call]


@torch.no_grad()
def head_square_sums(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    *,
    scale: float = 1.0,
    softcap: float | None = None,
) -> torch.Tensor:
    """log Σ_v p_v² of the distribution at each row, float32 [M], in chunks and without gradient.

    Arguments as in `head_logps`. A separate product, because only one modifier (WPO, 2406.11827) reads it.
    """
    compute = compute_dtype(hidden, weight)
    sums = hidden.new_empty(len(hidden), dtype=torch.float32)
    h, w = hidden.to(compute), weight.to(compute)
    b = None if bias is None else bias.to(compute)
    for rows in row_chunks(len(h), len(w)):
        sums[rows] = log_square_sums(_chunk_logits(h[rows], w, b, scale, softcap))
    return sums


def log_square_sums(logits: torch.Tensor) -> torch.Tensor:
    """log Σ softmax(logits)² per row, [M] from float32 [M, V]."""
    return (2.0 * logits).logsumexp(-1) - 2.0 * logits.logsumexp(-1)


class _HeadLogps(torch.autograd.Function):
    """The head on GPUs, and with scaled or capped logits: backward computes each chunk again and saves no logits."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        target_ids: torch.Tensor,
        scale: float,
        softcap: float | None,
        compute: torch.dtype,
    ) -> torch.Tensor:
        h, w = hidden.to(compute), weight.to(compute)
        b = None if bias is None else bias.to(compute)
        ctx.save_for_backward(h, w, b, target_ids)
        ctx.transform = (scale, softcap)
        logps = hidden.new_empty(len(h), dtype=torch.float32)
        for rows in row_chunks(len(h), len(w)):
            logps[rows] = _chunk_logps(h[rows], w, b, target_ids[rows], scale, softcap)
        return logps

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        h, w, b, target_ids = ctx.saved_tensors
        needs = ctx.needs_input_grad[:3]
        # Sums over chunks are float32; the product of one chunk is in the compute precision.
        sums = [
            torch.zeros(tensor.shape, dtype=torch.float32, device=h.device) if need else None
            for tensor, need in zip((h, w, b), needs, strict=True)
        ]
        for rows in row_chunks(len(h), len(w)):
            parts: list[Any] = [
                None if tensor is None else tensor.detach().requires_grad_(need)
                for tensor, need in zip((h[rows], w, b), needs, strict=True)
            ]
            with torch.enable_grad():
                logps = _chunk_logps(parts[0], parts[1], parts[2], target_ids[rows], *ctx.transform)
            wanted = [tensor for tensor, need in zip(parts, needs, strict=True) if need]
            grads = iter(torch.autograd.grad(logps, wanted, grad[rows]))
            # A chunk has its own rows of h, but adds to all of w and b.
            for total, slot in zip(sums, (rows, slice(None), slice(None)), strict=True):
                if total is not None:
                    total[slot] += next(grads)
        return *sums, None, None, None, None


def _chunk_logps(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    target_ids: torch.Tensor,
    scale: float,
    softcap: float | None,
) -> torch.Tensor:
    """float32 [m] of one chunk: hidden [m, H], weight [V, H], bias [V], target_ids [m]."""
    logits = _chunk_logits(hidden, weight, bias, scale, softcap)
    return logits.gather(-1, target_ids[:, None]).squeeze(-1) - logits.logsumexp(dim=-1)


def _chunk_logits(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, scale: float, softcap: float | None
) -> torch.Tensor:
    """float32 [m, V] from hidden [m, H] in the compute dtype."""
    with torch.autocast(hidden.device.type, enabled=False):
        return transformed(F.linear(hidden, weight, bias).float(), scale, softcap)


def transformed(logits: torch.Tensor, scale: float, softcap: float | None) -> torch.Tensor:
    """softcap · tanh(scale · logits / softcap) [m, V]; without a scale or softcap, that step is skipped."""
    if scale != 1.0:
        logits = logits * scale
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    return logits


def row_chunks(rows: int, vocabulary: int) -> list[slice]:
    """Even slices of at most CHUNK_ELEMENTS / vocabulary rows (at least one)."""
    size = max(1, CHUNK_ELEMENTS // vocabulary)
    count = -(-rows // size)
    return [slice(rows * i // count, rows * (i + 1) // count) for i in range(count)]
