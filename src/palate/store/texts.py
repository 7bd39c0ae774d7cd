"""Which texts a database can keep."""

from __future__ import annotations


def is_storable(text: str) -> bool:
    """Whether every database can keep a text: it has neither NUL nor half a surrogate pair."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)
