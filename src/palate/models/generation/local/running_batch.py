"""A batch of answers whose rows join and leave at any step, as continuous batching needs it (Orca, OSDI 2022)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

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
