"""Numbers and tables as the page shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def markdown(header: Sequence[str], rows: Sequence[Sequence[Any]], *, text_columns: int = 1) -> str:
    """A table; the first columns read, the others count."""
    rule = ["---"] * text_columns + ["---:"] * (len(header) - text_columns)
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in [header, rule, *rows])


def interval(value: Mapping[str, float], digits: int = 2, *, percent: bool = False) -> str:
    """`0.71 (0.66 to 0.75)` of a palate Interval as JSON."""
    scale, unit = (100, " %") if percent else (1, "")
    estimate, low, high = (f"{scale * value[key]:.{digits}f}" for key in ("estimate", "low", "high"))
    return f"{estimate}{unit} ({low} to {high})"


def _cell(value: Any) -> str:
    """A line break or a bar inside a cell would end it."""
    return str(value).replace("|", "\\|").replace("\n", "<br>")
