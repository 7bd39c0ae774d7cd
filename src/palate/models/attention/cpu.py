"""Exact tree attention on a CPU, as dense blocks of matrix products with a hand-written backward.

PyTorch's flash attention for CPUs reaches about 50 GFLOP/s a core at the few hundred tokens of a preference pair, a
tenth of the machine's bf16 product rate. Here the queries of all heads that share a key head (grouped-query attention,
2305.13245) become one product, a block of queries sees only the keys up to its diagonal, and the probabilities of short
rows are saved for backward instead of computed twice. A prompt's keys and values exist once for all its completions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from palate.text.batch import Layout

# Queries scored together: larger blocks waste products above the diagonal, smaller ones waste calls.
QUERY_BLOCK = 128

# Queries with at most this many keys save their probabilities for backward; longer rows compute them again, so that
# memory grows linearly with the row.
KEPT_KEYS = 1024


@dataclass(frozen=True, slots=True)
class Segment:
    """Consecutive queries and the keys that they may see: a shared prefix, then their own past and themselves.

    Attributes:
        start, end: range of the queries, and of their own keys, in the packed row.
        prefix: range of the prompt's keys in the packed row; empty if the prompt is part of the segment itself.
    """

    start: int
    end: int
    prefix: tuple[int, int]


def segments(layout: Layout) -> list[Segment]:
    """Per group: [prompt, first completion] as one causal row, then each other completion after its prompt."""
    found: list[Segment] = []
    for span in layout.spans:
        end = span.start + span.prompt + sum(span.completions[:1])
        if end > span.start:
            found.append(Segment(span.start, end, (span.start, span.start)))
        for n in span.completions[1:]:
            if n:
                found.append(Segment(end, end + n, (span.start, span.start + span.prompt)))
            end += n
    return found


def visible(tensor: torch.Tensor, part: Segment) -> torch.Tensor:
    """Keys or values [..., keys, d] that the segment may see, of the row's [..., T, d]; a view if it has no prefix."""
    own = tensor[..., part.start : part.end, :]
    first, last = part.prefix
    return own if first == last else torch.cat([tensor[..., first:last, :], own], dim=-2)


