"""From an optimiser step's groups to packed micro-batches, and from a dataset to the order of steps.

The config (batch size × accumulation × ranks) defines a step, never the memory: the token budget only splits the step's
groups into forward passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.utils.data import Dataset, Sampler

from palate.text.batch import Batch
from palate.text.encode import EncodedGroup


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
        if self._seed is None:
            order = list(range(self._rows))
        else:
            generator = torch.Generator().manual_seed(self._seed * 1_000_003 + self.epoch)
            order = torch.randperm(self._rows, generator=generator).tolist()
        order += range(self._rows, self._length)
        blocks = (order[start : start + self._multiple] for start in range(0, self._length, self._multiple))
        return (index for block in blocks for _ in range(self._repeats) for index in block)


def order_of(dataloader: Any) -> StepOrder:
    """The StepOrder inside accelerate's wrappers."""
    batch_sampler = dataloader.batch_sampler
    while not isinstance(getattr(batch_sampler, "sampler", None), StepOrder):
        batch_sampler = batch_sampler.batch_sampler
    order: StepOrder = batch_sampler.sampler
    return order


def micro_batches(
    groups: Sequence[EncodedGroup], budget: int, collate: Callable[[Sequence[EncodedGroup]], Batch], *, packed: bool
) -> list[Batch]:
    """Split a list of groups into batches of at most `budget` tokens, longest groups together.

    Sorting by length balances the passes and, on the padded path, wastes less; it never changes which groups meet in
    a step, and a step's gradient is a sum over groups.

    Args:
        groups: a DataLoader batch.
        budget: tokens of one forward pass; a longer group gets a pass of its own.
        collate: `text.batch.pack` or `text.batch.pad`.
        packed: whether a pass costs the sum of its groups' tokens, or rows × the longest row.
    """
    batches: list[Batch] = []
    current: list[EncodedGroup] = []
    for group in sorted(groups, key=lambda g: -g.packed_tokens):
        if current and cost([*current, group], packed=packed) > budget:
            batches.append(collate(current))
            current = []
        current.append(group)
    if current:
        batches.append(collate(current))
    return batches


def cost(groups: Sequence[EncodedGroup], *, packed: bool) -> int:
    """Tokens that a forward pass over the groups computes."""
    if packed:
        return sum(group.packed_tokens for group in groups)
    return sum(len(group.completions) for group in groups) * max(group.longest_row for group in groups)
