"""Rows that repeat or contradict an earlier row, found among the 64-bit hashes of all rows together."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Hashes: TypeAlias = npt.NDArray[np.uint64]
Indices: TypeAlias = npt.NDArray[np.int64]

OTHER, PAIR, LABELLED = range(3)


@dataclass(slots=True)
class RowHashes:
    """What is remembered of every row to compare it with all others: 25 bytes.

    Attributes:
        prompt: hash of the prompt.
        first, second: hashes of chosen and rejected; of a labelled completion its hash and its label (0 or 1); of
            other records one hash of all completions and 0.
        kind: `PAIR`, `LABELLED` or `OTHER`.
    """

    prompt: array[int] = field(default_factory=lambda: array("Q"))
    first: array[int] = field(default_factory=lambda: array("Q"))
    second: array[int] = field(default_factory=lambda: array("Q"))
    kind: array[int] = field(default_factory=lambda: array("B"))

    def append(self, prompt: int, first: int, second: int, kind: int) -> None:
        """Adds a row."""
        self.prompt.append(prompt)
        self.first.append(first)
        self.second.append(second)
        self.kind.append(kind)

    def extend(self, other: RowHashes) -> None:
        """Adds the rows of another."""
        self.prompt.extend(other.prompt)
        self.first.extend(other.first)
        self.second.extend(other.second)
        self.kind.extend(other.kind)


def duplicates(rows: RowHashes) -> Indices:
    """int64 [rows]: index of the first row with the same prompt, answers and label; a row's own where it is new."""
    prompt, first, second, kind = _arrays(rows)
    group = _groups(prompt, first, second, kind.astype(np.uint64))
    return _first_of(group, np.arange(len(group)))[group]


def contradictions(rows: RowHashes) -> Indices:
    """int64 [rows]: the first earlier row that prefers the same two answers the other way round, or gives the same
    answer the other label; -1 where there is none."""
    prompt, first, second, kind = _arrays(rows)
    labelled = kind == LABELLED
    low = np.where(labelled, first, np.minimum(first, second))
    high = np.where(labelled, 0, np.maximum(first, second))
    way = np.where(labelled, second == 1, first < second).astype(np.int64)
    way[kind == OTHER] = 0  # they prefer nothing
    group = _groups(prompt, low, high, kind.astype(np.uint64))
    return _earlier(_first_of(2 * group + way, np.arange(len(group)), 2 * len(group)), 2 * group + 1 - way)


def inconsistencies(rows: RowHashes) -> Indices:
    """int64 [rows]: the first earlier pair that rejects what this one chooses, or chooses what it rejects; or -1."""
    prompt, first, second, kind = _arrays(rows)
    pairs = np.flatnonzero(kind == PAIR)
    found = np.full(len(prompt), -1, dtype=np.int64)
    if len(pairs):
        answers = _groups(np.tile(prompt[pairs], 2), np.concatenate([first[pairs], second[pairs]]))
        chosen, rejected = answers[: len(pairs)], answers[len(pairs) :]
        was_rejected = _first_of(rejected, pairs, len(answers))
        was_chosen = _first_of(chosen, pairs, len(answers))
        own = np.full(len(prompt), len(prompt), dtype=np.int64)
        own[pairs] = np.minimum(
            np.where(was_rejected[chosen] < pairs, was_rejected[chosen], len(prompt)),
            np.where(was_chosen[rejected] < pairs, was_chosen[rejected], len(prompt)),
        )
        found = np.where(own < len(prompt), own, -1)
    return found


def crowded_prompts(rows: RowHashes, more_than: int) -> list[tuple[int, int]]:
    """(first row, rows) of every prompt with more than so many rows, in the order of the rows."""
    prompt = np.frombuffer(rows.prompt, dtype=np.uint64)
    _, first, counts = np.unique(prompt, return_index=True, return_counts=True)
    many = np.flatnonzero(counts > more_than)
    return sorted((int(first[place]), int(counts[place])) for place in many)


def _arrays(rows: RowHashes) -> tuple[Hashes, Hashes, Hashes, npt.NDArray[np.uint8]]:
    prompt, first, second = (np.frombuffer(data, dtype=np.uint64) for data in (rows.prompt, rows.first, rows.second))
    return prompt, first, second, np.frombuffer(rows.kind, dtype=np.uint8)


def _groups(*keys: Hashes) -> Indices:
    """Numbers from 0: the same for rows whose keys are all the same."""
    order = np.lexsort(keys)
    new = np.zeros(len(order), dtype=bool)
    for key in keys:
        ordered = key[order]
        new[1:] |= ordered[1:] != ordered[:-1]
    group = np.empty(len(order), dtype=np.int64)
    group[order] = np.cumsum(new)
    return group


def _first_of(group: Indices, row: Indices, groups: int | None = None) -> Indices:
    """Per group its lowest row; beyond every row for a group that has none."""
    count = int(group.max(initial=-1)) + 1 if groups is None else groups
    first = np.full(count, np.iinfo(np.int64).max, dtype=np.int64)
    np.minimum.at(first, group, row)
    return first


def _earlier(first: Indices, wanted: Indices) -> Indices:
    """The first row of each wanted group where that is earlier than the row itself, else -1."""
    found = first[wanted]
    return np.where(found < np.arange(len(wanted)), found, -1)
