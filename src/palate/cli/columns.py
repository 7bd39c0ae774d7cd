"""Text that fits the terminal: long lines under a hanging indent, tables that become lists where they are too wide.

Nothing is cut off. Where the output is no terminal, nothing is wrapped: whoever reads a file or a pipe has the lines.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Collection, Iterable, Sequence

from rich.cells import cell_len

_LEAST = 24
"""Columns that text needs beside its indent to be read."""


def text_width() -> int | None:
    """Columns of the terminal on stdout; None where it is no terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def wrapped(text: str, *, hang: int, width: int | None) -> str:
    """Each line of at most `width` columns, what does not fit below it with `hang` spaces in front."""
    if width is None:
        return text
    return "\n".join(part for line in text.split("\n") for part in _wrap(line, hang, width))


def two_columns(rows: Iterable[tuple[str, str]], *, width: int | None, indent: int = 2) -> list[str]:
    """Names on the left, texts on the right."""
    listed = list(rows)
    left = max((cell_len(name) for name, _ in listed), default=0)
    hang = indent + left + 2
    lines = [f"{' ' * indent}{_padded(name, left)}  {text}".rstrip() for name, text in listed]
    return [part for line in lines for part in (_wrap(line, hang, width) if width is not None else [line])]


def table(names: Sequence[str], rows: Sequence[Sequence[str]], *, right: Collection[int], width: int | None) -> str:
    """Columns beside each other; where they do not fit, a block for each row with a line for each column.

    Args:
        names: of the columns.
        rows: of as many cells each; a cell is one line.
        right: numbers of the columns that are aligned right.
        width: of the terminal.
    """
    widths = [max(cell_len(cells[place]) for cells in (names, *rows)) for place in range(len(names))]
    if width is not None and sum(widths) + 2 * (len(widths) - 1) > width:
        blocks = ["\n".join([row[0], *two_columns(list(zip(names[1:], row[1:])), width=width)]) for row in rows]
        return "\n\n".join(blocks)
    ruled = [names, ["─" * size for size in widths], *rows]
    return "\n".join(
        "  ".join(_padded(cell, widths[at], right=at in right) for at, cell in enumerate(row)).rstrip() for row in ruled
    )


def _padded(text: str, size: int, *, right: bool = False) -> str:
    spaces = " " * (size - cell_len(text))
    return spaces + text if right else text + spaces


def _wrap(line: str, hang: int, width: int) -> list[str]:
    if cell_len(line) <= width:
        return [line]
    hang = hang if width - hang >= _LEAST else 4
    parts: list[str] = []
    while cell_len(line) > width:
        cut = _cut(line, width, hang if parts else len(line) - len(line.lstrip()))
        parts.append(line[:cut].rstrip())
        line = " " * hang + line[cut:].lstrip()
    return [*parts, line]


def _cut(line: str, width: int, start: int) -> int:
    """Where to break: after the last space that fits, or where the width is full."""
    fits, used = 0, 0
    for character in line:
        used += cell_len(character)
        if used > width:
            break
        fits += 1
    if line[fits : fits + 1] == " ":
        return fits
    space = line.rfind(" ", start + 1, fits)
    return space + 1 if space > start else max(fits, start + 1)
