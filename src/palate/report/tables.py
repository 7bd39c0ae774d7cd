"""Any JSON object as facts and tables, so that new fields of a report are shown without a change here."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from palate.charts.text import estimate_text, visible
from palate.report.contents import is_number
from palate.report.html import redacted, value
from palate.report.intervals import json_interval
from palate.stats import Interval

_ROWS = 20
"""Rows that a table shows; the number of the others is given."""
_IDS = 5
_LONG = 160


@dataclass(frozen=True, slots=True)
class Link:
    """A cell with a link: a path relative to the page of the table."""

    text: str
    href: str


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value with its interval, in a cell.

    Attributes:
        interval: the value; a share of 1 in `percent`, a difference of two shares in `points`.
        unit: how it is written.
    """

    interval: Interval
    unit: Literal["percent", "points", "number"] = "percent"

    def __str__(self) -> str:
        """`44.5 % (36.4 to 53.0 %)`, `+2.1 points (−0.4 to +4.6)`, `1.21 (1.02 to 1.4)`."""
        found = self.interval
        if self.unit != "points":
            return estimate_text(found.estimate, found.low, found.high, as_percent=self.unit == "percent")
        points, *within = (
            f"{round(100 * end, 1) + 0.0:+.1f}".replace("-", "−")
            for end in (found.estimate, found.low, found.high)
            if math.isfinite(end)
        )
        return f"{points} points" + (f" ({' to '.join(within)})" if len(within) > 1 else "")


Cell: TypeAlias = str | int | Link | Figure


def figure(item: Any, unit: Literal["percent", "points", "number"] = "percent") -> Cell:
    """The cell of an interval of a JSON file; an en dash for anything else."""
    found = json_interval(item)
    return "–" if found is None else Figure(found, unit)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells under columns; `more` rows were left out; `numeric` columns are aligned right."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    more: int = 0
    numeric: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Block:
    """A part of a report.

    Attributes:
        title: heading; empty at the top.
        facts: (name, value) lines.
        table: at most one table.
        texts: (name, text) of long texts or several lines.
        parts: blocks below this one.
    """

    title: str
    facts: Sequence[tuple[str, str]] = ()
    table: Table | None = None
    texts: Sequence[tuple[str, str]] = ()
    parts: Sequence[Block] = field(default_factory=tuple)


def block(title: str, content: Mapping[str, Any]) -> Block:
    """A mapping as a block: plain values become facts, lists of rows tables, mappings parts.

    Several mappings with the same keys become the rows of one table; a few numbers become one line.
    """
    content = redacted(content)
    alike = _alike(content)
    facts: list[tuple[str, str]] = []
    texts: list[tuple[str, str]] = []
    parts: list[Block] = []
    for key, item in content.items():
        name = label(key)
        if key in alike or item is None or item in ({}, []):
            continue
        if isinstance(item, Mapping) and not _is_line(key, item):
            parts.extend(_sections(block(name, item)))
        elif _is_rows(item):
            parts.append(Block(name, table=by_reason(item) if all("reason" in row for row in item) else _table(item)))
        elif isinstance(item, str) and (len(item) > _LONG or "\n" in item):
            texts.append((name, item))
        elif isinstance(item, list) and len(item) > _ROWS:
            facts.append((name, f"{value(item[:_ROWS])} … and {len(item) - _ROWS} more"))
        else:
            facts.append((name, value(item)))
    table = _table([{"": visible(key), **content[key]} for key in alike]) if alike else None
    return Block(title, facts=facts, table=table, texts=texts, parts=parts)


def settings(content: Mapping[str, Any]) -> Block:
    """A config with keys and values as YAML has them, secrets hidden."""
    return Block("", facts=[(visible(key), exact(item)) for key, item in redacted(content).items()])


def exact(item: Any) -> str:
    """A config value as YAML: text bare, anything else as JSON."""
    return visible(item) if isinstance(item, str) and item else json.dumps(item, ensure_ascii=False, default=str)


def by_reason(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Rows with a `reason` (dropped, truncated): the count of each reason, and the first ids."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(str(row["reason"]), []).append(row)
    lines = []
    for reason, group in sorted(groups.items(), key=lambda item: -len(item[1])):
        ids = ", ".join(str(row.get("id", "?")) for row in group[:_IDS]) + (" …" if len(group) > _IDS else "")
        details = dict.fromkeys(str(row["detail"]) for row in group[:_IDS] if row.get("detail"))
        lines.append([label(reason), f"{len(group):,}", value(ids), value("; ".join(details))])
    return Table(("reason", "rows", "first ids", "details"), lines, numeric=frozenset({1}))


def label(key: object) -> str:
    """A key as a label: `rows_read` becomes `rows read`."""
    return visible(str(key).replace("_", " ").strip())


def _sections(found: Block) -> Sequence[Block]:
    """A block of parts only is replaced by its parts, with joined titles: `tokens, train`."""
    if found.facts or found.table or found.texts:
        return [found]
    return [replace(part, title=f"{found.title}, {part.title}") for part in found.parts]


def _alike(content: Mapping[str, Any]) -> list[str]:
    """The keys of two or more flat mappings with the same keys each."""
    flat = {key: tuple(item) for key, item in content.items() if isinstance(item, Mapping) and item and _is_flat(item)}
    keys = list(flat.values())
    alike = [key for key, shape in flat.items() if keys.count(shape) > 1 and shape == keys[0]]
    # A single named entry (one source of data) becomes a row too.
    return alike or [key for key in flat if len(content) == 1]


def _is_flat(content: Mapping[str, Any]) -> bool:
    plain = (bool, int, float, str, type(None))
    return all(
        isinstance(item, plain) or (isinstance(item, Mapping) and _is_counts(key)) for key, item in content.items()
    )


def _is_line(key: object, content: Mapping[str, Any]) -> bool:
    """Counts, and a few numbers, go on one line: `read 640, used 632, dropped 8`."""
    return _is_counts(key) or (len(content) <= 6 and all(isinstance(item, int | float) for item in content.values()))


def _is_counts(key: object) -> bool:
    return str(key).endswith("by_reason")


def _is_rows(item: Any) -> bool:
    return isinstance(item, list) and bool(item) and all(isinstance(row, Mapping) for row in item)


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    shown = [[value(row.get(column)) for column in columns] for row in rows[:_ROWS]]
    numeric = frozenset(
        index
        for index, column in enumerate(columns)
        if all(row.get(column) is None or is_number(row[column]) for row in rows)
    )
    return Table([label(column) for column in columns], shown, len(rows) - len(shown), numeric)
