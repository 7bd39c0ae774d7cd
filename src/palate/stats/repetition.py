"""Repetition at the end of a sequence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_LONGEST_UNIT, _TIMES, _CHARACTERS = 40, 4, 8


def ends_in_loop(items: Sequence[Any], *, longest: int, times: int, least: int) -> bool:
    """Whether a sequence (text or token ids) ends with several repetitions of the same unit.

    Args:
        longest: largest size of the unit, in items.
        times: required number of occurrences.
        least: required number of items in all occurrences together.
    """
    for unit in range(1, longest + 1):
        span = max(unit * times, least)
        tail = items[-span:]
        if len(tail) == span and all(tail[index] == tail[index - unit] for index in range(unit, span)):
            return True
    return False


def repeats(text: str) -> bool:
    """Whether a text ends in the same 1 … 40 characters at least four times in a row, at least 8 characters in all."""
    # With a space after the last word, `g g g g` is four times the same.
    return any(
        ends_in_loop(ending, longest=_LONGEST_UNIT, times=_TIMES, least=_CHARACTERS)
        for ending in (text.strip(), f"{text.strip()} ")
    )
