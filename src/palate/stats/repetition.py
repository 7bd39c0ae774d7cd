"""Repetition at the end of a sequence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def ends_in_loop(items: Sequence[Any], *, longest: int, times: int, least: int) -> bool:
    """Whether a sequence (a text, token ids) ends in the same unit several times in a row.

    Args:
        longest: items of the longest unit.
        times: how often the unit has to occur.
        least: items that all occurrences have to cover together.
    """
    for unit in range(1, longest + 1):
        span = max(unit * times, least)
        tail = items[-span:]
        if len(tail) == span and all(tail[place] == tail[place - unit] for place in range(unit, span)):
            return True
    return False
