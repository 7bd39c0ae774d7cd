"""A batch of answers whose rows join and leave at any step, as continuous batching needs it (Orca, OSDI 2022): by a
model's own forward, and by the CPU decoder for Llama-like models.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from palate.models.generation.local.llama_decoder import LlamaDecoder, llama_decoder_of
from palate.models.generation.local.row_cache import AttentionShape, PartialPrompt, RowCache, block_size
from palate.models.generation.local.transformers_decoder import TransformersDecoder


class Chunk(NamedTuple):
    """Consecutive tokens of a prompt that are read in one step.

    Attributes:
        row: number of the row that the prompt begins.
        ids: the tokens.
        length: of the whole prompt.
        last: whether the prompt ends here: its row joins the batch.
    """

    row: int
    ids: Sequence[int]
    length: int
    last: bool


class RunningBatch(Protocol):
    """A batch of answers; gradient must be off.

    Attributes:
        can_join: whether rows can join. If not, there is one row at a time, and its prompt is one chunk.
    """

    can_join: bool

    def step(self, tokens: Mapping[int, int], chunks: Sequence[Chunk]) -> tuple[list[int], Tensor]:
        """Read one more token of every row, and chunks of prompts: in order, and at most one of a prompt.

        Returns the numbers of all rows, with those that have just joined, and their logits float32 [rows, V].
        """
        ...

    def remove(self, rows: Collection[int]) -> None:
        """Remove rows, and prompts that were not read to their end."""
        ...

    def cache_tokens(self, lengths: Sequence[int]) -> int:
        """Tokens that the cache takes for rows of these lengths, with padding."""
        ...


class TransformersBatch:
    """`RunningBatch` by the model's own forward; the model as for `TransformersDecoder`."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._device = next(model.parameters()).device
        self._prompts: dict[int, TransformersDecoder] = {}
        self._rows: list[int] = []
        self._batch = TransformersDecoder(model)
        self.can_join = self._batch.can_join

    def step(self, tokens: Mapping[int, int], chunks: Sequence[Chunk]) -> tuple[list[int], Tensor]:
        """See RunningBatch."""
        logits = [self._batch.step(self._tensor([tokens[row] for row in self._rows]))] if self._rows else []
        for chunk in chunks:
            read = self._read(chunk)
            if not chunk.last:
                continue
            logits.append(read)
            decoder = self._prompts.pop(chunk.row)
            if self._rows:
                self._batch.join(decoder)
            else:
                self._batch = decoder
            self._rows.append(chunk.row)
        return list(self._rows), torch.cat(logits) if logits else torch.empty(0)

    def remove(self, rows: Collection[int]) -> None:
        """See RunningBatch."""
        for row in rows:
            self._prompts.pop(row, None)
        kept = [place for place, row in enumerate(self._rows) if row not in rows]
        if len(kept) == len(self._rows):
            return
        self._rows = [self._rows[place] for place in kept]
        if self._rows:
            self._batch.keep(self._tensor(kept))
        else:
            self._batch = TransformersDecoder(self._model)

    def cache_tokens(self, lengths: Sequence[int]) -> int:
        """See RunningBatch."""
        return len(lengths) * max(lengths, default=0)

    def _read(self, chunk: Chunk) -> Tensor:
        decoder = self._prompts.get(chunk.row)
        if decoder is not None:
            return decoder.read(self._tensor(chunk.ids)[None])
        decoder = self._prompts[chunk.row] = TransformersDecoder(self._model)
        return decoder.prefill([chunk.ids], 1)

    def _tensor(self, ids: Sequence[int]) -> Tensor:
        return torch.tensor(list(ids), device=self._device)


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
