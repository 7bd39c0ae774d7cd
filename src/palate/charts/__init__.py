"""Charts as inline SVG, for every page and figure: no script, no outside file, colours by CSS class.

`plot` draws curves and points over two axes, `rows` bars and intervals, one row each. Colours are in `colours.css`, the
look of the marks is in `chart.css`.
"""

from __future__ import annotations

from palate.charts.plot import Axis as Axis
from palate.charts.plot import Chart as Chart
from palate.charts.plot import DataPoint as DataPoint
from palate.charts.plot import Series as Series
from palate.charts.plot import curve as curve
from palate.charts.plot import draw as draw
from palate.charts.plot import scatter_chart as scatter_chart
from palate.charts.rows import Row as Row
from palate.charts.rows import bar_chart as bar_chart
from palate.charts.rows import interval_chart as interval_chart
from palate.charts.svg import stylesheet as stylesheet
from palate.charts.svg import svg_file as svg_file
