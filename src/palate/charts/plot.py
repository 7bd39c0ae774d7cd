"""Curves and points over two axes: lines, marks with intervals, and bands.

Gaps stay gaps, a single value is a dot, and a value that was not finite is a cross on the axis. Groups of points differ
in the shape of their marks as well as in colour, so that a figure can be read in grey.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeVar

from markupsafe import Markup

from palate.charts.scale import Scale, ScaleName, scale_over, tick_labels
from palate.charts.svg import CHARACTER, WIDTH, drawing, element, label, line, path
from palate.charts.text import estimate_text, number, shortened

T = TypeVar("T")

COLOURS = ("a", "b", "c", "e", "f", "g", "h")
"""Colour classes of series, in the order in which they are used; `d` is grey."""

_LEFT, _RIGHT, _BOTTOM, _PLOT, _LEGEND_ROW = 58, 22, 34, 220, 20
_SIZE, _SHAPES = 4.2, 5
_CORNERS = {
    1: ((-1, -1), (1, -1), (1, 1), (-1, 1)),
    2: ((0, -1.3), (1.2, 1), (-1.2, 1)),
    3: ((0, -1.4), (1.4, 0), (0, 1.4), (-1.4, 0)),
    4: ((0, 1.3), (1.2, -1), (-1.2, -1)),
}
"""Of marks by shape, in units of _SIZE pixels."""
_NAME = 60
"""Longest name in the legend, in characters."""
_HOVER = 120
"""Lines of up to this many points show the value under the pointer."""


class DataPoint(NamedTuple):
    """A point with its intervals; None or an infinite end leaves that interval out, and y None or NaN is a gap."""

    x: float
    x_low: float | None
    x_high: float | None
    y: float | None
    y_low: float | None
    y_high: float | None
    label: str = ""


@dataclass(frozen=True, slots=True)
class Series:
    """Points that belong together.

    Attributes:
        name: in the legend.
        points: in the order in which the line joins them.
        colour: CSS colour class, `a` to `h`; `d` is grey.
        line: how the points are joined.
        marks: draw a mark at every point, not only at those without neighbours.
        band: shade between y_low and y_high, instead of a bar at each point.
        shape: of the marks: 0 circle, 1 square, 2 triangle, 3 diamond, 4 triangle that points down.
        tips: what the pointer shows at each point; the point's values unless given.
    """

    name: str
    points: Sequence[DataPoint]
    colour: str = "a"
    line: Literal["solid", "dashed", "none"] = "solid"
    marks: bool = False
    band: bool = False
    shape: int = 0
    tips: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis.

    Attributes:
        name: with the unit.
        scale: `steps` has ticks at whole numbers only.
        percent: values are shares of 1, shown as percentages.
        levels: (value, label) of lines across the plot, such as chance.
    """

    name: str
    scale: ScaleName = "linear"
    percent: bool = False
    levels: Sequence[tuple[float, str]] = ()

    def over(self, values: Iterable[float | None], start: float, end: float) -> Scale:
        """The scale from pixel `start` to `end` that holds all values and levels."""
        held = [value for value in values if value is not None and math.isfinite(value)]
        held += [level for level, _ in self.levels]
        if self.percent and held and min(held) == max(held):
            held += [0.0, 1.0]  # an axis around a single share could go beyond 100 %
        return scale_over(self.scale, held, start, end)


@dataclass(frozen=True, slots=True)
class Chart:
    """What to draw.

    Attributes:
        key: unique on the page; makes the ids of title and description.
        title: for the page and for screen readers.
        series: in the order of the legend; later ones are drawn over earlier ones.
        y, x: the axes.
    """

    key: str
    title: str
    series: Sequence[Series]
    y: Axis
    x: Axis = Axis("step", "steps")


def curve(
    name: str,
    values: Iterable[tuple[float, float | None]],
    colour: str = "a",
    *,
    marks: bool = False,
    ends: Sequence[tuple[float | None, float | None]] = (),
    band: bool = False,
) -> Series:
    """A series over steps: a solid line, or separate measurements as marks with a dashed line.

    Args:
        values: (step, value).
        ends: (low, high) of each value, drawn as bars or as a band.
    """
    each = list(values)
    intervals = ends or [(None, None)] * len(each)
    points = [DataPoint(x, None, None, y, low, high) for (x, y), (low, high) in zip(each, intervals, strict=True)]
    return Series(name, points, colour, line="dashed" if marks else "solid", marks=marks, band=band)


