"""Held-out data, split by prompt: no prompt is ever on both sides."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from palate.charts.text import amount
from palate.data.mix import drawn_key
from palate.errors import DataError
from palate.records import Record, prompt_key, prompt_or_text

R = TypeVar("R", bound=Record)


def split_records(records: Sequence[R], val_size: float, *, seed: int = 0) -> tuple[list[R], list[R]]:
    """(train, validation), each in the order given; `held_out` decides.

    Args:
        records: what to split; plain texts without a prompt are distinguished by their text.
        val_size: a share of the records below 1, a number of them from 1 on; 0 for no held-out records.
    """
    flags = held_out(array("Q", (split_key(record, seed) for record in records)), val_size)
    train = [record for record, flag in zip(records, flags, strict=True) if not flag]
    return train, [record for record, flag in zip(records, flags, strict=True) if flag]


def split_key(record: Record, seed: int) -> int:
    """A 64-bit number that is equal for records with the same prompt, and otherwise pseudo-random."""
    return int.from_bytes(drawn_key(seed, prompt_key(prompt_or_text(record))))


def held_out(keys: npt.ArrayLike, val_size: float) -> npt.NDArray[np.bool_]:
    """bool [n]: which of n records are held out.

    Which prompts these are depends on the seed and the prompts alone, not on the order of rows.

    Args:
        keys: `split_key` of each record.
    """
    if val_size < 0 or (val_size >= 1 and val_size != int(val_size)):
        raise DataError(f"val_size is {val_size:g}; give a share below 1 or a whole number of rows")
    keys = np.asarray(keys, dtype=np.uint64)
    wanted = round(val_size * len(keys)) if val_size < 1 else int(val_size)
    if val_size > 0:
        wanted = max(1, wanted)
    if wanted == 0:
        return np.zeros(len(keys), dtype=np.bool_)
    # Prompts in the order of their keys.
    _, prompt_of, rows = np.unique(keys, return_inverse=True, return_counts=True)
    if wanted >= len(keys) or len(rows) < 2:
        raise DataError(
            f"val_size {val_size:g} would leave nothing to train on: "
            f"{amount(len(keys), 'row')} with {amount(len(rows), 'different prompt')}"
        )
    chosen = np.zeros(len(rows), dtype=np.bool_)
    left = wanted
    for prompt, count in enumerate(rows.tolist()):
        if count <= left:  # a prompt with more rows than are still wanted is skipped
            chosen[prompt] = True
            left -= count
        if not left:
            break
    if left == wanted:
        chosen[rows.argmin()] = True
    return np.asarray(chosen[prompt_of])
