"""SVG elements, and the whole drawing: inline in a page, or as a file with its colours inside."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib import resources

from markupsafe import Markup

from palate.charts.text import visible

WIDTH = 560
CHARACTER = 6.6
"""Pixels of a character of a label, on average."""


def element(name: str, *, tip: str = "", **attributes: float | str) -> Markup:
    """One element; a browser shows `tip` when the pointer is on it. Every value is escaped."""
    written = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_"), value if isinstance(value, str) else f"{value:.1f}")
        for key, value in attributes.items()
    )
    if tip:
        return Markup("<{0}{1}><title>{2}</title></{0}>").format(name, written, visible(tip))
    return Markup("<{}{}/>").format(name, written)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """A straight line."""
    return element("line", x1=x1, x2=x2, y1=y1, y2=y2, class_=class_)


def path(points: Iterable[tuple[float, float]], class_: str, *, close: str = "", tip: str = "") -> Markup:
    """Straight lines through the points; `close` is `Z` for a shape."""
    return element("path", tip=tip, d="M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) + close, class_=class_)


def label(text: str, x: float, y: float, class_: str, anchor: str) -> Markup:
    """Text at (x, y); `anchor` is start, middle or end."""
    return Markup('<text x="{}" y="{}" class="{}" text-anchor="{}">{}</text>').format(
        f"{x:.1f}", f"{y:.1f}", class_, anchor, visible(text)
    )


def drawing(
    key: str, title: str, description: str, height: float, parts: Iterable[Markup], width: int = WIDTH
) -> Markup:
    """The whole `<svg>`, with title and description for screen readers; `key` is unique on the page."""
    class_ = "chart" if width == WIDTH else "chart narrow"
    head = Markup(
        '<svg viewBox="0 0 {w} {h}" role="img" aria-labelledby="{k}-title {k}-desc" class="{c}">'
        '<title id="{k}-title">{title}</title><desc id="{k}-desc">{description}</desc>'
    ).format(w=width, c=class_, h=f"{height:.0f}", k=key, title=visible(title), description=visible(description))
    return head + Markup("").join(parts) + Markup("</svg>")


def stylesheet() -> str:
    """Colours and marks as CSS, for a page."""
    return _css("colours.css") + _css("chart.css")


def svg_file(figure: Markup) -> str:
    """The figure as the content of an `.svg` file, in light colours on white, without CSS variables."""
    light = dict(re.findall(r"--(\w+): (#\w+)", _css("colours.css").partition("@media")[0]))
    style = re.sub(r"var\(--(\w+)\)", lambda match: light[match[1]], _css("chart.css"))
    head, bracket, rest = str(figure).partition(">")
    head = head.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" font-family="system-ui,sans-serif" ', 1)
    return f'{head}{bracket}<style>{style}</style><rect width="100%" height="100%" fill="#fff"/>{rest}\n'


def _css(name: str) -> str:
    return resources.files("palate.charts").joinpath(name).read_text(encoding="utf-8")
