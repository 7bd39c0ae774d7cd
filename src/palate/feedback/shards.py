"""Shards of a candidates file: machines that work independently answer every N-th prompt each."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
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

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def of(self, rows: list[T]) -> list[T]:
        """The rows of this shard, in their order."""
        return rows[self.number - 1 :: self.count]

    def mark(self, prompts: Sequence[Any]) -> str:
        """What the rows of this shard say of it; `prompts` are those of all shards."""
        return f"{self} of {len(prompts)} prompts {json_hash(prompts)[:16]}"


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
        raise UsageError(f"--shard {text}: write NUMBER/COUNT, from 1/8 to 8/8")
    return shard


def join_shards(shards: Sequence[str | Path], output: str | Path) -> int:
    """Write the rows of all shards of a candidates file in the order of the prompts; returns their number.

    The file is equal to that of a run without shards. The shards may be given in any order.

    Args:
        shards: files of `generate` with a shard, all of them.

    Raises:
        DataError: a shard is missing, unfinished, there twice, or made with other prompts or settings; names the file.
    """
    found = [_Part.read(Path(path)) for path in shards]
    files: dict[int, Path] = {}
    for part in found:
        differs = next((name for name, value in found[0].settings.items() if part.settings[name] != value), None)
        if differs is not None:
            ours, theirs = found[0].settings[differs], part.settings[differs]
            raise DataError(
                f"{part.path}: was made with {differs} {theirs}, {found[0].path} with {ours}; join shards of one run"
            )
        shard, wanted = part.shard, len(range(part.shard.number - 1, part.prompts, part.shard.count))
        if shard.number in files:
            raise DataError(f"{files[shard.number]} and {part.path} are both shard {shard}; name each shard once")
        if part.rows != wanted:
            raise DataError(f"{part.path}: has {part.rows} of {wanted} rows; run `palate generate` for it again")
        files[shard.number] = part.path
    count = found[0].shard.count
    missing = ", ".join(f"{number}/{count}" for number in range(1, count + 1) if number not in files)
    if missing:
        raise DataError(f"{missing} {'is' if missing.count('/') == 1 else 'are'} missing; name all {count} shards")
    ordered = [iter_jsonl(files[number]) for number in range(1, count + 1)]
    with atomic_file(output) as temporary, JsonlWriter(temporary, append=False) as file:
        for rows in zip_longest(*ordered):
            for row in filter(None, rows):
                file.write({name: value for name, value in row.items() if name != FIELD})
    return sum(part.rows for part in found)


@dataclass(frozen=True, slots=True)
class _Part:
    """What the rows of one file say: the same in every row.

    Attributes:
        prompts: in all shards.
        settings: that must be the same in all shards, by name.
    """

    path: Path
    shard: Shard
    prompts: int
    rows: int
    settings: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> _Part:
        part: _Part | None = None
        for number, row in enumerate(iter_jsonl(path), 1):
            mark = _MARK.fullmatch(str(row.get(FIELD)))
            if mark is None:
                raise DataError(f"{path}:{number}: is no row of a shard; join files of `palate generate --shard`")
            settings = {
                "shards": mark[2],
                "prompts": f"{mark[3]} with hash {mark[4]}",
                **{name: row.get(name) for name in ("model", "identity", "seed", "decoding")},
                "k": len(row.get("completions") or ()),
            }
            read = cls(path, Shard(int(mark[1]), int(mark[2])), int(mark[3]), number, settings)
            if part is not None and (read.shard, settings) != (part.shard, part.settings):
                raise DataError(f"{path}:{number}: is of another shard or run than the rows before; name one file each")
            part = read
        if part is None:
            raise DataError(f"{path}: the file has no rows")
        return part
