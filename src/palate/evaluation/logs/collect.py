"""Collects the values of a foreign log, where an item may occur several times (epochs, filters, repeated lines)."""

from __future__ import annotations

from collections import defaultdict

from palate.errors import DataError
from palate.evaluation.logs.items import ItemValues


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
