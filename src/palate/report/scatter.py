"""Points on a plane with their intervals, and the front among them, as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from palate.report.scales import Scale, linear, number, tick_labels
from palate.report.svg import BOTTOM, HEIGHT, LEFT, RIGHT, WIDTH, drawing, label_at, tag

_TOP, _MARGIN = 34, 16


@dataclass(frozen=True, slots=True)
class Axis:
    """What one direction counts.

    Attributes:
        name: beside the axis.
        percent: values are shares of 1, shown as percentages.
        higher: whether more is better.
        level: where a line is drawn, e.g. chance; None for none.
    """

    name: str
    percent: bool = False
    higher: bool = True
    level: float | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """One point: (estimate, low, high) in either direction, its mark, what a pointer is told, and whether it is on the
    front."""

    x: tuple[float, float, float]
    y: tuple[float, float, float]
    mark: str
    tip: str
    front: bool


def scatter_chart(key: str, title: str, x_axis: Axis, y_axis: Axis, places: Sequence[Place]) -> Markup:
    """The points, those on the front coloured and joined."""
    x = _scale(x_axis, [value for place in places for value in place.x], LEFT, WIDTH - RIGHT - _MARGIN)
    y = _scale(y_axis, [value for place in places for value in place.y], HEIGHT - BOTTOM, _TOP)
    front = sorted((place for place in places if place.front), key=lambda place: (place.x[0], place.y[0]))
    parts = [_frame(x_axis, y_axis, x, y)]
    if len(front) > 1:
        path = "M" + "L".join(f"{x(place.x[0]):.1f} {y(place.y[0]):.1f}" for place in front)
        parts.append(tag("path", d=path, class_="line dashed stroke-a"))
    # Points on the front are drawn last, so that none is hidden.
    parts += [_point(place, x, y) for place in sorted(places, key=lambda place: place.front)]
    told = "; ".join(place.tip + (", on the front" if place.front else "") for place in places)
    return drawing(key, title, f"{title}: {told}.", HEIGHT, parts)


def shown(axis: Axis, value: float) -> str:
    """A value as its axis writes it."""
    return f"{100 * value:.1f} %" if axis.percent else number(value, 3)


def _scale(axis: Axis, values: Sequence[float], start: float, end: float) -> Scale:
    return linear([*values, *(() if axis.level is None else (axis.level,))], start, end)


def _frame(x_axis: Axis, y_axis: Axis, x: Scale, y: Scale) -> Markup:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT - _MARGIN
    parts = []
    for tick, name in zip(y.ticks, tick_labels(y, percent=y_axis.percent), strict=True):
        parts.append(tag("line", x1=LEFT, x2=right, y1=y(tick), y2=y(tick), class_="grid"))
        parts.append(label_at(name, LEFT - 8, y(tick) + 4, "tick", "end"))
    for tick, name in zip(x.ticks, tick_labels(x, percent=x_axis.percent), strict=True):
        parts.append(tag("line", x1=x(tick), x2=x(tick), y1=_TOP, y2=bottom, class_="grid"))
        parts.append(label_at(name, x(tick), bottom + 17, "tick", "middle"))
    if x_axis.level is not None:
        parts.append(tag("line", x1=x(x_axis.level), x2=x(x_axis.level), y1=_TOP, y2=bottom, class_="level"))
    if y_axis.level is not None:
        parts.append(tag("line", x1=LEFT, x2=right, y1=y(y_axis.level), y2=y(y_axis.level), class_="level"))
    parts.append(label_at(_named(x_axis), right, bottom + 31, "note", "end"))
    parts.append(label_at(_named(y_axis), 4, _TOP - 18, "note", "start"))
    return Markup("").join(parts)


def _named(axis: Axis) -> str:
    return f"{axis.name} ({'more' if axis.higher else 'less'} is better)"


def _point(place: Place, x: Scale, y: Scale) -> Markup:
    colour = "a" if place.front else "d"
    left, top = x(place.x[0]), y(place.y[0])
    parts = []
    if place.x[1] < place.x[2]:
        parts.append(tag("line", x1=x(place.x[1]), x2=x(place.x[2]), y1=top, y2=top, class_=f"faint stroke-{colour}"))
    if place.y[1] < place.y[2]:
        parts.append(tag("line", x1=left, x2=left, y1=y(place.y[1]), y2=y(place.y[2]), class_=f"faint stroke-{colour}"))
    parts.append(tag("circle", tip=place.tip, cx=left, cy=top, r=5, class_=f"dot fill-{colour}"))
    parts.append(label_at(place.mark, left + 8, top - 7, "name", "start"))
    return Markup("").join(parts)
