"""Writes rows to JSON Lines, JSON, CSV, TSV (also compressed), Parquet and Arrow files."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from palate.artifacts import atomic_file, write_errors
from palate.data.sources.readers import file_type, read_rows, zstd
from palate.errors import DataError

_BATCH = 1000


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Writes rows in the file type of the path and returns their number. An existing file is replaced at the end.

    In CSV and TSV files values other than text are written as JSON. In Parquet and Arrow files a column is written
    as JSON if it has values of several types, or nested values other than turns.
    """
    kind = file_type(path)
    if kind is None:
        raise DataError(f"{path}: unknown type of file; palate writes .jsonl, .json, .csv, .tsv, .parquet and .arrow")
    if kind in ("parquet", "arrow") and path.suffix in (".gz", ".zst"):
        raise DataError(f"{path}: Parquet and Arrow files are compressed already; leave {path.suffix} out")
    with atomic_file(path) as temporary:
        if kind in ("parquet", "arrow"):
            return _write_columns(temporary, kind, rows)
        with _open_compressed(temporary, path.suffix.lower()) as stream:
            return _TEXT_WRITERS[kind](stream, rows)


def write_parts(files: Mapping[str, Path], rows: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
    """Writes each `(part, row)` to the JSON Lines file of its part, in one pass, without keeping rows in memory.

    The caller makes the folder with `atomic_folder`, which syncs its files and shows it only when it is complete.
    """
    folder = next(iter(files.values())).parent
    with write_errors(folder), ExitStack() as stack:
        streams = {
            part: stack.enter_context(path.open("w", encoding="utf-8", errors=_ENCODING_ERRORS, newline=""))
            for part, path in files.items()
        }
        for part, row in rows:
            streams[part].write(_json(row) + "\n")


@contextmanager
def _open_compressed(path: Path, suffix: str) -> Iterator[TextIO]:
    with path.open("wb") as raw:
        if suffix == ".gz":
            # Without name and time in the header equal rows give equal bytes.
            with gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed, _text(packed) as stream:
                yield stream
        elif suffix == ".zst":
            with zstd.ZstdFile(raw, "w") as squeezed, _text(squeezed) as stream:
                yield stream
        else:
            with _text(raw) as stream:
                yield stream


def _text(raw: Any) -> io.TextIOWrapper:
    return io.TextIOWrapper(raw, encoding="utf-8", errors=_ENCODING_ERRORS, newline="")


# A lone surrogate (half an emoji in an unread column) is written as its escape, which JSON reads back unchanged.
_ENCODING_ERRORS = "backslashreplace"


def _writable(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", _ENCODING_ERRORS).decode()


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _write_lines(stream: TextIO, rows: Iterable[Mapping[str, Any]]) -> int:
    count = 0
    for row in rows:
        stream.write(_json(row) + "\n")
        count += 1
    return count


def _write_array(stream: TextIO, rows: Iterable[Mapping[str, Any]]) -> int:
    count = 0
    for count, row in enumerate(rows, 1):
        stream.write(("[\n" if count == 1 else ",\n") + _json(row))
    stream.write("\n]\n" if count else "[]\n")
    return count


def _write_cells(stream: TextIO, rows: Iterable[Mapping[str, Any]], delimiter: str) -> int:
    """CSV or TSV. All rows are kept in memory, because the header needs the columns of all of them."""
    kept = list(rows)
    names = list(dict.fromkeys(name for row in kept for name in row))
    plain, quoted = (
        csv.writer(stream, delimiter=delimiter, lineterminator="\n", quoting=quoting)
        for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL)
    )
    for cells in (names, *([_cell(row.get(name)) for name in names] for row in kept)):
        # Readers end a line at a lone carriage return, but csv does not quote it by default.
        (quoted if any("\r" in cell for cell in cells) else plain).writerow(cells)
    return len(kept)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else _json(value)


_TEXT_WRITERS: Mapping[str, Callable[[TextIO, Iterable[Mapping[str, Any]]], int]] = {
    "jsonl": _write_lines,
    "json": _write_array,
    "csv": partial(_write_cells, delimiter=","),
    "tsv": partial(_write_cells, delimiter="\t"),
}


def _write_columns(path: Path, kind: str, rows: Iterable[Mapping[str, Any]]) -> int:
    """Parquet or Arrow. Column types must be known first, so the rows are written to a temporary JSON Lines file."""
    lines = path.with_name(f"{path.name}.jsonl")
    types: dict[str, pa.DataType | None] = {}

    def rows_with_types() -> Iterator[Mapping[str, Any]]:
        for row in rows:
            row = {_writable(name): value for name, value in row.items()}
            for name, value in row.items():
                found = _arrow_type(value)
                known = types.get(name, found)
                types[name] = _common(known, found)
            yield row

    try:
        with lines.open("w", encoding="utf-8", errors=_ENCODING_ERRORS) as stream:
            count = _write_lines(stream, rows_with_types())
        fields = {name: _WRITTEN_AS.get(found, found) for name, found in types.items()}
        schema = pa.schema(list(fields.items()))
        batches = _batches(lines, schema, {name for name, found in types.items() if found == _MIXED})
        if kind == "parquet":
            with pq.ParquetWriter(path, schema, compression="zstd") as parquet:
                for batch in batches:
                    parquet.write_batch(batch)
        else:
            with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as arrow:
                for batch in batches:
                    arrow.write_batch(batch)
    finally:
        lines.unlink(missing_ok=True)
    return count


_TURNS = {
    frozenset(names): pa.struct([(name, pa.string()) for name in names])
    for names in (("role", "content"), ("from", "value"))
}
_MIXED = pa.null()
"""Marks a column with several types."""
_LONG = pa.uint64()
"""Marks a column of whole numbers, at least one of which a float cannot represent exactly."""
_WRITTEN_AS = {None: pa.string(), _MIXED: pa.string(), _LONG: pa.int64()}
_LONGEST_EXACT = 2**53


def _arrow_type(value: Any) -> pa.DataType | None:
    """The Arrow type of a value; None for null, which fits every type."""
    if value is None:
        return None
    if isinstance(value, bool):
        return pa.bool_()
    if isinstance(value, int):
        if abs(value) <= _LONGEST_EXACT:
            return pa.int64()
        return _LONG if -(2**63) <= value < 2**63 else _MIXED
    if isinstance(value, float):
        return pa.float64()
    if isinstance(value, str):
        return pa.string() if _is_plain_text(value) else _MIXED
    if isinstance(value, dict):
        return _TURNS.get(frozenset(value), _MIXED) if all(map(_is_plain_text, value.values())) else _MIXED
    if isinstance(value, list) and value:
        inner = {_arrow_type(element) for element in value}
        if len(inner) == 1 and (only := inner.pop()) is not None and pa.types.is_nested(only):
            return pa.list_(only)  # turns and lists of turns; other nested values are JSON
    return _MIXED


def _is_plain_text(value: Any) -> bool:
    return isinstance(value, str) and value == _writable(value)


def _common(left: pa.DataType | None, right: pa.DataType | None) -> pa.DataType | None:
    if left is None or right is None or left == right:
        return right if left is None else left
    if {left, right} == {pa.int64(), pa.float64()}:
        return pa.float64()
    if {left, right} == {pa.int64(), _LONG}:
        return _LONG
    return _MIXED


def _batches(lines: Path, schema: pa.Schema, mixed: set[str]) -> Iterator[pa.RecordBatch]:
    rows = (
        {name: _writable(_json(value)) if name in mixed and value is not None else value for name, value in row.items()}
        for _, row in read_rows(lines)
    )
    while batch := list(islice(rows, _BATCH)):
        yield pa.RecordBatch.from_pylist(batch, schema=schema)
