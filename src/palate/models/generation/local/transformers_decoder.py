"""A model's own forward as a `decode.BatchDecoder`, with the kind of cache that it uses."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from palate.models.attention.rotary import LengthRule, length_rule, reset_rope_lengths
from palate.models.upstream import base_of

# Tokens by which a full cache buffer grows.
_GROWTH = 64


class GrowingLayer(DynamicLayer):  # type: ignore[misc]
    """A cache layer that writes new tokens into a larger buffer instead of concatenating."""

    keys: Tensor
    values: Tensor

    def __init__(self) -> None:
        super().__init__()
        self._buffers: list[Tensor] = []  # of keys and values

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append [rows, heads, n, d] and return all keys and values so far, as views of the buffers."""
        del args, kwargs
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.get_seq_length()
        end = start + key_states.shape[2]
        new = key_states, value_states
        if not self._buffers or end > self._buffers[0].shape[2]:
            old = (self.keys, self.values) if start else (None, None)
            self._buffers = [_grown(*pair, end + _GROWTH) for pair in zip(old, new, strict=True)]
        for buffer, states in zip(self._buffers, new, strict=True):
            buffer[:, :, start:end] = states
        self.keys, self.values = (buffer[:, :, :end] for buffer in self._buffers)
        return self.keys, self.values

    def batch_repeat_interleave(self, repeats: int) -> None:
        super().batch_repeat_interleave(repeats)
        self.drop_buffers()

    def batch_select_indices(self, indices: Tensor) -> None:
        super().batch_select_indices(indices)
        self.drop_buffers()

    def drop_buffers(self) -> None:
        """`keys` and `values` were replaced: the next update copies them into new buffers."""
        self._buffers = []


def _grown(old: Tensor | None, new: Tensor, length: int) -> Tensor:
    buffer = new.new_empty(new.shape[0], new.shape[1], length, new.shape[3])
    if old is not None:
        buffer[:, :, : old.shape[2]] = old
    return buffer


