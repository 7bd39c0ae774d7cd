"""Reads a result whose format is recognised from its content: a file, or a folder of them."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from palate.artifacts import RunDir, read_json
from palate.errors import ArtifactError, DataError, MissingInputError
from palate.evaluation.logs.inspect_ai import is_inspect, read_inspect
from palate.evaluation.logs.items import ItemValues, find_block, read_block
from palate.evaluation.logs.lm_eval import SAMPLES, is_lm_eval, read_lm_eval, task_of
from palate.evaluation.logs.palate_results import is_benchmark, is_win_rate, read_benchmark, read_win_rate

FORMATS = (
    "a result of palate eval (accuracy.json, winrate or bench), samples_*.jsonl of lm-evaluation-harness "
    "(--log_samples), or a log of Inspect (.eval, .json)"
)


def read_log(path: Path) -> ItemValues:
    """The values of a result by item.

    Args:
        path: a file; a finished run (its accuracy.json); or a folder of sample logs or Inspect logs, one for each task,
            whose metrics and items are then named `task/metric` and `task/item`. `FILE@MODEL` is one model of a
            benchmark's result.

    Raises:
        DataError: the format is not known, the file is damaged, or a folder has two logs of one task.
        ArtifactError: the file cannot be read.
    """
    if not path.exists():
        file, _, model = str(path).rpartition("@")
        if file and model and Path(file).is_file():
            return _read_file(Path(file), model)
        raise MissingInputError(f"{path}: no such file; name {FORMATS}")
    return _read_folder(path) if path.is_dir() else _read_file(path)


def _read_file(path: Path, model: str | None = None) -> ItemValues:
    if path.suffix == ".eval" or zipfile.is_zipfile(path):
        if not zipfile.is_zipfile(path):
            raise DataError(f"{path}: the log is damaged or not complete (not a zip file); run the evaluation again")
        return read_inspect(path)
    if is_lm_eval(_first_line(path)):
        return read_lm_eval(path)
    try:
        content = read_json(path)
    except ArtifactError as error:
        raise DataError(f"{path}: cannot be read as {FORMATS}: {error}") from error
    if is_benchmark(content):
        return read_benchmark(content, str(path), model)
    if is_inspect(content):
        return read_inspect(path)
    if is_win_rate(content):
        return read_win_rate(content, str(path))
    block = find_block(content)
    if block is None:
        raise DataError(f'{path}: holds no values by item (no "items"); name {FORMATS}')
    return read_block(block, str(path))


def _first_line(path: Path) -> object:
    """The JSON value of the first line; None if it is none, as in a file of one indented object."""
    try:
        with path.open("rb") as file:
            return json.loads(file.readline())
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError:
        return None


def _read_folder(folder: Path) -> ItemValues:
    if (folder / "run.json").is_file():
        accuracy = RunDir.open(folder).accuracy
        if not accuracy.is_file():
            raise DataError(f"{folder}: the run has no accuracy.json; run `palate eval accuracy {folder}` first")
        return replace(_read_file(accuracy), name=folder.resolve().name)
    logs = sorted(folder.rglob(SAMPLES)) or sorted(folder.rglob("*.eval"))
    if logs:
        return _merge(logs, folder)
    results = [path for path in sorted(folder.glob("*.json")) if _has_items(path)]
    if len(results) != 1:
        found = f"{len(results)} results: name one of them" if results else f"no result; name {FORMATS}"
        raise DataError(f"{folder}: the folder holds {found}")
    return _read_file(results[0])


def _has_items(path: Path) -> bool:
    try:
        content = read_json(path)
    except ArtifactError:  # a file that is no JSON is no result; if there is no other, the folder is refused
        return False
    return find_block(content) is not None or any(
        recognised(content) for recognised in (is_inspect, is_win_rate, is_benchmark)
    )


def _merge(logs: Sequence[Path], folder: Path) -> ItemValues:
    """The logs of several tasks as one result."""
    metrics: dict[str, dict[str, float | None]] = {}
    hashes: dict[str, str] = {}
    notes: list[str] = []
    repeated = 0
    paths: dict[str, Path] = {}
    for path in logs:
        found = _read_file(path)
        task = task_of(path) if path.suffix == ".jsonl" else found.name.rpartition(", ")[2]  # Inspect: `model, task`
        if task in paths:
            raise DataError(f"{folder}: two logs of {task}, {paths[task].name} and {path.name}; name one of the files")
        paths[task] = path
        for metric, values in found.metrics.items():
            metrics[f"{task}/{metric}"] = {f"{task}/{item}": value for item, value in values.items()}
        hashes |= {f"{task}/{item}": content for item, content in found.hashes.items()}
        notes += [f"{task}: {note}" for note in found.notes]
        repeated += found.repeated
    return ItemValues(folder.resolve().name, metrics, hashes, repeated=repeated, notes=tuple(notes))
