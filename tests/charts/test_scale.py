"""Ticks and numbers as people read them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.charts.scale import linear, logarithmic, nice_step, steps, tick_labels
from palate.charts.text import number

values = st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=20)


@pytest.mark.parametrize(
    ("span", "most", "step"), [(1.0, 5, 0.2), (0.7, 5, 0.2), (10, 5, 2), (12, 5, 2.5), (0.031, 4, 0.01), (100, 2, 50)]
)
def test_steps_are_round(span: float, most: int, step: float) -> None:
    assert nice_step(span, most) == pytest.approx(step)


@settings(deadline=None)
@given(values)
def test_a_linear_axis_holds_every_value_between_its_outer_ticks(data: list[float]) -> None:
    scale = linear(data, 0, 100)
    room = 1e-6 * (scale.high - scale.low)
    assert scale.low - room <= min(data)
    assert max(data) <= scale.high + room
    assert 2 <= len(scale.ticks) <= 8
    assert all(-0.01 <= scale(value) <= 100.01 for value in data)


@settings(deadline=None)
@given(st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=20))
def test_a_log_axis_holds_every_value(data: list[float]) -> None:
    scale = logarithmic(data, 0, 100)
    assert scale.low <= min(data) * (1 + 1e-6)
    assert max(data) <= scale.high * (1 + 1e-6)
    assert all(-0.01 <= scale(value) <= 100.01 for value in data)
    assert len(scale.ticks) >= 2


def test_log_places_decades_evenly() -> None:
    scale = logarithmic([1e-3, 1e1], 0, 100)
    assert [round(scale(10.0**power), 6) for power in range(-3, 2)] == [0, 25, 50, 75, 100]
    assert not scale.shows(0.0)
    assert not scale.shows(-1.0)


@pytest.mark.parametrize("data", [[], [math.nan], [3.0], [0.0, 0.0], [-5.0]])
def test_degenerate_data_still_makes_an_axis(data: list[float]) -> None:
    for scale in (linear(data, 0, 100), logarithmic(data, 0, 100), steps([v for v in data if v == v], 0, 100)):
        assert scale.low < scale.high


def test_step_axes_have_whole_ticks() -> None:
    assert steps([1, 80], 0, 100).ticks == (20, 40, 60, 80)
    for last in range(2, 200):
        assert all(tick == int(tick) for tick in steps([1, last], 0, 100).ticks)


def test_labels_share_their_decimals() -> None:
    assert tick_labels(linear([0.0, 0.9], 0, 1)) == ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
    assert tick_labels(linear([-1.0, 1.0], 0, 1)) == ["−1.0", "−0.5", "0.0", "0.5", "1.0"]
    assert tick_labels(linear([0.0, 5e-7], 0, 1)) == ["0", "1e−7", "2e−7", "3e−7", "4e−7", "5e−7"]
    assert tick_labels(linear([0.0, 1.0], 0, 1), percent=True)[-1] == "100 %"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (math.log(2), "0.6931"),
        (12.3456, "12.35"),
        (5e-7, "5e−7"),
        (-0.00012, "−1.2e−4"),
        (1234567, "1,234,567"),
        (134515008, "134,515,008"),
        (0, "0"),
        (100, "100"),
        (0.5, "0.5"),
        (None, "–"),
        (math.nan, "–"),
        (math.inf, "–"),
    ],
)
def test_numbers(given: float | None, shown: str) -> None:
    assert number(given) == shown
