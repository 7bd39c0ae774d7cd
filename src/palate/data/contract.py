"""What palate writes as a dataset: never over its input, and with a `data.json` of contents, origin and settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from palate.artifacts.files import check_writable, read_errors, temporary_path, write_errors, write_json
from palate.artifacts.folders import file_hash
from palate.data.sources.dataset_info import SCHEMA, rows_file
from palate.data.sources.open import Source
from palate.data.sources.spec import find_sources
from palate.errors import DataError, UsageError
from palate.records import Dropped


def check_output_file(path: Path, sources: Sequence[Source]) -> None:
    """Refuses a file that is also read."""
    with write_errors(path):
        if path.exists() and any(file.exists() and file.samefile(path) for source in sources for file in source.files):
            raise UsageError(f"{path}: is an input file; name another file to write")
    check_writable(path)


def check_output_folder(path: Path, sources: Sequence[Source]) -> None:
    """Refuses a folder that is not empty unless palate wrote it, and one with a file that is also read.

    The current folder and those above it are refused too: most commands replace the folder as a whole.
    """
    with write_errors(path):
        if path.exists() and (not path.is_dir() or (any(path.iterdir()) and rows_file(path) is None)):
            raise DataError(f"{path} exists and was not written by palate data; choose another name")
    folder = path.resolve()
    if Path.cwd().is_relative_to(folder):
        raise UsageError(f"{path}: is or contains the current folder; name another folder to write")
    inside = next((file for source in sources for file in source.files if file.resolve().is_relative_to(folder)), None)
    if inside is not None:
        raise UsageError(f"{path}: contains the input file {inside.name}; name another folder to write")
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_path(path, "check")  # beside it, where it is written before it is renamed
        temporary.mkdir()
        temporary.rmdir()


def lineage(sources: Sequence[Source]) -> list[dict[str, Any]]:
    """Name, path and SHA-256 of every file that a dataset was made of; for a hub dataset its id."""
    return [
        {
            "name": source.name,
            "path": source.path,
            "split": source.split,
            "files": {label: _hash(file) for file, label in zip(source.files, source.labels, strict=True)},
        }
        for source in sources
    ]


def _hash(path: Path) -> str:
    with read_errors(path):
        return file_hash(path)


def named_hashes(datasets: Sequence[Path]) -> list[dict[str, str]]:
    """Name and SHA-256 of the files of datasets that are options, for `data.json`; of a hub dataset its id."""
    sources = [source for dataset in datasets for source in find_sources([str(dataset)])]
    files = [file for source in sources for file in source.files]
    hub = [{"name": source.path} for source in sources if source.hub_id is not None]
    return [{"name": file.name, "sha256": _hash(file)} for file in files] + hub


def write_contract(
    path: Path,
    *,
    how: str,
    files: Mapping[str, Path],
    counts: Mapping[str, Any],
    sources: Sequence[Source],
    options: Mapping[str, Any],
    reports: Sequence[Any] = (),
    left_out: Sequence[Dropped] = (),
) -> Path:
    """Writes `data.json`.

    Args:
        how: the command that made the dataset, as `curate`.
        files: the dataset's files by role; `rows` is the one to train on.
        sources: the datasets it was made of.
        reports: how each source was read.
        left_out: every row that is in none of the files, unless another file lists them.
    """
    content = {
        "schema": SCHEMA,
        "made_by": how,
        "files": {name: {"name": file.name, "sha256": file_hash(file)} for name, file in files.items()},
        "counts": dict(counts),
        "lineage": lineage(sources),
        "options": dict(options),
        "sources": [asdict(report) for report in reports],
        **({"left_out": [asdict(row) for row in left_out]} if left_out else {}),
    }
    return write_json(path, content)
