"""Loads a dataset or a mixture as records. Every row is either used or dropped with a reason."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, islice
from typing import Any, Generic, TypeVar, cast

from palate.data.formats.kinds import as_kind
from palate.data.formats.labels import Coding, LabelCounts
from palate.data.formats.recognise import SAMPLE, Recognised, recognise
from palate.data.formats.rows import BEGINS_WITH_PROMPT, Origin, Reading
from palate.data.formats.source_labels import check_columns, with_coding
from palate.data.mix import NOT_DRAWN, draw
from palate.data.sources.open import Source
from palate.data.sources.spec import find_sources, for_sources
from palate.data.turns.cells import RowError, excerpt
from palate.data.turns.padding import without_padding
from palate.data.turns.text_turns import columns_of_turns, with_turns
from palate.errors import DataError
from palate.records import DatasetRequest, DatasetSpec, Dropped, PreferencePair, Record

R = TypeVar("R", bound=Record)

CHOICES = frozenset({"labels_disagree", "undesirable", NOT_DRAWN})
"""Drop reasons that the user has chosen; they do not count towards `max_dropped`."""
REVERSED = "reversed_scores"
"""Notice about a pair whose row has a lower score for the chosen answer, or a negative margin."""
_RECORD_OF_ROW = re.compile(r"(?<=\d)(?:#[^#:]*)+\Z")
"""The end of a record's id that distinguishes the records of one row."""


@dataclass(frozen=True, slots=True)
class SourceReport:
    """Report on how one source was read.

    Attributes:
        name, path: as in `Source`.
        format: the recognised format's name.
        confidence: share of the first rows that match this format.
        rows_read: number of rows read.
        used: number of rows that gave at least one record.
        records: number of records; more than `used` if a row gives several.
        dropped_by_reason: rows that are not used, by reason; used + dropped = rows_read.
        unknown_columns: columns that palate does not know; they are kept in `extra`.
        notices: counts of unusual properties of used rows, by name: answers left out of a ranking (`repeated_answer`,
            `empty_answer`), which of two answers won (`first_won`, `second_won`), answers that begin with their
            prompt (`prompt_repeated` if it was removed, else `answers_begin_with_prompt`), and ignored keys of turns
            (`turn key 'model' not read`).
        labels: how the label column was read, with counts: `label: 0 → response_1 (6), 1 → response_2 (6)`; "" if
            there is none.
        label_values: number of rows by label value, for at most 256 different values.
    """

    name: str
    path: str
    format: str
    confidence: float
    rows_read: int
    used: int
    records: int
    dropped_by_reason: Mapping[str, int]
    unknown_columns: tuple[str, ...]
    notices: Mapping[str, int]
    labels: str = ""
    label_values: Mapping[str, int] = field(default_factory=dict)


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


