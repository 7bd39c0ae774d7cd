"""The block `items` of palate's result files."""

from __future__ import annotations

import json
from typing import Any

import pytest

from palate.errors import DataError
from palate.evaluation.logs.items import ItemCollector, ItemValues, content_hash, find_block, read_block


def test_values_survive_writing_and_reading() -> None:
    values = ItemValues("dpo", {"policy": {"a:1": 1.0, "a:2": None}}, {"a:1": "00ff"}, {"a:1": "p", "a:2": "p"})
    block = find_block(json.loads(json.dumps({"n": 2, "items": values.to_json()})))
    assert block is not None
    assert read_block(block, "f") == values
    assert find_block(values.to_json()) == values.to_json()  # the block alone is a result too
    assert find_block({"items": [1, 2]}) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "items are of version 2, this palate reads 1; upgrade"),
        ({"metrics": {}}, 'items have no "metrics"'),
        ({"metrics": {"acc": [1]}}, "metric acc is not a mapping"),
        ({"metrics": {"acc": {"7": "good"}}}, "metric acc, item 7: expected a number or null, found 'good'"),
        ({"metrics": {"acc": {"7": float("nan")}}}, "metric acc, item 7: expected a number"),
        ({"hashes": ["a"]}, '"hashes" of the items is not a mapping'),
    ],
)
def test_damaged_blocks_are_refused(change: dict[str, Any], message: str) -> None:
    block = {**ItemValues("m", {"acc": {"7": 1.0}}).to_json(), **change}
    with pytest.raises(DataError, match=message):
        read_block(block, "r.json")


def test_the_hash_of_content_does_not_depend_on_the_order_of_keys() -> None:
    assert content_hash({"a": 1, "b": 2}) == content_hash({"b": 2, "a": 1}) != content_hash({"a": 1, "b": 3})


def test_repeated_items_count_with_their_mean() -> None:
    collector = ItemCollector("log")
    collector.add("1", "x", {"acc": 1.0})
    collector.add("1", "x", {"acc": 0.0})
    collector.add("2", "y", {"acc": 1.0})
    collector.add("2", "y", {"acc": None})  # half of it is missing: no mean of the other half
    found = collector.items("m")
    assert found.metrics == {"acc": {"1": 0.5, "2": None}}
    assert found.repeated == 2
    with pytest.raises(DataError, match="log: id 2 stands for two different items"):
        collector.add("2", "z", {"acc": 1.0})
    with pytest.raises(DataError, match="empty: no metric has a number"):
        ItemCollector("empty").items("m")
