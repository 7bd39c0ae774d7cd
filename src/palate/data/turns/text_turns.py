"""Conversations that a file has as text: JSON, a Python literal, or an array as numpy prints it.

Whether a column is written so is decided once for a source, from its first rows. A cell that differs from its column
is refused: an answer may well be JSON, but turns of a conversation are never trained as their own notation.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from palate.data.turns.cells import RowError, excerpt, literal
from palate.data.turns.messages import CONTENT_KEYS, USUAL_TAGS, Tags, is_turn, is_turns

_NEVER = frozenset({"tools", "metadata"})
"""Columns in which JSON text is just that."""
_START = 2000
"""Characters in which a list of turns shows its first speaker and content."""


def columns_of_turns(rows: Iterable[Mapping[str, Any]], tags: Tags = USUAL_TAGS) -> frozenset[str]:
    """Columns of which at least half of the cells that are not null are turns written as text."""
    written: dict[str, int] = {}
    filled: dict[str, int] = {}
    for row in rows:
        for name, value in row.items():
            if value is None or value == "" or name in _NEVER:
                continue
            filled[name] = filled.get(name, 0) + 1
            if turns_of_text(value, tags) is not None:
                written[name] = written.get(name, 0) + 1
    return frozenset(name for name, count in written.items() if 2 * count >= filled[name])


def with_turns(
    row: Mapping[str, Any], columns: frozenset[str] | None, read: frozenset[str] | None = None, tags: Tags = USUAL_TAGS
) -> Mapping[str, Any]:
    """The row with the turns that its texts write.

    Args:
        columns: of `columns_of_turns`; None for all (CSV has no other way to write turns).
        read: the columns that are read; others stay as they are. None for all.

    Raises:
        RowError: `turns_as_text` for a list of turns in a column of texts, for what looks like one and cannot be
            parsed, and for another list or object in a column of turns.
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
            raise RowError(
                "turns_as_text", f"{name} has turns written as text, which other rows have not: {excerpt(value)}"
            )
        elif columns is not None and name in columns:
            raise RowError(
                "turns_as_text", f"{name} is not a list of turns, which other rows have as text: {excerpt(value)}"
            )
        elif _UNPARSED.match(value) and literal(value) is None and _looks_like_turns(value, tags):
            raise RowError("turns_as_text", f"{name} has turns written as text that cannot be parsed: {excerpt(value)}")
    return {**row, **changed} if changed else row


def turns_of_text(value: Any, tags: Tags = USUAL_TAGS) -> Any:
    """The turns (or the one turn) that a text writes; None for every other text and value."""
    if not isinstance(value, str) or not _looks_like_turns(value, tags):
        return None
    found = literal(value)
    return found if is_turn(found, tags) or is_turns(found, tags) else None


def _looks_like_turns(value: str, tags: Tags) -> bool:
    """Whether a text begins as a list of objects (or one) whose first object has a speaker and a content."""
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
