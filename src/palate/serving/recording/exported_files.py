"""Removes the rows of a person from JSON Lines files."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from palate.artifacts import file_hash, iter_jsonl, read_json, write_json
from palate.data.formats.writers import write_rows
from palate.errors import DataError

MANIFEST = "data.json"


def clean_export(folder: Path, marks: Collection[str]) -> tuple[dict[str, int], list[str]]:
    """Remove the rows that name one of `marks` from every data file of an export, and bring its manifest up to date.

    Returns:
        file → rows removed, and the hashes of the files as they are now.

    Raises:
        ArtifactError: a file is damaged or cannot be written.
    """
    manifest = read_json(folder / MANIFEST)
    removed, hashes = {}, []
    for entry in manifest["files"].values():
        path = folder / entry["name"]
        count = clean_file(path, marks)
        if count:
            removed[str(path)] = count
            entry["sha256"] = file_hash(path)
            hashes.append(entry["sha256"])
    if removed:
        counts = manifest["counts"]
        counts["forgotten"] = counts.get("forgotten", 0) + sum(removed.values())
        write_json(folder / MANIFEST, manifest)
    return removed, hashes


def is_exported(folder: Path, marks: Collection[str]) -> bool:
    """Whether a row of an export names one of `marks`; raises ArtifactError if a file is damaged."""
    paths = [folder / entry["name"] for entry in read_json(folder / MANIFEST)["files"].values()]
    return any(has_one(row, marks) for path in paths if path.suffix == ".jsonl" for row in iter_jsonl(path))


def clean_file(path: Path, marks: Collection[str]) -> int:
    """Remove the rows in which one of `marks` is a value, at any depth; returns their number.

    Raises:
        DataError: the file is not JSON Lines.
        ArtifactError: it is damaged or cannot be written.
    """
    if path.suffix != ".jsonl":
        raise DataError(f"{path}: only .jsonl files can be cleaned; delete it or write it again")
    rows = list(iter_jsonl(path))
    kept = [row for row in rows if not has_one(row, marks)]
    if len(kept) < len(rows):
        write_rows(path, kept)
    return len(rows) - len(kept)


def has_one(value: Any, marks: Collection[str]) -> bool:
    """Whether one of the texts in a JSON value is one of `marks`."""
    return any(text in marks for text in texts_in(value))


def texts_in(value: Any) -> Iterator[str]:
    """Every text in a JSON value; keys of objects are not among them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from texts_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts_in(inner)
