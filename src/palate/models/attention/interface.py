"""The attention of packed rows as transformers calls it: masks, one signature for all kernels, what a kernel refuses.

Registered with `AttentionInterface` and `AttentionMaskInterface`, so every architecture that dispatches through them
runs it unchanged. The row's tree (`text.batch.Layout`) is a keyword of the model's forward and never a global, because
activation checkpointing replays layers after a global would have changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import causal_mask_function

from palate.errors import ModelError
from palate.text.batch import Layout

# Rows of a mask that are compared with a sliding window.
_ROWS = 16

MaskFunction = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


class TreeMask:
    """An architecture's own mask rule (a sliding window, chunks …), evaluated at logical positions.

    The mask interface does not see the layout but the attention function does, so the rule is passed between them. One
    TreeMask is made per forward and shared by all layers of a kind; it caches the blocks that it evaluated.
    """

    def __init__(self, rule: MaskFunction) -> None:
        self.rule = rule
        self._blocks: dict[tuple[int, int], Tensor | None] = {}
        self._windows: dict[int, int] = {}

    def block(self, queries: int, keys: int, device: torch.device) -> Tensor | None:
        """Keys visible to the last `queries` of `keys` logical positions: bool [queries, keys]; None if causal."""
        known = (queries, keys)
        if known not in self._blocks:
            q = torch.arange(keys - queries, keys, device=device)[:, None]
            k = torch.arange(keys, device=device)[None, :]
            zero = torch.zeros((), dtype=torch.long, device=device)
            causal = k <= q
            allowed = self.rule(zero, zero, q, k) & causal
            # On a GPU the comparison would wait for the device.
            hides = device.type != "cpu" or not torch.equal(allowed, causal)
            self._blocks[known] = allowed if hides else None
        return self._blocks[known]

    def window(self, keys: int) -> int | None:
        """The sliding window that the rule is, in keys that a query sees of up to `keys` positions; None if all.

        The rule is evaluated on the CPU, because reading the result from a GPU would wait for it.

        Raises:
            ModelError: the rule is no sliding window.
        """
        if keys not in self._windows:
            self._windows[keys] = _window_of(self.rule, keys)
        width = self._windows[keys]
        return width if width < keys else None


def _window_of(rule: MaskFunction, keys: int) -> int:
    """The width of the sliding window that equals the rule; raises ModelError if there is none.

    Compared are some rows: evenly spaced ones, and those at which the window leaves the first key, by which a rule of
    fixed chunks differs from a window.
    """
    zero = torch.zeros((), dtype=torch.long)
    k = torch.arange(keys)[None, :]

    def rows(at: Tensor) -> Tensor:
        return rule(zero, zero, at[:, None], k) & (k <= at[:, None])

    width = int(rows(torch.tensor([keys - 1])).sum())
    q = torch.cat([torch.linspace(0, keys - 1, _ROWS).long(), torch.tensor([max(width - 1, 0), min(width, keys - 1)])])
    if width == 0 or not torch.equal(rows(q), (k <= q[:, None]) & (k > q[:, None] - width)):
        raise ModelError("a layer's attention mask is no sliding window, so it needs attention: tree or flex")
    return width


def tree_mask(*, mask_function: MaskFunction, **_: Any) -> TreeMask | None:
    """The registered mask function: None for a purely causal layer, else the layer's rule."""
    return None if mask_function is causal_mask_function else TreeMask(mask_function)


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
    sinks: Tensor | None

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


Attend = Callable[[Tensor, Tensor, Tensor, AttentionCall], Tensor]
"""[1, T, heads, d_v] of query [1, heads, T, d], key [1, kv_heads, T, d] and value [1, kv_heads, T, d_v]."""


def register(name: str, attend: Attend) -> Callable[..., tuple[Tensor, None]]:
    """Make a kernel known to transformers by a name; returns the function that layers call.

    The function raises ModelError if the layout is missing, or the architecture passes a keyword that is unknown here.
    """

    def attention(
        module: torch.nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: TreeMask | None,
        *,
        dropout: float = 0.0,
        scaling: float | None = None,
        softcap: float | None = None,
        s_aux: Tensor | None = None,
        layout: Layout | None = None,
        **others: Any,
    ) -> tuple[Tensor, None]:
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


def repeated(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Key and value [1, kv_heads, T, d] with each head as often as query heads [1, heads, T, d] share it."""
    repeat = query.shape[1] // key.shape[1]
    if repeat == 1:
        return key, value
    return key.repeat_interleave(repeat, dim=1), value.repeat_interleave(repeat, dim=1)


def in_one_dtype(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, ...]:
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
