"""Small honest charts as inline SVG: no script, no fonts or files from elsewhere, colours by CSS class.

Gaps stay gaps, a single value is a point, and a value that was not finite is marked with a cross on the axis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from markupsafe import Markup

from palate.report.scales import Scale, linear, logarithmic, number, steps, tick_labels

T = TypeVar("T")

WIDTH, HEIGHT = 560, 290
LEFT, RIGHT, BOTTOM, _LEGEND_ROW = 58, 14, 34, 20
_CHARACTER = 6.3


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart.

    Attributes:
        name: as the legend shows it.
        x: where the values were taken.
        y: the values; None or NaN is a gap and gets a cross on the axis.
        colour: the CSS colour class, `a` to `h`; `d` is grey.
        points: draw a mark at every value and join them by a dashed line (few, separate measurements).
        low: lower ends of error bars, or of a band where `band` is set.
        high: upper ends.
        band: shade between `low` and `high` instead of drawing error bars.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    colour: str = "a"
    points: bool = False
    low: Sequence[float | None] | None = None
    high: Sequence[float | None] | None = None
    band: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """What to draw.

    Attributes:
        key: unique on the page; makes the ids of title and description.
        title: short name of what is shown.
        description: what a reader who cannot see it should know.
        unit: what the y axis counts, above the axis.
        series: the lines, in the order of the legend.
        log: logarithmic y axis.
        percent: y values are shares of 1, shown as percentages.
        levels: horizontal lines with a label (chance, the loss at the start).
        x_label: what the x axis counts.
    """

    key: str
    title: str
    description: str
    unit: str
    series: Sequence[Series]
    log: bool = False
    percent: bool = False
    levels: Sequence[tuple[float, str]] = field(default_factory=tuple)
    x_label: str = "step"


@dataclass(frozen=True, slots=True)
class Estimate:
    """One row of an interval chart: a label, a value and its interval, all shares of 1; `colour` as in `Series`."""

    label: str
    value: float
    low: float
    high: float
    colour: str = "a"


def line_chart(chart: Chart) -> Markup:
    """The chart as an `<svg>` element, with a title and description for screen readers."""
    legend, top = _legend(chart.series)
    every = [value for series in chart.series for value in _all_values(series)] + [level for level, _ in chart.levels]
    if chart.percent and every and min(every) == max(every):
        every += [0.0, 1.0]  # an axis around the one value would go beyond 100 %
    bottom = HEIGHT - BOTTOM
    y = logarithmic(every, bottom, top) if chart.log else linear(every, bottom, top)
    x = steps([value for series in chart.series for value in series.x], LEFT, WIDTH - RIGHT)
    parts = [_axes(chart, x, y), legend]
    for level, label in chart.levels:
        if y.shows(level):
            at = y(level)
            parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=at, y2=at, class_="level"))
            parts.append(label_at(label, WIDTH - RIGHT - 2, at - 4, "note", "end"))
    parts.extend(_series(series, x, y, percent=chart.percent) for series in chart.series)
    return drawing(chart.key, chart.title, chart.description, HEIGHT, parts)


def interval_chart(
    key: str, title: str, description: str, estimates: Sequence[Estimate], *, level: tuple[float, str] | None = None
) -> Markup:
    """Shares with their intervals, one row each, on an axis from 0 to 100 %; `level` is a vertical line."""
    labels = [one.label if len(one.label) <= 36 else f"…{one.label[-35:]}" for one in estimates]
    left, row, top = 24 + _CHARACTER * max(map(len, labels), default=0), 34, 26
    height = top + row * len(estimates) + BOTTOM
    x = Scale(0.0, 1.0, left, WIDTH - RIGHT - 58, (0.0, 0.25, 0.5, 0.75, 1.0))
    bottom = height - BOTTOM
    parts = []
    for tick, share in zip(x.ticks, tick_labels(x, percent=True), strict=True):
        parts.append(tag("line", x1=x(tick), x2=x(tick), y1=top - 6, y2=bottom, class_="grid"))
        parts.append(label_at(share, x(tick), bottom + 16, "tick", "middle"))
    if level is not None:
        parts.append(tag("line", x1=x(level[0]), x2=x(level[0]), y1=top - 6, y2=bottom, class_="level"))
        parts.append(label_at(level[1], x(level[0]), top - 12, "note", "middle"))
    for index, (estimate, label) in enumerate(zip(estimates, labels, strict=True)):
        at = top + row * (index + 0.5)
        parts.append(label_at(label, left - 12, at + 4, "name", "end"))
        if math.isfinite(estimate.value):
            low, high = (x(min(1.0, max(0.0, end))) for end in (estimate.low, estimate.high))
            parts.append(tag("line", x1=low, x2=high, y1=at, y2=at, class_=f"whisker stroke-{estimate.colour}"))
            for end in (low, high):
                parts.append(
                    tag("line", x1=end, x2=end, y1=at - 5, y2=at + 5, class_=f"whisker stroke-{estimate.colour}")
                )
            parts.append(tag("circle", cx=x(estimate.value), cy=at, r=5, class_=f"dot fill-{estimate.colour}"))
            parts.append(label_at(f"{100 * estimate.value:.1f} %", WIDTH - 4, at + 4, "name", "end"))
    return drawing(key, title, description, height, parts)


def _all_values(series: Series) -> list[float]:
    columns = [series.y, series.low or (), series.high or ()]
    return [value for column in columns for value in column if value is not None and math.isfinite(value)]


def _axes(chart: Chart, x: Scale, y: Scale) -> Markup:
    bottom = HEIGHT - BOTTOM
    parts = []
    for tick, label in zip(y.ticks, tick_labels(y, percent=chart.percent), strict=True):
        kind = "zero" if tick == 0 and y.low < 0 else "grid"
        parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y(tick), y2=y(tick), class_=kind))
        parts.append(label_at(label, LEFT - 8, y(tick) + 4, "tick", "end"))
    parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=bottom, y2=bottom, class_="axis"))
    for tick, label in zip(x.ticks, tick_labels(x), strict=True):
        parts.append(tag("line", x1=x(tick), x2=x(tick), y1=bottom, y2=bottom + 4, class_="axis"))
        parts.append(label_at(label, x(tick), bottom + 17, "tick", "middle"))
    parts.append(label_at(chart.x_label, WIDTH - RIGHT, bottom + 31, "note", "end"))
    parts.append(label_at(chart.unit, 4, bottom + 31, "note", "start"))
    return Markup("").join(parts)


def _legend(series: Sequence[Series]) -> tuple[Markup, float]:
    """The legend's elements and the pixel where the plot may begin below it."""
    parts: list[Markup] = []
    left, row = float(LEFT), 0
    for one in series:
        width = 30 + _CHARACTER * len(one.name) + 16
        if left + width - 16 > WIDTH and left > LEFT:
            left, row = float(LEFT), row + 1
        at = 12 + _LEGEND_ROW * row
        line = "line dashed" if one.points else "line"
        parts.append(tag("line", x1=left, x2=left + 22, y1=at, y2=at, class_=f"{line} stroke-{one.colour}"))
        if one.points:
            parts.append(tag("circle", cx=left + 11, cy=at, r=3.5, class_=f"dot fill-{one.colour}"))
        parts.append(label_at(one.name, left + 29, at + 4, "name", "start"))
        left += width
    return Markup("").join(parts), 12 + _LEGEND_ROW * row + 20


