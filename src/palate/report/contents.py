"""The files of a run directory, read for a report.

Missing files are left out and damaged ones named, so that a stopped run has a report too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from palate.artifacts import RunDir, read_json, read_jsonl
from palate.errors import ArtifactError

T = TypeVar("T")
MetricRow = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RunContents:
    """One run, read from its directory.

    Attributes:
        path: the run directory.
        run: `run.json`.
        train: metric rows of training, by step; after a resume the later row of a step counts.
        evaluations: metric rows of evaluation, by step.
        data: `data.json`, the pre-flight report; empty when there is none.
        samples: rows of `samples.jsonl`.
        accuracy: `accuracy.json`; empty when the run was not evaluated.
        baseline: `health.json`, the metrics of sampled answers before training; empty when there are none.
        problems: one line for each file that could not be read.
    """

    path: Path
    run: Mapping[str, Any]
    train: Sequence[MetricRow]
    evaluations: Sequence[MetricRow]
    data: Mapping[str, Any]
    samples: Sequence[MetricRow]
    accuracy: Mapping[str, Any]
    baseline: Mapping[str, Any]
    problems: Sequence[str]

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @property
    def status(self) -> str:
        return str(self.run.get("status", "unknown"))

    def find(self, *paths: str, default: Any = None) -> Any:
        """The first non-empty value at dotted paths into `run.json` (`config.model_name_or_path`)."""
        for path in paths:
            value: Any = self.run
            for key in path.split("."):
                value = mapping(value).get(key)
            if value not in (None, "", {}, []):
                return value
        return default


def read_contents(run_dir: Path) -> RunContents:
    """Reads a run directory. Only `run.json` must be there and readable.

    Raises:
        ArtifactError: the directory is no run, or its `run.json` is damaged.
    """
    folder = RunDir.open(run_dir)
    problems: list[str] = []

    def attempt(path: Path, read: Callable[[Path], T], kind: type[T], empty: T) -> T:
        if not path.exists():
            return empty
        try:
            value = read(path)
        except ArtifactError as error:
            problems.append(str(error).replace(f"{folder.path}/", ""))
            return empty
        if not isinstance(value, kind):
            problems.append(f"{path.name}: expected {kind.__name__}, found {type(value).__name__}")
            return empty
        return value

    rows = attempt(folder.metrics, read_jsonl, list, [])
    return RunContents(
        path=folder.path,
        run=folder.read(),
        train=_by_step(row for row in rows if row.get("split", "train") == "train"),
        evaluations=_by_step(row for row in rows if row.get("split", "train") != "train"),
        data=attempt(folder.data, read_json, dict, {}),
        samples=attempt(folder.samples, read_jsonl, list, []),
        accuracy=attempt(folder.accuracy, read_json, dict, {}),
        baseline=attempt(folder.health, read_json, dict, {}),
        problems=problems,
    )


def read_begun(run_dir: Path) -> RunContents | None:
    """The same; None for a run that has not begun."""
    return read_contents(run_dir) if (run_dir / "run.json").is_file() else None


def _by_step(rows: Any) -> list[MetricRow]:
    latest = {row["step"]: row for row in rows if isinstance(row.get("step"), int | float)}
    return [latest[step] for step in sorted(latest)]


def values_of(rows: Sequence[MetricRow], name: str) -> list[tuple[float, float | None]]:
    """(step, value) of a metric in the rows that have it; None for a value that was not finite."""
    return [(float(row["step"]), finite(row[name])) for row in rows if name in row]


def mapping(item: Any) -> Mapping[str, Any]:
    """A JSON value as a mapping; an empty one for anything else."""
    return item if isinstance(item, Mapping) else {}


def is_number(item: Any) -> bool:
    """Whether a JSON value is a number, and not true or false."""
    return isinstance(item, int | float) and not isinstance(item, bool)


def finite(item: Any) -> float | None:
    """A JSON value as a finite number; None for anything else."""
    return float(item) if isinstance(item, int | float) and math.isfinite(item) else None
