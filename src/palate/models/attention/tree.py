"""Tree attention: in a packed row, a completion attends to its prompt and to itself only. It computes everything that
an architecture may ask for, in dense blocks: on a CPU those of `attention.cpu`, elsewhere SDPA for each segment.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from palate.models.attention.cpu import cpu_tree_attention, segments, visible
from palate.models.attention.interface import AttentionCall, register, repeated

TREE = "palate_tree"

# Where the blocks of `attention.cpu` compute a row; elsewhere SDPA computes each span.
_BLOCKS_ON = ("cpu",)


def _tree(query: Tensor, key: Tensor, value: Tensor, call: AttentionCall) -> Tensor:
    """See `interface.Attend`."""
    plain = call.mask is None and not call.dropout and call.softcap is None and call.sinks is None
    if plain and query.device.type in _BLOCKS_ON and query.dtype == key.dtype == value.dtype:
        return cpu_tree_attention(query[0], key[0], value[0], call.layout, call.scaling)[None]
    key, value = repeated(query, key, value)
    outputs = []
    for part in segments(call.layout):
        n, shared = part.end - part.start, part.prefix[1] - part.prefix[0]
        allowed = call.mask.block(n, shared + n, query.device) if call.mask is not None else None
        if allowed is None and shared:
            allowed = _offset_causal(n, shared, query.device)
        q = query[:, :, part.start : part.end]
        outputs.append(_attend(q, visible(key, part), visible(value, part), allowed, call))
    return torch.cat(outputs, dim=2).transpose(1, 2).contiguous()


def _offset_causal(queries: int, offset: int, device: torch.device) -> Tensor:
    """bool [queries, offset + queries]: each query sees the whole prompt (`offset` keys) and its own past."""
    return torch.ones(queries, offset + queries, dtype=torch.bool, device=device).tril(offset)


def _attend(query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None, call: AttentionCall) -> Tensor:
    """[1, heads, n, d_v] of one dense block, query [1, heads, n, d] and keys [1, heads, m, d].

    `allowed` None means causal from the upper left corner, n = m.
    """
    if call.softcap is None and call.sinks is None:
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask=allowed, dropout_p=call.dropout, scale=call.scaling, is_causal=allowed is None
        )
    scores = (query @ key.transpose(2, 3)).float() * call.scaling
    if call.softcap is not None:
        scores = call.softcap * torch.tanh(scores / call.softcap)
    if allowed is None:
        allowed = _offset_causal(query.shape[2], key.shape[2] - query.shape[2], query.device)
    scores = scores.masked_fill(~allowed, float("-inf"))
    if call.sinks is not None:
        sink = call.sinks.float().view(1, -1, 1, 1).expand(scores.shape[0], -1, scores.shape[2], 1)
        weights = torch.cat([scores, sink], dim=-1).softmax(dim=-1)[..., :-1]
    else:
        weights = scores.softmax(dim=-1)
    return F.dropout(weights, call.dropout).to(value.dtype) @ value


tree_attention = register(TREE, _tree)
