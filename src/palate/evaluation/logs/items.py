"""Values of metrics by item, and the block `items` in which palate's result files hold them."""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from palate.errors import DataError

FORMAT, VERSION = "palate-items", 1


@dataclass(frozen=True, slots=True)
class ItemValues:
    """One result of an evaluation, item by item.

    Attributes:
        name: what was measured, such as the model or the run.
        metrics: metric → item id → value; None if the item has no value (not parsed, failed).
        hashes: item id → hash of the item's content, not of the answer to it.
        clusters: item id → cluster, such as the prompt, for items that may depend on each other.
        repeated: items that were measured more than once (epochs, repeated lines); their value is the mean.
        notes: lines about what was left out of the log.
    """

    name: str
    metrics: Mapping[str, Mapping[str, float | None]]
    hashes: Mapping[str, str] = field(default_factory=dict)
    clusters: Mapping[str, str] = field(default_factory=dict)
    repeated: int = 0
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The block `items` of a result file; `repeated` and `notes` belong to other formats and are not in it."""
        found: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "name": self.name,
            "metrics": {metric: dict(values) for metric, values in self.metrics.items()},
        }
        if self.hashes:
            found["hashes"] = dict(self.hashes)
        if self.clusters:
            found["clusters"] = dict(self.clusters)
        return found


def content_hash(content: Any) -> str:
    """Hash of a JSON value, the same for any order of keys; 16 hex digits."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def find_block(content: Any) -> Mapping[str, Any] | None:
    """The `items` block of a result file, or the file itself if it is one; None if it has none."""
    if isinstance(content, Mapping):
        for block in (content.get("items"), content):
            if isinstance(block, Mapping) and block.get("format") == FORMAT:
                return block
    return None


def read_block(block: Mapping[str, Any], where: str) -> ItemValues:
    """The values of an `items` block.

    Raises:
        DataError: the block is of another version, or a part of it is missing or has a wrong type.
    """
    if block.get("version") != VERSION:
        raise DataError(
            f"{where}: items are of version {block.get('version')!r}, this palate reads {VERSION}; upgrade palate"
        )
    metrics = block.get("metrics")
    if not isinstance(metrics, Mapping) or not metrics:
        raise DataError(f'{where}: items have no "metrics"; measure again')
    found: dict[str, dict[str, float | None]] = {}
    for metric, values in metrics.items():
        if not isinstance(values, Mapping):
            raise DataError(f"{where}: metric {metric} is not a mapping from item ids to numbers")
        found[metric] = {
            item: number_or_none(value, f"{where}: metric {metric}, item {item}") for item, value in values.items()
        }
    return ItemValues(
        str(block.get("name", "")), found, _texts(block, "hashes", where), _texts(block, "clusters", where)
    )


def number_or_none(value: Any, where: str) -> float | None:
    """A value of an item; raises DataError if it is neither a finite number, true, false nor null."""
    if value is None:
        return None
    if not isinstance(value, bool | int | float) or not math.isfinite(value):
        raise DataError(f"{where}: expected a number or null, found {value!r}")
    return float(value)


def _texts(block: Mapping[str, Any], key: str, where: str) -> dict[str, str]:
    texts = block.get(key, {})
    if not isinstance(texts, Mapping):
        raise DataError(f'{where}: "{key}" of the items is not a mapping')
    return {str(item): str(text) for item, text in texts.items()}


class ItemCollector:
    """Gathers values measurement by measurement; the value of an item is the mean over its measurements."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._values: dict[str, dict[str, list[float | None]]] = defaultdict(lambda: defaultdict(list))
        self._hashes: dict[str, str] = {}

    def add(self, item: str, content: str, values: dict[str, float | None]) -> None:
        """Add one measurement of an item.

        Args:
            content: hash of its content.
            values: metric → value, None if the measurement gave none.

        Raises:
            DataError: the id stood for another content before.
        """
        if self._hashes.setdefault(item, content) != content:
            raise DataError(
                f"{self._where}: id {item} stands for two different items; split the log, or give the items unique ids"
            )
        for metric, value in values.items():
            self._values[metric][item].append(value)

    def items(self, name: str, notes: tuple[str, ...] = ()) -> ItemValues:
        """All values.

        Raises:
            DataError: no metric was added.
        """
        if not self._values:
            raise DataError(f"{self._where}: no metric has a number for any item; measure again with a numeric metric")
        repeated = {item for by_item in self._values.values() for item, found in by_item.items() if len(found) > 1}
        metrics = {
            metric: {item: _mean(found) for item, found in by_item.items()} for metric, by_item in self._values.items()
        }
        return ItemValues(name, metrics, self._hashes, repeated=len(repeated), notes=notes)


def _mean(values: list[float | None]) -> float | None:
    """The mean; None if a measurement is missing, because a mean of the others would be of an easier set."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None
