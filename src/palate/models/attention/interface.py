"""The attention of packed rows as transformers calls it: one signature for all kernels, and what a kernel refuses.

Registered with `AttentionInterface` and `AttentionMaskInterface`, so every architecture that dispatches through them
runs it unchanged. The row's tree (`text.batch.Layout`) is a keyword of the model's forward and never a global, because
activation checkpointing replays layers after a global would have changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface

from palate.errors import ModelError
from palate.models.attention.mask import TreeMask, tree_mask
from palate.text.batch import Layout

# Keywords that architectures pass to attention and that need no handling here: mask and scores account for them.
_HARMLESS = frozenset(
    {
        "position_ids",
        "use_cache",
        "output_attentions",
        "output_hidden_states",
        "output_router_logits",
        "sliding_window",
        "is_causal",
        "cache_position",
        "past_key_values",
        "cache",
        "logits_to_keep",
        "return_dict",
    }
)


@dataclass(frozen=True, slots=True)
class AttentionCall:
    """What a layer asks of its attention, besides queries, keys and values.

    Attributes:
        layer: name of the layer's class, for messages.
        layout: the packed row's tree.
        mask: the layer's rule; None if it is purely causal.
        scaling: factor on the scores.
        dropout: probability of dropping an attention weight.
        softcap: c·tanh(scores / c) before the softmax (Gemma 2, 2408.00118).
        sinks: [heads], one more logit per head, whose value is 0 (gpt-oss; 2309.17453).
    """

    layer: str
    layout: Layout
    mask: TreeMask | None
    scaling: float
    dropout: float
    softcap: float | None
    sinks: torch.Tensor | None

    def refuse(self, kernel: str, *, softcap: bool = False) -> None:
        """Raise ModelError for dropout, sinks, or (with `softcap`) capped scores, which the kernel cannot express."""
        given = {
            "dropout": bool(self.dropout),
            "softcapped scores": softcap and self.softcap is not None,
            "attention sinks": self.sinks is not None,
        }
        feature = next((name for name, present in given.items() if present), None)
        if feature is not None:
            raise ModelError(f"{self.layer} has {feature}, which {kernel} cannot express; use attention: tree")


Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, AttentionCall], torch.Tensor]
"""[1, T, heads, d_v] of query [1, heads, T, d], key [1, kv_heads, T, d] and value [1, kv_heads, T, d_v]."""


def register(name: str, attend: Attend) -> Callable[..., tuple[torch.Tensor, None]]:
    """Make a kernel known to transformers by a name; returns the function that layers call.

    The function raises ModelError if the layout is missing, or the architecture passes a keyword that is unknown here.
    """

    def attention(
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
        **others: Any,
    ) -> tuple[torch.Tensor, None]:
        layer = type(module).__name__
        unknown = sorted(k for k, v in others.items() if v is not None and v is not False and k not in _HARMLESS)
        if unknown:
            raise ModelError(f"{layer} passes {', '.join(unknown)} to attention, which tree attention does not support")
        if layout is None:
            raise ModelError(f"{layer} did not pass the packed layout on to its attention")
        if attention_mask is not None and not isinstance(attention_mask, TreeMask):
            raise ModelError(f"{layer} replaced the attention mask by its own {type(attention_mask).__name__}")
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        return attend(
            query, key, value, AttentionCall(layer, layout, attention_mask, scale, dropout, softcap, s_aux)
        ), None

    AttentionInterface.register(name, attention)
    AttentionMaskInterface.register(name, tree_mask)
    return attention


def repeated(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Key and value [1, kv_heads, T, d] with each head as often as query heads [1, heads, T, d] share it."""
    repeat = query.shape[1] // key.shape[1]
    if repeat == 1:
        return key, value
    return key.repeat_interleave(repeat, dim=1), value.repeat_interleave(repeat, dim=1)


def in_one_dtype(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The three in autocast's dtype, or in the widest of theirs without autocast.

    Rotary angles in float32 make queries and keys float32 under autocast, and values stay in bf16. SDPA casts them by
    itself, other kernels do not.
    """
    device = query.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
    else:
        dtype = torch.promote_types(torch.promote_types(query.dtype, key.dtype), value.dtype)
    return query.to(dtype), key.to(dtype), value.to(dtype)
