"""Infers the label coding of a source and checks that the `columns` and `labels` settings fit its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from typing import Any

from palate.data.formats.labels import Coding, LabelCells, find_coding, label_key, names_a_side
from palate.data.formats.rows import Reading
from palate.data.formats.table import Format
from palate.data.formats.voted import label_cells
from palate.data.sources.open import Source
from palate.data.turns.cells import RowError, excerpt
from palate.errors import DataError, did_you_mean
from palate.records import SourceReport


def with_coding(
    reading: Reading,
    source: Source,
    form: Format,
    columns: Mapping[str, str],
    renamed: Callable[[Mapping[str, Any]], Mapping[str, Any]],
) -> Reading:
    """The reading with the source's label coding, inferred in one pass over all of its rows.

    Args:
        reading: how rows are read, with the user's meanings of labels.
        columns: palate's column name → the source's own.
        renamed: returns a row with palate's column names.

    Raises:
        DataError: the values fit no coding, or more than one.
    """
    if form.labels is None:
        return reading
    cells_of = form.labels
    by_file: dict[str, dict[tuple[str, ...], LabelCells]] = {}

    def cells() -> Iterator[LabelCells]:
        for row_id, row in source.rows():
            if isinstance(row, Mapping):
                with suppress(RowError):  # a row that cannot be read is listed when it is read
                    found = cells_of(renamed(row), reading)
                    if found is not None:
                        of_file = by_file.setdefault(row_id.rpartition(":")[0], {})
                        if len(of_file) < _VALUES:
                            of_file.setdefault(tuple(map(label_key, found.values)), found)
                        yield found

    meanings = {**source.meanings, **reading.request.labels}
    coding = find_coding(cells(), meanings, source.path, columns)
    if coding is not None and len(by_file) > 1:
        for file, of_file in by_file.items():
            try:
                own = find_coding(of_file.values(), meanings, file, columns)
            except DataError:  # one file alone may have too few values
                continue
            if own is not None:
                _check_file(file, own, coding, of_file, source.path)
    return replace(reading, coding=coding)


_VALUES = 256
"""Different labels of each file from which its own coding is inferred."""


def _check_file(file: str, own: Coding, coding: Coding, values: Iterable[tuple[str, ...]], path: str) -> None:
    """Raises `DataError` if the labels of one file alone have another meaning than those of all files together."""
    for value in chain.from_iterable(values):
        known = own.has_meaning(value) and coding.has_meaning(value)
        if known and own.meaning(value) != coding.meaning(value):
            raise DataError(
                f"{path}: {coding.column} is {value} in {file}, which means one thing by the labels of that file "
                "and another by those of all files together; give each file as a dataset of its own, or set labels"
            )


def check_columns(columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]], path: str, reading: Reading) -> None:
    """Checks that the mapped columns exist and that no label is ignored.

    A label is ignored if two answers are mapped to chosen and rejected although a label column names the better one.

    Args:
        columns: palate's column name → the source's own.

    Raises:
        DataError: one of these checks failed.
    """
    for name, column in columns.items():
        if rows and not any(column in row for row in rows):
            found = list(dict.fromkeys(str(key) for row in rows for key in row))
            hint = did_you_mean(column, found)
            raise DataError(
                f"{path}: columns maps {name} to {column!r}, which no row has; {hint and f'{hint} '}"
                f"columns found: {', '.join(excerpt(key, 40) for key in found[:12])}"
            )
    mapped = {columns.get(name) for name in ("chosen", "rejected")}
    for row in rows:
        cells = label_cells(row, reading) if mapped <= row.keys() else None
        if cells is None or mapped != set(cells.answers) or cells.column in columns.values():
            continue
        if any(names_a_side(value, cells.answers) for value in cells.values):
            raise DataError(
                f"{path}: columns maps chosen and rejected to {' and '.join(cells.answers)}, but {cells.column} says "
                f"in each row which of them is better; leave both out of columns, or give {cells.column} another name "
                "there if it says something else"
            )


def check_labels_used(reports: Sequence[SourceReport], labels: Mapping[str, str] | None) -> None:
    """Raises `DataError` if `labels` is set but no source has a label column, or none has any of its values."""
    if not labels:
        return
    paths = ", ".join(report.path for report in reports)
    found = list(dict.fromkeys(value for report in reports for value in report.label_values))
    if not found:
        raise DataError(f"{paths}: labels is set, but no label column is read there; remove it, or name the column")
    if not any(label_key(value) in found for value in labels):
        named, seen = ", ".join(labels), ", ".join(value or "null" for value in found[:8])
        raise DataError(f"{paths}: labels says what {named} means, but the values are {seen}")
