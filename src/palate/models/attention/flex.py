"""Tree attention by FlexAttention (2412.05496): a packed row as one block mask, whose empty blocks a GPU skips.

An alternative to `models.attention.tree`, chosen by `attention: flex`. PyTorch has no backward for it on a CPU, so only
its forward is tested there, against the same definition as the other implementation.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import causal_mask_function

from palate.errors import ModelError
from palate.models.attention.tree import TreeMask, check_attention_call, tree_mask
from palate.text.batch import Layout

FLEX = "palate_flex"

Rule = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def flex_tree_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: TreeMask | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    layout: Layout | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Like `attention.tree.tree_attention`, for query [1, heads, T, d], key and value [1, kv_heads, T, d].

    Raises:
        ModelError: as there, and for dropout or attention sinks, which FlexAttention cannot express.
    """
    row = check_attention_call(module, attention_mask, layout, kwargs)
    if dropout or s_aux is not None:
        feature = "dropout" if dropout else "attention sinks"
        raise ModelError(
            f"{type(module).__name__} has {feature}, which FlexAttention cannot express; use attention: tree"
        )
    rule = causal_mask_function if attention_mask is None else attention_mask.rule
    mask = block_mask(row, rule, query.device)
    attend: Any = _compiled() if query.device.type == "cuda" else flex_attention
    out = attend(
        query,
        key,
        value,
        score_mod=_softcapped(softcap) if softcap is not None else None,
        block_mask=mask,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return out.transpose(1, 2).contiguous(), None


@functools.lru_cache(maxsize=8)
def block_mask(layout: Layout, rule: Rule, device: torch.device) -> BlockMask:
    """The [T, T] mask of a packed row, evaluated once per row for all layers of a kind.

    The cache is keyed by the mask's arguments, so activation checkpointing finds the mask of its own micro-batch.

    Args:
        layout: the row's tree.
        rule: the architecture's own mask function, evaluated at logical positions.
    """
    owner, part, position = (tensor.to(device) for tensor in addresses(layout))

    def allowed(b: torch.Tensor, h: torch.Tensor, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        related = (owner[q] == owner[k]) & ((part[k] < 0) | (part[k] == part[q]))
        return related & (k <= q) & rule(b, h, position[q], position[k])

    tokens = layout.tokens
    return create_block_mask(allowed, None, None, tokens, tokens, device=str(device))


def addresses(layout: Layout) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Group, completion (−1 in the prompt) and logical position of each of T tokens: int32 [T] each."""
    found: list[tuple[int, int, int]] = []
    for number, span in enumerate(layout.spans):
        found += [(number, -1, position) for position in range(span.prompt)]
        for completion, n in enumerate(span.completions):
            found += [(number, completion, span.prompt + offset) for offset in range(n)]
    owner, part, position = torch.tensor(found, dtype=torch.int32).reshape(-1, 3).unbind(1)
    return owner, part, position


@functools.cache
def _softcapped(limit: float) -> Callable[..., torch.Tensor]:
    """One function object for each limit, so that the compiled kernel is reused."""

    def capped(score: torch.Tensor, b: Any, h: Any, q: Any, k: Any) -> torch.Tensor:
        del b, h, q, k
        return limit * torch.tanh(score / limit)

    return capped


@functools.cache
def _compiled() -> Callable[..., torch.Tensor]:
    # Rows differ in length from step to step; dynamic shapes let one kernel serve them all.
    return torch.compile(flex_attention, dynamic=True)


AttentionInterface.register(FLEX, flex_tree_attention)
AttentionMaskInterface.register(FLEX, tree_mask)