class SourceReader(Generic[R]):
    """Reads one source row by row: iterate once, then ask for the `report`. Only the first rows are kept in memory.

    Args:
        kind: the type of record to make; None for the format's own type.
        request: settings for reading rows.
        keep_columns: put every column of the row into `extra`, not only the unused ones.
    """

    def __init__(
        self, source: Source, kind: type[R] | None, request: DatasetRequest | None = None, *, keep_columns: bool = False
    ) -> None:
        request = request or DatasetRequest()
        self.source = source
        self._keep_columns = keep_columns
        self.row: Any = None
        """The raw row of the current item."""
        self._kind = kind
        self._unread: dict[str, int] = {}
        self._reading = Reading.of(request, replace(source.tags, unread=self._unread))
        self._columns = {**source.columns, **(request.columns or {})}
        rows = islice(source.rows(), request.max_samples)
        self._head = head = list(islice(rows, SAMPLE))
        self._rows = chain(head, rows)
        self._as_text: frozenset[str] | None = None
        self._columnar = source.columnar
        self.format = self._recognise(head)
        form = self.format.format
        by_row = form.uses is not None or any(isinstance(row, Mapping) and form.passed_over(row) for _, row in head)
        self._columns_used = None if by_row else form.columns({})
        self._read = self._used = self._records = 0
        self._dropped: Counter[str] = Counter()
        self._unknown: dict[str, None] = {}
        self._notices: Counter[str] = Counter()
        self._labels = LabelCounts()

    def __iter__(self) -> Iterator[R | Dropped]:
        for row_id, row in self._rows:
            self._read += 1
            self.row = row
            try:
                made = self._records_of(row_id, row)
            except RowError as bad:
                self._dropped[bad.reason] += 1
                yield Dropped(row_id, bad.reason, bad.detail)
                continue
            self._used += 1
            self._records += len(made)
            yield from made

    def report(self) -> SourceReport:
        """The report about the rows read so far."""
        coding = self.reading.coding
        return SourceReport(
            name=self.source.name,
            path=self.source.path,
            format=self.format.format.name,
            confidence=self.format.confidence,
            rows_read=self._read,
            used=self._used,
            records=self._records,
            dropped_by_reason=dict(self._dropped.most_common()),
            unknown_columns=tuple(self._unknown),
            notices={
                **dict(self._notices.most_common()),
                **{f"turn key {key!r} not read": count for key, count in self._unread.items()},
            },
            labels="; ".join(self._label_notes(coding)),
            label_values=dict(self._labels.rows.most_common()),
        )

    def _label_notes(self, coding: Coding | None) -> Iterator[str]:
        """Notes on how the better answer of a row was determined."""
        if coding is not None and self._labels.rows:
            yield coding.describe(self._labels)
        if self.format.format.name == "ranked" and self._used:
            yield f"the order of the answers: the first is the best ({self._used:,})"
        if self._notices[REVERSED]:
            yield f"the row's own scores prefer the rejected answer ({self._notices[REVERSED]:,})"

    @cached_property
    def reading(self) -> Reading:
        """The settings for reading, with the meaning of this source's label values; the first access reads all rows."""
        form = self.format.format
        return with_coding(self._reading, self.source, form, self._columns, lambda row: self._renamed(row)[0])

    def _records_of(self, row_id: str, row: Any) -> list[R]:
        """The records of a raw row; raises RowError if it cannot be used."""
        if isinstance(row, RowError):
            raise row
        row = self._object(row)
        if not isinstance(row, Mapping):
            raise RowError("not_an_object", f"the row is {excerpt(row)}")
        whole = row
        row, extra = self._renamed(row)
        used = self._columns_used or self.format.format.columns(row)
        extra.update((name, value) for name, value in row.items() if name not in used)
        if extra:
            self._unknown.update(dict.fromkeys(extra))
        row = self._parsed(row, used)
        origin = Origin(row_id, self.source.name, row, extra, repeats_prompt=self._repeats_prompt)
        try:
            read = self.format.format.records(row, origin, self.reading)
        finally:
            for label in origin.labels:
                self._labels.add(label)
        self._notices.update(origin.notices)
        records = [read] if isinstance(read, Record) else read
        for record in records:
            if isinstance(record, PreferencePair) and record.margin is not None and record.margin < 0:
                self._notices[REVERSED] += 1
        if self._keep_columns:
            records = [replace(record, extra={**row, **whole}) for record in records]
        if self._kind is None:
            return cast("list[R]", list(records))
        return [made for record in records for made in as_kind(record, self._kind, self._reading)]

    def _parsed(self, row: Mapping[str, Any], read: frozenset[str] | None = None) -> Mapping[str, Any]:
        """A renamed row with its turns parsed from text, and without the nulls that pad Arrow rows."""
        row = without_padding(row, columnar=self._columnar)
        return with_turns(row, self._as_text, read, self._reading.tags)

    def _object(self, row: Any) -> Any:
        """The row; if only prompts are read, a bare text becomes a row with this prompt."""
        return {"prompt": row} if self._kind is Record and isinstance(row, str) else row

    def _renamed(self, row: Mapping[str, Any]) -> tuple[Mapping[str, Any], dict[str, Any]]:
        """The row with palate's column names, and the columns that the mapping excludes."""
        mapped = "system" in self._columns or "system_prompt" in self._columns.values()
        if "system_prompt" in row and "system" not in row and not mapped and not self.source.only_mapped:
            row = {("system" if name == "system_prompt" else name): value for name, value in row.items()}
        if not self._columns:
            return row, {}
        taken = set(self._columns.values())
        renamed = {name: row[column] for name, column in self._columns.items() if column in row}
        rest = {name: value for name, value in row.items() if name not in taken}
        if self.source.only_mapped:
            return renamed, rest
        hidden = {name: value for name, value in rest.items() if name in self._columns}
        return {**{name: value for name, value in rest.items() if name not in hidden}, **renamed}, hidden

    def _recognise(self, head: Sequence[tuple[str, Any]]) -> Recognised:
        """The format of the source, from its first rows."""
        rows = [row for row in (self._object(given) for _, given in head) if isinstance(row, Mapping)]
        if not head:
            raise DataError(f"{self.source.path}: there is no row in it")
        unread = next(((row_id, row) for row_id, row in head if isinstance(row, RowError)), None)
        if not rows and unread is not None:
            raise DataError(f"{self.source.path}: none of its first rows can be read; {unread[0]}: {unread[1].detail}")
        check_columns(self._columns, rows, self.source.path, self._reading)
        renamed = [self._renamed(row)[0] for row in rows]
        if not self.source.is_csv:
            self._as_text = columns_of_turns(renamed, self._reading.tags)
        shown = []
        for row in renamed:
            with suppress(RowError):  # reported when the row is read
                row = self._parsed(row)
            shown.append(row)
        return recognise(shown, self._reading, self.source.path, self._kind)

    @cached_property
    def _repeats_prompt(self) -> bool:
        """Whether nearly all answers begin with the text of their prompt, which is then removed.

        It takes at least 3 rows and 10 times as many as the others, because single answers may restate the question.
        """
        reading, form = replace(self.reading, tags=replace(self._reading.tags, unread=None)), self.format.format
        head, self._head = self._head, []  # needed once, then freed
        repeated = others = 0
        for row_id, row in head:
            if not isinstance(row, Mapping):
                continue
            try:
                renamed = self._renamed(row)[0]
                renamed = self._parsed(renamed, self._columns_used or form.columns(renamed))
                origin = Origin(row_id, self.source.name, renamed, {})
                form.records(renamed, origin, reading)
            except RowError:
                continue
            if BEGINS_WITH_PROMPT in origin.notices:
                repeated += 1
            else:
                others += 1
                if others * 10 > len(head):
                    return False
        return repeated >= 3 and others * 10 <= repeated


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
    per_source: list[list[R]] = []
    dropped: list[Dropped] = []
    reports: list[SourceReport] = []
    for source in sources:
        reader = SourceReader(source, kind, request, keep_columns=keep_columns)
        records: list[R] = []
        unusable: list[Dropped] = []
        for item in reader:
            if isinstance(item, Dropped):
                unusable.append(item)
            else:
                records.append(item)
        reports.append(reader.report())
        _check(reports[-1], unusable, request.max_dropped)
        per_source.append(records)
        dropped += unusable
    named = request.dataset
    shares = [float(weight) for weight in named.values()] if isinstance(named, Mapping) else None
    limits = for_sources(caps, sources, "caps")
    drawn, left_out = draw(per_source, shares, temperature=temperature, caps=limits, seed=request.seed)
    reports = [_after_draw(report, kept, rest) for report, kept, rest in zip(reports, drawn, left_out)]
    dropped += [Dropped(record.id, NOT_DRAWN, "left out by the mixture") for rest in left_out for record in rest]
    return LoadedData([record for kept in drawn for record in kept], dropped, reports)


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


def _after_draw(report: SourceReport, kept: Sequence[Record], left_out: Sequence[Record]) -> SourceReport:
    """The report after sampling for the mixture; a row counts as used if at least one of its records was drawn."""
    if not left_out:
        return report
    used = {_row_of(record) for record in kept}
    unused = len({_row_of(record) for record in left_out} - used)
    reasons = {**report.dropped_by_reason, **({NOT_DRAWN: unused} if unused else {})}
    return replace(report, used=len(used), records=len(kept), dropped_by_reason=reasons)


def _row_of(record: Record) -> str:
    """The id of a record's row: `pairs.jsonl:17` for `pairs.jsonl:17#chosen`."""
    return _RECORD_OF_ROW.sub("", record.id)
