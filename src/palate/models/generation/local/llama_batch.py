"""Rows that join and leave a batch of the CPU decoder for Llama-like models."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from palate.models.generation.local.llama_decoder import LlamaDecoder, llama_decoder_of
from palate.models.generation.local.row_cache import AttentionShape, PartialPrompt, RowCache, block_size
from palate.models.generation.local.running_batch import Chunk


class LlamaBatch:
    """`RunningBatch` with a copy of the model's current weights.

    The rows' new tokens and the chunks of prompts go through the layers together, so the weights are read once a step.
    """

    can_join = True

    def __init__(self, decoder: LlamaDecoder, shape: AttentionShape) -> None:
        self._decoder, self._shape = decoder, shape
        self._cache = RowCache(shape)
        self._prompts: dict[int, PartialPrompt] = {}

    def step(self, tokens: Mapping[int, int], chunks: Sequence[Chunk]) -> tuple[list[int], Tensor]:
        """See RunningBatch."""
        self._cache.begin_step()
        rows, positions = self._cache.rows, self._cache.lengths
        ids = [tokens[row] for row in rows]
        parts: list[tuple[PartialPrompt, slice]] = []
        for chunk in chunks:
            prompt = self._prompts.get(chunk.row)
            if prompt is None:
                prompt = self._prompts[chunk.row] = PartialPrompt(self._shape, chunk.length)
            parts.append((prompt, slice(len(ids), len(ids) + len(chunk.ids))))
            ids += chunk.ids
            positions += range(prompt.done, prompt.done + len(chunk.ids))
        with torch.autocast("cpu", enabled=False):
            x = self._hidden(torch.tensor(ids), torch.tensor(positions), len(rows), parts)
            self._cache.end_step()
            places = list(range(len(rows)))
            for chunk, (prompt, part) in zip(chunks, parts, strict=True):
                prompt.done += len(chunk.ids)
                if chunk.last:
                    del self._prompts[chunk.row]
                    self._cache.add(chunk.row, prompt.keys, prompt.values)
                    rows.append(chunk.row)
                    places.append(part.stop - 1)
            return rows, self._decoder.logits(x[places]) if rows else torch.empty(0)

    def remove(self, rows: Collection[int]) -> None:
        """See RunningBatch."""
        for row in rows:
            self._prompts.pop(row, None)
        self._cache.remove(rows)

    def cache_tokens(self, lengths: Sequence[int]) -> int:
        """See RunningBatch."""
        return sum(map(block_size, lengths))

    def _hidden(
        self, ids: Tensor, positions: Tensor, rows: int, parts: Sequence[tuple[PartialPrompt, slice]]
    ) -> Tensor:
        """The residual stream [T, width] after the last layer, of the rows' new tokens and then those of the parts."""
        x = self._decoder.embedded(ids)
        cos, sin = self._decoder.angles(positions)
        for index, layer in enumerate(self._decoder.layers):
            q, k, v = layer.rotated(x, cos, sin)
            attended = [self._cache.attend(index, q[:rows], k[:rows], v[:rows])] if rows else []
            attended += [prompt.attend(index, q[part], k[part], v[part]) for prompt, part in parts]
            x = layer.finish(x, torch.cat(attended))
        return x


def llama_batch_of(model: Any, autocast: torch.dtype | None, most: int) -> LlamaBatch | None:
    """A batch of a Llama-like model, or None if the model's own forward must be used; as for `llama_decoder_of`."""
    decoder = llama_decoder_of(model, autocast, most)
    if decoder is None:
        return None
    shapes = {(layer.heads, layer.key_heads, layer.width, layer.scaling) for layer in decoder.layers}
    if len(shapes) > 1:
        return None
    return LlamaBatch(decoder, AttentionShape(len(decoder.layers), *shapes.pop()))
