"""Finds a dataset: a file, a folder, a pattern, a saved Arrow dataset, a hub id, a registered or a built-in name."""

from __future__ import annotations

import difflib
import glob
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any

from palate.data.sources.columnar import arrow_rows, is_saved_dataset, saved_dataset_files
from palate.data.sources.dataset_info import RegisteredDataset, find_entry, is_card, read_register, rows_file
from palate.data.sources.readers import Numbered, file_type, read_rows
from palate.data.turns.messages import Tags
from palate.errors import DataError, MissingInputError

BUILTIN: Mapping[str, str] = {
    "palate-demo": "demo_train.jsonl",
    "palate-demo-heldout": "demo_heldout.jsonl",
    "palate-demo-prompts": "demo_prompts.jsonl",
}
"""Datasets that ship with palate: name → file in `palate/data/builtin`."""

_SPLIT_OF = re.compile(r"(?:^|[-_.])(train|training|test|testing|validation|valid|val|dev|eval|heldout)(?=[-_.]|$)")
_SAME_SPLIT = {"training": "train", "testing": "test", "valid": "validation", "val": "validation"}
_SHARD = re.compile(r"(?P<prefix>.*?)(?P<number>\d{1,6})-of-(?P<of>\d{1,6})(?!\d)")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, slots=True)
class Source:
    """One dataset, found but not yet read.

    Attributes:
        name: its name in counts and mixtures.
        path: the file, folder or hub id, for messages.
        files: the files with its rows, in order; empty for the hub.
        labels: per file the prefix of its row ids.
        hub_id, subset, split: what is loaded from the hub.
        columns: palate's column name → the source's own.
        only_mapped: whether columns that are not mapped are ignored.
        tags: how turns are written.
        limit: rows to read from the start; None for all.
        meanings: what the values of its label column mean, if its entry in `dataset_info.json` says so.
    """

    name: str
    path: str
    files: tuple[Path, ...] = ()
    labels: tuple[str, ...] = ()
    hub_id: str | None = None
    subset: str | None = None
    split: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    only_mapped: bool = False
    tags: Tags = field(default_factory=Tags)
    limit: int | None = None
    meanings: Mapping[str, str] = field(default_factory=dict)

    @property
    def columnar(self) -> bool:
        """Whether its rows come from Parquet or Arrow, where every object has the keys of all objects."""
        return self.hub_id is not None or any(file_type(path) in ("parquet", "arrow") for path in self.files)

    @property
    def is_csv(self) -> bool:
        """Whether its files are CSV or TSV, in which every cell is text."""
        return bool(self.files) and all(file_type(path) in ("csv", "tsv") for path in self.files)

    def rows(self) -> Iterator[tuple[str, Any]]:
        """`(row id, row)` one after the other, none kept in memory: `("pairs.jsonl:17", {…})`."""
        return islice(self._all_rows(), self.limit)

    def _all_rows(self) -> Iterator[tuple[str, Any]]:
        if self.hub_id is not None:
            for number, row in _hub_rows(self.hub_id, self.subset, self.split):
                yield f"{self.hub_id}:{number}", row
        for path, label in zip(self.files, self.labels, strict=True):
            # Files of `save_to_disk` are Arrow files by the folder's index; the type of others is in their name.
            rows: Iterator[Numbered] = arrow_rows(path) if path.suffix == ".arrow" else read_rows(path)
            for number, row in rows:
                yield f"{label}:{number}", row


