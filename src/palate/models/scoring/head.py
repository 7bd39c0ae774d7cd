"""The LM head: log-probabilities of the targets from hidden states, in chunks.

No [tokens, vocabulary] tensor outlives a chunk, forward or backward. Log-sum-exp is float32 in every precision.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

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
        original: True if this form is not exact for the model; then its own forward computes the logits.
    """

    scale: float = 1.0
    softcap: float | None = None
    original: bool = False

    def transform(self, logits: Tensor) -> Tensor:
        """softcap · tanh(scale · logits / softcap) [m, V]; without a scale or softcap, that step is skipped."""
        if self.scale != 1.0:
            logits = logits * self.scale
        if self.softcap is not None:
            logits = self.softcap * torch.tanh(logits / self.softcap)
        return logits

    def logits(self, hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """float32 [m, V] from hidden [m, H], weight [V, H] and bias [V], all in the compute dtype."""
        with torch.autocast(hidden.device.type, enabled=False):
            return self.transform(F.linear(hidden, weight, bias).float())

    def logps(self, hidden: Tensor, weight: Tensor, bias: Tensor | None, target_ids: Tensor) -> Tensor:
        """log softmax(logits)[target] of one chunk, float32 [m]; arguments as in `logits`, target_ids [m]."""
        logits = self.logits(hidden, weight, bias)
        return logits.gather(-1, target_ids[:, None]).squeeze(-1) - logits.logsumexp(dim=-1)


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


def dense_logps(logits: Tensor, target_ids: Tensor) -> Tensor:
    """log softmax(logits)[target] per row: float32 [M] from logits [M, V]. The definition, without chunks."""
    return F.log_softmax(logits.float(), dim=-1).gather(-1, target_ids[:, None]).squeeze(-1)


def log_square_sums(logits: Tensor) -> Tensor:
    """log Σ softmax(logits)² per row, [M] from float32 [M, V]."""
    return (2.0 * logits).logsumexp(-1) - 2.0 * logits.logsumexp(-1)


def head_logps(hidden: Tensor, weight: Tensor, bias: Tensor | None, target_ids: Tensor, head: Head) -> Tensor:
    """log softmax(head(h Wᵀ + b))[target] float32 [M], of hidden [M, H], weight [V, H], bias [V], target_ids [M]."""
    if hidden.device.type == "cpu" and head.scale == 1.0 and head.softcap is None:
        return plain_head_logps(hidden, weight, bias, target_ids, compute_dtype(hidden, weight))
    return _HeadLogps.apply(hidden, weight, bias, target_ids, head)  # type: ignore[no-any-return,no-untyped-call]


@torch.no_grad()
def head_square_sums(hidden: Tensor, weight: Tensor, bias: Tensor | None, head: Head) -> Tensor:
    """log Σ_v p_v² of the distribution at each row, float32 [M], in chunks and without gradient.

    Arguments as in `head_logps`. A separate product, because only one modifier (WPO, 2406.11827) reads it.
    """
    sums = hidden.new_empty(len(hidden), dtype=torch.float32)
    h, w, b = in_compute_dtype(hidden, weight, bias)
    for rows in row_chunks(len(h), len(w)):
        sums[rows] = log_square_sums(head.logits(h[rows], w, b))
    return sums


class _HeadLogps(torch.autograd.Function):
    """The head on GPUs, and with scaled or capped logits: backward computes each chunk again and saves no logits."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, target_ids: Tensor, head: Head
    ) -> Tensor:
        h, w, b = in_compute_dtype(hidden, weight, bias)
        ctx.save_for_backward(h, w, b, target_ids)
        ctx.head = head
        logps = hidden.new_empty(len(h), dtype=torch.float32)
        for rows in row_chunks(len(h), len(w)):
            logps[rows] = head.logps(h[rows], w, b, target_ids[rows])
        return logps

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
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
                logps = ctx.head.logps(*parts, target_ids[rows])
            wanted = [tensor for tensor, need in zip(parts, needs, strict=True) if need]
            grads = iter(torch.autograd.grad(logps, wanted, grad[rows]))
            # A chunk has its own rows of h, but adds to all of w and b.
            for total, slot in zip(sums, (rows, slice(None), slice(None)), strict=True):
                if total is not None:
                    total[slot] += next(grads)
        return *sums, None, None


def in_compute_dtype(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """The three in the dtype that a linear layer would multiply in."""
    dtype = compute_dtype(hidden, weight)
    return hidden.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)


def row_chunks(rows: int, vocabulary: int) -> list[slice]:
    """Even slices of at most CHUNK_ELEMENTS / vocabulary rows (at least one)."""
    size = max(1, CHUNK_ELEMENTS // vocabulary)
    count = -(-rows // size)
    return [slice(rows * i // count, rows * (i + 1) // count) for i in range(count)]
