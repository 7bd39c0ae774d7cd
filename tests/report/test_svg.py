"""Charts are well-formed, show every value where it is, and hide no gap."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest

from palate.report.svg import HEIGHT, WIDTH, Chart, Estimate, Series, interval_chart, line_chart


def drawn(*series: Series, **options: object) -> ElementTree.Element:
    chart = Chart("c1", "Loss", "what it shows", "nats", list(series), **options)  # type: ignore[arg-type]
    return ElementTree.fromstring(line_chart(chart))


def of_class(svg: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [element for element in svg.iter() if name in element.get("class", "").split()]


def path_points(path: ElementTree.Element) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", path.get("d", ""))]


def curves(svg: ElementTree.Element) -> list[ElementTree.Element]:
    return [path for path in svg.iter("path") if "line" in path.get("class", "").split()]


def test_a_line_is_where_its_values_are() -> None:
    svg = drawn(Series("train", [0, 5, 10], [0.0, 1.0, 0.5]))
    (left, bottom), (middle, top), (right, half) = path_points(curves(svg)[0])
    assert middle - left == pytest.approx(right - middle, abs=0.2)
    assert bottom - half == pytest.approx(half - top, abs=0.2)
    assert top < half < bottom
    assert 0 <= left < right <= WIDTH
    assert 0 <= top < bottom <= HEIGHT


def test_title_and_description_are_announced() -> None:
    svg = drawn(Series("train", [0, 1], [0, 1]))
    assert svg.get("role") == "img"
    ids = svg.get("aria-labelledby", "").split()
    assert [e.text for e in svg if e.get("id") in ids] == ["Loss", "what it shows"]


def test_a_gap_breaks_the_line_and_is_marked_on_the_axis() -> None:
    svg = drawn(Series("train", range(6), [1.0, 0.9, None, math.nan, 0.7, 0.6]))
    assert [len(path_points(path)) for path in curves(svg)] == [2, 2]
    crosses = of_class(svg, "broken")
    assert [cross.findtext("title") for cross in crosses] == ["train, 2: not finite", "train, 3: not finite"]


def test_a_single_value_and_a_value_between_gaps_are_dots() -> None:
    assert len(of_class(drawn(Series("eval", [3], [0.5])), "dot")) == 1
    svg = drawn(Series("train", range(5), [1.0, None, 0.8, None, 0.6]))
    assert len(of_class(svg, "dot")) == 3
    assert not curves(svg)


def test_nothing_but_gaps_is_still_a_chart() -> None:
    assert len(of_class(drawn(Series("train", [1, 2], [None, None])), "broken")) == 2
    assert drawn(Series("train", [], [])).tag == "svg"


def test_a_log_axis_puts_a_zero_among_the_gaps() -> None:
    svg = drawn(Series("norm", range(4), [1.0, 10.0, 0.0, 100.0]), log=True)
    assert len(of_class(svg, "broken")) == 1
    first, second = path_points(curves(svg)[0])
    last = float(of_class(svg, "dot")[0].get("cy", ""))
    assert first[1] - second[1] == pytest.approx(second[1] - last, abs=0.2)


def test_error_bars_reach_from_low_to_high() -> None:
    svg = drawn(Series("rate", [1, 2], [0.5, 0.6], points=True, low=[0.4, 0.5], high=[0.6, None]))
    bars = of_class(svg, "whisker")
    assert len(bars) == 1
    low, high = (float(y) for y in re.findall(r"M[\d.]+ ([\d.]+)h", bars[0].get("d", "")))
    middle = float(of_class(svg, "dot")[1].get("cy", ""))  # the first dot is the legend's
    assert (low + high) / 2 == pytest.approx(middle, abs=0.2)
    assert high < middle < low


def test_a_band_lies_around_its_line() -> None:
    svg = drawn(Series("loss", [1, 2, 3], [2, 2, 2], low=[1, 1, 1], high=[3, 3, 3], band=True))
    outline = [y for _, y in path_points(of_class(svg, "band")[0])]
    line = path_points(curves(svg)[0])[0][1]
    assert min(outline) < line < max(outline)
    assert len(outline) == 6


def test_the_legend_names_every_series_and_stays_inside() -> None:
    names = ["chosen", "chosen, held-out", "rejected", "rejected, held-out", "a fifth with a long name"]
    svg = drawn(*[Series(name, [0, 1], [0, 1]) for name in names])
    texts = [e for e in of_class(svg, "name") if e.tag == "text"]
    assert [e.text for e in texts] == names
    assert all(float(e.get("x", "")) < WIDTH for e in texts)
    assert len({e.get("y") for e in texts}) == 2


def test_levels_are_drawn_and_kept_in_sight() -> None:
    svg = drawn(Series("accuracy", [0, 1], [0.8, 0.9]), levels=[(0.5, "chance")], percent=True)
    assert 0 < float(of_class(svg, "level")[0].get("y1", "")) <= HEIGHT
    assert "chance" in [e.text for e in svg.iter("text")]
    assert any((e.text or "").endswith(" %") for e in svg.iter("text"))


def test_names_are_text() -> None:
    svg = line_chart(Chart("k", "<b>&", "</desc><script>", "'\"", [Series("<img src=x>", [0], [None])]))
    assert "<script>" not in svg
    assert "<img" not in svg
    assert ElementTree.fromstring(svg).findtext("title") == "<b>&"


def test_intervals_span_what_they_say() -> None:
    svg = ElementTree.fromstring(
        interval_chart("k", "t", "d", [Estimate("before", 0.25, 0.0, 0.5), Estimate("none", math.nan, 0, 1)])
    )
    span = of_class(svg, "whisker")[0]
    dot = of_class(svg, "dot")
    assert len(dot) == 1
    middle = (float(span.get("x1", "")) + float(span.get("x2", ""))) / 2
    assert float(dot[0].get("cx", "")) == pytest.approx(middle, abs=0.1)
    assert "25.0 %" in [e.text for e in svg.iter("text")]
