"""The rows of Parquet and Arrow files and of folders written by `Dataset.save_to_disk`, a batch at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from palate.errors import DataError
from palate.progress import progress

_BATCH = 1000


def parquet_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """`(number, row)` of a Parquet file, numbers from 1."""
    return _rows(path, "Parquet", _parquet_batches(path))


def arrow_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """`(number, row)` of an Arrow IPC file, in the stream format (which `datasets` writes) or the file format."""
    return _rows(path, "Arrow", _arrow_batches(path))


def _rows(path: Path, kind: str, batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[int, Any]]:
    number = 0
    try:
        for batch in batches:
            for row in batch.to_pylist():
                number += 1
                yield number, row
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        where = f"after row {number}" if number else "at its start"
        raise DataError(f"{path}: not a complete {kind} file ({where}): {' '.join(str(error).split())[:120]}") from None


def _parquet_batches(path: Path) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path) as file, progress(f"reading {path.name}", file.metadata.num_rows, delay=2.0) as rows:
        _check_names(path, file.schema_arrow)
        for batch in file.iter_batches(batch_size=_BATCH):
            rows.advance(batch.num_rows)
            yield batch


def _arrow_batches(path: Path) -> Iterator[pa.RecordBatch]:
    name = f"reading {path.name}, MB"
    with pa.memory_map(str(path)) as mapped, progress(name, mapped.size() / 1e6, delay=2.0) as read:
        for batch in _record_batches(mapped):
            _check_names(path, batch.schema)
            read.advance(batch.nbytes / 1e6)
            for start in range(0, batch.num_rows, _BATCH):
                yield batch.slice(start, _BATCH)


def _record_batches(mapped: pa.MemoryMappedFile) -> Iterator[pa.RecordBatch]:
    try:
        stream = pa.ipc.open_stream(mapped)
    except pa.ArrowInvalid:
        mapped.seek(0)
        file = pa.ipc.open_file(mapped)
        yield from map(file.get_batch, range(file.num_record_batches))
    else:
        yield from stream


def is_saved_dataset(path: Path) -> bool:
    """Whether a folder was written by `Dataset.save_to_disk` or `DatasetDict.save_to_disk`."""
    return (path / "state.json").is_file() or (path / "dataset_dict.json").is_file()


def saved_dataset_files(path: Path, split: str | None) -> list[Path]:
    """The Arrow files of a saved dataset, in order; of a saved dictionary those of `split`, by default `train`."""
    if (path / "dataset_dict.json").is_file():
        splits = _listed(path / "dataset_dict.json", "splits")
        wanted = split or ("train" if "train" in splits or len(splits) != 1 else str(splits[0]))
        if wanted not in splits:
            raise DataError(f"{path}: has no split {wanted!r}; it has {', '.join(map(str, splits)) or 'none'}")
        path = path / wanted
    files = _listed(path / "state.json", "_data_files")
    found = [path / str(entry.get("filename")) for entry in files if isinstance(entry, dict)]
    missing = next((file for file in found if not file.is_file()), None)
    if missing is not None or not found:
        raise DataError(
            f"{path}: the saved dataset is incomplete: {missing.name if missing else 'no Arrow file'} missing"
        )
    return found


def _check_names(path: Path, schema: pa.Schema) -> None:
    """Refuses two columns of one name: rows would have only the last one."""
    twice = next((name for name in schema.names if schema.names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{path}: the column {twice!r} occurs twice; rename one of them")


def _listed(path: Path, key: str) -> list[Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))[key]
    except (OSError, ValueError, KeyError, TypeError):
        value = None
    if not isinstance(value, list):
        raise DataError(f"{path}: the saved dataset is damaged: no list {key!r} in it")
    return value
