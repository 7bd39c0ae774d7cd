"""Reads one source row by row; every row becomes records or is dropped with a reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from itertools import chain, islice
from typing import Any, Generic, TypeVar, cast

from palate.data.formats.kinds import as_kind
from palate.data.formats.labels import Coding, LabelCounts
from palate.data.formats.recognise import SAMPLE, Recognised, recognise
from palate.data.formats.rows import BEGINS_WITH_PROMPT, Origin, Reading
from palate.data.formats.source_labels import check_columns, with_coding
from palate.data.sources.open import Source
from palate.data.turns.cells import RowError, excerpt
from palate.data.turns.padding import without_padding
from palate.data.turns.text_turns import columns_of_turns, with_turns
from palate.errors import DataError
from palate.records import DatasetRequest, Dropped, PreferencePair, Record, SourceReport

R = TypeVar("R", bound=Record)

REVERSED = "reversed_scores"
"""Notice about a pair whose row has a lower score for the chosen answer, or a negative margin."""


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
        self._reading = Reading(request, replace(source.tags, unread=self._unread))
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
        # By the prefix of their ids, which a file's rows share.
        self._files = dict.fromkeys(source.labels, 0) if len(source.labels) > 1 else {}

    def __iter__(self) -> Iterator[R | Dropped]:
        for row_id, row in self._rows:
            self._read += 1
            if self._files:
                self._files[row_id.rpartition(":")[0]] += 1
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

    def records(self, leave_out: Callable[[Dropped], None]) -> Iterator[R]:
        """The records alone; `leave_out` is called for each row that cannot be used."""
        for item in self:
            if isinstance(item, Dropped):
                leave_out(item)
            else:
                yield item

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
            notices=dict(self._notices.most_common())
            | {f"turn key {key!r} not read": count for key, count in self._unread.items()},
            labels="; ".join(self._label_notes(coding)),
            label_values=dict(self._labels.rows.most_common()),
            files=dict(self._files),
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
        return [made for record in records for made in as_kind(record, self._kind, self._reading.request)]

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