def scatter_chart(
    groups: Mapping[str, Sequence[DataPoint]],
    *,
    key: str = "scatter",
    title: str = "Reward against KL",
    x_label: str = "KL to the reference, nats per answer",
    y_label: str = "reward",
    x_scale: ScaleName = "linear",
    order: Literal["x", "given"] = "x",
    muted: Collection[str] = (),
    levels: Sequence[tuple[float, str]] = (),
) -> Markup:
    """Groups of points, each joined by a line.

    Args:
        groups: name → points, in the order of the legend. Colour and shape together repeat after 35 groups.
        x_scale: `sqrt` is even in √x; a KL of 0 is not on a `log` axis.
        order: join by x, or as given (checkpoints by step).
        muted: groups in grey (the reference).
        levels: horizontal lines with a label.
    """
    coloured = [name for name in groups if name not in muted]
    series = []
    for name, points in groups.items():
        index = coloured.index(name) if name in coloured else 0
        series.append(
            Series(
                name,
                sorted(points, key=lambda point: point.x) if order == "x" else points,
                COLOURS[index % len(COLOURS)] if name in coloured else "d",
                marks=True,
                shape=index % _SHAPES,
            )
        )
    aside = {"sqrt": " (square-root axis)", "log": " (logarithmic axis)"}.get(x_scale, "")
    return draw(Chart(key, title, series, Axis(y_label, levels=levels), Axis(x_label + aside, x_scale)))


def draw(chart: Chart) -> Markup:
    """The chart as an `<svg>` element."""
    points = [point for series in chart.series for point in series.points]
    legend, top = _legend(chart.series)
    bottom = top + _PLOT
    x = chart.x.over((v for p in points for v in (p.x, p.x_low, p.x_high)), _LEFT, WIDTH - _RIGHT)
    y = chart.y.over((v for p in points for v in (p.y, p.y_low, p.y_high)), bottom, top)
    parts = [*legend, *_axes(chart, x, y)]
    if hidden := sum(not x.shows(point.x) for point in points):
        which = "1 point is" if hidden == 1 else f"{hidden} points are"
        parts.append(label(f"{which} not on this axis", x.end, top - 12, "note", "end"))
    for series in chart.series:
        parts += [*_band(series, x, y), *_intervals(series, x, y), *_lines(series, x, y)]
    parts += _point_labels([p for p in points if x.shows(p.x) and y.shows(p.y)], x, y)
    for series in chart.series:  # over the labels, so that no mark is hidden
        parts += _marks(series, chart, x, y)
    return drawing(chart.key, chart.title, describe(chart), bottom + _BOTTOM, parts)


def describe(chart: Chart) -> str:
    """What a chart shows, in words, for a reader who cannot see it: where curves start and end, or every point."""
    if chart.x.scale == "steps":
        texts = [_course(series, chart) for series in chart.series]
    else:
        texts = [_tip(series, index, chart) for series in chart.series for index in range(len(series.points))]
    return f"{chart.title}: {'; '.join(texts)}."


def _course(series: Series, chart: Chart) -> str:
    """`train goes from 0.69 at step 1 to 0.41 at step 80`."""
    ends = [point for point in series.points if point.y is not None]
    if not ends:
        return f"{series.name} has no finite value"
    first, last = (f"{number(point.y)} at {chart.x.name} {number(point.x)}" for point in (ends[0], ends[-1]))
    return f"{series.name} is {first}" if len(ends) == 1 else f"{series.name} goes from {first} to {last}"


def _tip(series: Series, index: int, chart: Chart) -> str:
    """What the pointer shows at a point: `held-out, step 40: 0.61 (0.55 to 0.66)`."""
    if series.tips:
        return series.tips[index]
    point = series.points[index]
    name = f"{series.name}, {point.label}" if point.label and point.label != series.name else series.name
    y = estimate_text(point.y, point.y_low, point.y_high, as_percent=chart.y.percent)
    y = y if point.y is not None and math.isfinite(point.y) else "not finite"
    if chart.x.scale == "steps":
        return f"{name}, {chart.x.name} {number(point.x)}: {y}"
    return f"{name}: x {estimate_text(point.x, point.x_low, point.x_high, as_percent=chart.x.percent)}, y {y}"


def _legend(series: Sequence[Series]) -> tuple[list[Markup], float]:
    """The legend's elements, and the pixel where the plot begins below it."""
    parts: list[Markup] = []
    left, row = float(_LEFT), 0
    for one in series:
        name = shortened(one.name, _NAME)
        width = 30 + CHARACTER * len(name) + 16
        if left + width - 16 > WIDTH and left > _LEFT:
            left, row = float(_LEFT), row + 1
        at = 12 + _LEGEND_ROW * row
        if one.line != "none":
            parts.append(line(left, at, left + 22, at, _line_class(one)))
        if one.marks:
            parts.append(_mark(one, left + 11, at))
        parts.append(label(name, left + 29, at + 4, "name", "start"))
        left += width
    return parts, 12 + _LEGEND_ROW * row + 38


def _axes(chart: Chart, x: Scale, y: Scale) -> list[Markup]:
    """Grid, ticks, names and levels; ticks instead of a vertical grid where x counts steps."""
    bottom, top = y.start, y.end
    parts = [line(x.start, bottom, x.end, bottom, "axis")]
    for tick, text in zip(y.ticks, tick_labels(y, percent=chart.y.percent), strict=True):
        parts.append(line(x.start, y(tick), x.end, y(tick), "zero" if tick == 0 and y.low < 0 else "grid"))
        parts.append(label(text, x.start - 8, y(tick) + 4, "tick", "end"))
    for tick, text in zip(x.ticks, tick_labels(x, percent=chart.x.percent), strict=True):
        if chart.x.scale == "steps":
            parts.append(line(x(tick), bottom, x(tick), bottom + 4, "axis"))
        else:
            parts.append(line(x(tick), top, x(tick), bottom, "grid"))
        parts.append(label(text, x(tick), bottom + 17, "tick", "middle"))
    parts.append(label(chart.x.name, x.end, bottom + 31, "note", "end"))
    parts.append(label(chart.y.name, 4, top - 12, "note", "start"))
    for level, text in chart.x.levels:
        parts.append(line(x(level), top, x(level), bottom, "level"))
        parts.append(label(text, x(level) + 4, top + 12, "note", "start"))
    for level, text in chart.y.levels:
        if y.shows(level):
            parts.append(line(x.start, y(level), x.end, y(level), "level"))
            parts.append(label(text, x.end - 2, y(level) - 4, "note", "end"))
    return parts


