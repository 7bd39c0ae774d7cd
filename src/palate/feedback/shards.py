"""Shards of a candidates file: machines that work independently answer every N-th prompt each."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeVar

from palate.artifacts import JsonlWriter, atomic_file, iter_jsonl, json_hash
from palate.errors import DataError, UsageError

T = TypeVar("T")

FIELD = "shard"
"""Of a row in a shard; the joined file does not have it."""
_MARK = re.compile(r"([0-9]+)/([0-9]+) of ([0-9]+) prompts ([0-9a-f]+)")


@dataclass(frozen=True, slots=True)
class Shard:
    """Shard `number` (from 1) of `count`: rows number, number + count, number + 2 · count, …"""

    number: int
    count: int

    def of(self, rows: list[T]) -> list[T]:
        """The rows of this shard, in their order."""
        return rows[self.number - 1 :: self.count]

    def mark(self, prompts: Sequence[Any]) -> str:
        """What the rows of this shard say of it; `prompts` are those of all shards."""
        return f"{self.number}/{self.count} of {len(prompts)} prompts {json_hash(prompts)[:16]}"


def read_shard(text: str | None) -> Shard | None:
    """The shard that `3/8` names; None for none.

    Raises:
        UsageError: it is not of this form.
    """
    if text is None:
        return None
    found = re.fullmatch(r"([0-9]+)/([0-9]+)", text)
    shard = Shard(int(found[1]), int(found[2])) if found else Shard(0, 0)
    if not 1 <= shard.number <= shard.count:
        raise UsageError(f"shard {text}: write NUMBER/COUNT, as 1/8 to 8/8")
    return shard


def join_shards(shards: Sequence[str | Path], output: str | Path) -> int:
    """Write the rows of all shards of a candidates file in the order of the prompts; returns their number.

    The file is equal to that of a run without shards.

    Args:
        shards: files of `generate` with a shard, all of them, in any order.

    Raises:
        DataError: a shard is missing, unfinished, there twice, or made with other prompts or settings; names it.
    """
    files: dict[int, str | Path] = {}
    wanted: dict[str, Any] = {}
    rows: Counter[int] = Counter()
    for path in shards:
        before = 0
        for line, row in enumerate(iter_jsonl(path), 1):
            mark = _MARK.fullmatch(str(row.get(FIELD)))
            if mark is None:
                raise DataError(f"{path}:{line}: is no row of a shard; join files of `palate generate --shard`")
            found = {"shards": int(mark[2]), "prompts": int(mark[3]), "hash of the prompts": mark[4]}
            found |= {name: row.get(name) for name in ("model", "identity", "seed", "decoding")}
            found["k"] = len(row.get("completions") or ())
            wanted = wanted or found
            differs = next((name for name in found if found[name] != wanted[name]), None)
            if differs is not None:
                problem = f"was made with {differs} {found[differs]}, {shards[0]} with {wanted[differs]}"
                raise DataError(f"{path}:{line}: {problem}; join shards of one run")
            number = int(mark[1])
            if number != (before or number):
                raise DataError(f"{path}:{line}: is of shard {number}, after rows of shard {before}; keep them apart")
            if not before and number in files:
                raise DataError(f"{files[number]} and {path} are both shard {number}/{mark[2]}; name each shard once")
            before, files[number] = number, path
            rows[number] += 1
    if not wanted:
        raise DataError(f"{', '.join(map(str, shards)) or 'no file'}: no rows of shards; name files of --shard")
    count = wanted["shards"]
    sizes = {number: len(range(number - 1, wanted["prompts"], count)) for number in range(1, count + 1)}
    short = [
        f"{number}/{count} ({files.get(number, 'no file')}: {rows[number]} of {sizes[number]} rows)"
        for number in sizes
        if rows[number] != sizes[number]
    ]
    if short:
        raise DataError(f"not all rows are there: {', '.join(short)}; finish these shards and name all {count} files")
    with atomic_file(output) as temporary, JsonlWriter(temporary, append=False) as file:
        for some in zip_longest(*(iter_jsonl(files[number]) for number in sizes)):
            for row in filter(None, some):
                file.write({name: value for name, value in row.items() if name != FIELD})
    return sum(sizes.values())
