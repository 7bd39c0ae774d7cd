"""Encoded groups in a file: written once, in order, and read one at a time, so that memory does not grow with the rows.

`groups.bin` has a block for each group, `index.bin` its end, its checksum and its token counts. Blocks are read with
`pread` and not mapped: mapped pages count as memory of the process, and a file that becomes shorter would kill it.

```
block   int32 [K, p, n1 … nK] · prompt int32 [p] · completions int32 [n1 + … + nK] · trained bool [n1 + … + nK] · JSON
```
"""

from __future__ import annotations

import json
import os
import weakref
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from palate.errors import ArtifactError
from palate.text.groups import EncodedCompletion, EncodedGroup

_GROUPS, _INDEX = "groups.bin", "index.bin"
_ENTRY = np.dtype([("end", "<i8"), ("crc", "<u4"), ("packed", "<i4"), ("longest", "<i4")])
_BUFFER = 1 << 20


@dataclass(frozen=True, slots=True)
class GroupLengths:
    """The token-length index of N groups.

    Attributes:
        packed: int [N], tokens of each group with its prompt once.
        longest: int [N], tokens of its longest prompt + completion.
    """

    packed: npt.NDArray[np.integer[Any]]
    longest: npt.NDArray[np.integer[Any]]


class LazyGroups(Sequence[EncodedGroup], ABC):
    """Groups that are made each time they are asked for; a slice is lazy, too."""

    @abstractmethod
    def read(self, index: int) -> EncodedGroup:
        """The group with this number, from 0."""

    @cached_property
    def lengths(self) -> GroupLengths:
        """Token counts of all groups, in order."""
        return _measured(self)

    @overload
    def __getitem__(self, index: int) -> EncodedGroup: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[EncodedGroup]: ...
    def __getitem__(self, index: int | slice) -> EncodedGroup | Sequence[EncodedGroup]:
        if isinstance(index, slice):
            return GroupSubset(self, range(len(self))[index])
        return self.read(range(len(self))[index])


def lengths_of(groups: Sequence[EncodedGroup]) -> GroupLengths:
    """The token counts of groups in memory or in a file."""
    return groups.lengths if isinstance(groups, LazyGroups) else _measured(groups)


def _measured(groups: Sequence[EncodedGroup]) -> GroupLengths:
    found = [(group.packed_tokens, group.longest_row) for group in groups]
    table = np.array(found, dtype=np.int64).reshape(-1, 2)
    return GroupLengths(table[:, 0], table[:, 1])


class GroupSubset(LazyGroups):
    """Some of the groups, by number."""

    def __init__(self, groups: Sequence[EncodedGroup], numbers: Sequence[int]) -> None:
        self._groups = groups
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def read(self, index: int) -> EncodedGroup:
        return self._groups[self._numbers[index]]


class JoinedGroups(LazyGroups):
    """The groups of two sequences, one after the other."""

    def __init__(self, first: Sequence[EncodedGroup], second: Sequence[EncodedGroup]) -> None:
        self._first = first
        self._second = second

    def __len__(self) -> int:
        return len(self._first) + len(self._second)

    def read(self, index: int) -> EncodedGroup:
        before = len(self._first)
        return self._first[index] if index < before else self._second[index - before]


class GroupFile(LazyGroups):
    """The groups of a folder that `GroupWriter` wrote. Processes that are forked or started anew may share it.

    Raises:
        ArtifactError: the folder is incomplete or damaged; a damaged group is found when it is read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            self._file = os.open(folder / _GROUPS, os.O_RDONLY)
            weakref.finalize(self, os.close, self._file)
            # Mapped read-only: its pages can be given back at any time, and ranks share them.
            empty = not (folder / _INDEX).stat().st_size
            index = np.empty(0, _ENTRY) if empty else np.memmap(folder / _INDEX, dtype=_ENTRY, mode="r")
            self._index: npt.NDArray[Any] = np.asarray(index)
            size = int(self._index["end"][-1]) if len(self._index) else 0
        except (OSError, ValueError) as error:
            raise ArtifactError(f"{folder}: the tokenised rows are incomplete ({error}); delete the folder") from error
        if os.fstat(self._file).st_size != size:
            raise ArtifactError(f"{folder}: the tokenised rows are incomplete; delete the folder")

    def __reduce__(self) -> tuple[type[GroupFile], tuple[Path]]:
        return GroupFile, (self._folder,)

    def __len__(self) -> int:
        return len(self._index)

    @cached_property
    def lengths(self) -> GroupLengths:
        return GroupLengths(self._index["packed"], self._index["longest"])

    def read(self, index: int) -> EncodedGroup:
        start = int(self._index["end"][index - 1]) if index else 0
        entry = self._index[index]
        block = os.pread(self._file, int(entry["end"]) - start, start)
        if zlib.crc32(block) != int(entry["crc"]):
            raise ArtifactError(f"{self._folder}: tokenised row {index + 1} is damaged; delete the folder, run again")
        return _decoded(block)


class GroupWriter:
    """Writes groups to a new folder, in order: `with GroupWriter(folder) as writer: …; groups = writer.close()`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._file = (folder / _GROUPS).open("wb", buffering=_BUFFER)
        self._index = (folder / _INDEX).open("wb", buffering=_BUFFER)
        self._end = 0

    def __enter__(self) -> GroupWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._index.close()

    def extend(self, groups: Iterable[EncodedGroup]) -> None:
        """Append groups. The row of a prompt (`EncodedGroup.record`) and sampled values are not stored."""
        for group in groups:
            block = _encoded(group)
            self._file.write(block)
            self._end += len(block)
            entry = (self._end, zlib.crc32(block), group.packed_tokens, group.longest_row)
            self._index.write(np.array(entry, dtype=_ENTRY).tobytes())

    def close(self) -> GroupFile:
        """Complete the folder, and open it."""
        self.__exit__()
        return GroupFile(self._folder)


def _encoded(group: EncodedGroup) -> bytes:
    completions = group.completions
    head = np.array([len(completions), len(group.prompt_ids), *(len(row.ids) for row in completions)], dtype="<i4")
    facts = [group.id, group.source, group.weight, group.labels, group.margin, group.dimensions]
    return b"".join(
        (
            head.tobytes(),
            group.prompt_ids.astype("<i4", copy=False).tobytes(),
            *(row.ids.astype("<i4", copy=False).tobytes() for row in completions),
            *(row.trained.tobytes() for row in completions),
            json.dumps(facts).encode(),
        )
    )


def _decoded(block: bytes) -> EncodedGroup:
    numbers = np.frombuffer(block, dtype=np.int32, count=len(block) // 4)
    count, prompt = int(numbers[0]), int(numbers[1])
    sizes = numbers[2 : 2 + count].tolist()
    start = 2 + count + prompt
    masks = 4 * (start + sum(sizes))  # bytes before the masks
    completions = []
    ids_at, mask_at = start, masks
    for size in sizes:
        trained = np.frombuffer(block, dtype=np.bool_, count=size, offset=mask_at)
        completions.append(EncodedCompletion(numbers[ids_at : ids_at + size], trained))
        ids_at, mask_at = ids_at + size, mask_at + size
    name, source, weight, labels, margin, dimensions = json.loads(block[mask_at:])
    scores = None if dimensions is None else {key: (pair[0], pair[1]) for key, pair in dimensions.items()}
    return EncodedGroup(
        name, numbers[start - prompt : start], tuple(completions), weight, source, tuple(labels), margin, scores
    )