def _series(series: Series, x: Scale, y: Scale, *, percent: bool) -> Markup:
    places = [(x(at), y(value)) if y.shows(value) else None for at, value in zip(series.x, series.y, strict=True)]  # type: ignore[arg-type]
    parts: list[Markup] = []
    if series.low is not None and series.high is not None:
        ends = list(zip(series.x, series.low, series.high, strict=True))
        parts.append(_band(series, ends, x, y) if series.band else _error_bars(series, ends, x, y))
    line = "line dashed" if series.points else "line"
    parts.extend(
        tag("path", d=_path(run), class_=f"{line} stroke-{series.colour}") for run in _unbroken(places) if len(run) > 1
    )
    alone = {run[0] for run in _unbroken(places) if len(run) == 1}
    for place, at, value in zip(places, series.x, series.y, strict=True):
        if place is None:
            bottom = HEIGHT - BOTTOM
            cross = f"M{x(at) - 3:.1f} {bottom - 9}l6 6m0 -6l-6 6"
            parts.append(tag("path", tip=f"{series.name}, {number(at)}: not finite", d=cross, class_="broken"))
        elif series.points or place in alone or len(places) <= 120:
            seen = series.points or place in alone
            shown = f"{100 * value:.1f} %" if percent and value is not None else number(value)
            class_ = f"dot fill-{series.colour}" if seen else "hover"
            parts.append(
                tag(
                    "circle",
                    tip=f"{series.name}, {number(at)}: {shown}",
                    cx=place[0],
                    cy=place[1],
                    r=3.5,
                    class_=class_,
                )
            )
    return Markup("").join(parts)