def tree_forward(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    parts: Sequence[Segment],
    scaling: float,
    keep: bool,
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Attention of a packed row.

    Args:
        query: [H, T, d].
        key: [Hkv, T, d]; H is a multiple of Hkv.
        value: [Hkv, T, d_v].
        parts: the row's segments, which cover it.
        scaling: factor on the scores.
        keep: save the probabilities for a backward pass.

    Returns:
        [T, H, d_v], and per block the saved probabilities [Hkv, G·n, keys], with G = H / Hkv.
    """
    heads, tokens, _ = query.shape
    width = value.shape[-1]
    out = query.new_empty(tokens, heads, width)
    grouped = query.view(key.shape[0], -1, *query.shape[1:])  # [Hkv, G, T, d]
    kept: list[torch.Tensor] = []
    for part in parts:
        k, v = visible(key, part), visible(value, part)
        for rows, seen in _blocks(part, k.shape[1]):
            p = _probabilities(grouped, k, rows, seen, scaling)
            o = torch.bmm(p, v[:, :seen])  # [Hkv, G·n, d_v]
            out[rows].copy_(o.view(heads, -1, width).transpose(0, 1))
            if keep and seen <= KEPT_KEYS:
                kept.append(p)
    return out, kept


def tree_backward(
    grad: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    parts: Sequence[Segment],
    scaling: float,
    kept: Sequence[torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of query [H, T, d] in its dtype, of key [Hkv, T, d] and value [Hkv, T, d_v] in float32.

    `grad` is the gradient of the output, [T, H, d_v].
    """
    heads, _, width = query.shape
    groups = key.shape[0]
    grouped = query.view(groups, -1, *query.shape[1:])
    d_query = torch.empty_like(query)
    # Float32: a prompt's keys collect gradients from all completions.
    d_key = torch.zeros(key.shape, dtype=torch.float32)
    d_value = torch.zeros(value.shape, dtype=torch.float32)
    saved = iter(kept)
    for part in parts:
        k, v = visible(key, part), visible(value, part)
        for rows, seen in _blocks(part, k.shape[1]):
            p = next(saved) if seen <= KEPT_KEYS else _probabilities(grouped, k, rows, seen, scaling)
            d_out = grad[rows].transpose(0, 1).reshape(groups, -1, value.shape[-1])
            d_p = torch.bmm(d_out, v[:, :seen].transpose(1, 2))
            d_scores = torch._softmax_backward_data(d_p, p, -1, p.dtype)
            d_q = torch.bmm(d_scores, k[:, :seen]).view(heads, -1, width)
            torch.mul(d_q, scaling, out=d_query[:, rows])
            q = grouped[:, :, rows].reshape(groups, -1, width)
            _add_to_visible(d_key, torch.bmm(d_scores.transpose(1, 2), q), part, scaling)
            _add_to_visible(d_value, torch.bmm(p.transpose(1, 2), d_out), part, 1.0)
    return d_query, d_key, d_value


def _add_to_visible(total: torch.Tensor, part_grad: torch.Tensor, part: Segment, factor: float) -> None:
    """Add the gradient [Hkv, seen, d] of the first `seen` keys of `visible` to the row's [Hkv, T, d]."""
    first, last = part.prefix
    shared = last - first
    if shared:
        total[:, first:last].add_(part_grad[:, :shared], alpha=factor)
        part_grad = part_grad[:, shared:]
    total[:, part.start : part.start + part_grad.shape[1]].add_(part_grad, alpha=factor)


def _blocks(part: Segment, keys: int) -> Iterator[tuple[slice, int]]:
    """Even blocks of queries: the slice of each in the packed row, and the number of keys up to its last query."""
    n = part.end - part.start
    count = -(-n // QUERY_BLOCK)
    shared = keys - n
    for i in range(count):
        first, last = n * i // count, n * (i + 1) // count
        yield slice(part.start + first, part.start + last), shared + last


def _probabilities(grouped: torch.Tensor, key: torch.Tensor, rows: slice, seen: int, scaling: float) -> torch.Tensor:
    """softmax(scaling · q kᵀ) [Hkv, G·n, seen] without the future, of grouped [Hkv, G, T, d] and key [Hkv, keys, d]."""
    groups, repeat, _, width = grouped.shape
    n = rows.stop - rows.start
    q = grouped[:, :, rows].reshape(groups, repeat * n, width)
    # beta=0 ignores the first argument; baddbmm scales without another pass over the scores.
    scores = torch.baddbmm(q.new_empty(1), q, key[:, :seen].transpose(1, 2), beta=0, alpha=scaling)
    # Only the last n keys can be in a query's future.
    future = torch.full((n, n), float("-inf"), dtype=q.dtype).triu_(1)
    scores.view(groups, repeat, n, seen)[..., seen - n :].add_(future)
    return torch.softmax(scores, dim=-1)


class _CpuTreeAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        parts: Sequence[Segment],
        scaling: float,
        keep: bool,
    ) -> torch.Tensor:
        out, kept = tree_forward(query, key, value, parts, scaling, keep)
        ctx.save_for_backward(query, key, value, *kept)
        ctx.parts, ctx.scaling = parts, scaling
        return out

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
        query, key, value, *kept = ctx.saved_tensors
        d_query, d_key, d_value = tree_backward(grad, query, key, value, ctx.parts, ctx.scaling, kept)
        return d_query, d_key.to(key.dtype), d_value.to(value.dtype), None, None, None


def cpu_tree_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: Layout, scaling: float
) -> torch.Tensor:
    """Tree attention of a packed row on a CPU: [T, H, d_v] from query [H, T, d], key [Hkv, T, d], value [Hkv, T, d_v].

    All three have one dtype.
    """
    # A Function cannot see whether grad mode was on outside.
    keep = torch.is_grad_enabled()
    return _CpuTreeAttention.apply(query, key, value, segments(layout), scaling, keep)  # type: ignore[no-any-return,no-untyped-call]
