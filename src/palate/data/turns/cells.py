"""What one cell of a row holds: text, a list, or a list that a file has as text (JSON, or Python's own notation)."""

from __future__ import annotations

import ast
import json
import re
import warnings
from typing import Any

_LONGEST_LITERAL = 1 << 20
"""Characters of a Python literal that is read; its parser takes about 100 times as much memory."""


class RowError(Exception):
    """A row cannot be used. Becomes `Dropped(id, reason, detail)`.

    Attributes:
        reason: a short stable name that counts are made by.
        detail: what was seen, for a person.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def excerpt(value: Any, width: int = 60) -> str:
    """A value as a person may see it in a message: one short line, whatever line ends are in it."""
    try:
        line = " ".join(str(value)[: 2 * width].split())
    except RecursionError:
        line = f"a deeply nested {type(value).__name__}"
    return line if len(line) <= width else line[: width - 1] + "…"


def text(value: Any, name: str) -> str:
    """The cell `name` as text that can be written as UTF-8."""
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
    """The cell `name` as a list; a string that holds one (CSV files have no other way) is read as one."""
    if isinstance(value, str):
        value = literal(value)
        if not isinstance(value, list | tuple):
            raise RowError("not_a_list", f"{name} is text that holds no JSON or Python list")
    if not isinstance(value, list | tuple):
        raise RowError("not_a_list", f"{name} is {'null' if value is None else type(value).__name__}")
    return list(value)


def literal(said: str) -> Any:
    """The list or object that a text writes as JSON, as a Python literal or as numpy prints it; None for any other."""
    start = said.lstrip()[:1]
    if start not in ("[", "{"):
        return None
    try:
        found = json.loads(said)
    except (ValueError, RecursionError):
        found = _python_literal(said.strip())
    return found if isinstance(found, list | dict) else None


# numpy prints the elements of an array of objects without commas between them.
_QUOTED_OR_GAP = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|(\})(\s+)(?=\{)""", re.DOTALL)


def _python_literal(said: str) -> Any:
    if len(said) > _LONGEST_LITERAL:
        return None
    with warnings.catch_warnings():
        for kind in (SyntaxWarning, DeprecationWarning):  # "\d" in a text that nobody escaped, by Python's version
            warnings.simplefilter("ignore", kind)
        for written in (said, _QUOTED_OR_GAP.sub(lambda match: "}," if match[1] else match[0], said)):
            try:
                return ast.literal_eval(written)
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                continue
    return None
