"""Chunks are the same, in the same order, whatever number of processes works on them."""

from __future__ import annotations

import pytest

from palate.data.parallel import CHUNK, all_cores, ordered_chunks, ordered_map


@pytest.mark.parametrize("count", [0, 1, CHUNK, 10 * CHUNK + 7])
def test_all_items_in_order(count: int) -> None:
    expected = [(str(item), len(str(item))) for item in range(count)]
    for workers in (1, 2):
        assert list(ordered_map(len, map(str, range(count)), workers)) == expected
        sums = [(len(chunk), total) for chunk, total in ordered_chunks(sum, range(count), workers)]
        assert sums == [
            (len(part), sum(part)) for start in range(0, count, CHUNK) if (part := range(count)[start : start + CHUNK])
        ]


def test_a_failure_in_a_process_is_raised() -> None:
    with pytest.raises(TypeError, match="NoneType"):
        list(ordered_map(len, [*["a"] * 9 * CHUNK, None], 2))  # type: ignore[list-item]


def test_there_is_a_core() -> None:
    assert all_cores() >= 1
