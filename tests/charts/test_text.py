"""Numbers with their nouns."""

from __future__ import annotations

from palate.charts.text import amount


def test_one_is_singular_and_thousands_are_separated() -> None:
    assert [amount(count, "new task") for count in (0, 1, 1234)] == ["0 new tasks", "1 new task", "1,234 new tasks"]
    assert [amount(count, "reply", "replies") for count in (1, 3)] == ["1 reply", "3 replies"]
