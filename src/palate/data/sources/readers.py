"""The rows of one file, lazily: JSON, JSON Lines, CSV, TSV (each also as .gz or .zst), Parquet and Arrow.

Every reader yields `(number, row)`: the 1-based line (JSON Lines) or row (all others), and the row as parsed. A single
row that cannot be used comes as a `RowError`; an unreadable file is refused in one line that says where.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from palate.data.sources.columnar import arrow_rows, parquet_rows
from palate.data.sources.json_stream import JsonReader, array_rows
from palate.data.turns.cells import RowError
from palate.data.turns.messages import is_turn, is_turns
from palate.errors import DataError
from palate.progress import Pass

if sys.version_info >= (3, 14):
    from compression import zstd as zstd
else:
    from backports import zstd as zstd

Numbered: TypeAlias = tuple[int, Any]

COMPRESSIONS = (".gz", ".zst")
_LONGEST_FIRST_LINE = 1 << 26
_DELIMITERS = (";", "\t", "|", ",")


def file_type(path: Path) -> str | None:
    """The type that a file's name states (`jsonl`, `json`, `csv`, `tsv`, `parquet`, `arrow`), compression aside."""
    name = path.name.lower()
    for suffix in COMPRESSIONS:
        name = name.removesuffix(suffix)
    kind = {"ndjson": "jsonl", "pq": "parquet"}.get(name.rpartition(".")[2], name.rpartition(".")[2])
    return kind if "." in name and kind in READERS else None


def bare_name(path: Path) -> str:
    """A file's name without its type and compression: `hh.test` of `hh.test.jsonl.gz`."""
    name = path.name
    for suffix in COMPRESSIONS:
        name = name.removesuffix(suffix)
    return name.rpartition(".")[0] or name


def read_rows(path: Path) -> Iterator[Numbered]:
    """The rows of a file; its type is in its name."""
    kind = file_type(path)
    if kind is None:
        known = ", ".join(f".{name}" for name in READERS)
        raise DataError(f"{path}: unknown type of file; palate reads {known} (text also as .gz or .zst)")
    yield from READERS[kind](path)


def json_line_rows(path: Path) -> Iterator[Numbered]:
    """One JSON value a line; blank lines are skipped. One JSON array under this name is read as an array."""
    first, second = _first_lines(path)
    if first.startswith("[") and not (second and _is_json(first)):
        yield from _array(path)
    else:
        yield from _lines(path)


def json_rows(path: Path) -> Iterator[Numbered]:
    """A JSON array of rows, an object with such an array, an object of columns, or JSON Lines."""
    first, second = _first_lines(path)
    if second and _is_json(first):
        yield from _lines(path)
    elif first.startswith("["):
        yield from _array(path)
    elif first:
        with open_text(path) as stream:
            rows = _rows_of_object(JsonReader(path).value(stream.read()))
        yield from enumerate(rows, 1)


