"""log softmax(W h)[target] on a CPU with the fewest passes over [tokens, vocabulary].

The gradient with respect to h needs nothing that is unknown in forward except one factor per token, so it is formed
there, while the probabilities are still at hand: backward multiplies by that factor, and a frozen head costs two
products instead of four. A head that trains keeps `softmax − onehot` in the compute precision where it fits in
KEPT_BYTES, and computes it again where it does not. Sums of exponentials are float32 whatever the precision.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from palate.models.casts import cast

# Bytes of `softmax − onehot` that one call may keep for the gradient of the weight.
KEPT_BYTES = 256 << 20

# Rows of one product; large enough for the peak rate of a weight gradient.
_ROWS = 512

# Elements of a float32 softmax, which should stay in the caches.
_ELEMENTS = 1 << 21

# Below this a float32 probability has lost digits, and the log-sum-exp itself is asked.
_TINY = 1e-30


def plain_head_logps(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    target_ids: torch.Tensor,
    dtype: torch.dtype,
) -> torch.Tensor:
    """log softmax(W h + b)[target] of each row.

    Args:
        hidden: [M, H].
        weight: [V, H].
        bias: [V] or None.
        target_ids: int64 [M].
        dtype: what the products are computed in.

    Returns:
        float32 [M].
    """
    return _PlainHead.apply(hidden, weight, bias, target_ids, dtype)  # type: ignore[no-any-return,no-untyped-call]


class _PlainHead(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        target_ids: torch.Tensor,
        dtype: torch.dtype,
    ) -> torch.Tensor:
        need_h, need_w, need_b = ctx.needs_input_grad[:3]
        h, w = hidden.detach().to(dtype), cast(weight, dtype)
        b = None if bias is None else cast(bias, dtype)
        rows, vocabulary = len(h), len(w)
        keep = (need_w or need_b) and rows * vocabulary * h.element_size() <= KEPT_BYTES
        errors = h.new_empty(rows if keep else min(rows, _ROWS), vocabulary)
        d_hidden = torch.empty_like(h) if need_h else None
        logps = hidden.new_empty(rows, dtype=torch.float32)
        with torch.autocast(h.device.type, enabled=False):
            for part in _slices(rows, _ROWS):
                error = errors[part] if keep else errors[: part.stop - part.start]
                logps[part] = _score(h[part], w, b, target_ids[part], error, need_h or keep)
                if d_hidden is not None:
                    torch.mm(error, w, out=d_hidden[part])
        ctx.save_for_backward(h, w, b, target_ids, d_hidden, errors if keep else None)
        ctx.dtypes = (hidden.dtype, weight.dtype, None if bias is None else bias.dtype)
        return logps

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        h, w, b, target_ids, d_hidden, errors = ctx.saved_tensors
        need_h, need_w, need_b = ctx.needs_input_grad[:3]
        h_dtype, w_dtype, b_dtype = ctx.dtypes
        # d logp / d logits = onehot − softmax
        factor = -grad[:, None]
        grad_h = (d_hidden.float() * factor).to(h_dtype) if need_h else None
        if not (need_w or need_b):
            return grad_h, None, None, None, None
        scaled = (h.float() * factor).to(h.dtype)
        with torch.autocast(h.device.type, enabled=False):
            grad_w = grad_b = None
            for part in _slices(len(h), len(h) if errors is not None else _ROWS):
                error = errors[part] if errors is not None else h.new_empty(part.stop - part.start, len(w))
                if errors is None:
                    _score(h[part], w, b, target_ids[part], error, True)
                if need_w:
                    product = error.T @ scaled[part]
                    grad_w = product if grad_w is None else grad_w.float().add_(product)
                if need_b:
                    product = error.T @ factor[part, 0].to(error.dtype)
                    grad_b = product if grad_b is None else grad_b.float().add_(product)
        return (
            grad_h,
            grad_w.to(w_dtype) if grad_w is not None else None,
            grad_b.to(b_dtype) if grad_b is not None else None,
            None,
            None,
        )


def _score(
    h: torch.Tensor,
    w: torch.Tensor,
    b: torch.Tensor | None,
    target_ids: torch.Tensor,
    error: torch.Tensor,
    want_error: bool,
) -> torch.Tensor:
    """log p [m] of the targets; `error` [m, V] becomes softmax − onehot where it is wanted, else scratch."""
    torch.mm(h, w.T, out=error)
    if b is not None:
        error.add_(b)
    logps = h.new_empty(len(h), dtype=torch.float32)
    for part in _slices(len(h), max(1, _ELEMENTS // len(w))):
        targets = target_ids[part, None]
        logits = error[part]
        p = torch.softmax(logits, dim=-1, dtype=torch.float32)
        at_target = p.gather(-1, targets)
        logp = at_target.log()
        lost = at_target < _TINY
        if bool(lost.any()):
            full = logits.float()
            logp = torch.where(lost, full.gather(-1, targets) - full.logsumexp(-1, keepdim=True), logp)
        logps[part] = logp[:, 0]
        if want_error:
            # p − 1 from its logarithm, so that a confident token's small error keeps its digits.
            logits.copy_(p).scatter_(-1, targets, torch.expm1(logp).to(logits.dtype))
    return logps


def _slices(rows: int, size: int) -> Iterator[slice]:
    """Even slices of at most `size` rows; one empty slice of no rows."""
    count = max(1, -(-rows // max(1, size)))
    for i in range(count):
        yield slice(rows * i // count, rows * (i + 1) // count)