def open_source(
    dataset: str, *, dataset_dir: str | Path | None = None, split: str | None = None, subset: str | None = None
) -> Source:
    """Finds the dataset that a config calls `dataset`.

    It is looked up in this order: a name in `dataset_dir/dataset_info.json`, a built-in name, a file, a folder or a
    pattern of file names such as `shards/*.parquet` (as given, then inside `dataset_dir`), a hub id `owner/name`.
    """
    folder = Path(dataset_dir) if dataset_dir is not None else None
    entry = find_entry(dataset, folder) if folder is not None else None
    if entry is not None:
        return _registered(entry, split, subset)
    if dataset in BUILTIN:
        path = Path(str(resources.files("palate.data") / "builtin" / BUILTIN[dataset]))
        return _from_path(path, split, name=dataset)
    for path in (Path(dataset).expanduser(), *((folder / dataset,) if folder is not None else ())):
        try:
            if path.exists():
                return _from_path(path, split)
            if glob.has_magic(dataset) and (files := _matching(path)):
                above = os.path.commonpath([file.parent for file in files])
                labels = tuple(file.relative_to(above).as_posix() for file in files)
                return Source(name=dataset, path=dataset, files=tuple(files), labels=labels)
        except OSError as error:  # a folder without permission, a name too long for the file system
            where = error.filename or path
            raise DataError(f"{where}: cannot be read: {error.strerror}; check the path and its permissions") from None
    if _HUB_ID.fullmatch(dataset) and file_type(Path(dataset)) is None and not dataset.startswith("."):
        return Source(name=dataset, path=dataset, hub_id=dataset, subset=subset, split=split)
    raise MissingInputError(f"dataset {dataset!r} is not there{_nearest(dataset, folder)}")


def distinct_labels(sources: Sequence[Source]) -> list[Source]:
    """The same sources with unique row ids: files of one name are called by as much of their path as differs."""
    paths = [path.resolve() for source in sources for path in source.files]
    twice = next((path for path, count in Counter(paths).items() if count > 1), None)
    if twice is not None:
        raise DataError(f"{twice} is in the dataset twice; leave one out")
    labels = [label for source in sources for label in source.labels]
    if len(set(labels)) == len(labels):
        return list(sources)
    depth = 2
    while len({path.parts[-depth:] for path in paths}) < len(paths):
        depth += 1
    longer = iter("/".join(path.parts[-depth:]).lstrip("/") for path in paths)
    return [replace(source, labels=tuple(next(longer) for _ in source.labels)) for source in sources]


def _registered(entry: RegisteredDataset, split: str | None, subset: str | None) -> Source:
    split, subset = split or entry.split, subset or entry.subset
    if entry.file is None:
        hub_id = str(entry.hub_id)
        source = Source(name=entry.name, path=hub_id, hub_id=hub_id, subset=subset, split=split)
    elif entry.file.exists():
        source = _from_path(entry.file, split, name=entry.name)
    else:
        raise MissingInputError(
            f"dataset {entry.name!r}: its file {entry.file} is not there{_nearest(str(entry.file), None)}"
        )
    return replace(
        source,
        columns=entry.columns,
        only_mapped=bool(entry.columns),  # as in LLaMA-Factory
        tags=entry.tags,
        limit=entry.num_samples,
        meanings=entry.labels,
    )


def _from_path(path: Path, split: str | None, name: str | None = None) -> Source:
    if path.is_dir():
        files = _files_of_folder(path, split)
        labels = tuple(file.relative_to(path).as_posix() for file in files)
    elif path.is_file():
        if file_type(path) is None:
            next(read_rows(path))  # refuses, naming the types that palate reads
        files, labels = [path], (path.name,)
    else:
        raise DataError(f"{path} is neither a file nor a folder")
    name = name or (path.name if path.is_dir() else path.name.split(".")[0] or path.name)
    return Source(name=name, path=str(path), files=tuple(files), labels=labels, split=split)


def _matching(pattern: Path) -> list[Path]:
    """The files of a pattern, sorted; `**` stands for any number of folders.

    Raises:
        DataError: one is of a type that palate does not read.
    """
    top = Path(pattern.anchor)
    found = [path for path in sorted(top.glob(str(pattern.relative_to(top)))) if path.is_file()]
    other = next((path for path in found if file_type(path) is None), None)
    if other is not None:
        raise DataError(f"{other}: no type that palate reads; write a pattern of data files only, such as *.jsonl")
    return found


