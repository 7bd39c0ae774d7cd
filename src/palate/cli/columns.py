"""Text that fits the terminal: long lines with a hanging indent, and tables that become lists if they are too wide.

Nothing is cut off. If the output is not a terminal, nothing is wrapped: files and pipes get whole lines.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Collection, Iterable, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

TERMINAL = -1
"""A width: that of the terminal on stdout, where there is one."""
_NARROWEST = 10
"""Columns that wrapped text gets at least."""


def text_width() -> int | None:
    """Columns of the terminal on stdout; None if it is not a terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def wrapped(text: str, *, hang: int, width: int | None = TERMINAL) -> str:
    """Lines of at most `width` columns; what does not fit goes below, indented by `hang` characters."""
    if width == TERMINAL:
        width = text_width()
    if width is None:
        return text
    return "\n".join(_wrap(line, hang, width) for line in text.split("\n"))


def _wrap(line: str, hang: int, width: int) -> str:
    head = line[:hang]
    indent = cell_len(head)
    first, *rest = Text(line[hang:]).wrap(Console(width=width), max(width - indent, _NARROWEST))
    return "\n".join([f"{head}{first}".rstrip(), *(f"{' ' * indent}{part}".rstrip() for part in rest)])


def two_columns(rows: Iterable[tuple[str, str]], *, width: int | None = TERMINAL, indent: int = 2) -> str:
    """Names on the left, texts on the right."""
    listed = list(rows)
    left = max((cell_len(name) for name, _ in listed), default=0)
    lines = (f"{' ' * indent}{_padded(name, left)}  {text}".rstrip() for name, text in listed)
    return "\n".join(wrapped(line, hang=indent + left + 2, width=width) for line in lines)


def table(
    names: Sequence[str], rows: Sequence[Sequence[str]], *, right: Collection[int], width: int | None = TERMINAL
) -> str:
    """A table, or a block for each row with a line for each column if the table is wider than the terminal.

    Args:
        rows: of as many cells each; a cell is one line.
        right: numbers of the columns that are aligned right.
    """
    widths = [max(map(cell_len, column)) for column in zip(names, *rows, strict=True)]
    if width == TERMINAL:
        width = text_width()
    if width is not None and sum(widths) + 2 * (len(widths) - 1) > width:
        blocks = ["\n".join([row[0], two_columns(zip(names[1:], row[1:]), width=width)]) for row in rows]
        return "\n\n".join(blocks)
    ruled = [names, ["─" * size for size in widths], *rows]
    return "\n".join(
        "  ".join(_padded(cell, widths[at], right=at in right) for at, cell in enumerate(row)).rstrip() for row in ruled
    )


def _padded(text: str, size: int, *, right: bool = False) -> str:
    spaces = " " * (size - cell_len(text))
    return spaces + text if right else text + spaces
