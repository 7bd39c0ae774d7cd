"""Refuses to write over input files, and over folders that palate did not write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from palate.artifacts.files import write_errors
from palate.data.sources.card import rows_file
from palate.data.sources.open import Source
from palate.errors import DataError, UsageError


def check_output_file(path: Path, sources: Sequence[Source]) -> None:
    """Refuses a file that is also read."""
    with write_errors(path):
        if path.exists() and any(file.exists() and file.samefile(path) for source in sources for file in source.files):
            raise UsageError(f"{path}: is an input file; name another file to write")


def check_output_folder(path: Path, sources: Sequence[Source]) -> None:
    """Refuses a folder that is not empty unless palate wrote it, and one with a file that is also read."""
    with write_errors(path):
        if path.exists() and (not path.is_dir() or (any(path.iterdir()) and rows_file(path) is None)):
            raise DataError(f"{path} exists and was not written by palate data; choose another name")
    folder = path.resolve()
    inside = next((file for source in sources for file in source.files if file.resolve().is_relative_to(folder)), None)
    if inside is not None:
        raise UsageError(f"{path}: contains the input file {inside.name}; name another folder to write")
