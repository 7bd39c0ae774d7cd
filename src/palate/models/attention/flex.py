"""Tree attention by FlexAttention (2412.05496): a packed row as one block mask, whose empty blocks a GPU skips.

The second choice on a CUDA GPU, after `models.attention.varlen`: it also computes softcapped scores and masks that are
no sliding window. PyTorch offers no backward for it on a CPU.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from transformers.masking_utils import causal_mask_function

from palate.models.attention.interface import AttentionCall, MaskFunction, in_one_dtype, register, repeated
from palate.text.batch import Layout

FLEX = "palate_flex"

# Rows are padded to a multiple of it, so that fewer lengths occur.
_BLOCK = 128

# By default dynamo gives up after 8 variants of a function, which a model with several kinds of layers exceeds.
_VARIANTS = 64


def _flex(query: Tensor, key: Tensor, value: Tensor, call: AttentionCall) -> Tensor:
    """See `interface.Attend`; raises ModelError for dropout and attention sinks."""
    call.refuse("FlexAttention")
    rule = causal_mask_function if call.mask is None else call.mask.rule
    mask = block_mask(call.layout, rule, query.device)
    missing = mask.seq_lengths[0] - query.shape[2]
    q, k, v = (F.pad(one, (0, 0, 0, missing)) for one in in_one_dtype(query, key, value))
    ratio = q.shape[1] // k.shape[1]
    if ratio & (ratio - 1):  # kernels for a ratio that is no power of two have failed (pytorch issue 143117)
        k, v = repeated(q, k, v)
    attend: Any = _compiled() if query.device.type == "cuda" else flex_attention
    out: Tensor = attend(
        q,
        k,
        v,
        score_mod=_softcapped(call.softcap) if call.softcap is not None else None,
        block_mask=mask,
        scale=call.scaling,
        enable_gqa=q.shape[1] != k.shape[1],
    )
    return out[:, :, : query.shape[2]].transpose(1, 2).contiguous()


@functools.lru_cache(maxsize=8)
def block_mask(layout: Layout, rule: MaskFunction, device: torch.device) -> BlockMask:
    """The mask of a packed row and padding by the architecture's rule, evaluated once for all layers of a kind.

    The cache is keyed by the mask's arguments, so activation checkpointing finds the mask of its own micro-batch.
    """
    length = -(-layout.tokens // _BLOCK) * _BLOCK
    owner, part, position = (tensor.to(device) for tensor in addresses(layout, length))

    def allowed(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        related = (owner[q] == owner[k]) & ((part[k] < 0) | (part[k] == part[q]))
        return related & (k <= q) & rule(b, h, position[q], position[k])

    # Uncompiled, it would fill several [length, length] tensors.
    return create_block_mask(
        allowed, None, None, length, length, device=str(device), BLOCK_SIZE=_BLOCK, _compile=device.type == "cuda"
    )


def addresses(layout: Layout, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Group, completion (−1 in the prompt) and logical position of each of `length` tokens: int32 [length] each.

    Padding after the row's tokens is a group of its own, so that every query sees a key.
    """
    found: list[tuple[int, int, int]] = []
    for number, span in enumerate(layout.spans):
        found += [(number, -1, position) for position in range(span.prompt)]
        for completion, n in enumerate(span.completions):
            found += [(number, completion, span.prompt + offset) for offset in range(n)]
    found += [(len(layout.spans), -1, position) for position in range(length - layout.tokens)]
    # Contiguous: a compiled kernel would be specialised on their strides.
    owner, part, position = torch.tensor(found, dtype=torch.int32).reshape(-1, 3).t().contiguous().unbind(0)
    return owner, part, position


@functools.cache
def _softcapped(limit: float) -> Callable[..., Tensor]:
    """One function object for each limit, so that the compiled kernel is reused."""

    def capped(score: Tensor, b: Any, h: Any, q: Any, k: Any) -> Tensor:
        del b, h, q, k
        return limit * torch.tanh(score / limit)

    return capped


@functools.cache
def _compiled() -> Callable[..., Tensor]:
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _VARIANTS)
    # Rows differ in length from step to step; dynamic shapes let one kernel serve them all.
    return torch.compile(flex_attention, dynamic=True)


flex_tree_attention = register(FLEX, _flex)
