"""How much of each source a mixture takes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palate.data.mix import counts, draw
from palate.errors import DataError


def test_without_weights_all_is_taken() -> None:
    assert counts([5, 7]) == [5, 7]
    assert counts([5, 7], caps=[None, 3]) == [5, 3]


def test_weights_are_proportions() -> None:
    assert counts([100, 100], [1, 1]) == [100, 100]
    assert counts([100, 100], [0.75, 0.25]) == [100, 33]
    assert counts([10, 1000], [1, 9]) == [10, 90]
    assert counts([1000, 1000], [1, 1], caps=[50, None]) == [50, 50]


def test_temperature_evens_out() -> None:
    assert counts([1000, 10], temperature=1) == [1000, 10]
    assert counts([1000, 10], temperature=2) == [100, 10]
    assert counts([1000, 10], temperature=1e9) == [10, 10]
    assert counts([1000, 10], temperature=1e-3) == [1000, 0]  # no power of a size overflows


def test_nonsense_is_refused() -> None:
    for weight in (0, -1, math.nan, math.inf):
        with pytest.raises(DataError, match="weights must be above 0"):
            counts([1, 1], [1, weight])
    with pytest.raises(DataError, match="not both"):
        counts([1], [1], temperature=1)
    with pytest.raises(DataError, match="temperature is 0"):
        counts([1], temperature=0)
    with pytest.raises(DataError, match="a cap of the mixture is -5"):
        counts([1], caps=[-5])


@given(st.lists(st.tuples(st.integers(1, 500), st.floats(0.01, 100)), min_size=1, max_size=5))
def test_proportions_hold_to_a_row(sources: list[tuple[int, float]]) -> None:
    sizes, weights = [size for size, _ in sources], [weight for _, weight in sources]
    taken = counts(sizes, weights)
    assert all(0 <= count <= size for count, size in zip(taken, sizes))
    assert any(count == size for count, size in zip(taken, sizes))
    scale = min(size / weight for size, weight in sources)
    assert all(abs(count - scale * weight) <= 0.5 + 1e-9 for count, weight in zip(taken, weights))


def test_a_draw_does_not_depend_on_the_other_sources() -> None:
    ids = [f"a:{n}" for n in range(50)]
    (alone,) = draw([ids], caps=[20], seed=3)
    beside = draw([[f"b:{n}" for n in range(50)], ids], caps=[10, 20], seed=3)
    assert beside[1] == alone
    assert sum(alone) == 20
    assert not all(alone[:20])
