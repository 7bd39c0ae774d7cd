"""Exact tree attention on a CPU, as dense blocks of matrix products with a backward of their own.

PyTorch's flash attention for CPUs reaches about 50 GFLOP/s a core at the few hundred tokens that a preference pair has,
a tenth of what the machine's bf16 products reach. Here the queries of all heads that share a key head are folded into
one product, a block of queries sees only the keys up to its diagonal, and the probabilities of a short row are kept for
backward instead of computed twice. The prompt's keys and values are held once for all of its completions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from palate.text.batch import Layout, Span

# Queries that are scored together: larger blocks waste products above the diagonal, smaller ones waste calls.
QUERY_BLOCK = 128

# A query that sees at most this many keys keeps its probabilities for backward; a longer row computes them again, so
# that memory grows with the row and not with its square.
KEPT_KEYS = 1024


@dataclass(frozen=True, slots=True)
class Segment:
    """Consecutive queries with the keys that they may see: a shared prefix, then their own past and themselves.

    Attributes:
        start, end: the queries' range in the packed row; their own keys have the same range.
        prefix: range of the prompt's keys in the packed row; empty where the prompt is part of the segment itself.
    """

    start: int
    end: int
    prefix: tuple[int, int]


def segments(layout: Layout) -> list[Segment]:
    """Per group: [prompt, first completion] as one causal row, then each other completion after its prompt."""
    return [segment for span in layout.spans for segment in _segments(span)]


def _segments(span: Span) -> Iterator[Segment]:
    end = span.start + span.prompt + sum(span.completions[:1])
    if end > span.start:
        yield Segment(span.start, end, (span.start, span.start))
    for n in span.completions[1:]:
        if n:
            yield Segment(end, end + n, (span.start, span.start + span.prompt))
        end += n


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
        scaling: factor of the scores.
        keep: whether backward will come and wants probabilities.

    Returns:
        [T, H, d_v], and per block the probabilities [Hkv, G·n, keys] where they were kept.
    """
    heads, tokens, _ = query.shape
    width = value.shape[-1]
    out = query.new_empty(tokens, heads, width)
    grouped = query.view(key.shape[0], -1, *query.shape[1:])
    kept: list[torch.Tensor] = []
    for part in parts:
        k, v = _keys(key, part), _keys(value, part)
        for rows, seen in _blocks(part, k.shape[1]):
            p = _probabilities(grouped, k, rows, seen, scaling)
            o = torch.bmm(p, v[:, :seen])
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

    `grad` is that of the output, [T, H, d_v].
    """
    heads, _, width = query.shape
    groups = key.shape[0]
    grouped = query.view(groups, -1, *query.shape[1:])
    d_query = torch.empty_like(query)
    d_key = torch.zeros(key.shape, dtype=torch.float32)
    d_value = torch.zeros(value.shape, dtype=torch.float32)
    saved = iter(kept)
    for part in parts:
        k, v = _keys(key, part), _keys(value, part)
        for rows, seen in _blocks(part, k.shape[1]):
            p = next(saved) if seen <= KEPT_KEYS else _probabilities(grouped, k, rows, seen, scaling)
            d_out = grad[rows].transpose(0, 1).reshape(groups, -1, value.shape[-1])
            d_p = torch.bmm(d_out, v[:, :seen].transpose(1, 2))
            d_scores = torch._softmax_backward_data(d_p, p, -1, p.dtype)
            d_q = torch.bmm(d_scores, k[:, :seen]).view(heads, -1, width)
            torch.mul(d_q, scaling, out=d_query[:, rows])
            q = grouped[:, :, rows].reshape(groups, -1, width)
            _add_keys(d_key, torch.bmm(d_scores.transpose(1, 2), q), part, scaling)
            _add_keys(d_value, torch.bmm(p.transpose(1, 2), d_out), part, 1.0)
    return d_query, d_key, d_value


def _keys(tensor: torch.Tensor, part: Segment) -> torch.Tensor:
    """[Hkv, keys, width] that the segment may see; a view unless a prefix stands apart from it."""
    own = tensor[:, part.start : part.end]
    first, last = part.prefix
    return own if first == last else torch.cat([tensor[:, first:last], own], dim=1)


def _add_keys(total: torch.Tensor, part_grad: torch.Tensor, part: Segment, factor: float) -> None:
    """Add the gradient of the first keys of `_keys` to where they came from."""
    first, last = part.prefix
    shared = last - first
    if shared:
        total[:, first:last].add_(part_grad[:, :shared], alpha=factor)
        part_grad = part_grad[:, shared:]
    total[:, part.start : part.start + part_grad.shape[1]].add_(part_grad, alpha=factor)


def _blocks(part: Segment, keys: int) -> Iterator[tuple[slice, int]]:
    """Even blocks of queries, each with the number of keys up to its last query."""
    n = part.end - part.start
    count = -(-n // QUERY_BLOCK)
    shared = keys - n
    for i in range(count):
        first, last = n * i // count, n * (i + 1) // count
        yield slice(part.start + first, part.start + last), shared + last


def _probabilities(grouped: torch.Tensor, key: torch.Tensor, rows: slice, seen: int, scaling: float) -> torch.Tensor:
    """softmax(scaling · q kᵀ) with the triangle above the diagonal removed: [Hkv, G·n, seen]."""
    groups, repeat, _, width = grouped.shape
    n = rows.stop - rows.start
    q = grouped[:, :, rows].reshape(groups, repeat * n, width)
    scores = torch.baddbmm(q.new_empty(1), q, key[:, :seen].transpose(1, 2), beta=0, alpha=scaling)
    future = torch.full((n, n), float("-inf"), dtype=q.dtype).triu_(1)
    scores.view(groups, repeat, n, seen)[..., seen - n :].add_(future)
    return torch.softmax(scores, dim=-1)


class _SpanAttention(torch.autograd.Function):
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


def tree_span_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: Layout, scaling: float
) -> torch.Tensor:
    """Tree attention of a packed row on a CPU: [T, H, d_v] from query [H, T, d], key [Hkv, T, d], value [Hkv, T, d_v].

    All three in one dtype; grouped heads are folded, never repeated.
    """
    keep = torch.is_grad_enabled()
    return _SpanAttention.apply(query, key, value, segments(layout), scaling, keep)  # type: ignore[no-any-return,no-untyped-call]


def span_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    prompt: int,
    completions: tuple[int, ...],
    scaling: float,
) -> torch.Tensor:
    """The same for one group that fills the row: `prompt` tokens, then its completions."""
    return tree_span_attention(query, key, value, Layout((Span(0, prompt, completions),)), scaling)
