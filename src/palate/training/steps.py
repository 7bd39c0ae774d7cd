"""From a dataset to the order of its steps.

The config (batch size × accumulation × ranks) defines a step, never the memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.utils.data import Dataset, Sampler

from palate.text.groups import EncodedGroup

_CHUNK = 1 << 14  # rows of the order that are Python numbers at a time


class Groups(Dataset[EncodedGroup]):
    """Encoded groups, and after the last one any number of weight-0 repeats that even out ranks.

    Index n + i is group i mod n with weight 0: it is computed, so that every rank takes part in every step, but does
    not count in any mean.
    """

    def __init__(self, groups: Sequence[EncodedGroup]) -> None:
        self.groups = groups

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, index: int) -> EncodedGroup:
        group = self.groups[index % len(self.groups)]
        return group if index < len(self.groups) else replace(group, weight=0.0)


class StepOrder(Sampler[int]):
    """The order of an epoch: a permutation that depends on seed and epoch only, filled up to a multiple.

    The order is the same for any number of ranks and any accumulation, and after a resume.

    Args:
        rows: number of groups.
        multiple: rows of one DataLoader batch over all ranks; the order's length is a multiple of it.
        seed: of the permutations; None keeps the order of the dataset.
        repeats: how often each block of `multiple` rows comes in a row.
    """

    def __init__(self, rows: int, multiple: int, seed: int | None, *, repeats: int = 1) -> None:
        self._rows = rows
        self._multiple = multiple
        self._length = -(-rows // multiple) * multiple
        self._seed = seed
        self._repeats = repeats
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self._length * self._repeats

    def __iter__(self) -> Iterator[int]:
        order = torch.arange(self._length)  # 8 bytes a row; a list of numbers would take five times as much
        if self._seed is not None:
            generator = torch.Generator().manual_seed(self._seed * 1_000_003 + self.epoch)
            torch.randperm(self._rows, generator=generator, out=order[: self._rows])
        size = self._multiple if self._repeats > 1 else _CHUNK
        for start in range(0, self._length, size):
            block = order[start : start + size].tolist()
            for _ in range(self._repeats):
                yield from block


def order_of(dataloader: Any) -> StepOrder:
    """The StepOrder inside accelerate's wrappers."""
    batch_sampler = dataloader.batch_sampler
    while not isinstance(getattr(batch_sampler, "sampler", None), StepOrder):
        batch_sampler = batch_sampler.batch_sampler
    order: StepOrder = batch_sampler.sampler
    return order
