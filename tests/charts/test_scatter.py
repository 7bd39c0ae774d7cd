"""Reward against KL as a figure: where points and error bars lie, and what a reader who cannot see it is told."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest
from markupsafe import Markup

from palate.charts import DataPoint, scatter_chart, svg_file
from palate.charts.scale import square_root, tick_labels

DPO = [DataPoint(4.0, 3.0, 5.0, 0.6, 0.5, 0.7, "β 0.1"), DataPoint(1.0, 0.5, 1.5, 0.4, 0.3, 0.5, "β 1")]
PPO = [DataPoint(9.0, 8.0, 10.0, 0.5, 0.4, 0.6, "")]


def elements(svg: Markup, name: str, class_: str = "") -> list[ElementTree.Element]:
    root = ElementTree.fromstring(str(svg))
    return [one for one in root.iter(name) if class_ in one.get("class", "").split() or not class_]


def path_points(element: ElementTree.Element) -> list[tuple[float, float]]:
    found = re.findall(r"(-?[\d.]+) (-?[\d.]+)", element.get("d", ""))
    return [(float(x), float(y)) for x, y in found]


def test_lines_join_by_x_or_as_given() -> None:
    for order, rising in (("x", True), ("given", False)):
        line = elements(scatter_chart({"dpo": DPO}, order=order), "path", "line")[0]  # type: ignore[arg-type]
        (first, _), (second, _) = path_points(line)
        assert (first < second) == rising


@pytest.mark.parametrize("scale", ["linear", "sqrt", "log"])
def test_error_bars_span_the_intervals_on_every_axis(scale: str) -> None:
    svg = scatter_chart({"dpo": DPO[:1]}, x_scale=scale)  # type: ignore[arg-type]
    across, up = elements(svg, "line", "interval")
    dot = elements(svg, "circle", "dot")[-1]
    x = float(dot.get("cx", ""))
    assert float(across.get("x1", "")) < x < float(across.get("x2", ""))
    assert float(up.get("y2", "")) < float(dot.get("cy", "")) < float(up.get("y1", ""))
    assert up.get("x1") == up.get("x2") == dot.get("cx")


def test_a_square_root_axis_is_even_in_the_root() -> None:
    scale = square_root([0.0, 4.0, 30.0], 0.0, 600.0)
    assert [round(math.sqrt(tick), 6) for tick in scale.ticks] == [0, 1, 2, 3, 4, 5, 6]
    assert scale(9.0) - scale(4.0) == pytest.approx(scale(4.0) - scale(1.0)) == pytest.approx(100)
    assert tick_labels(scale)[-1] == "36"
    assert not scale.shows(-0.1)
    assert square_root([0.0], 0.0, 1.0).high == 1  # the reference alone


def test_a_kl_of_zero_is_not_on_a_log_axis_and_the_chart_says_so() -> None:
    series = {"reference": [DataPoint(0.0, 0.0, 0.0, 0.1, None, None)], "dpo": DPO}
    assert "1 point is not on this axis" in scatter_chart(series, x_scale="log")
    assert "not on this axis" not in scatter_chart(series, x_scale="sqrt")


def test_infinite_intervals_are_left_out() -> None:
    svg = scatter_chart({"one prompt": [DataPoint(1.0, -math.inf, math.inf, 2.0, None, None)]})
    assert not elements(svg, "line", "interval")
    assert "inf" not in svg


def test_groups_differ_in_shape_as_well_as_colour() -> None:
    svg = scatter_chart(
        {"dpo": DPO, "ppo": [PPO[0]], "reference": [DataPoint(0, 0, 0, 0.2, 0.1, 0.3)]}, muted=["reference"]
    )
    assert len(elements(svg, "circle", "fill-a")) == 3  # two points and the legend's
    squares = elements(svg, "path", "fill-b")
    assert len(squares) == 2
    assert len(path_points(squares[0])) == 4
    assert len(elements(svg, "circle", "fill-d")) == 2


def test_every_point_is_described() -> None:
    svg = scatter_chart({"ppo": PPO}, key="k", title="Reward <b>", y_label="a\u202eb")
    root = ElementTree.fromstring(str(svg))
    assert root.get("aria-labelledby") == "k-title k-desc"
    assert root[0].text == "Reward <b>"
    assert "ppo: x 9 (8 to 10), y 0.5 (0.4 to 0.6)" in (root[1].text or "")
    assert "\u202e" not in svg
    tips = [one.text for one in root.iter() if one.tag == "title"]
    assert "ppo: x 9 (8 to 10), y 0.5 (0.4 to 0.6)" in tips


def test_labels_do_not_lie_on_each_other_nor_beyond_the_edge() -> None:
    near = [DataPoint(1.0 + 1e-6 * i, None, None, 1.0, None, None, f"step {i}") for i in range(5)]
    texts = elements(
        scatter_chart({"dpo": [*near, DataPoint(2.0, None, None, 3.0, None, None, "the last one")]}), "text", "near"
    )
    assert [one.text for one in texts] == ["step 0", "the last one"]
    assert float(texts[1].get("x", "")) + 6.3 * len("the last one") < 560


def test_levels_are_lines_with_names() -> None:
    svg = scatter_chart({"dpo": DPO}, levels=[(0.1, "reference")])
    level = elements(svg, "line", "level")[0]
    below = max(float(dot.get("cy", "")) for dot in elements(svg, "circle", "dot"))
    assert float(level.get("y1", "")) > below  # the axis holds a level below all points
    assert "reference" in [one.text for one in elements(svg, "text", "note")]


def test_a_file_of_its_own_brings_its_colours() -> None:
    content = svg_file(scatter_chart({"dpo": DPO}))
    root = ElementTree.fromstring(content)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    used = {name for one in root.iter() for name in one.get("class", "").split()} - {"tick"}
    style = next(one.text or "" for one in root.iter() if one.tag.endswith("style"))
    assert used
    assert "var(" not in style
    assert all(re.search(rf"\.{name}\b", style) for name in used)
