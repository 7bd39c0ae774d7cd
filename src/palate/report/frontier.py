"""Reward against KL as inline SVG, from plain numbers: one line a group, with error bars in both directions.

Groups differ in the shape of their marks as well as in colour, so that the figure can be read in grey.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

from markupsafe import Markup

from palate.report.page import visible
from palate.report.scales import Scale, linear, logarithmic, number, square_root, tick_labels
from palate.report.svg import BOTTOM, LEFT, RIGHT, WIDTH, drawing, label_at, tag

XScale: TypeAlias = Literal["linear", "sqrt", "log"]

_PLOT, _ROW, _MARGIN = 250, 20, 16
_CHARACTER, _LONGEST = 6.3, 60
_SIZE = 4.5
_SCALES: Mapping[str, Callable[[Sequence[float], float, float], Scale]] = {
    "linear": linear,
    "sqrt": square_root,
    "log": logarithmic,
}
# In a file of its own the page's style sheet is not there.
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#5d6670}.name{fill:#1d2126}.note{fill:#8a929b;font-size:11.5px}"
    ".near{stroke:#fff;stroke-width:3;paint-order:stroke}"
    ".grid{stroke:#e4e1da}.level{stroke:#8a929b;stroke-dasharray:2 4}.line{fill:none;stroke-width:1.6}"
    ".faint{stroke-width:1.2;opacity:.5}.dot{stroke:#fff;stroke-width:.8}.hollow{fill:#fff;stroke-width:1.8}"
    ".stroke-a{stroke:#3f51b5}.stroke-b{stroke:#00796b}.stroke-c{stroke:#c2410c}.stroke-d{stroke:#6b7280}"
    ".fill-a{fill:#3f51b5}.fill-b{fill:#00796b}.fill-c{fill:#c2410c}.fill-d{fill:#6b7280}"
)


class Mark(NamedTuple):
    """A point; where an end of an interval is None or infinite, that error bar is left out.

    Attributes:
        x, x_low, x_high: KL, or whatever the x axis counts, with its interval.
        y, y_low, y_high: reward, with its interval.
        label: beside the point, such as a step or a β; empty for none.
    """

    x: float
    x_low: float | None
    x_high: float | None
    y: float
    y_low: float | None
    y_high: float | None
    label: str = ""


_Plain: TypeAlias = tuple[float, float | None, float | None, float, float | None, float | None, str]


class _Look(NamedTuple):
    colour: str
    shape: int
    hollow: bool


def frontier_svg(
    series: Mapping[str, Sequence[_Plain]],
    *,
    key: str = "frontier",
    title: str = "Reward against KL",
    x_label: str = "KL to the reference, nats per answer",
    y_label: str = "reward",
    x_scale: XScale = "linear",
    order: Literal["x", "given"] = "x",
    muted: Collection[str] = (),
    levels: Sequence[tuple[float, str]] = (),
) -> Markup:
    """The figure as an `<svg>` element for a page of `report.page`; `svg_file` makes a file of it.

    Args:
        series: group → its points, `Mark`s or plain tuples of the same seven values; in the order of the legend.
        key: unique on the page; makes the ids of title and description.
        title: for screen readers and as the name of the figure.
        x_label: what x counts.
        y_label: what y counts.
        x_scale: `sqrt` spaces the axis by √x, as over-optimisation is usually drawn; on `log` a KL of 0 has no place.
        order: points of a group are joined in order of x, or as they are given (checkpoints by step).
        muted: groups that are drawn in grey (the reference).
        levels: horizontal lines with a label.
    """
    marks = {name: [Mark(*mark) for mark in points] for name, points in series.items()}
    every = [mark for points in marks.values() for mark in points]
    legend, top = _legend(list(marks), muted)
    bottom, right = top + _PLOT, WIDTH - RIGHT - _MARGIN
    x = _SCALES[x_scale](_ends((mark.x, mark.x_low, mark.x_high) for mark in every), LEFT, right)
    heights = _ends((mark.y, mark.y_low, mark.y_high) for mark in every) + [level for level, _ in levels]
    y = linear(heights, bottom, top)
    shown = {name: [mark for mark in points if x.shows(mark.x) and y.shows(mark.y)] for name, points in marks.items()}
    hidden = len(every) - sum(map(len, shown.values()))
    parts = [_frame(x, y, x_label + _aside(x_scale), y_label, hidden), legend]
    for level, label in levels:
        parts.append(tag("line", x1=LEFT, x2=right, y1=y(level), y2=y(level), class_="level"))
        parts.append(label_at(visible(label), right - 2, y(level) - 4, "note", "end"))
    looks = _looks(list(marks), muted)
    parts += [_line(points, x, y, looks[name], order) for name, points in shown.items()]
    parts += [_bars(mark, x, y, looks[name].colour) for name, points in shown.items() for mark in points]
    parts += [_mark(name, mark, x, y, looks[name]) for name, points in shown.items() for mark in points]
    parts.append(_labels([mark for points in shown.values() for mark in points], x, y, right))
    told = "; ".join(_told(name, mark) for name, points in marks.items() for mark in points)
    return drawing(key, visible(title), visible(f"{title}: {told}."), bottom + BOTTOM, parts)


def svg_file(figure: Markup) -> str:
    """The figure as the content of an `.svg` file, on white and with its colours inside."""
    head, bracket, rest = str(figure).partition(">")
    head = head.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    return f'{head}{bracket}<style>{_STYLE}</style><rect width="100%" height="100%" fill="#fff"/>{rest}\n'


def _ends(rows: Iterable[tuple[float | None, ...]]) -> list[float]:
    return [value for row in rows for value in row if value is not None and math.isfinite(value)]


def _aside(x_scale: XScale) -> str:
    return {"linear": "", "sqrt": " (square-root axis)", "log": " (logarithmic axis)"}[x_scale]


def _looks(names: Sequence[str], muted: Collection[str]) -> dict[str, _Look]:
    """Colour and shape together repeat after 15 groups, then with hollow marks."""
    found, place = {}, 0
    for name in names:
        if name in muted:
            found[name] = _Look("d", 0, True)
            continue
        found[name] = _Look("abc"[place % 3], place % 5, place // 15 % 2 == 1)
        place += 1
    return found


def _legend(names: Sequence[str], muted: Collection[str]) -> tuple[Markup, float]:
    """The legend's elements and the pixel where the plot may begin below it."""
    parts: list[Markup] = []
    left, row = float(LEFT), 0
    for name, look in _looks(names, muted).items():
        text = visible(name)
        text = text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]}…{text[-_LONGEST // 2 :]}"
        width = 16 + _CHARACTER * len(text) + 18
        if left + width - 18 > WIDTH and left > LEFT:
            left, row = float(LEFT), row + 1
        at = 12 + _ROW * row
        parts.append(_shape(look, left + 5, at, ""))
        parts.append(label_at(text, left + 15, at + 4, "name", "start"))
        left += width
    return Markup("").join(parts), 12 + _ROW * row + 40


def _frame(x: Scale, y: Scale, x_label: str, y_label: str, hidden: int) -> Markup:
    bottom, top = y.start, y.end
    parts = []
    for tick, name in zip(y.ticks, tick_labels(y), strict=True):
        parts.append(tag("line", x1=x.start, x2=x.end, y1=y(tick), y2=y(tick), class_="grid"))
        parts.append(label_at(name, LEFT - 8, y(tick) + 4, "tick", "end"))
    for tick, name in zip(x.ticks, tick_labels(x), strict=True):
        parts.append(tag("line", x1=x(tick), x2=x(tick), y1=top, y2=bottom, class_="grid"))
        parts.append(label_at(name, x(tick), bottom + 17, "tick", "middle"))
    parts.append(label_at(visible(x_label), x.end, bottom + 31, "note", "end"))
    parts.append(label_at(visible(y_label), 4, top - 14, "note", "start"))
    if hidden:
        said = "1 point has" if hidden == 1 else f"{hidden} points have"
        parts.append(label_at(f"{said} no place on this axis", x.end, top - 14, "note", "end"))
    return Markup("").join(parts)


def _line(marks: Sequence[Mark], x: Scale, y: Scale, look: _Look, order: str) -> Markup:
    if len(marks) < 2:
        return Markup("")
    ordered = sorted(marks, key=lambda mark: mark.x) if order == "x" else marks
    path = "M" + "L".join(f"{x(mark.x):.1f} {y(mark.y):.1f}" for mark in ordered)
    return tag("path", d=path, class_=f"line stroke-{look.colour}")


def _bars(mark: Mark, x: Scale, y: Scale, colour: str) -> Markup:
    left, top, parts = x(mark.x), y(mark.y), []
    for low, high, scale, across in ((mark.x_low, mark.x_high, x, True), (mark.y_low, mark.y_high, y, False)):
        if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)) or low >= high:
            continue
        # An interval may reach to where the axis has no place: it is drawn to the axis' end.
        ends = [scale(max(low, scale.low)), scale(min(high, scale.high))]
        (x1, x2), (y1, y2) = (ends, (top, top)) if across else ((left, left), ends)
        parts.append(tag("line", x1=x1, x2=x2, y1=y1, y2=y2, class_=f"faint stroke-{colour}"))
    return Markup("").join(parts)