@contextmanager
def open_text(path: Path) -> Iterator[io.TextIOWrapper]:
    """A text file for reading: UTF-8 with or without BOM, line ends as they are, decompressed from .gz or .zst.

    Raises:
        DataError: its bytes cannot be read; one line with the file and the line.
    """
    try:
        with _open_bytes(path) as raw, io.TextIOWrapper(raw, encoding="utf-8-sig", newline="\n") as stream:
            yield stream
    except UnicodeDecodeError:
        raise DataError(_where_not_utf8(path)) from None
    except (EOFError, zlib.error, zstd.ZstdError, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: the compressed file is damaged or truncated: {error}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None


@contextmanager
def _open_bytes(path: Path) -> Iterator[BinaryIO]:
    suffix = path.suffix.lower()
    with io.BufferedReader(_WatchedFile(path), 1 << 17) as packed:
        if suffix == ".gz":
            with gzip.GzipFile(fileobj=packed) as unpacked:
                yield unpacked  # type: ignore[misc]
        elif suffix == ".zst":
            with zstd.ZstdFile(packed) as unpacked:
                yield unpacked  # type: ignore[misc]
        else:
            yield packed


class _WatchedFile(io.FileIO):
    """A file that shows how much of it has been read if that takes long."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._pass = Pass(f"reading {path.name}, MB", path.stat().st_size / 1e6, delay=2.0)

    def readinto(self, buffer: Any) -> int | None:
        size = super().readinto(buffer)
        self._pass.advance((size or 0) / 1e6)
        return size

    def close(self) -> None:
        self._pass.close()
        super().close()


def _where_not_utf8(path: Path) -> str:
    """The complaint about the first line that cannot be decoded, found by reading the file again as bytes."""
    with _open_bytes(path) as raw:
        for number, line in enumerate(raw, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                byte = line[error.start]
                return (
                    f"{path}, line {number}: not UTF-8 (byte 0x{byte:02x} at column {error.start + 1}); "
                    "save the file as UTF-8"
                )
    return f"{path}: not UTF-8; save the file as UTF-8"


def _first_lines(path: Path) -> tuple[str, str]:
    """The first two lines that are not blank, stripped; "" if there is none."""
    found: list[str] = []
    with open_text(path) as stream:
        while len(found) < 2 and (line := stream.readline(_LONGEST_FIRST_LINE)):
            if stripped := line.strip():
                found.append(stripped)
    first, second = (*found, "", "")[:2]
    return first, second


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _lines(path: Path) -> Iterator[Numbered]:
    reader = JsonReader(path)
    with open_text(path) as stream:
        for number, line in enumerate(stream, 1):
            if not line.isspace():
                yield number, reader.value(line, line=number, ended=line.endswith("\n"))


def _array(path: Path) -> Iterator[Numbered]:
    with open_text(path) as stream:
        yield from enumerate(array_rows(stream, path), 1)


def _rows_of_object(value: Any) -> list[Any]:
    """The rows of a JSON object: its only list of objects, or its columns, or the object itself as the only row."""
    if not isinstance(value, dict) or not value:
        return [value]
    cells = list(value.values())
    tables = [cell for cell in cells if isinstance(cell, list) and cell and isinstance(cell[0], dict)]
    tables = [table for table in tables if not is_turns(table)]
    if len(tables) == 1 and not any(isinstance(cell, list) and cell is not tables[0] for cell in cells):
        return tables[0]
    if all(isinstance(cell, list) for cell in cells) and len({len(cell) for cell in cells}) == 1:
        if not any(is_turns(cell) for cell in cells):
            return [dict(zip(value, row, strict=True)) for row in zip(*cells, strict=True)]
    elif all(isinstance(cell, dict) and cell.keys() == cells[0].keys() for cell in cells) and not is_turn(cells[0]):
        return [{name: cell[key] for name, cell in value.items()} for key in cells[0]]
    return [value]


def delimited_rows(path: Path, usual: str) -> Iterator[Numbered]:
    """The rows of a CSV or TSV file with a header line, and the `usual` or another delimiter."""
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # an answer may well be longer than csv's 128 KiB
    delimiter, skipped = _delimiter(path, usual)
    with open_text(path) as stream:
        cells = csv.reader(islice(stream, skipped, None), delimiter=delimiter, strict=True)
        try:
            header = [name.strip() or f"column {number}" for number, name in enumerate(next(cells, []), 1)]
            twice = next((name for name in header if header.count(name) > 1), None)
            if twice is not None:
                raise DataError(f"{path}: the header names the column {twice!r} twice; rename one of them")
            for number, row in enumerate(filter(None, cells), 1):
                yield number, _csv_row(header, row, delimiter)
        except csv.Error as error:
            raise DataError(
                f"{path}, line {cells.line_num + skipped}: broken {path.suffix[1:].upper()}: {error}"
            ) from None


def _delimiter(path: Path, usual: str) -> tuple[str, int]:
    """The delimiter of a file, and the number of lines before its header: Excel may write a line `sep=;`.

    It is the usual one, unless that does not split the header and another one does.
    """
    with open_text(path) as stream:
        first = stream.readline(_LONGEST_FIRST_LINE).rstrip("\r\n")
    if named := re.fullmatch(r"sep=(.)", first):
        return named[1], 1
    with suppress(csv.Error):
        for delimiter in (usual, *_DELIMITERS):
            if len(next(csv.reader([first], delimiter=delimiter), [])) > 1:
                return delimiter, 0
    return usual, 0


def _csv_row(header: list[str], row: list[str], delimiter: str) -> Any:
    if len(row) != len(header):
        counts = f"{len(row)} cells under {len(header)} columns"
        return RowError("wrong_cell_count", f"{counts}; the delimiter is {delimiter!r}, quote cells that contain it")
    return dict(zip(header, row, strict=True))


READERS: Mapping[str, Callable[[Path], Iterator[Numbered]]] = {
    "jsonl": json_line_rows,
    "json": json_rows,
    "csv": partial(delimited_rows, usual=","),
    "tsv": partial(delimited_rows, usual="\t"),
    "parquet": parquet_rows,
    "arrow": arrow_rows,
}
