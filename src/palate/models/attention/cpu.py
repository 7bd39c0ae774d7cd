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
import torch.nn.functional as F
from torch import Tensor

from palate.text.batch import Layout


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


def visible(tensor: Tensor, part: Segment) -> Tensor:
    """Keys or values [..., keys, d] that the segment may see, of the row's [..., T, d]; a view if it has no prefix."""
    own = tensor[..., part.start : part.end, :]
    first, last = part.prefix
    return own if first == last else torch.cat([tensor[..., first:last, :], own], dim=-2)


# Queries scored together: larger blocks waste products above the diagonal, smaller ones waste calls.
QUERY_BLOCK = 128

# Keys are padded to a multiple of this, and blocks of queries end at one: softmax computes the rest of a vector of 32
# bf16 numbers one by one, and oneDNN compiles a kernel for each new shape. QUERY_BLOCK is a multiple.
TILE = 32

# Queries with at most this many keys save their probabilities for backward; longer rows compute them again, so that
# memory grows linearly with the row.
KEPT_KEYS = 1024


def tree_forward(
    query: Tensor, key: Tensor, value: Tensor, parts: Sequence[Segment], scaling: float, keep: bool
) -> tuple[Tensor, list[Tensor]]:
    """Attention [T, H, d_v] of a packed row, of query [H, T, d], key [Hkv, T, d] and value [Hkv, T, d_v].

    Args:
        parts: the row's segments, which cover it.
        scaling: factor on the scores.
        keep: save the probabilities for a backward pass, per block [Hkv, G·n, keys] with G = H / Hkv.
    """
    heads, tokens, _ = query.shape
    width = value.shape[-1]
    out = query.new_empty(tokens, heads, width)
    grouped = query.view(key.shape[0], -1, *query.shape[1:])  # [Hkv, G, T, d]
    kept: list[Tensor] = []
    for part in parts:
        k, v = _padded(key, part), _padded(value, part)
        for rows, seen, padded in _blocks(part):
            p = _probabilities(grouped, k[:, :padded].contiguous(), rows, seen, scaling)
            o = torch.bmm(p, v[:, :padded])  # [Hkv, G·n, d_v]
            out[rows].copy_(o.view(heads, -1, width).transpose(0, 1))
            if keep and seen <= KEPT_KEYS:
                kept.append(p)
    return out, kept


def tree_backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    parts: Sequence[Segment],
    scaling: float,
    kept: Sequence[Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
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
        all_k, all_v = _padded(key, part), _padded(value, part)
        for rows, seen, padded in _blocks(part):
            k, v = all_k[:, :padded].contiguous(), all_v[:, :padded].contiguous()
            p = next(saved) if seen <= KEPT_KEYS else _probabilities(grouped, k, rows, seen, scaling)
            d_out = grad[rows].transpose(0, 1).reshape(groups, -1, value.shape[-1])
            d_scores = torch._softmax_backward_data(torch.bmm(d_out, v.transpose(1, 2)), p, -1, p.dtype)
            d_q = torch.bmm(d_scores, k).view(heads, -1, width)
            torch.mul(d_q, scaling, out=d_query[:, rows])
            q = grouped[:, :, rows].reshape(groups, -1, width)
            _add_to_visible(d_key, torch.bmm(d_scores.transpose(1, 2), q)[:, :seen], part, scaling)
            _add_to_visible(d_value, torch.bmm(p.transpose(1, 2), d_out)[:, :seen], part, 1.0)
    return d_query, d_key, d_value


def _add_to_visible(total: Tensor, part_grad: Tensor, part: Segment, factor: float) -> None:
    """Add the gradient [Hkv, seen, d] of the first `seen` keys of `visible` to the row's [Hkv, T, d]."""
    first, last = part.prefix
    shared = last - first
    if shared:
        total[:, first:last].add_(part_grad[:, :shared], alpha=factor)
        part_grad = part_grad[:, shared:]
    total[:, part.start : part.start + part_grad.shape[1]].add_(part_grad, alpha=factor)


def _padded(tensor: Tensor, part: Segment) -> Tensor:
    """`visible` keys or values [Hkv, keys, d], with zeros up to a multiple of TILE."""
    seen = visible(tensor, part)
    return F.pad(seen, (0, 0, 0, -seen.shape[1] % TILE))


def _blocks(part: Segment) -> Iterator[tuple[slice, int, int]]:
    """Even blocks of queries: the slice in the packed row, the keys up to its last query, and these keys padded."""
    n, shared = part.end - part.start, part.prefix[1] - part.prefix[0]
    tiles, count = -(-n // TILE), -(-n // QUERY_BLOCK)
    for i in range(count):
        first, last = tiles * i // count * TILE, min(n, tiles * (i + 1) // count * TILE)
        seen = shared + last
        yield slice(part.start + first, part.start + last), seen, seen + -seen % TILE


def _probabilities(grouped: Tensor, key: Tensor, rows: slice, seen: int, scaling: float) -> Tensor:
    """softmax(scaling · q kᵀ) [Hkv, G·n, padded] without the future, of grouped [Hkv, G, T, d], key [Hkv, padded, d].

    `key` is contiguous: of a slice's transpose, PyTorch would make a copy.
    """
    groups, repeat, _, width = grouped.shape
    n, padded = rows.stop - rows.start, key.shape[1]
    q = grouped[:, :, rows].reshape(groups, repeat * n, width)
    # beta=0 ignores the first argument; baddbmm scales without another pass over the scores.
    scores = torch.baddbmm(q.new_empty(1), q, key.transpose(1, 2), beta=0, alpha=scaling)
    # Only the last n keys can be in a query's future, and the padding after them.
    future = torch.full((n, padded - seen + n), float("-inf"), dtype=q.dtype).triu_(1)
    scores.view(groups, repeat, n, padded)[..., seen - n :].add_(future)
    return torch.softmax(scores, dim=-1)


class _CpuTreeAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, parts: Sequence[Segment], scaling: float, keep: bool
    ) -> Tensor:
        out, kept = tree_forward(query, key, value, parts, scaling, keep)
        ctx.save_for_backward(query, key, value, *kept)
        ctx.parts, ctx.scaling = parts, scaling
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        query, key, value, *kept = ctx.saved_tensors
        d_query, d_key, d_value = tree_backward(grad, query, key, value, ctx.parts, ctx.scaling, kept)
        return d_query, d_key.to(key.dtype), d_value.to(value.dtype), None, None, None


def cpu_tree_attention(query: Tensor, key: Tensor, value: Tensor, layout: Layout, scaling: float) -> Tensor:
    """Tree attention of a packed row on a CPU: [T, H, d_v] from query [H, T, d], key [Hkv, T, d], value [Hkv, T, d_v].

    All three have one dtype.
    """
    # A Function cannot see whether grad mode was on outside.
    keep = torch.is_grad_enabled()
    return _CpuTreeAttention.apply(query, key, value, segments(layout), scaling, keep)  # type: ignore[no-any-return,no-untyped-call]
