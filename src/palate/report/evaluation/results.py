"""Finds the result files of an evaluation and reads them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from palate.artifacts import RunDir
from palate.artifacts.files import read_bytes
from palate.errors import DataError, MissingInputError
from palate.evaluation.logs.palate_results import check_version, is_benchmark, is_win_rate

Kind: TypeAlias = Literal["accuracy", "winrate", "bench"]
_PATTERNS = ("accuracy*.json", "winrate.json", "bench-*.json")
_FORMS = "a result of `palate eval accuracy --json`, `palate eval winrate` or `palate eval bench`"


@dataclass(frozen=True, slots=True)
class ResultFile:
    """One result file.

    Attributes:
        path: the file.
        sha256: of its content.
        kind: what it is.
        facts: its JSON.
    """

    path: Path
    sha256: str
    kind: Kind
    facts: Mapping[str, Any]


def read_results(run: RunDir, paths: Iterable[Path]) -> list[ResultFile]:
    """The results in files and folders, and the run's own accuracy.json, if it has one; each file once.

    A folder stands for all results below it: `accuracy*.json`, `winrate.json`, `bench-*.json`.

    Raises:
        DataError: a path does not exist or holds no result, or a file is damaged or of another version.
        ArtifactError: a file cannot be read.
    """
    files = [run.accuracy] if run.accuracy.is_file() else []
    for path in paths:
        files += _below(path) if path.is_dir() else [path]
    different = {file.resolve(): file for file in files}
    return sorted((_read(file) for file in different.values()), key=lambda source: get_args(Kind).index(source.kind))


def _below(folder: Path) -> list[Path]:
    found = sorted(path for pattern in _PATTERNS for path in folder.rglob(pattern))
    if not found:
        raise DataError(f"{folder}: holds no {', '.join(_PATTERNS)}; name {_FORMS}")
    return found


def _read(path: Path) -> ResultFile:
    if not path.is_file():
        raise MissingInputError(f"{path}: no such file; name {_FORMS}")
    content = read_bytes(path)
    try:
        facts = json.loads(content)
    except ValueError as error:
        raise DataError(f"{path}: is no JSON ({error}); name {_FORMS}, or measure again") from error
    kind = _kind(facts)
    if kind is None:
        raise DataError(f"{path}: is no result of palate; name {_FORMS}")
    if kind != "accuracy":
        check_version(facts.get("version" if kind == "winrate" else "format"), str(path))
    return ResultFile(path, hashlib.sha256(content).hexdigest(), kind, facts)


def _kind(facts: Any) -> Kind | None:
    if is_win_rate(facts):
        return "winrate"
    if is_benchmark(facts):
        return "bench"
    measured = isinstance(facts, Mapping) and "n" in facts and ("policy" in facts or "reward" in facts)
    return "accuracy" if measured else None


def of_kind(sources: Sequence[ResultFile], kind: Kind) -> list[ResultFile]:
    """The results of one kind, in their order."""
    return [source for source in sources if source.kind == kind]
