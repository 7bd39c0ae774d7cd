"""Charts are well-formed, show every value where it is, and hide no gap."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

import pytest

from palate.charts import Axis, Chart, Row, Series, bar_chart, curve, draw, interval_chart
from palate.charts.plot import describe
from palate.charts.svg import WIDTH

HEIGHT = 400


def line(name: str, x: Sequence[float], y: Sequence[float | None], **options: Any) -> Series:
    return curve(name, list(zip(x, y, strict=True)), **options)


def drawn(*series: Series, **options: Any) -> ElementTree.Element:
    return ElementTree.fromstring(draw(Chart("c1", "Loss", list(series), Axis("nats", **options))))


def of_class(svg: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [element for element in svg.iter() if name in element.get("class", "").split()]


def path_points(path: ElementTree.Element) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", path.get("d", ""))]


def curves(svg: ElementTree.Element) -> list[ElementTree.Element]:
    return [path for path in svg.iter("path") if "line" in path.get("class", "").split()]


def test_a_line_is_where_its_values_are() -> None:
    svg = drawn(line("train", [0, 5, 10], [0.0, 1.0, 0.5]))
    (left, bottom), (middle, top), (right, half) = path_points(curves(svg)[0])
    assert middle - left == pytest.approx(right - middle, abs=0.2)
    assert bottom - half == pytest.approx(half - top, abs=0.2)
    assert top < half < bottom
    assert 0 <= left < right <= WIDTH
    assert 0 <= top < bottom <= HEIGHT


def test_title_and_description_are_announced() -> None:
    svg = drawn(line("train", [0, 1], [0, 1]))
    assert svg.get("role") == "img"
    ids = svg.get("aria-labelledby", "").split()
    assert [e.text for e in svg if e.get("id") in ids] == ["Loss", "Loss: train goes from 0 at step 0 to 1 at step 1."]


def test_a_gap_breaks_the_line_and_is_marked_on_the_axis() -> None:
    svg = drawn(line("train", range(6), [1.0, 0.9, None, math.nan, 0.7, 0.6]))
    assert [len(path_points(path)) for path in curves(svg)] == [2, 2]
    crosses = of_class(svg, "broken")
    assert [cross.findtext("title") for cross in crosses] == ["train, step 2: not finite", "train, step 3: not finite"]


def test_a_single_value_and_a_value_between_gaps_are_dots() -> None:
    assert len(of_class(drawn(line("eval", [3], [0.5])), "dot")) == 1
    svg = drawn(line("train", range(5), [1.0, None, 0.8, None, 0.6]))
    assert len(of_class(svg, "dot")) == 3
    assert not curves(svg)


def test_nothing_but_gaps_is_still_a_chart() -> None:
    assert len(of_class(drawn(line("train", [1, 2], [None, None])), "broken")) == 2
    assert drawn(line("train", [], [])).tag == "svg"


def test_a_log_axis_puts_a_zero_among_the_gaps() -> None:
    svg = drawn(line("norm", range(4), [1.0, 10.0, 0.0, 100.0]), scale="log")
    assert len(of_class(svg, "broken")) == 1
    first, second = path_points(curves(svg)[0])
    last = float(of_class(svg, "dot")[0].get("cy", ""))
    assert first[1] - second[1] == pytest.approx(second[1] - last, abs=0.2)


def test_error_bars_reach_from_low_to_high() -> None:
    svg = drawn(line("rate", [1, 2], [0.5, 0.6], marks=True, ends=[(0.4, 0.6), (0.5, None)]))
    bars = of_class(svg, "interval")
    assert len(bars) == 1
    low, high = (float(bars[0].get(end, "")) for end in ("y1", "y2"))
    middle = float(of_class(svg, "dot")[1].get("cy", ""))  # the first dot is the legend's
    assert (low + high) / 2 == pytest.approx(middle, abs=0.2)
    assert high < middle < low


def test_a_band_lies_around_its_line() -> None:
    svg = drawn(line("loss", [1, 2, 3], [2, 2, 2], ends=[(1, 3)] * 3, band=True))
    outline = [y for _, y in path_points(of_class(svg, "band")[0])]
    height = path_points(curves(svg)[0])[0][1]
    assert min(outline) < height < max(outline)
    assert len(outline) == 6


def test_the_legend_names_every_series_and_stays_inside() -> None:
    names = ["chosen", "chosen, held-out", "rejected", "rejected, held-out", "a fifth with a long name"]
    svg = drawn(*[line(name, [0, 1], [0, 1]) for name in names])
    texts = [e for e in of_class(svg, "name") if e.tag == "text"]
    assert [e.text for e in texts] == names
    assert all(float(e.get("x", "")) < WIDTH for e in texts)
    assert len({e.get("y") for e in texts}) == 2


def test_levels_are_drawn_and_kept_in_sight() -> None:
    svg = drawn(line("accuracy", [0, 1], [0.8, 0.9]), levels=[(0.5, "chance")], percent=True)
    assert 0 < float(of_class(svg, "level")[0].get("y1", "")) <= HEIGHT
    assert "chance" in [e.text for e in svg.iter("text")]
    assert any((e.text or "").endswith(" %") for e in svg.iter("text"))


def test_names_are_text() -> None:
    svg = draw(Chart("k", "<b>&", [line("</desc><script>", [0], [None]), line("<img src=x>", [0], [1])], Axis("'\"")))
    assert "<script>" not in svg
    assert "<img" not in svg
    assert ElementTree.fromstring(svg).findtext("title") == "<b>&"


def test_intervals_span_what_they_say() -> None:
    svg = ElementTree.fromstring(
        interval_chart("k", "t", [Row("before", 0.25, 0.0, 0.5), Row("none", math.nan, 0, 1)], level=(0.5, "chance"))
    )
    span = of_class(svg, "interval")[0]
    dot = of_class(svg, "dot")
    assert len(dot) == 1
    middle = (float(span.get("x1", "")) + float(span.get("x2", ""))) / 2
    assert float(dot[0].get("cx", "")) == pytest.approx(middle, abs=0.1)
    assert "25.0 %" in [e.text for e in svg.iter("text")]


def test_bars_are_as_long_as_their_counts() -> None:
    rows = [Row("English", 30, text="30 (75.0 %)"), Row("a long label " * 9, 10)]
    svg = ElementTree.fromstring(bar_chart("k", "Languages", rows))
    first, second = (float(bar.get("width", "")) for bar in svg.iter("rect"))
    assert first == pytest.approx(3 * second, abs=0.2)
    assert "30 (75.0 %)" in [e.text for e in svg.iter("text")]
    assert all(len(e.text or "") <= 60 for e in svg.iter("text"))
    assert bar_chart("k", "nothing", []).startswith("<svg")


def test_descriptions_tell_the_curve() -> None:
    series = [line("train", [1, 9], [0.5, 0.25]), line("held-out", [9], [0.3]), line("x", [1], [None])]
    assert describe(Chart("k", "Loss", series, Axis("nats"))) == (
        "Loss: train goes from 0.5 at step 1 to 0.25 at step 9; held-out is 0.3 at step 9; x has no finite value."
    )


def test_numbers_have_an_axis_that_holds_zero_and_a_sign() -> None:
    rows = [Row("a long label of a row", 4.0, 2.0, 6.0), Row("b", -1.0, math.nan, math.nan, text="one less")]
    chart = interval_chart("k", "t", rows, unit="points", narrow=True)
    for text in (">+4</text>", ">one less</text>", ">points</text>", ">−2</text>", ">6</text>", 'class="zero"'):
        assert text in chart, text
    assert 'viewBox="0 0 400 ' in chart
    assert chart.count('class="interval') == 1
    # From −2 at 14 to 6 at 330: 39.5 pixels a unit, so 0 is at 93 and 4 at 251.
    assert 'x1="93.0"' in chart
    assert 'cx="251.0"' in chart
    assert ">+4<" not in interval_chart("k", "t", [Row("a", 0.04, 0.02, 0.06)])
