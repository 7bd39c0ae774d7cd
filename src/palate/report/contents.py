"""What a run left on disk, read for a report.

Missing or damaged pieces are named, not fatal: a stopped run has a report too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from palate.artifacts import RunDir, read_json, read_jsonl
from palate.errors import ArtifactError

T = TypeVar("T")
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RunContents:
    """One run, as read from its directory.

    Attributes:
        path: the run directory.
        run: `run.json`.
        train: metric rows of training, by step; after a resume the later row of a step counts.
        evaluations: metric rows of evaluation, by step.
        data: `data.json`, the pre-flight report; empty when there is none.
        samples: rows of `samples.jsonl`.
        accuracy: `accuracy.json`; empty when the run was not evaluated.
        vitals: `health.json`, what sampled answers were before training; empty when nobody looked.
        problems: one line for each file that could not be read.
    """

    path: Path
    run: Mapping[str, Any]
    train: Sequence[Row]
    evaluations: Sequence[Row]
    data: Mapping[str, Any]
    samples: Sequence[Row]
    accuracy: Mapping[str, Any]
    vitals: Mapping[str, Any]
    problems: Sequence[str]

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @property
    def status(self) -> str:
        return str(self.run.get("status", "unknown"))

    def find(self, *paths: str, default: Any = None) -> Any:
        """The first of dotted paths into `run.json` that leads to something (`config.model_name_or_path`)."""
        for path in paths:
            value: Any = self.run
            for key in path.split("."):
                value = value.get(key) if isinstance(value, Mapping) else None
            if value not in (None, "", {}, []):
                return value
        return default


def read_contents(run_dir: Path) -> RunContents:
    """Reads a run directory. Only `run.json` must be there and readable.

    Raises:
        ArtifactError: the directory is no run, or its `run.json` is damaged.
    """
    run_dir_ = RunDir.open(run_dir)
    problems: list[str] = []

    def attempt(path: Path, read: Callable[[Path], T], kind: type[T], empty: T) -> T:
        if not path.exists():
            return empty
        try:
            value = read(path)
        except ArtifactError as error:
            problems.append(str(error).replace(f"{run_dir_.path}/", ""))
            return empty
        if not isinstance(value, kind):
            problems.append(f"{path.name}: expected {kind.__name__}, found {type(value).__name__}")
            return empty
        return value

    rows = attempt(run_dir_.metrics, read_jsonl, list, [])
    return RunContents(
        path=run_dir_.path,
        run=run_dir_.read(),
        train=_by_step(row for row in rows if row.get("split", "train") == "train"),
        evaluations=_by_step(row for row in rows if row.get("split", "train") != "train"),
        data=attempt(run_dir_.data, read_json, dict, {}),
        samples=attempt(run_dir_.samples, read_jsonl, list, []),
        accuracy=attempt(run_dir_.accuracy, read_json, dict, {}),
        vitals=attempt(run_dir_.vitals, read_json, dict, {}),
        problems=problems,
    )


def _by_step(rows: Any) -> list[Row]:
    latest = {row["step"]: row for row in rows if isinstance(row.get("step"), int | float)}
    return [latest[step] for step in sorted(latest)]


def values_of(rows: Sequence[Row], name: str) -> list[tuple[float, float | None]]:
    """(step, value) of a metric in the rows that have it; a value that was not finite is None."""
    found = []
    for row in rows:
        if name in row:
            value = row[name]
            usable = isinstance(value, int | float) and abs(value) < float("inf")
            found.append((float(row["step"]), float(value) if usable else None))
    return found
