"""The reliability curve and the accuracies by group of a run's report."""

from __future__ import annotations

import json
from typing import Any

from palate.artifacts import plain
from palate.evaluation.accuracy.preference import preference_accuracy
from palate.report.calibration import calibration_note, group_tables, reliability_chart

SCORES = [((-10.0, -10.0), (5, 5))] * 4
AFTER = [((-8.0, -12.0), (5, 5)), ((-12.0, -8.0), (5, 5)), ((-9.0, -11.0), (5, 5)), ((-15.0, -20.0), (5, 5))]


def accuracy() -> dict[str, Any]:
    groupings = {"source": ["<b>", "y", "<b>", "<b>"]}
    found = preference_accuracy(SCORES, AFTER, prompts=range(4), beta=0.5, groupings=groupings)
    content: dict[str, Any] = json.loads(json.dumps(plain(found.to_json())))
    return content


def test_every_bin_is_a_point_with_its_count() -> None:
    chart = reliability_chart(accuracy())
    assert chart is not None
    # Margins 4, −4, 2, 5: σ(1) = 73.1 %, σ(2) = 88.1 % twice, σ(2.5) = 92.4 %.
    for text in (
        "confidence 73.1 %, 1 pair: 100",
        "confidence 88.1 %, 2 pairs: 50",
        "confidence 92.4 %, 1 pair: 100",
    ):
        assert text in chart
    assert chart.count('class="dot fill-a"') >= 3
    assert "β 0.5" in calibration_note(accuracy())
    assert "ECE 0.277" in calibration_note(accuracy())  # (0.269 + 2 · 0.381 + 0.076) / 4


def test_groups_are_a_table_each() -> None:
    (table,) = group_tables(accuracy())
    named = ["before (reference)", "after (policy)", "implied reward", "margin, nats"]
    assert table.columns == ["source", "pairs", "prompts", *named]
    assert [row[:3] for row in table.rows] == [["<b>", "3", "3"], ["y", "1", "1"]]
    assert str(table.rows[0][4]).startswith("100")
    assert str(table.rows[0][6]).startswith("3.67 (")  # (4 + 2 + 5) / 3
    assert str(table.rows[1][6]) == "−4"  # of one pair there is no interval


def test_missing_and_damaged_parts_are_left_out() -> None:
    assert reliability_chart({}) is None
    assert reliability_chart({"calibration": {"bins": [{"predicted": "x"}, 3]}}) is None
    assert reliability_chart({"calibration": {"bins": "many"}}) is None
    assert group_tables({"groups": {"source": {"a": {"n": "many"}}, "x": 3}}) == []