def _band(series: Series, ends: Sequence[tuple[float, float | None, float | None]], x: Scale, y: Scale) -> Markup:
    parts = []
    for run in _unbroken([end if y.shows(end[1]) and y.shows(end[2]) else None for end in ends]):
        above = [(x(at), y(high)) for at, _, high in run if high is not None]
        below = [(x(at), y(low)) for at, low, _ in reversed(run) if low is not None]
        parts.append(tag("path", d=_path(above + below) + "Z", class_=f"band fill-{series.colour}"))
    return Markup("").join(parts)


def _error_bars(series: Series, ends: Sequence[tuple[float, float | None, float | None]], x: Scale, y: Scale) -> Markup:
    parts = []
    for at, low, high in ends:
        if low is not None and high is not None and y.shows(low) and y.shows(high):
            left, foot, head = f"{x(at) - 4:.1f}", f"{y(low):.1f}", f"{y(high):.1f}"
            bar = f"M{left} {foot}h8M{left} {head}h8M{x(at):.1f} {foot}V{head}"
            parts.append(tag("path", d=bar, class_=f"whisker stroke-{series.colour}"))
    return Markup("").join(parts)


def _unbroken(values: Sequence[T | None]) -> list[list[T]]:
    """The stretches between gaps."""
    runs: list[list[T]] = [[]]
    for value in values:
        if value is not None:
            runs[-1].append(value)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _path(places: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{left:.1f} {top:.1f}" for left, top in places)


def label_at(text: str, x: float, y: float, class_: str, anchor: str) -> Markup:
    """Text at a place, `anchor` start, middle or end."""
    return Markup('<text x="{}" y="{}" class="{}" text-anchor="{}">{}</text>').format(
        f"{x:.1f}", f"{y:.1f}", class_, anchor, text
    )


def tag(name: str, *, tip: str = "", **attributes: float | str) -> Markup:
    """One element; `tip` is shown when the pointer rests on it. Every value is escaped."""
    written = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_"), value if isinstance(value, str) else f"{value:.1f}")
        for key, value in attributes.items()
    )
    if tip:
        return Markup("<{0}{1}><title>{2}</title></{0}>").format(name, written, tip)
    return Markup("<{}{}/>").format(name, written)


def drawing(key: str, title: str, description: str, height: float, parts: Sequence[Markup]) -> Markup:
    """The whole `<svg>`, named for screen readers."""
    head = Markup(
        '<svg viewBox="0 0 {w} {h}" role="img" aria-labelledby="{k}-title {k}-desc" class="chart">'
        '<title id="{k}-title">{title}</title><desc id="{k}-desc">{description}</desc>'
    ).format(w=WIDTH, h=f"{height:.0f}", k=key, title=title, description=description)
    return head + Markup("").join(parts) + Markup("</svg>")
