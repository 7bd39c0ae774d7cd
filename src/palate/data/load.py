"""Loads a dataset or a mixture as records. Every row is either used or dropped with a reason."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Any, Generic, TypeVar

from palate.data.mix import NOT_DRAWN, draw
from palate.data.source_reader import REVERSED, SourceReader
from palate.data.sources.open import Source
from palate.data.sources.spec import find_sources, for_sources
from palate.errors import DataError
from palate.records import DatasetRequest, DatasetSpec, Dropped, Record, SourceReport

R = TypeVar("R", bound=Record)

CHOICES = frozenset({"labels_disagree", "undesirable", NOT_DRAWN})
"""Drop reasons that the user has chosen; they do not count towards `max_dropped`."""
_RECORD_OF_ROW = re.compile(r"(?<=\d)(?:#[^#:]*)+\Z")
"""The end of a record's id that distinguishes the records of one row."""


@dataclass(frozen=True, slots=True)
class LoadedData(Generic[R]):
    """Records to train on, the dropped rows, and a report on each source."""

    records: list[R]
    dropped: list[Dropped]
    sources: list[SourceReport]

    @property
    def rows_read(self) -> int:
        """Rows read from all sources."""
        return sum(source.rows_read for source in self.sources)


def load_records(
    dataset: DatasetSpec | DatasetRequest,
    *,
    kind: type[R],
    temperature: float | None = None,
    caps: Mapping[str, int] | None = None,
    keep_columns: bool = False,
    **choices: Any,
) -> LoadedData[R]:
    """Load a dataset or a mixture as records of one type.

    `load_records("pairs.jsonl", kind=PreferencePair, max_samples=100)`

    Args:
        kind: the type of record to make; rows of other types are converted if possible (pairs become demonstrations).
        temperature: without weights, sources are sampled in proportion to size^(1/temperature); None takes all rows.
        caps: maximum number of records by source name.
        choices: other fields of `DatasetRequest`.

    Raises:
        DataError: a source is missing, unreadable, not recognised, or has too few usable rows.
    """
    request = DatasetRequest.of(dataset, **choices)
    sources = find_sources(request)
    per_source: list[list[R]] = [[] for _ in sources]
    reports, dropped = read_sources(
        sources, kind, request, lambda number, record: per_source[number].append(record), keep_columns=keep_columns
    )
    ids = [[record.id for record in records] for records in per_source]
    taken, reports, left_out = draw_for(request, sources, ids, reports, temperature=temperature, caps=caps)
    drawn = [record for records, kept in zip(per_source, taken, strict=True) for record in compress(records, kept)]
    return LoadedData(drawn, dropped + left_out, reports)


def read_sources(
    sources: Sequence[Source],
    kind: type[R],
    request: DatasetRequest,
    keep: Callable[[int, R], None],
    *,
    keep_columns: bool = False,
) -> tuple[list[SourceReport], list[Dropped]]:
    """Read every row once; returns a report on each source, and the rows that cannot be used.

    Args:
        keep: called with the number of the source and each record, in order.

    Raises:
        DataError: a source has no usable rows, or too many dropped or reversed ones.
    """
    reports: list[SourceReport] = []
    dropped: list[Dropped] = []
    for number, source in enumerate(sources):
        reader = SourceReader(source, kind, request, keep_columns=keep_columns)
        unusable: list[Dropped] = []
        for record in reader.records(unusable.append):
            keep(number, record)
        reports.append(reader.report())
        _check(reports[-1], unusable, request.max_dropped)
        dropped += unusable
    return reports, dropped


def draw_for(
    request: DatasetRequest,
    sources: Sequence[Source],
    ids: Sequence[Sequence[str]],
    reports: Sequence[SourceReport],
    *,
    temperature: float | None,
    caps: Mapping[str, int] | None,
) -> tuple[list[list[bool]], list[SourceReport], list[Dropped]]:
    """For each record of each source, by id, whether the mixture takes it; the reports after that; the other records.

    A row counts as used if at least one of its records was drawn.
    """
    named = request.dataset
    shares = [float(weight) for weight in named.values()] if isinstance(named, Mapping) else None
    limits = for_sources(caps, sources, "caps")
    taken = draw(ids, shares, temperature=temperature, caps=limits, seed=request.seed)
    found: list[SourceReport] = []
    left_out: list[Dropped] = []
    for report, names, kept in zip(reports, ids, taken, strict=True):
        rest = [name for name, keep in zip(names, kept, strict=True) if not keep]
        if rest:
            used = set(map(_row_of, compress(names, kept)))
            unused = len({_row_of(name) for name in rest} - used)
            reasons = {**report.dropped_by_reason, **({NOT_DRAWN: unused} if unused else {})}
            report = replace(report, used=len(used), records=len(names) - len(rest), dropped_by_reason=reasons)
        found.append(report)
        left_out += [Dropped(name, NOT_DRAWN, "left out by the mixture") for name in rest]
    return taken, found, left_out


def top_reasons(dropped: Iterable[Dropped]) -> str:
    """The three most common reasons with their counts: `tie 4, equal 1`."""
    reasons = Counter(drop.reason for drop in dropped)
    return ", ".join(f"{reason} {count}" for reason, count in reasons.most_common(3))


def _check(report: SourceReport, dropped: Sequence[Dropped], max_dropped: float) -> None:
    """Raise DataError if the source has no usable rows, or too many dropped or reversed ones."""
    reasons = report.dropped_by_reason
    first = {drop.reason: drop for drop in reversed(dropped)}
    top = ", ".join(f"{reason} {count} (first: {first[reason].id})" for reason, count in list(reasons.items())[:3])
    if report.records == 0:
        example = f"; {dropped[0].id}: {dropped[0].detail}" if dropped and dropped[0].detail else ""
        raise DataError(f"{report.path}: no row can be used: {top}{example}")
    reversed_pairs = report.notices.get(REVERSED, 0)
    if reversed_pairs > max_dropped * report.records:
        raise DataError(
            f"{report.path}: in {reversed_pairs} of {report.records} pairs the rejected answer has the higher score, "
            "or the margin is negative; find out which is the better one: if the columns are swapped, rename them "
            "in the file; if a lower score is the better one, use the pairs as they are with max_dropped: 1"
        )
    faulty = sum(count for reason, count in reasons.items() if reason not in CHOICES)
    if faulty > max_dropped * report.rows_read:
        enough = math.ceil(100 * faulty / report.rows_read) / 100
        ties = " (a tie does not show which answer is better)" if "tie" in reasons else ""
        raise DataError(
            f"{report.path}: {faulty} of {report.rows_read} rows cannot be used ({faulty / report.rows_read:.0%}, "
            f"allowed {max_dropped:.0%}): {top}; correct them, or use the others with max_dropped: {enough:g}{ties}"
        )


def _row_of(record: str) -> str:
    """The id of a record's row: `pairs.jsonl:17` for `pairs.jsonl:17#chosen`."""
    return _RECORD_OF_ROW.sub("", record)
