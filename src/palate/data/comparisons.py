"""Where training rows come from: their source, and whether people or machines made the comparison."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, cast

from palate.records import PreferencePair, Record

Kind: TypeAlias = Literal["human", "machine", "both", "imported"]
"""Who compared: `both` for a row that votes of people and of judges were counted for together."""
KINDS: tuple[Kind, ...] = ("human", "machine", "both", "imported")


@dataclass(slots=True)
class SourceShare:
    """The rows of one source and kind.

    Attributes:
        source: its name.
        kind: who compared.
        rows: number of rows, and `share` of all rows.
        weight: of the source, by which the weight of each of its rows was multiplied.
        loss_share: share of the sum of all rows' weights, which is the share in the mean loss.
    """

    source: str
    kind: Kind
    rows: int = 0
    share: float = 0.0
    weight: float = 1.0
    loss_share: float = 0.0


def kind_of(columns: Mapping[str, Any]) -> Kind | None:
    """Who made a row's comparison, by its unread columns: `source_kind`, or the voters of its lineage; None if neither.

    Rows that `palate data from-interactions` wrote are what people said to an answer.
    """
    stated = columns.get("source_kind")
    if stated in KINDS:
        return cast("Kind", stated)
    lineage = columns.get("lineage")
    if not isinstance(lineage, Mapping):
        return None
    if lineage.get("interaction"):
        return "human"
    people = {voter.get("kind") == "person" for voter in lineage.get("voters") or () if isinstance(voter, Mapping)}
    return None if not people else "both" if len(people) > 1 else "human" if True in people else "machine"


class ShareCounts:
    """Counts the sources of records, one record at a time.

    Args:
        by_answer: whether each answer of a pair is an example, as in KTO, so that a pair counts twice in the loss.
    """

    def __init__(self, *, by_answer: bool = False) -> None:
        self._by_answer = by_answer
        self._found: dict[tuple[str, Kind, float], SourceShare] = {}
        self._stated = False

    def add(self, record: Record) -> None:
        kind = kind_of(record.extra)
        self._stated = self._stated or kind is not None
        lineage = record.extra.get("lineage")
        own = record.extra.get("source") or (lineage.get("source") if isinstance(lineage, Mapping) else None)
        weight = record.extra.get("source_weight", 1.0)
        key = (str(own or record.source), kind or "imported", float(weight) if isinstance(weight, int | float) else 1.0)
        share = self._found.setdefault(key, SourceShare(*key[:2], weight=key[2]))
        share.rows += 1
        share.loss_share += record.weight * (2 if self._by_answer and isinstance(record, PreferencePair) else 1)

    def shares(self) -> list[SourceShare]:
        """The sources in the order of their first rows; [] if no row says who compared."""
        found = self._found.values() if self._stated else ()
        rows, total = sum(one.rows for one in found), sum(one.loss_share for one in found)
        return [replace(one, share=one.rows / rows, loss_share=one.loss_share / total) for one in found]


def source_shares(records: Iterable[Record], *, by_answer: bool = False) -> list[SourceShare]:
    """`ShareCounts` of these records."""
    counts = ShareCounts(by_answer=by_answer)
    for record in records:
        counts.add(record)
    return counts.shares()


def rows_by_kind(shares: Iterable[SourceShare]) -> dict[Kind, int]:
    """Number of rows of each kind that occurs."""
    counted: dict[Kind, int] = dict.fromkeys(KINDS, 0)
    for one in shares:
        counted[one.kind] += one.rows
    return {kind: rows for kind, rows in counted.items() if rows}
