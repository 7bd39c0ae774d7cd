"""Groups of pairs: sources, columns, bins of the difference in length."""

from __future__ import annotations

import pytest

from palate.errors import UsageError
from palate.evaluation.accuracy.grouping import GAP, gap_bins, groupings, order_of
from palate.records import Message, PreferencePair


def pair(number: int, source: str = "a", **extra: object) -> PreferencePair:
    def turn(text: str) -> tuple[Message, ...]:
        return (Message("assistant", text),)

    prompt = (Message("user", f"q{number}"),)
    return PreferencePair(
        id=f"f:{number}", prompt=prompt, chosen=turn("y"), rejected=turn("n"), source=source, extra=extra
    )


def test_only_groupings_with_two_groups_are_given() -> None:
    pairs = [pair(1, "a", category="x"), pair(2, "b", category="x"), pair(3, "b")]
    found = groupings(pairs, [1, 1, 1])
    assert found == {"source": ["a", "b", "b"], "category": ["x", "x", "(none)"]}
    assert groupings([pair(1), pair(2)], [4, 4]) == {}


def test_a_named_column_replaces_category_and_must_be_there() -> None:
    pairs = [pair(1, level=3, category="x"), pair(2, level=None, category="y"), pair(3, level=[1, 2])]
    assert groupings(pairs, [0, 0, 0], ["level"]) == {"level": ["3", "(none)", "1, 2"]}
    with pytest.raises(UsageError, match="--by levle: no row has the column; the rows have category, level"):
        groupings(pairs, [0, 0, 0], ["levle"])


def test_bins_of_length_have_equal_counts_and_name_their_ends() -> None:
    gaps = [-30, -20, -10, -5, 0, 1, 2, 8, 50, 90]
    assert gap_bins(gaps) == [
        *["-30 to -20"] * 2,
        *["-10 to -5"] * 2,
        *["+0 to +1"] * 2,
        *["+2 to +8"] * 2,
        *["+50 to +90"] * 2,
    ]
    assert gap_bins([]) == []


def test_equal_differences_stay_together() -> None:
    bins = gap_bins([0] * 8 + [5, 9])
    assert set(bins[:8]) == {"+0"}
    assert len(set(bins)) == 2


def test_bins_are_ordered_by_length_and_other_groups_by_size() -> None:
    assert order_of(GAP, ["+50 to +90", "-30 to -20", "+0", "-30 to -20"]) == ["-30 to -20", "+0", "+50 to +90"]
    assert order_of("source", ["b", "a", "c", "c"]) == ["c", "a", "b"]
