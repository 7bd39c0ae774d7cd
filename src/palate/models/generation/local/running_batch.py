"""A batch of answers whose rows join and leave at any step, as continuous batching needs it (Orca, OSDI 2022)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch

from palate.models.generation.local.transformers_decoder import StockReader


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


class Rows(Protocol):
    """A batch of answers; gradient must be off.

    Attributes:
        joins: whether rows can join. If not, there is one row at a time, and its prompt is one chunk.
    """

    joins: bool

    def step(self, tokens: Mapping[int, int], chunks: Sequence[Chunk]) -> tuple[list[int], torch.Tensor]:
        """Read one more token of every row, and chunks of prompts.

        Args:
            tokens: of each row in the batch.
            chunks: of prompts; those of one prompt come in order, at most one in a step.

        Returns:
            The numbers of all rows, with those that have just joined, and their logits float32 [rows, V].
        """
        ...

    def leave(self, rows: Collection[int]) -> None:
        """Remove rows, and prompts that were not read to their end."""
        ...

    def cells(self, lengths: Sequence[int]) -> int:
        """Tokens for which the cache has room if it holds rows of these lengths."""
        ...


class StockRows:
    """`Rows` by the model's own forward.

    Args:
        model: as for `StockReader`.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._device = next(model.parameters()).device
        self._prompts: dict[int, StockReader] = {}
        self._rows: list[int] = []
        self._batch = StockReader(model)
        self.joins = self._batch.joins

    def step(self, tokens: Mapping[int, int], chunks: Sequence[Chunk]) -> tuple[list[int], torch.Tensor]:
        """See Rows."""
        logits = [self._batch.next(self._tensor([tokens[row] for row in self._rows]))] if self._rows else []
        for chunk in chunks:
            read = self._read(chunk)
            if chunk.last:
                logits.append(read)
                self._join(chunk.row, self._prompts.pop(chunk.row))
        return list(self._rows), torch.cat(logits) if logits else torch.empty(0)

    def leave(self, rows: Collection[int]) -> None:
        """See Rows."""
        for row in rows:
            self._prompts.pop(row, None)
        kept = [place for place, row in enumerate(self._rows) if row not in rows]
        if len(kept) == len(self._rows):
            return
        self._rows = [self._rows[place] for place in kept]
        if self._rows:
            self._batch.keep(self._tensor(kept))
        else:
            self._batch = StockReader(self._model)

    def cells(self, lengths: Sequence[int]) -> int:
        """See Rows."""
        return len(lengths) * max(lengths, default=0)

    def _read(self, chunk: Chunk) -> torch.Tensor:
        reader = self._prompts.get(chunk.row)
        if reader is not None:
            return reader.read(self._tensor(chunk.ids)[None])
        reader = self._prompts[chunk.row] = StockReader(self._model)
        return reader.first([chunk.ids], 1)

    def _join(self, row: int, reader: StockReader) -> None:
        if self._rows:
            self._batch.join(reader)
        else:
            self._batch = reader
        self._rows.append(row)

    def _tensor(self, ids: Sequence[int]) -> torch.Tensor:
        return torch.tensor(list(ids), device=self._device)
