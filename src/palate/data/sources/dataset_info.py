"""Files that describe datasets: LLaMA-Factory's register `dataset_info.json`, and the `data.json` of palate."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from palate.data.turns.messages import Tags
from palate.errors import DataError
from palate.records import Role

REGISTER = "dataset_info.json"
SCHEMA = "palate.data/1"
"""The first key of every `data.json` that describes a dataset."""

# LLaMA-Factory's name of a column → palate's, by its two kinds of formatting.
_SHARED = {"system": "system", "tools": "tools", "chosen": "chosen", "rejected": "rejected", "kto_tag": "label"}
_ALPACA = {"prompt": "instruction", "query": "input", "response": "output", "history": "history", **_SHARED}
_SHAREGPT = {"messages": "conversations", **_SHARED}
_ROLE_TAGS: Mapping[str, Role] = {
    "user_tag": "user",
    "assistant_tag": "assistant",
    "observation_tag": "tool",
    "function_tag": "assistant",
    "system_tag": "system",
}
_ELSEWHERE = ("script_url", "ms_hub_url", "om_hub_url", "cloud_file_name")


@dataclass(frozen=True, slots=True)
class RegisteredDataset:
    """One dataset of the register.

    Attributes:
        name: its key.
        file: path of its file or folder; None if it is on the hub.
        hub_id: its hub id; None if it is a file.
        subset, split: as in the entry.
        num_samples: rows to read from the start; None for all.
        columns: palate's column name → the file's, for every column that the entry maps.
        tags: how turns are written.
        labels: what the values of its label column mean; a key that only palate reads.
    """

    name: str
    file: Path | None
    hub_id: str | None
    subset: str | None = None
    split: str | None = None
    num_samples: int | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    tags: Tags = field(default_factory=Tags)
    labels: Mapping[str, str] = field(default_factory=dict)


def find_entry(name: str, dataset_dir: Path) -> RegisteredDataset | None:
    """The entry of that name; None if the folder has no register or the register no such name."""
    entry = read_register(dataset_dir).get(name)
    if entry is None:
        return None
    where = f"{dataset_dir / 'dataset_info.json'}, dataset {name!r}"
    if not isinstance(entry, dict):
        raise DataError(f"{where}: must be an object with file_name or hf_hub_url")
    file_name, hub_id = entry.get("file_name"), entry.get("hf_hub_url")
    if not isinstance(file_name, str) and not isinstance(hub_id, str):
        other = next((key for key in _ELSEWHERE if key in entry), None)
        has = f"has {other}, which palate does not load" if other else "has neither file_name nor hf_hub_url"
        raise DataError(f"{where}: {has}; give file_name or hf_hub_url")
    file = dataset_dir / file_name if isinstance(file_name, str) else None
    return RegisteredDataset(
        name=name,
        # LLaMA-Factory prefers the hub; palate prefers a local file, so that runs work offline.
        file=file if file is not None and (file.exists() or not isinstance(hub_id, str)) else None,
        hub_id=hub_id if isinstance(hub_id, str) else None,
        subset=_optional(entry, "subset", str, where),
        split=_optional(entry, "split", str, where),
        num_samples=_optional(entry, "num_samples", int, where),
        columns=_columns(entry, where),
        tags=_tags(entry, where),
        labels=_labels(entry, where),
    )


def read_register(dataset_dir: Path) -> dict[str, Any]:
    """All entries of a folder's register; none if it has no register."""
    path = dataset_dir / REGISTER
    if not path.is_file():
        return {}
    try:
        register = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
    # `save_to_disk` writes a file of the same name that describes columns and no datasets.
    if not isinstance(register, dict) or "features" in register:
        return {}
    return register


def _columns(entry: Mapping[str, Any], where: str) -> dict[str, str]:
    formatting = entry.get("formatting", "alpaca")
    if formatting not in ("alpaca", "sharegpt", "openai"):
        raise DataError(f"{where}: formatting {formatting!r} is unknown; use alpaca, sharegpt or openai")
    known = _ALPACA if formatting == "alpaca" else _SHAREGPT
    mapped: dict[str, str] = {}
    given = entry.get("columns", {})
    if not isinstance(given, dict):
        raise DataError(f"{where}: columns must be an object")
    for name, column in given.items():
        if column is None:
            continue
        if name in ("images", "videos", "audios"):
            raise DataError(f"{where}: maps {name}; palate reads text only")
        if name not in known or not isinstance(column, str):
            raise DataError(f"{where}: columns cannot map {name!r} here; it can map {', '.join(known)}")
        mapped[known[name]] = column
    return mapped


def _tags(entry: Mapping[str, Any], where: str) -> Tags:
    tags = entry.get("tags", {})
    if not isinstance(tags, dict) or not all(isinstance(value, str) for value in tags.values()):
        raise DataError(f"{where}: tags must be an object of names")
    unknown = next((key for key in tags if key not in ("role_tag", "content_tag", *_ROLE_TAGS)), None)
    if unknown is not None:
        raise DataError(f"{where}: unknown tag {unknown!r}; known are role_tag, content_tag, {', '.join(_ROLE_TAGS)}")
    roles = {tags[key].lower(): role for key, role in _ROLE_TAGS.items() if key in tags}
    callers = frozenset({tags["function_tag"].lower()} if "function_tag" in tags else ())
    return Tags(role=tags.get("role_tag"), content=tags.get("content_tag"), roles=roles, callers=callers)


def _labels(entry: Mapping[str, Any], where: str) -> dict[str, str]:
    labels = entry.get("labels", {})
    if not isinstance(labels, dict) or not all(isinstance(meaning, str) for meaning in labels.values()):
        raise DataError(f'{where}: labels must be an object of meanings by value, as {{"0": "response_1"}}')
    return labels


def _optional(entry: Mapping[str, Any], key: str, kind: type[Any], where: str) -> Any:
    value = entry.get(key)
    if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
        raise DataError(f"{where}: {key} must be {'a number' if kind is int else 'text'}")
    return value


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