class TransformersDecoder:
    """The forward of a model with its own attention selected, in eval mode; gradient must be off."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._device = next(model.parameters()).device
        base = base_of(model)
        config = base.config
        # transformers renames it step by step, and passes it on to layers and attention under the same name.
        takes = inspect.signature(type(base).forward).parameters
        self._cache_argument = "cache" if "cache" in takes else "past_key_values"
        self._rule: LengthRule | None = length_rule(config)
        # If the config enables them, transformers also computes a balancing loss, whose mask does not fit a cache.
        on = getattr(config.get_text_config(), "output_router_logits", False)
        self._routers_off = {"output_router_logits": False} if on else {}

    def prefill(self, prompts: Sequence[Sequence[int]], copies: int) -> Tensor:
        """See BatchDecoder."""
        if self._rule is not None:
            if len({len(prompt) for prompt in prompts}) > 1:
                raise ValueError("prompts of different lengths have different rotary positions in this model")
            reset_rope_lengths(self._model)
        self._cache = _growing_cache(self._model)
        # Rows of recurrent layers cannot be selected or repeated: their batch stays complete.
        self._selectable = all(hasattr(layer, "batch_select_indices") for layer in self._cache.layers)
        if not self._selectable:
            prompts, copies = [prompt for prompt in prompts for _ in range(copies)], 1
        input_ids, self._mask = _left_padded(prompts, self._device)
        positions = (self._mask.cumsum(-1) - 1).clamp_(min=0)
        logits = self._logits(input_ids, positions)
        self._position = positions[:, -1:]
        self._ids = input_ids
        if copies > 1:
            self._ids = self._ids.repeat_interleave(copies, 0)
            self._cache.batch_repeat_interleave(copies)
            logits, self._mask = logits.repeat_interleave(copies, 0), self._mask.repeat_interleave(copies, 0)
            self._position = self._position.repeat_interleave(copies, 0)
        return logits

    def step(self, tokens: Tensor) -> Tensor:
        """See BatchDecoder."""
        if self._rule is None:
            return self.read(tokens[:, None])
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(tokens), 1)], dim=1)
        self._position = self._position + 1
        self._ids = torch.cat([self._ids, tokens[:, None]], dim=1)
        length = self._ids.shape[1]
        if self._rule.angles(length) == self._rule.angles(length - 1):
            return self._logits(tokens[:, None], self._position)
        # The angles of all tokens change with the length, so the cached keys are no longer valid.
        self._cache = _growing_cache(self._model)
        reset_rope_lengths(self._model)
        return self._logits(self._ids, torch.arange(length, device=self._device).expand(len(tokens), length))

    def read(self, tokens: Tensor) -> Tensor:
        """Logits float32 [rows, V] after n more tokens of each row, int64 [rows, n]; not under a `LengthRule`."""
        rows, n = tokens.shape
        self._mask = torch.cat([self._mask, self._mask.new_ones(rows, n)], dim=1)
        positions = self._position + torch.arange(1, n + 1, device=self._device)
        self._position = positions[:, -1:]
        return self._logits(tokens, positions)

    @property
    def can_join(self) -> bool:
        """Whether rows can join: every layer of the cache has keys and values of all tokens, or of a window of them."""
        kinds = {type(layer) for layer in _growing_cache(self._model).layers}
        return self._rule is None and kinds <= {GrowingLayer, DynamicSlidingWindowLayer}

    def join(self, other: TransformersDecoder) -> None:
        """Append the rows of another decoder of the same model, whose cache it takes; see `can_join`."""
        # Rows end in the same column; columns that only rows which have left had are removed.
        columns = max(int(mask.sum(1).max()) for mask in (self._mask, other._mask))
        for mine, theirs in zip(self._cache.layers, other._cache.layers, strict=True):
            if mine.is_initialized:  # a layer that shares another one's keys has none
                _widen(mine, columns)
                _widen(theirs, columns)
                mine.keys = torch.cat([mine.keys, theirs.keys])
                mine.values = torch.cat([mine.values, theirs.values])
        masks = (F.pad(mask, (columns - mask.shape[1], 0)) for mask in (self._mask, other._mask))
        self._mask = torch.cat(list(masks))
        self._position = torch.cat([self._position, other._position])
        self._ids = self._ids.new_empty(len(self._mask), 0)  # read again only under a LengthRule

    def keep(self, kept: Tensor) -> bool:
        """See BatchDecoder."""
        if self._selectable:
            self._cache.batch_select_indices(kept)
            self._mask, self._position, self._ids = self._mask[kept], self._position[kept], self._ids[kept]
        return self._selectable

    def _logits(self, input_ids: Tensor, positions: Tensor) -> Tensor:
        output = self._model(
            input_ids=input_ids,
            attention_mask=self._mask,
            position_ids=positions,
            use_cache=True,
            logits_to_keep=1,
            **{self._cache_argument: self._cache},
            **self._routers_off,
        )
        logits: Tensor = output.logits[:, -1].float()
        return logits


def _left_padded(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids and mask [prompts, longest], padded on the left: all answers begin in the same column."""
    width = max(len(prompt) for prompt in prompts)
    ids = torch.zeros((len(prompts), width), dtype=torch.long)
    mask = torch.zeros((len(prompts), width), dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(list(prompt))
        mask[row, width - len(prompt) :] = 1
    return ids.to(device), mask.to(device)


def _growing_cache(model: Any) -> DynamicCache:
    """The architecture's kind of cache, with growing buffers for layers that keep all tokens."""
    cache = DynamicCache(config=model.config)
    cache.layers = [GrowingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def _widen(layer: Any, columns: int) -> None:
    """Give a layer's cache this many columns, by zeros or by removing columns on the left."""
    width = columns
    if isinstance(layer, GrowingLayer):
        layer.drop_buffers()
    else:  # a window: it keeps what the next token will see
        width, layer.cumulative_length = min(columns, layer.sliding_window - 1), columns
    layer.keys, layer.values = (F.pad(x, (0, 0, width - x.shape[2], 0)) for x in (layer.keys, layer.values))