def _mark(name: str, mark: Mark, x: Scale, y: Scale, look: _Look) -> Markup:
    return _shape(look, x(mark.x), y(mark.y), visible(_told(name, mark)))


def _shape(look: _Look, x: float, y: float, tip: str) -> Markup:
    """Circle, square, triangle, diamond or triangle on its head."""
    kind = f"hollow stroke-{look.colour}" if look.hollow else f"dot fill-{look.colour}"
    s = _SIZE
    if look.shape == 0:
        return tag("circle", tip=tip, cx=x, cy=y, r=s, class_=kind)
    corners = {
        1: ((-s, -s), (s, -s), (s, s), (-s, s)),
        2: ((0, -1.3 * s), (1.2 * s, s), (-1.2 * s, s)),
        3: ((0, -1.4 * s), (1.4 * s, 0), (0, 1.4 * s), (-1.4 * s, 0)),
        4: ((0, 1.3 * s), (1.2 * s, -s), (-1.2 * s, -s)),
    }[look.shape]
    path = "M" + "L".join(f"{x + across:.1f} {y + down:.1f}" for across, down in corners) + "Z"
    return tag("path", tip=tip, d=path, class_=kind)


def _labels(marks: Sequence[Mark], x: Scale, y: Scale, right: float) -> Markup:
    """Labels beside their points; one that would lie on another is left out, as its point tells it to a pointer."""
    parts: list[Markup] = []
    taken: list[tuple[float, float, float]] = []
    for mark in marks:
        text = visible(mark.label)
        width = _CHARACTER * len(text) + 6
        left, at = x(mark.x) + 8, y(mark.y) - 7
        if left + width > right:
            left -= width + 16
        if text and not any(abs(at - row) < 12 and left < end and begin < left + width for begin, end, row in taken):
            taken.append((left, left + width, at))
            parts.append(label_at(text, left, at, "name near", "start"))
    return Markup("").join(parts)


def _told(name: str, mark: Mark) -> str:
    said = f"{name}, {mark.label}" if mark.label and mark.label != name else name
    return f"{said}: x {_interval(mark.x, mark.x_low, mark.x_high)}, y {_interval(mark.y, mark.y_low, mark.y_high)}"


def _interval(value: float, low: float | None, high: float | None) -> str:
    known = low is not None and high is not None and math.isfinite(low) and math.isfinite(high) and low < high
    return f"{number(value, 3)} ({number(low, 3)} to {number(high, 3)})" if known else number(value, 3)
