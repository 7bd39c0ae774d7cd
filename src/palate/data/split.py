"""Held-out data, split by prompt: no prompt is ever on both sides."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TypeVar

from palate.charts.text import amount
from palate.data.mix import drawn_key
from palate.errors import DataError
from palate.records import Record, prompt_key, prompt_or_text

R = TypeVar("R", bound=Record)


def split_records(records: Sequence[R], val_size: float, *, seed: int = 0) -> tuple[list[R], list[R]]:
    """(train, validation), each in the order given.

    Which prompts are held out depends on the seed and the prompts alone, not on the order of rows.

    Args:
        records: what to split; plain texts without a prompt are distinguished by their text.
        val_size: a share of the records below 1, a number of them from 1 on; 0 for no held-out records.
    """
    if val_size < 0 or (val_size >= 1 and val_size != int(val_size)):
        raise DataError(f"val_size is {val_size:g}; give a share below 1 or a whole number of rows")
    wanted = round(val_size * len(records)) if val_size < 1 else int(val_size)
    if val_size > 0:
        wanted = max(1, wanted)
    if wanted == 0:
        return list(records), []
    groups: dict[str, list[int]] = defaultdict(list)
    for index, record in enumerate(records):
        groups[prompt_key(prompt_or_text(record))].append(index)
    if wanted >= len(records) or len(groups) < 2:
        raise DataError(
            f"val_size {val_size:g} would leave nothing to train on: "
            f"{amount(len(records), 'row')} with {amount(len(groups), 'different prompt')}"
        )
    held_out: set[int] = set()
    # In the order of a hash; a prompt with more rows than are still wanted is skipped.
    ordered = sorted(groups, key=lambda key: drawn_key(seed, key))
    for key in ordered:
        if len(held_out) + len(groups[key]) <= wanted:
            held_out.update(groups[key])
        if len(held_out) == wanted:
            break
    if not held_out:
        smallest = min(ordered, key=lambda key: len(groups[key]))
        held_out.update(groups[smallest])
    train = [record for index, record in enumerate(records) if index not in held_out]
    return train, [record for index, record in enumerate(records) if index in held_out]
