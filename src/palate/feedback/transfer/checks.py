"""What imports of candidates and of votes share: batches, counts, and values that a database cannot keep."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from palate.errors import DataError

T = TypeVar("T")

BATCH = 500
"""Rows that are compared and inserted together."""

_LARGEST = 2**31
_LARGEST_SEED = 2**63


@dataclass(frozen=True, slots=True)
class Imported:
    """Counts of an import.

    Attributes:
        new: rows that were added.
        same: rows that the store had already.
    """

    new: int
    same: int


def batches(rows: Iterable[T]) -> Iterator[list[T]]:
    """The rows in lists of at most `BATCH`."""
    remaining = iter(rows)
    while batch := list(islice(remaining, BATCH)):
        yield batch


def check_text(text: str | None, name: str, where: str, longest: int | None = None) -> None:
    """Refuse a text that a database cannot keep; `name` says what it is, `where` whose."""
    if text is None:
        return
    if longest is not None and len(text) > longest:
        raise DataError(f"{where}: {name} has {len(text):,} characters; at most {longest} can be stored")
    if "\0" in text:
        raise DataError(f"{where}: {name} holds the character NUL, which a database cannot keep; remove it")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise DataError(f"{where}: {name} holds half a surrogate pair at character {error.start + 1}") from None


def check_number(value: int | None, name: str, where: str, *, seed: bool = False) -> None:
    """Refuse a number outside of a database's range: of 32 bits, or of 64 bits for a seed."""
    limit = _LARGEST_SEED if seed else _LARGEST
    if value is not None and not -limit <= value < limit:
        raise DataError(f"{where}: {name} {value} is too large to be stored")