def _lines(series: Series, x: Scale, y: Scale) -> list[Markup]:
    """The line, broken at gaps."""
    if series.line == "none":
        return []
    return [path(stretch, _line_class(series)) for stretch in _stretches(_pixels(series, x, y)) if len(stretch) > 1]


def _marks(series: Series, chart: Chart, x: Scale, y: Scale) -> list[Markup]:
    """Marks, of a curve only at values between gaps; crosses at gaps; on short curves a tip at every value."""
    parts = []
    pixels = _pixels(series, x, y)
    alone = {stretch[0] for stretch in _stretches(pixels) if len(stretch) == 1}
    for index, (point, pixel) in enumerate(zip(series.points, pixels, strict=True)):
        tip = _tip(series, index, chart)
        if pixel is None:
            if x.shows(point.x):
                cross = f"M{x(point.x) - 3:.1f} {y.start - 9}l6 6m0 -6l-6 6"
                parts.append(element("path", tip=tip, d=cross, class_="broken"))
        elif series.marks or pixel in alone:
            parts.append(_mark(series, *pixel, tip))
        elif len(pixels) <= _HOVER:
            parts.append(element("circle", tip=tip, cx=pixel[0], cy=pixel[1], r=3.5, class_="hover"))
    return parts


def _pixels(series: Series, x: Scale, y: Scale) -> list[tuple[float, float] | None]:
    """Where each point is drawn; None for a gap."""
    return [(x(p.x), y(p.y)) if x.shows(p.x) and p.y is not None and y.shows(p.y) else None for p in series.points]


def _line_class(series: Series) -> str:
    return f"line{' dashed' if series.line == 'dashed' else ''} stroke-{series.colour}"


def _intervals(series: Series, x: Scale, y: Scale) -> list[Markup]:
    """Bars in both directions; an end beyond the axis is drawn to the end of the axis."""
    parts = []
    class_ = f"interval stroke-{series.colour}"
    for point in () if series.band else series.points:
        if point.y is None or not (x.shows(point.x) and y.shows(point.y)):
            continue
        left, top = x(point.x), y(point.y)
        if ends := x.ends(point.x_low, point.x_high):
            parts.append(line(ends[0], top, ends[1], top, class_))
        if ends := y.ends(point.y_low, point.y_high):
            parts.append(line(left, ends[0], left, ends[1], class_))
    return parts


def _band(series: Series, x: Scale, y: Scale) -> list[Markup]:
    if not series.band:
        return []
    parts = []
    for stretch in _stretches([p if y.shows(p.y_low) and y.shows(p.y_high) else None for p in series.points]):
        above = [(x(p.x), y(p.y_high)) for p in stretch if p.y_high is not None]
        below = [(x(p.x), y(p.y_low)) for p in reversed(stretch) if p.y_low is not None]
        parts.append(path(above + below, f"band fill-{series.colour}", close="Z"))
    return parts


def _mark(series: Series, x: float, y: float, tip: str = "") -> Markup:
    class_ = f"dot fill-{series.colour}"
    if series.shape == 0:
        return element("circle", tip=tip, cx=x, cy=y, r=_SIZE, class_=class_)
    corners = _CORNERS[series.shape]
    return path([(x + _SIZE * across, y + _SIZE * down) for across, down in corners], class_, close="Z", tip=tip)


def _point_labels(points: Sequence[DataPoint], x: Scale, y: Scale) -> list[Markup]:
    """Labels next to their points; a label that would overlap another is left out (the pointer shows it)."""
    parts: list[Markup] = []
    taken: list[tuple[float, float, float]] = []
    for point in points:
        width = CHARACTER * len(point.label) + 6
        left, at = x(point.x) + 8, y(point.y or 0.0) - 7
        if at < y.end + 4:  # above are the names of the axis and of the series
            at += 22
        if left + width > x.end:
            left -= width + 16
        if point.label and not any(
            abs(at - row) < 12 and left < end and start < left + width for start, end, row in taken
        ):
            taken.append((left, left + width, at))
            parts.append(label(point.label, left, at, "name near", "start"))
    return parts


def _stretches(values: Sequence[T | None]) -> list[list[T]]:
    """The runs of values between gaps."""
    found: list[list[T]] = [[]]
    for value in values:
        if value is not None:
            found[-1].append(value)
        elif found[-1]:
            found.append([])
    return [stretch for stretch in found if stretch]
