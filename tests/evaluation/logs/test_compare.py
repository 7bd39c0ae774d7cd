"""Two results are joined by item and compared in pairs."""

from __future__ import annotations

import pytest
from scipy import stats

from palate.errors import DataError
from palate.evaluation.logs.compare import compare_items, natural_order
from palate.evaluation.logs.items import ItemValues
from palate.stats import holm, paired_difference


def test_items_are_joined_by_id_and_the_rest_is_listed() -> None:
    first = ItemValues("a", {"acc": {"1": 1.0, "2": 0.0, "3": None, "10": 1.0, "9": 0.0}})
    second = ItemValues("b", {"acc": {"2": 1.0, "1": 1.0, "3": 1.0, "4": 0.0}})
    found = compare_items(first, second)
    assert (found.items, found.only_first, found.only_second) == (3, ["9", "10"], ["4"])
    (metric,) = found.metrics
    assert metric.found == paired_difference([1, 0], [1, 1])  # the order of the first log; 3 has no value there
    assert (metric.missing_first, metric.missing_second) == (1, 0)


def test_several_metrics_are_adjusted_by_holm() -> None:
    ids = [str(number) for number in range(20)]
    before = ItemValues("a", {"x": dict.fromkeys(ids, 0.0), "y": dict.fromkeys(ids, 0.0), "old": {"0": 1.0}})
    after = ItemValues(
        "b",
        {
            "x": {item: float(int(item) < 6) for item in ids},
            "y": {item: float(int(item) < 9) for item in ids},
            "new": {"0": 1.0},
        },
    )
    found = compare_items(before, after)
    p = [stats.binom.pmf(0, n, 0.5) for n in (6, 9)]  # mid-p of n against 0: twice the half of it
    assert [one.found.p_value for one in found.metrics] == pytest.approx(p)
    assert [one.adjusted for one in found.metrics] == pytest.approx(holm(p))
    explored = compare_items(before, after, adjustment="bh")
    assert [one.adjusted for one in explored.metrics] == pytest.approx([p[0], 2 * p[1]])
    assert (found.metrics_only_first, found.metrics_only_second) == (["old"], ["new"])


def test_clusters_of_either_log_are_used() -> None:
    values = {str(number): float(number % 2) for number in range(8)}
    clusters = {item: str(int(item) // 2) for item in values}
    other = dict.fromkeys(values, 1.0)
    plain = compare_items(ItemValues("a", {"x": values}), ItemValues("b", {"x": other}))
    assert plain.metrics[0].found.test == "McNemar mid-p"
    for first, second in ((clusters, {}), ({}, clusters)):
        found = compare_items(ItemValues("a", {"x": values}, {}, first), ItemValues("b", {"x": other}, {}, second))
        assert (found.metrics[0].found.test, found.metrics[0].found.units) == ("cluster t", 4)


def test_different_content_under_one_id_is_refused() -> None:
    first = ItemValues("a", {"x": {"1": 1.0, "2": 1.0}}, {"1": "aa", "2": "bb"})
    second = ItemValues("b", {"x": {"1": 1.0, "2": 1.0}}, {"1": "aa", "2": "cc"})
    with pytest.raises(DataError, match=r"id 2 stands for different content in the two results \(1 of 2 items\)"):
        compare_items(first, second)
    assert compare_items(first, ItemValues("b", {"x": {"1": 1.0}}, {"1": "aa"})).items == 1


def test_what_cannot_be_compared_is_refused() -> None:
    one = ItemValues("a", {"acc": {"1": 1.0}})
    with pytest.raises(DataError, match="no metric in common: the first result has acc, the second f1"):
        compare_items(one, ItemValues("b", {"f1": {"1": 1.0}}))
    with pytest.raises(DataError, match="no item in common: the first result has ids such as 1, the second x7"):
        compare_items(one, ItemValues("b", {"acc": {"x7": 1.0}}))
    with pytest.raises(DataError, match="no item has a value of acc in both"):
        compare_items(one, ItemValues("b", {"acc": {"1": None}}))


def test_repeated_items_and_notes_are_told() -> None:
    first = ItemValues("a", {"acc": {"1": 0.5}}, repeated=1, notes=("bleu is left out",))
    found = compare_items(first, ItemValues("b", {"acc": {"1": 1.0}}))
    assert found.notes == [
        "first: bleu is left out",
        "first: 1 item was measured more than once (epochs); each counts with its mean",
    ]


def test_numbers_in_ids_are_ordered_by_value() -> None:
    assert natural_order({"a/10", "a/9", "b/1", "7", "x"}) == ["7", "a/9", "a/10", "b/1", "x"]
