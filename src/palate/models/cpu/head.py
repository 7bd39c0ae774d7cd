"""log softmax(W h)[target] on a CPU with few passes over [tokens, vocabulary].

Apart from one factor per token, the gradient of h is known in forward, so it is computed there, while the
probabilities are in the caches. Backward multiplies by that factor, and a frozen head costs two products instead of
four. A trained head saves `softmax − onehot` in the compute precision for as many rows as fit in KEPT_BYTES, and
computes it again for the others. Sums of exponentials are float32 in every precision.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# Bytes of `softmax − onehot` that one call may save for the gradient of the weight.
KEPT_BYTES = 256 << 20

# Rows of one product: enough for the peak rate of a weight gradient.
_ROWS = 512

# Elements of one float32 softmax: few enough for the caches.
_ELEMENTS = 1 << 19

# A float32 probability below this has lost digits: the logarithm is then taken from the log-sum-exp.
_TINY = 1e-30


def plain_head_logps(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, target_ids: Tensor, dtype: torch.dtype
) -> Tensor:
    """log softmax(W h + b)[target] float32 [M], of hidden [M, H], weight [V, H], bias [V] and target_ids int64 [M].

    Matrix products are in `dtype`.
    """
    if not torch.is_grad_enabled():
        # needs_input_grad ignores grad mode: without detach, unused gradients would be computed.
        hidden, weight, bias = hidden.detach(), weight.detach(), None if bias is None else bias.detach()
    return _PlainHead.apply(hidden, weight, bias, target_ids, dtype)  # type: ignore[no-any-return,no-untyped-call]


class _PlainHead(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, target_ids: Tensor, dtype: torch.dtype
    ) -> Tensor:
        need_h, need_w, need_b = ctx.needs_input_grad[:3]
        h, w = hidden.to(dtype), weight.to(dtype)
        b = None if bias is None else bias.to(dtype)
        rows, vocabulary = len(h), len(w)
        kept = min(rows, KEPT_BYTES // (vocabulary * h.element_size())) if need_w or need_b else 0
        errors = h.new_empty(kept, vocabulary)
        scratch = h.new_empty(min(rows - kept, _ROWS), vocabulary)
        d_hidden = torch.empty_like(h) if need_h else None
        logps = hidden.new_empty(rows, dtype=torch.float32)
        with torch.autocast(h.device.type, enabled=False):
            for part in (*_slices(0, kept), *_slices(kept, rows)):
                error = errors[part] if part.stop <= kept else scratch[: part.stop - part.start]
                logps[part] = _score(h[part], w, b, target_ids[part], error, need_h or part.stop <= kept)
                if d_hidden is not None:
                    torch.mm(error, w, out=d_hidden[part])
        ctx.save_for_backward(h, w, b, target_ids, d_hidden, errors)
        return logps

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        h, w, b, target_ids, d_hidden, errors = ctx.saved_tensors
        need_h, need_w, need_b = ctx.needs_input_grad[:3]
        # d logp / d logits = onehot − softmax
        factor = -grad[:, None]
        grad_h = d_hidden.float() * factor if need_h else None  # autograd casts it to the dtype of the input
        if not (need_w or need_b):
            return grad_h, None, None, None, None
        scaled = (h.float() * factor).to(h.dtype)
        with torch.autocast(h.device.type, enabled=False):
            # The saved rows are one product. With no saved rows it gives zeros, to which the loop below adds.
            kept = slice(0, len(errors))
            grad_w = errors.T @ scaled[kept] if need_w else None
            grad_b = errors.T @ factor[kept, 0].to(errors.dtype) if need_b else None
            for part in _slices(kept.stop, len(h)):
                error = h.new_empty(part.stop - part.start, len(w))
                _score(h[part], w, b, target_ids[part], error, True)
                if grad_w is not None:
                    grad_w = grad_w.float().add_(error.T @ scaled[part])
                if grad_b is not None:
                    grad_b = grad_b.float().add_(error.T @ factor[part, 0].to(error.dtype))
        return grad_h, grad_w, grad_b, None, None


def _score(h: Tensor, w: Tensor, b: Tensor | None, target_ids: Tensor, error: Tensor, want_error: bool) -> Tensor:
    """log p [m] of the targets, from h [m, H] and w [V, H]. Writes softmax − onehot to `error` [m, V] if wanted.

    `error` also serves as the buffer of the logits.
    """
    torch.mm(h, w.T, out=error)
    if b is not None:
        error.add_(b)
    targets = target_ids[:, None]
    at_target = h.new_empty(len(h), 1, dtype=torch.float32)
    for part in _slices(0, len(h), max(1, _ELEMENTS // len(w))):
        p = torch.softmax(error[part], dim=-1, dtype=torch.float32)
        torch.gather(p, -1, targets[part], out=at_target[part])
        if want_error:
            error[part].copy_(p)
    logps = at_target.log()
    lost = at_target[:, 0] < _TINY
    if bool(lost.any()):
        full = F.linear(h[lost], w, b).float()
        logps[lost] = full.gather(-1, targets[lost]) - full.logsumexp(-1, keepdim=True)
    if want_error:
        # p − 1 = expm1(log p) keeps the digits of a confident token's small error.
        # scatter_ takes 16 µs a row here, 60 times as long.
        error[torch.arange(len(h)), target_ids] = torch.expm1(logps[:, 0]).to(error.dtype)
    return logps[:, 0]


def _slices(first: int, last: int, size: int | None = None) -> Iterator[slice]:
    """Even slices of first … last, of at most `size` rows each; _ROWS by default."""
    rows, count = last - first, -(-(last - first) // (size or _ROWS))
    for i in range(count):
        yield slice(first + rows * i // count, first + rows * (i + 1) // count)