def _complete(files: list[Path]) -> list[Path]:
    """The files, if no shard is missing of those whose names say how many there are (`train-00003-of-00010.parquet`).

    Raises:
        DataError: names the first missing shard.
    """
    numbers: dict[tuple[Path, str, str], dict[int, str]] = defaultdict(dict)
    for path in files:
        if shard := _SHARD.match(path.name):
            numbers[path.parent, shard["prefix"], shard["of"]][int(shard["number"])] = shard["number"]
    for (folder, prefix, of), found in numbers.items():
        first = 1 if int(of) in found else 0  # some count from 1
        missing = sorted(set(range(first, first + int(of))) - set(found))
        if missing:
            width = len(next(iter(found.values())))
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise DataError(
                f"{folder}: the shard {prefix}{missing[0]:0{width}}-of-{of} is missing{more}; put it back, or name the "
                "files to read in a list"
            )
    return files


def _files_of_folder(folder: Path, split: str | None) -> list[Path]:
    """The data files of a folder and its subfolders, sorted; if their names contain splits, those of one split."""
    if is_saved_dataset(folder):
        return saved_dataset_files(folder, split)
    rows = rows_file(folder)
    if rows is not None and split is None:
        return [rows]
    names = list(read_register(folder))
    if names:
        raise DataError(
            f"{folder} is a folder of datasets: set dataset_dir to it and dataset to one of {', '.join(names[:8])}"
        )
    files = sorted(path for path in _below(folder) if path.is_file() and file_type(path) is not None)
    files = [path for path in files if not is_card(path)]
    files = [path for path in files if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    if not files:
        raise DataError(f"{folder}: no data file in it (.jsonl, .json, .csv, .tsv, .parquet, .arrow, also .gz, .zst)")
    splits = {path: _split_of(path.relative_to(folder)) for path in files}
    named = sorted({name for name in splits.values() if name is not None})
    if split is None and (len(named) < 2 or "train" not in named):
        # All files, unless there are a train and a test split: the test split would leak into training.
        return _complete(files)
    wanted = _SAME_SPLIT.get(split, split) if split else "train"
    chosen = [path for path in files if splits[path] == wanted]
    if not chosen:
        raise DataError(f"{folder}: no file of split {split!r}; splits in its file names: {', '.join(named) or 'none'}")
    return _complete(chosen)


def _below(folder: Path) -> Iterator[Path]:
    """Every file of a folder and its subfolders; raises `OSError` for a subfolder without permission."""

    def refuse(error: OSError) -> None:
        raise error

    for where, _, names in os.walk(folder, onerror=refuse):
        yield from (Path(where, name) for name in names)


def _split_of(path: Path) -> str | None:
    for part in reversed(path.parts):
        if found := _SPLIT_OF.search(part.lower()):
            return _SAME_SPLIT.get(found[1], found[1])
    return None


def _hub_rows(hub_id: str, subset: str | None, split: str | None) -> Iterator[Numbered]:
    # Imported here: `datasets` takes most of a second to import, and only hub datasets need it.
    import datasets

    try:
        rows = datasets.load_dataset(hub_id, name=subset, split=split or "train")
    # OSError, ValueError, DatasetsError, and the errors of the hub client's HTTP library, which differs by version.
    except Exception as error:
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(
            f"dataset {hub_id!r}: no such file here, and the hub did not give it ({why}); "
            "check the name, the network, or download it and give the path"
        ) from None
    yield from enumerate(rows, 1)


def _nearest(dataset: str, folder: Path | None) -> str:
    """A hint: existing names like this one, or what may be given."""
    path = Path(dataset)
    if path.is_symlink():
        return f": it is a link to {path.readlink()}, which is missing"
    near: list[str] = []
    if path.parent.is_dir():
        near = [entry.name for entry in path.parent.iterdir() if file_type(entry) is not None or entry.is_dir()]
        near = difflib.get_close_matches(path.name, near, n=1, cutoff=0.5)
        near = [str(path.parent / name) for name in near]
    names = [*BUILTIN, *(read_register(folder) if folder is not None else [])]
    near += difflib.get_close_matches(dataset, names, n=1, cutoff=0.5)
    if near:
        return f"; did you mean {' or '.join(near)}?"
    if not path.parent.is_dir():
        return f": there is no folder {path.parent}"
    return f"; give a file, a folder, a hub id, a name in dataset_info.json or a built-in ({', '.join(BUILTIN)})"
