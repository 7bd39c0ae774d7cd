"""Text and tables as GitHub's Markdown."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

BEGIN, END = "<!-- written by `make docs`: begin -->", "<!-- written by `make docs`: end -->"


def escaped(text: str) -> str:
    """Text as one line of Markdown without markup of its own."""
    line = " ".join(text.split())
    for mark in "\\|<>[]`*_":
        line = line.replace(mark, f"\\{mark}")
    return line


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]], numeric: Collection[int] = ()) -> str:
    """A table of plain texts; the columns whose index is in `numeric` are aligned right."""
    marks = ["---:" if index in numeric else "---" for index in range(len(columns))]
    lines = [[escaped(name) for name in columns], marks, *([escaped(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def with_generated(page: str, text: str) -> str:
    """A page of the docs with `text` between its two markers."""
    return f"{page.split(BEGIN)[0]}{BEGIN}\n\n{text}\n{END}{page.split(END)[1]}"
