"""The `data.json` of a dataset that palate wrote: recognised, and read for the file to train on."""

from __future__ import annotations

import json
from pathlib import Path

from palate.errors import DataError

SCHEMA = "palate.data/1"
"""The first key of every `data.json` that describes a dataset."""


def is_card(path: Path) -> bool:
    """Whether a file is such a `data.json` by its first key, and not a dataset of that name."""
    if not path.name.endswith("data.json"):
        return False
    try:
        with path.open("rb") as file:
            return SCHEMA.encode() in file.read(64)
    except OSError:
        return False


def rows_file(folder: Path) -> Path | None:
    """The file to train on in a folder that palate wrote; None for any other folder."""
    path = folder / "data.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        return None
    try:
        found = folder / Path(content["files"]["rows"]["name"]).name
    except (KeyError, TypeError):
        raise DataError(f"{path}: names no file of rows; the dataset is damaged") from None
    if not found.is_file():
        raise DataError(f"{path}: names {found.name}, which is not there; the dataset is damaged")
    return found
