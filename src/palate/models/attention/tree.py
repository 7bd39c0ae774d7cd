"""Tree attention: in a packed row, a completion attends to its prompt and to itself only.

Registered with transformers' `AttentionInterface` and `AttentionMaskInterface`, so every architecture that dispatches
through them runs it unchanged. The row's tree (`text.batch.Layout`) is a keyword of the model's forward and never a
global, because activation checkpointing replays layers after a global would have changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import causal_mask_function

from palate.errors import ModelError
from palate.models.attention.cpu import cpu_tree_attention
from palate.models.attention.segments import segments, visible
from palate.text.batch import Layout

TREE = "palate_tree"

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

# Where the blocks of `attention.cpu` compute a row; elsewhere SDPA computes each span.
_BLOCKS_ON = ("cpu",)

# Rows of a mask that are compared with a sliding window.
_ROWS = 16

MaskFunction = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


class TreeMask:
    """An architecture's own mask rule (a sliding window, chunks …), evaluated at logical positions.

    The mask interface does not see the layout but the attention function does, so the rule is passed between them. One
    TreeMask is made per forward and shared by all layers of a kind; it caches the blocks that it evaluated.
    """

    def __init__(self, rule: MaskFunction) -> None:
        self.rule = rule
        self._blocks: dict[tuple[int, int], torch.Tensor | None] = {}
        self._windows: dict[int, int] = {}

    def block(self, queries: int, keys: int, device: torch.device) -> torch.Tensor | None:
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

    def rows(at: torch.Tensor) -> torch.Tensor:
        return rule(zero, zero, at[:, None], k) & (k <= at[:, None])

    width = int(rows(torch.tensor([keys - 1])).sum())
    q = torch.cat([torch.linspace(0, keys - 1, _ROWS).long(), torch.tensor([max(width - 1, 0), min(width, keys - 1)])])
    if width == 0 or not torch.equal(rows(q), (k <= q[:, None]) & (k > q[:, None] - width)):
        raise ModelError("a layer's attention mask is no sliding window, so it needs attention: tree or flex")
    return width


def tree_mask(*, mask_function: MaskFunction, **_: Any) -> TreeMask | None:
    """The registered mask function: None for a purely causal layer, else the layer's rule."""
    return None if mask_function is causal_mask_function else TreeMask(mask_function)


def tree_attention(
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
    """The registered attention function.

    Args:
        module: the attention layer.
        query: [1, heads, T, d].
        key: [1, kv_heads, T, d].
        value: [1, kv_heads, T, d_v].
        attention_mask: the result of `tree_mask` for this layer.
        dropout: probability of dropping an attention weight.
        scaling: factor on the scores; None for 1/√d.
        softcap: c·tanh(scores / c) before the softmax (Gemma 2, 2408.00118).
        s_aux: [heads], attention sinks: one more logit per head, whose value is 0 (gpt-oss; 2309.17453).
        layout: the packed row's tree.

    Returns:
        [1, T, heads, d_v] and None, as transformers expects.

    Raises:
        ModelError: the layout is missing, or the architecture passes a keyword that is unknown here.
    """
    row = check_attention_call(module, attention_mask, layout, kwargs)
    if scaling is None:
        scaling = query.shape[-1] ** -0.5
    plain = attention_mask is None and not dropout and softcap is None and s_aux is None
    if plain and query.device.type in _BLOCKS_ON and query.dtype == key.dtype == value.dtype:
        return cpu_tree_attention(query[0], key[0], value[0], row, scaling)[None], None
    outputs = [
        _attend(q, k, v, mask, dropout=dropout, scaling=scaling, softcap=softcap, sinks=s_aux)
        for q, k, v, mask in _blocks(query, *repeated(query, key, value), row, attention_mask)
    ]
    return torch.cat(outputs, dim=2).transpose(1, 2).contiguous(), None


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


def refuse_features(
    module: torch.nn.Module,
    kernel: str,
    *,
    dropout: float = 0.0,
    softcap: float | None = None,
    sinks: torch.Tensor | None = None,
) -> None:
    """Raise ModelError for a feature of the model that the kernel cannot express."""
    given = {"dropout": bool(dropout), "softcapped scores": softcap is not None, "attention sinks": sinks is not None}
    feature = next((name for name, present in given.items() if present), None)
    if feature is not None:
        raise ModelError(f"{type(module).__name__} has {feature}, which {kernel} cannot express; use attention: tree")


def check_attention_call(
    module: torch.nn.Module, attention_mask: object, layout: Layout | None, others: Mapping[str, Any]
) -> Layout:
    """Check the arguments that an architecture passes to attention; returns the layout.

    Raises:
        ModelError: as `tree_attention`.
    """
    unknown = sorted(k for k, v in others.items() if v is not None and v is not False and k not in _HARMLESS)
    if unknown:
        raise ModelError(
            f"{type(module).__name__} passes {', '.join(unknown)} to attention, which tree attention does not support"
        )
    if layout is None:
        raise ModelError(f"{type(module).__name__} did not pass the packed layout on to its attention")
    if attention_mask is not None and not isinstance(attention_mask, TreeMask):
        raise ModelError(
            f"{type(module).__name__} replaced the attention mask by its own {type(attention_mask).__name__}"
        )
    return layout


def _blocks(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: Layout, mask: TreeMask | None
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]]:
    """Per segment of the row [1, heads, T, d]: queries [1, heads, n, d], keys and values [1, heads, m, d], and mask."""
    for part in segments(layout):
        n, shared = part.end - part.start, part.prefix[1] - part.prefix[0]
        allowed = mask.block(n, shared + n, query.device) if mask is not None else None
        if allowed is None and shared:
            allowed = _offset_causal(n, shared, query.device)
        yield query[:, :, part.start : part.end], visible(key, part), visible(value, part), allowed


def _offset_causal(queries: int, offset: int, device: torch.device) -> torch.Tensor:
    """bool [queries, offset + queries]: each query sees the whole prompt (`offset` keys) and its own past."""
    return torch.ones(queries, offset + queries, dtype=torch.bool, device=device).tril(offset)


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    allowed: torch.Tensor | None,
    *,
    dropout: float,
    scaling: float,
    softcap: float | None,
    sinks: torch.Tensor | None,
) -> torch.Tensor:
    """[1, heads, n, d_v] of one dense block, query [1, heads, n, d] and keys [1, heads, m, d].

    `allowed` None means causal from the upper left corner, n = m.
    """
    if softcap is None and sinks is None:
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask=allowed, dropout_p=dropout, scale=scaling, is_causal=allowed is None
        )
    scores = (query @ key.transpose(2, 3)).float() * scaling
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if allowed is None:
        allowed = _offset_causal(query.shape[2], key.shape[2] - query.shape[2], query.device)
    scores = scores.masked_fill(~allowed, float("-inf"))
    if sinks is not None:
        sink = sinks.float().view(1, -1, 1, 1).expand(scores.shape[0], -1, scores.shape[2], 1)
        weights = torch.cat([scores, sink], dim=-1).softmax(dim=-1)[..., :-1]
    else:
        weights = scores.softmax(dim=-1)
    return F.dropout(weights, dropout).to(value.dtype) @ value


AttentionInterface.register(TREE, tree_attention)
AttentionMaskInterface.register(TREE, tree_mask)
