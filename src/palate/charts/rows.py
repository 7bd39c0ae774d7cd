"""One row for each value: bars of counts, or values with their intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from palate.charts.scale import Scale, linear, tick_labels
from palate.charts.svg import CHARACTER, WIDTH, drawing, element, label, line
from palate.charts.text import estimate_text, percent, shortened, signed

_LABEL, _WIDE_LABEL = 36, 58
"""Longest labels to the left of a row and above it, in characters."""
_NARROW = 400


@dataclass(frozen=True, slots=True)
class Row:
    """A label with a value and its interval (of `interval_chart`), or with a count.

    Attributes:
        label: on the left.
        value: a share of 1, a number, or a count.
        low, high: ends of the interval.
        colour: as in `Series`.
        text: on the right; of `interval_chart` the value itself by default.
    """

    label: str
    value: float
    low: float = math.nan
    high: float = math.nan
    colour: str = "a"
    text: str = ""


def interval_chart(
    key: str,
    title: str,
    rows: Sequence[Row],
    *,
    level: tuple[float, str] | None = None,
    unit: str = "",
    narrow: bool = False,
) -> Markup:
    """Values with their intervals.

    Args:
        key, title: as in `Chart`.
        rows: shares on an axis from 0 to 100 %; with a unit any numbers, on an axis that holds 0.
        level: a vertical line with its label.
        unit: of numbers that are no shares, the name of the axis.
        narrow: labels above the intervals instead of beside them, to fit a phone.
    """
    width = _NARROW if narrow else WIDTH
    left = 24 + CHARACTER * max((min(len(row.label), _LABEL) for row in rows), default=0)
    start, right, height, top = (14.0, 70, 44, 26) if narrow else (left, 78, 34, 26)
    bottom = top + height * len(rows)
    if unit:
        x = linear([0.0, *(end for row in rows for end in (row.value, row.low, row.high))], start, width - right)
    else:
        x = Scale(0.0, 1.0, start, width - right, (0.0, 0.25, 0.5, 0.75, 1.0))
    parts = [label(unit, width - right, bottom + 31, "note", "end")] if unit else []
    for tick, text in zip(x.ticks, tick_labels(x, percent=not unit), strict=True):
        parts.append(line(x(tick), top - 6, x(tick), bottom, "zero" if unit and tick == 0 else "grid"))
        parts.append(label(text, x(tick), bottom + 16, "tick", "middle"))
    if level is not None:
        parts.append(line(x(level[0]), top - 6, x(level[0]), bottom, "level"))
        parts.append(label(level[1], x(level[0]), top - 12, "note", "middle"))
    for index, row in enumerate(rows):
        at = top + height * (index + (0.72 if narrow else 0.5))
        if narrow:
            parts.append(label(shortened(row.label, _WIDE_LABEL), 0, at - 15, "name near", "start"))
        else:
            parts.append(label(shortened(row.label, _LABEL), left - 12, at + 4, "name", "end"))
        if math.isfinite(row.value):
            if ends := x.ends(row.low, row.high):
                parts.append(line(ends[0], at, ends[1], at, f"interval stroke-{row.colour}"))
            parts.append(element("circle", cx=x(row.value), cy=at, r=5, class_=f"dot fill-{row.colour}"))
            text = row.text or (signed(row.value) if unit else percent(row.value))
            parts.append(label(text, width - 4, at + 4, "name", "end"))
    texts = "; ".join(f"{row.label} {estimate_text(row.value, row.low, row.high, as_percent=not unit)}" for row in rows)
    return drawing(key, title, f"{title}: {texts}.", bottom + (44 if unit else 34), parts, width=width)


def bar_chart(key: str, title: str, rows: Sequence[Row]) -> Markup:
    """Horizontal bars from 0 below their labels, narrow enough for a phone; the longest bar fills the width."""
    height = 40
    width = _NARROW - 8 - CHARACTER * max((len(row.text) for row in rows), default=0)
    longest = max((row.value for row in rows), default=0) or 1
    parts = []
    for index, row in enumerate(rows):
        top = height * index
        bar = max(1.0, width * row.value / longest)
        parts.append(label(shortened(row.label, _WIDE_LABEL), 0, top + 14, "name", "start"))
        parts.append(element("rect", x=0, y=top + 20, width=bar, height=13, rx=2, class_=f"fill-{row.colour}"))
        parts.append(label(row.text, bar + 8, top + 31, "tick", "start"))
    texts = "; ".join(f"{row.label} {row.text}" for row in rows)
    return drawing(key, title, f"{title}: {texts}.", height * len(rows), parts, width=_NARROW)
