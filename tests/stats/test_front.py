"""The Pareto front, by hand."""

from __future__ import annotations

import pytest

from palate.stats import on_front


def test_a_point_is_off_the_front_when_another_is_as_good_everywhere_and_better_somewhere() -> None:
    points = [(0.9, 0.2), (0.6, 0.6), (0.5, 0.6), (0.2, 0.9), (0.1, 0.1)]
    assert on_front(points, (True, True)) == [True, True, False, True, False]


def test_less_can_be_better() -> None:
    """Reward against KL: the same reward for more KL is no compromise."""
    assert on_front([(0.8, 1.0), (0.8, 2.0), (0.9, 3.0)], (True, False)) == [True, False, True]


def test_equal_points_share_the_front() -> None:
    assert on_front([(0.5, 0.5), (0.5, 0.5)], (True, True)) == [True, True]
    assert on_front([], (True,)) == []


def test_every_point_has_every_figure() -> None:
    with pytest.raises(ValueError, match="argument 2"):
        on_front([(0.5,)], (True, True))
