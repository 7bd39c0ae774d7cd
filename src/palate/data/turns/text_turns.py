"""Reads conversations that are written as text: JSON, a Python literal, or an array as numpy prints it.

The first rows of a source decide whether a column is written in this way. A cell that differs from its column drops
its row: an answer may be JSON, but the notation of turns must never be trained as text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from palate.data.turns.cells import RowError, excerpt, literal
from palate.data.turns.messages import CONTENT_KEYS, USUAL_TAGS, Tags, is_turn, is_turns

_NEVER = frozenset({"tools", "metadata"})
"""Columns in which JSON text stays text."""
_START = 2000
"""Characters within which a list of turns must have its first speaker and content."""


def columns_of_turns(rows: Iterable[Mapping[str, Any]], tags: Tags = USUAL_TAGS) -> frozenset[str]:
    """Columns of which at least half of the cells that are not null are turns written as text."""
    written, filled = Counter[str](), Counter[str]()
    for row in rows:
        for name, value in row.items():
            if value is None or value == "" or name in _NEVER:
                continue
            filled[name] += 1
            if turns_of_text(value, tags) is not None:
                written[name] += 1
    return frozenset(name for name, count in written.items() if 2 * count >= filled[name])


def with_turns(
    row: Mapping[str, Any], columns: frozenset[str] | None, read: frozenset[str] | None = None, tags: Tags = USUAL_TAGS
) -> Mapping[str, Any]:
    """The row with turns in place of the texts that they are written as.

    Args:
        columns: columns of turns (`columns_of_turns`); None for all columns, as in CSV files.
        read: the columns that the format reads; others are not changed. None for all columns.

    Raises:
        RowError: `turns_as_text`: a list of turns in a column of texts, a list of turns that cannot be parsed, or
            another list or object in a column of turns.
    """
    changed: dict[str, Any] = {}
    for name, value in row.items():
        if not isinstance(value, str) or value.lstrip()[:1] not in ("[", "{"):
            continue
        if name in _NEVER or (read is not None and name not in read):
            continue
        turns = turns_of_text(value, tags)
        if turns is not None and (columns is None or name in columns):
            changed[name] = turns
        elif turns is not None:
            raise RowError("turns_as_text", f"{name} has turns written as text, unlike other rows: {excerpt(value)}")
        elif columns is not None and name in columns:
            raise RowError(
                "turns_as_text", f"{name} is not a list of turns written as text, unlike other rows: {excerpt(value)}"
            )
        elif _UNPARSED.match(value) and literal(value) is None and _looks_like_turns(value, tags):
            raise RowError("turns_as_text", f"{name} has turns written as text that cannot be parsed: {excerpt(value)}")
    return {**row, **changed} if changed else row


def turns_of_text(value: Any, tags: Tags = USUAL_TAGS) -> Any:
    """The turns (or the single turn) in a text; None for any other value."""
    if not isinstance(value, str) or not _looks_like_turns(value, tags):
        return None
    found = literal(value)
    return found if is_turn(found, tags) or is_turns(found, tags) else None


def _looks_like_turns(value: str, tags: Tags) -> bool:
    """Whether a text begins like a list of objects (or one object) with a speaker and a content."""
    start = value.lstrip()
    if start[:1] not in ("[", "{") or not _BEGINS.match(start):
        return False
    start = start[:_START]
    speakers = (tags.role,) if tags.role else ("role", "from")
    contents = (tags.content,) if tags.content else (*CONTENT_KEYS, "tool_calls")
    return all(
        any(re.search(rf"""['"]{re.escape(str(key))}['"]\s*:""", start) for key in keys)
        for keys in (speakers, contents)
    )


_BEGINS = re.compile(r"""\[?\s*\{\s*['"]""")
_UNPARSED = re.compile(r"""\s*\[\s*\{\s*['"](?:role|from|content|value)['"]\s*:""")
