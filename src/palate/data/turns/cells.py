"""Reads one cell of a row: text, a list, or a list written as text (JSON, a Python literal or numpy's output)."""

from __future__ import annotations

import ast
import json
import re
import warnings
from typing import Any

_LONGEST_LITERAL = 1 << 20
"""Characters of a Python literal; the parser needs about 100 times as much memory."""


class RowError(Exception):
    """A row cannot be used; it is reported as `Dropped(id, reason, detail)`.

    Attributes:
        reason: a short stable name, by which rows are counted.
        detail: the explanation in messages.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def excerpt(value: Any, width: int = 60) -> str:
    """A value as one short line for messages."""
    try:
        line = " ".join(str(value)[: 2 * width].split())
    except RecursionError:
        line = f"a deeply nested {type(value).__name__}"
    return line if len(line) <= width else line[: width - 1] + "…"


def text(value: Any, name: str) -> str:
    """The value of the cell `name` if it is text that can be written as UTF-8; raises `RowError` if not."""
    if not isinstance(value, str):
        seen = "null" if value is None else f"{type(value).__name__} {excerpt(value, 40)}"
        raise RowError("not_text", f"{name} is {seen}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise RowError("not_text", f"{name} holds half a surrogate pair at character {error.start + 1}") from None
    return value


def parsed_list(value: Any, name: str) -> list[Any]:
    """The value of the cell `name` as a list, also if it is written as text; raises `RowError` for other values."""
    if isinstance(value, str):
        value = literal(value)
        if not isinstance(value, list | tuple):
            raise RowError("not_a_list", f"{name} is text that is not a JSON or Python list")
    if not isinstance(value, list | tuple):
        raise RowError("not_a_list", f"{name} is {'null' if value is None else type(value).__name__}")
    return list(value)


def literal(content: str) -> Any:
    """The list or object in a text that is JSON, a Python literal or numpy's output; None for any other text."""
    start = content.lstrip()[:1]
    if start not in ("[", "{"):
        return None
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = _python_literal(content.strip())
    return found if isinstance(found, list | dict) else None


# numpy prints the elements of an array of objects without commas between them.
_QUOTED_OR_GAP = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|(\})(\s+)(?=\{)""", re.DOTALL)


def _python_literal(content: str) -> Any:
    if len(content) > _LONGEST_LITERAL:
        return None
    with warnings.catch_warnings():
        for kind in (SyntaxWarning, DeprecationWarning):  # for an unescaped "\d"; which one depends on Python's version
            warnings.simplefilter("ignore", kind)
        for written in (content, _QUOTED_OR_GAP.sub(lambda match: "}," if match[1] else match[0], content)):
            try:
                return ast.literal_eval(written)
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                continue
    return None
