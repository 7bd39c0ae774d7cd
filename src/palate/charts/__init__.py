"""Charts as inline SVG, for every page and figure: no script, no outside file, colours by CSS class.

`plot` draws curves and points over two axes, `rows` bars and intervals, one row each. Colours are in `colours.css`, the
look of the marks is in `chart.css`.
"""

from __future__ import annotations

from palate.charts.plot import Axis, Chart, DataPoint, Series, curve, draw, scatter_chart
from palate.charts.rows import Row, bar_chart, interval_chart
from palate.charts.svg import stylesheet, svg_file

__all__ = [
    "Axis",
    "Chart",
    "DataPoint",
    "Row",
    "Series",
    "bar_chart",
    "curve",
    "draw",
    "interval_chart",
    "scatter_chart",
    "stylesheet",
    "svg_file",
]
