"""Finds runs and results below the folders that the server was started with.

A page looks up the name that a request gives among those that were found, so no path of a request reaches the file
system. Links that lead out of the folders are not followed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal, TypeAlias

from palate.artifacts import json_hash
from palate.evaluation.answers.table import distinct_names

Kind: TypeAlias = Literal["run", "pipeline", "sweep", "result"]

SEVERAL: tuple[Kind, ...] = ("pipeline", "sweep")
"""What has runs inside."""

REPORTS = ("report.html", "evaluation.html", "compare.html", "debug.html")
"""Files that are served, each a page of `palate.report`."""

_MARKS: tuple[tuple[str, Kind], ...] = (
    ("run.json", "run"),
    ("pipeline.json", "pipeline"),
    ("winrate.json", "result"),  # before sweep.json: a win rate at several temperatures has one too
    ("sweep.json", "sweep"),
    ("debug.json", "result"),
)
_READ = ("metrics.jsonl", "data.json", "samples.jsonl", "accuracy.json", "health.json")
_DEEPEST = 5
_MOST_FOLDERS = 5_000


@dataclass(frozen=True, slots=True)
class TrainingFolder:
    """A folder with a run, pipeline, sweep or result.

    Attributes:
        name: path below the server's folder; with several of these, their names come first.
        path: the folder.
        kind: what it holds.
        changed: time of the last change of its files, in seconds since 1970.
        stamp: of names, times and sizes of these files: another one after any change.
        reports: those of `REPORTS` that are there.
        results: names of its win rate and benchmarks.
        problem: why its files are not read; empty if they are.
    """

    name: str
    path: Path
    kind: Kind
    changed: float
    stamp: str
    reports: tuple[str, ...] = ()
    results: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """What lies below the folders.

    Attributes:
        entries: by name, those that changed last first.
        notices: folders that were left out, one line each.
    """

    entries: dict[str, TrainingFolder]
    notices: list[str]

    def of(self, *kinds: Kind) -> list[TrainingFolder]:
        """The entries of these kinds."""
        return [entry for entry in self.entries.values() if entry.kind in kinds]

    def inside(self, entry: TrainingFolder) -> list[TrainingFolder]:
        """The runs of a pipeline or sweep; none of anything else."""
        return [one for one in self.of("run") if one.path.parent == entry.path] if entry.kind in SEVERAL else []

    def around(self, entry: TrainingFolder) -> TrainingFolder | None:
        """The pipeline or sweep that a run is part of."""
        return next((one for one in self.of(*SEVERAL) if one.path == entry.path.parent), None)


def find_entries(folders: Sequence[Path]) -> Found:
    """Every run and result in the folders and up to five levels below them."""
    roots = [folder.resolve() for folder in folders]
    names = distinct_names(roots) if len(roots) > 1 else [""]
    notices: list[str] = []
    found: list[TrainingFolder] = []
    for root, name in zip(roots, names):
        if not root.is_dir():
            notices.append(f"{name or root.name}: there is no such folder")
            continue
        found += _below(root, name, notices)
    once = {entry.path: entry for entry in reversed(found)}  # a folder may lie in another one
    return Found({entry.name: entry for entry in sorted(once.values(), key=lambda entry: -entry.changed)}, notices)


def _below(root: Path, name: str, notices: list[str]) -> Iterator[TrainingFolder]:
    waiting, seen = [(root, name, 0)], 0
    while waiting:
        folder, name, depth = waiting.pop()
        seen += 1
        if seen > _MOST_FOLDERS:
            notices.append(f"{root.name}: has more than {_MOST_FOLDERS:,} folders; name a narrower one with --runs")
            return
        try:
            with os.scandir(folder) as entries:
                inside = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            notices.append(f"{name or root.name}: cannot be read ({error.strerror})")
            continue
        entry = _entry(root, folder, name or root.name, inside)
        if entry is not None:
            yield entry
        for one in inside:
            below = "/".join(filter(None, (name, os.fsencode(one.name).decode("utf-8", "replace"))))
            if one.name.startswith((".", "checkpoint-")) or not _is(one.is_dir):
                continue
            if one.is_symlink():
                target = Path(one.path).resolve()
                holds_runs = any(_is((target / mark).is_file) for mark, _ in _MARKS)
                if holds_runs and not target.is_relative_to(root):
                    notices.append(f"{below}: is a link out of the folder, not followed; name its target with --runs")
            elif depth < _DEEPEST:
                waiting.append((Path(one.path), below, depth + 1))


def _entry(root: Path, folder: Path, name: str, inside: Sequence[os.DirEntry[str]]) -> TrainingFolder | None:
    files = {one.name: one for one in inside if _is(one.is_file)}
    results = tuple(one for one in files if one == "winrate.json" or fnmatch(one, "bench-*.json"))
    kind = next((kind for mark, kind in _MARKS if mark in files), "result" if results else None)
    if kind is None:
        return None
    read = [one for one in (*(mark for mark, _ in _MARKS), *_READ, *results) if one in files]
    out = [one for one in read if not _is_inside(root, folder / one)]
    reports = tuple(one for one in REPORTS if one in files and _is_inside(root, folder / one))
    problem = f"{out[0]} is a link out of the folder and is not read" if out else ""
    facts = [(one, *_times(files[one])) for one in read]
    changed = max(seconds for _, seconds, _ in facts)
    return TrainingFolder(name, folder, kind, changed, json_hash(facts)[:16], reports, results, problem)


def _is(test: Callable[[], bool]) -> bool:
    """Whether a test of a path holds; not for a link to itself, or where this process may not look."""
    try:
        return test()
    except OSError:
        return False


def _times(file: os.DirEntry[str]) -> tuple[float, int]:
    """Time of the last change, and size."""
    try:
        facts = file.stat()
    except OSError:  # it has gone since
        return 0.0, 0
    return facts.st_mtime, facts.st_size


def _is_inside(root: Path, path: Path) -> bool:
    """Whether a path is below a folder, links followed."""
    return path.resolve().is_relative_to(root)
