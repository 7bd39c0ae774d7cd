"""The decoding loop: each prompt is prefilled once for all its samples, and finished rows are removed from the batch.

transformers' own loop is slow for many answers: it prefills a prompt for every sample, copies the whole cache at every
token, and under autocast casts float32 weights again at every token.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import nn
from transformers.cache_utils import DynamicCache, DynamicLayer

from palate.models.rotary import LengthRule, forget_lengths, length_rule
from palate.models.upstream import base_of

# Tokens by which a full cache buffer grows.
_GROWTH = 64

Choose = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]
"""(logits float32 [rows, V], numbers of the rows int64 [rows], step) → tokens int64 [rows]."""


class GrowingLayer(DynamicLayer):  # type: ignore[misc]
    """A cache layer that writes new tokens into a larger buffer instead of concatenating."""

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self._key_buffer: torch.Tensor | None = None
        self._value_buffer: torch.Tensor | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append [rows, heads, n, d] and return all keys and values so far, as views of the buffers."""
        del args, kwargs
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.get_seq_length()
        end = start + key_states.shape[2]
        if self._key_buffer is None or self._value_buffer is None or end > self._key_buffer.shape[2]:
            self._key_buffer = _grown(self.keys if start else None, key_states, end + _GROWTH)
            self._value_buffer = _grown(self.values if start else None, value_states, end + _GROWTH)
        self._key_buffer[:, :, start:end] = key_states
        self._value_buffer[:, :, start:end] = value_states
        self.keys, self.values = self._key_buffer[:, :, :end], self._value_buffer[:, :, :end]
        return self.keys, self.values

    def batch_repeat_interleave(self, repeats: int) -> None:
        super().batch_repeat_interleave(repeats)
        self._key_buffer = self._value_buffer = None

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        super().batch_select_indices(indices)
        self._key_buffer = self._value_buffer = None


def _grown(old: torch.Tensor | None, new: torch.Tensor, length: int) -> torch.Tensor:
    buffer = new.new_empty(new.shape[0], new.shape[1], length, new.shape[3])
    if old is not None:
        buffer[:, :, : old.shape[2]] = old
    return buffer


class Reader(Protocol):
    """A model that reads a batch of prompts, then one token at a time for each row."""

    def first(self, prompts: Sequence[Sequence[int]], copies: int) -> torch.Tensor:
        """Logits float32 [prompts · copies, V] of the token after each prompt; copies of a prompt are consecutive."""
        ...

    def next(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits float32 [rows, V] after one more token for each row, int64 [rows]."""
        ...

    def keep(self, kept: torch.Tensor) -> bool:
        """Continue with these rows only, int64 [kept]; returns False if rows cannot be removed from the batch."""
        ...


class StockReader:
    """The model's own forward, with the kind of cache that it uses.

    Args:
        model: a causal LM with its stock attention selected, in eval mode; gradient must be off.
    """

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

    def first(self, prompts: Sequence[Sequence[int]], copies: int) -> torch.Tensor:
        """See Reader."""
        if self._rule is not None:
            if len({len(prompt) for prompt in prompts}) > 1:
                raise ValueError("prompts of different lengths have different rotary positions in this model")
            forget_lengths(self._model)
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

    def next(self, tokens: torch.Tensor) -> torch.Tensor:
        """See Reader."""
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(tokens), 1)], dim=1)
        self._position = self._position + 1
        if self._rule is None:
            return self._logits(tokens[:, None], self._position)
        self._ids = torch.cat([self._ids, tokens[:, None]], dim=1)
        length = self._ids.shape[1]
        if self._rule.angles(length) == self._rule.angles(length - 1):
            return self._logits(tokens[:, None], self._position)
        # The angles of all tokens change with the length, so the cached keys are no longer valid.
        self._cache = _growing_cache(self._model)
        forget_lengths(self._model)
        return self._logits(self._ids, torch.arange(length, device=self._device).expand(len(tokens), length))

    def keep(self, kept: torch.Tensor) -> bool:
        """See Reader."""
        if self._selectable:
            self._cache.batch_select_indices(kept)
            self._mask, self._position, self._ids = self._mask[kept], self._position[kept], self._ids[kept]
        return self._selectable

    def _logits(self, input_ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        output = self._model(
            input_ids=input_ids,
            attention_mask=self._mask,
            position_ids=positions,
            use_cache=True,
            logits_to_keep=1,
            **{self._cache_argument: self._cache},
            **self._routers_off,
        )
        logits: torch.Tensor = output.logits[:, -1].float()
        return logits


def decode(
    reader: Reader,
    prompts: Sequence[Sequence[int]],
    copies: int,
    *,
    max_new_tokens: int,
    stop_ids: Sequence[int],
    choose: Choose,
    on_token: Callable[[int, int], None] | None = None,
) -> list[list[int]]:
    """Token ids of the answers to one batch of prompts, `copies` of each, in the order of the prompts.

    Args:
        reader: the model; gradient must be off.
        prompts: token ids.
        copies: answers to each prompt.
        max_new_tokens: maximum length of an answer.
        stop_ids: token ids that end an answer.
        choose: picks the next tokens from logits; row numbers are those of the returned answers.
        on_token: called with the row and the token of each new token; what it raises ends the decoding.
    """
    logits = reader.first(prompts, copies)
    device = logits.device
    rows = torch.arange(len(prompts) * copies, device=device)
    stops = torch.tensor(list(stop_ids), device=device)
    answers: list[list[int]] = [[] for _ in range(len(rows))]
    unfinished = torch.ones(len(rows), dtype=torch.bool, device=device)
    for step in range(max_new_tokens):
        tokens = choose(logits, rows, step)
        for row, token, continues in zip(rows.tolist(), tokens.tolist(), unfinished.tolist(), strict=True):
            if continues:
                answers[row].append(token)
                if on_token is not None:
                    on_token(row, token)
        unfinished &= ~torch.isin(tokens, stops)
        remaining = int(unfinished.sum())
        if remaining == 0 or step == max_new_tokens - 1:
            break
        # Removing rows copies the cache, so it is done only when a quarter of them have finished.
        if remaining <= 0.75 * len(rows):
            kept = unfinished.nonzero().squeeze(-1)
            if reader.keep(kept):
                rows, tokens, unfinished = rows[kept], tokens[kept], unfinished[kept]
        logits = reader.next(tokens)
    return answers


def _left_padded(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
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


@contextlib.contextmanager
def linear_weights_in(model: nn.Module, dtype: torch.dtype | None) -> Iterator[None]:
    """A context in which linear layers have their weights in `dtype`, so that autocast does not cast them each token.

    A head tied to the embedding gets a separate copy; the embedding is not changed.
    """
    swapped: list[tuple[Any, torch.Tensor]] = []
    try:
        if dtype is not None:
            for module in model.modules():
                if type(module) is nn.Linear and module.weight.dtype != dtype:
                    swapped.append((module, module.weight))
                    module.weight = nn.Parameter(module.weight.detach().to(dtype), requires_grad=False)
        yield
    finally:
        for module, weight in swapped:
            module.weight = weight
