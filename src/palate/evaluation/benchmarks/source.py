"""The rows of a benchmark, of local files or the hub. A missing field is an error that names file and row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from palate.artifacts import file_hash, json_hash, plain, read_json
from palate.data.sources.open import Source
from palate.data.sources.readers import read_rows
from palate.errors import DataError, MissingInputError


@dataclass(frozen=True, slots=True)
class HubSource:
    """A dataset of the hub: id, configuration and split."""

    hub_id: str
    subset: str | None = None
    split: str | None = None


@dataclass(frozen=True, slots=True)
class HubFiles:
    """Files of a repository of the hub, read as they are, because `datasets` cannot load them.

    Attributes:
        questions: path of the file with the questions.
        column: which the rows of the questions have, and those of the benchmark's other files do not.
        answers: path of the recorded answers of the model `{}`.
    """

    hub_id: str
    questions: str
    column: str
    answers: str | None = None
    repo_type: Literal["dataset", "space"] = "dataset"

    def download(self, path: str) -> Path:
        """A file of the repository, in the hub's cache on this machine.

        Raises:
            DataError: the hub does not give it; names `--data` as the way without a network.
        """
        # Imported here: only files of the hub need it.
        from huggingface_hub import hf_hub_download

        try:
            return Path(hf_hub_download(self.hub_id, path, repo_type=self.repo_type))
        # OSError, ValueError, and the errors of the hub client's HTTP library, which differs by version.
        except Exception as error:
            why = " ".join(str(error).split())[:200] or type(error).__name__
            raise DataError(
                f"{self.hub_id}: the hub did not give {path} ({why}); check the network, or name files with --data"
            ) from None


@dataclass(frozen=True, slots=True)
class DataRow:
    """One row of a file.

    Attributes:
        where: `file, row 3`, for messages.
        number: 1-based.
        values: by column.
    """

    where: str
    number: int
    values: Mapping[str, Any]

    def has(self, name: str) -> bool:
        """Whether the row has a value of this name."""
        return self.values.get(name) is not None

    def text(self, *names: str) -> str:
        """The text of the first of these names that the row has.

        Raises:
            DataError: it has none of them as a text with at least one visible character.
        """
        for name in names:
            value = self.values.get(name)
            if isinstance(value, str) and value.strip():
                return value
        raise DataError(f"{self.where}: has no text named {' or '.join(names)}")

    def texts(self, name: str, *, count: int | None = None) -> list[str]:
        """A list of texts; `count` is how many there must be."""
        value = self.values.get(name)
        if not isinstance(value, list) or not value or not all(isinstance(one, str) and one.strip() for one in value):
            raise DataError(f"{self.where}: has no list of texts named {name}")
        if count is not None and len(value) != count:
            raise DataError(f"{self.where}: {name} has {len(value)} texts, {count} are needed")
        return value

    def name(self, column: str) -> str:
        """An id: a text or a whole number."""
        value = self.values.get(column)
        if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
            raise DataError(f"{self.where}: has no id named {column}")
        return str(value).strip()


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file that was read: its rows, or the object that it is.

    Attributes:
        name: file name or hub id.
        path: as given, for messages.
        rows: in the file's order.
        sha256: hash of the file's bytes; of a hub dataset, of its rows as JSON.
        by_key: the entries of a file that is one JSON object.
    """

    name: str
    path: str
    sha256: str
    rows: tuple[DataRow, ...] = ()
    by_key: Mapping[str, Any] = field(default_factory=dict)


def find_files(given: Sequence[Path], patterns: Sequence[str], title: str) -> list[Path]:
    """The files to read: those given, and of each folder those that match a pattern.

    Raises:
        DataError: a path does not exist, or a folder has no such file.
    """
    found: list[Path] = []
    for path in given:
        if path.is_dir():
            matching = sorted({file for pattern in patterns for file in path.glob(pattern) if file.is_file()})
            if not matching:
                raise DataError(f"{path}: no file of {title} in this folder; it looks for {', '.join(patterns)}")
            found += matching
        elif path.is_file():
            found.append(path)
        else:
            raise MissingInputError(f"{path}: no such file or folder; --data names the files of {title}")
    return list(dict.fromkeys(found))


def read_file(path: Path) -> DataFile:
    """The rows of a file of any type that palate reads, or the entries of a JSON object."""
    if path.suffix.lower() == ".json":
        value = read_json(path)
        if isinstance(value, dict):
            return DataFile(path.name, str(path), file_hash(path), by_key=value)
    rows = tuple(_row(f"{path}, row {number}", number, row) for number, row in read_rows(path))
    if not rows:
        raise DataError(f"{path}: has no rows")
    return DataFile(path.name, str(path), file_hash(path), rows)


def read_hub(hub: HubSource) -> DataFile:
    """The rows of the hub's dataset.

    Raises:
        DataError: the hub does not give it; names `--data` as the way without a network.
    """
    source = Source(name=hub.hub_id, path=hub.hub_id, hub_id=hub.hub_id, subset=hub.subset, split=hub.split)
    try:
        rows = tuple(_row(where, number, row) for number, (where, row) in enumerate(source.rows(), 1))
    except DataError as error:
        raise DataError(f"{error}; or name local files with --data") from error
    return DataFile(hub.hub_id, hub.hub_id, json_hash(plain([dict(row.values) for row in rows])), rows)


def _row(where: str, number: int, row: Any) -> DataRow:
    if not isinstance(row, dict):
        why = f": {row}" if isinstance(row, Exception) else ""
        raise DataError(f"{where}: expected an object with named fields{why}")
    return DataRow(where, number, row)
