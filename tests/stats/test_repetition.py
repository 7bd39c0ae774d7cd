"""Loops at the end of a text or of token ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from palate.stats.repetition import ends_in_loop


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ("so so so so ", True),
        ("so so so ", False),
        ([1, 7, 7, 7, 7, 7, 7], True),
        ([7, 7, 7, 7, 7, 1], False),
        ("", False),
    ],
)
def test_a_loop_covers_the_least_length_at_the_end(items: Sequence[Any], expected: bool) -> None:
    assert ends_in_loop(items, longest=3, times=4, least=6) is expected
