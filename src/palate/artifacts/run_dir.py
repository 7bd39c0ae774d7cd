"""A run directory: its files, the lock of the writing process, and the conditions for `completed`.

run.json          status, resolved config, versions, hashes, counts, timings, final metrics
metrics.jsonl     one object per logged step        data.json        the pre-flight report
samples.jsonl     answers sampled during training   accuracy.json    preference accuracy, if evaluated
health.json       sampled answers before training
runs/             TensorBoard events                checkpoint-*/    sealed, resumable
report.html       evaluation.html, .md, .json      README.md        the model card; and the model's own files
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Literal, TypeAlias

from filelock import BaseFileLock

from palate.artifacts.files import PathLike, read_json, write_errors, write_json
from palate.artifacts.folders import checkpoints, remove, remove_leftovers
from palate.artifacts.locks import SOFT, acquire
from palate.errors import ArtifactError, MissingInputError

FORMAT = 1
"""Version of a run's own files. It rises where an older palate would misread them; a run without it is of version 1."""

Status: TypeAlias = Literal["running", "completed", "stopped", "failed"]

REQUIRED = ("metrics.jsonl", "data.json", "*.safetensors", "config.json|adapter_config.json")
"""Files that a run must have before its status is `completed`; `|` separates alternatives."""

MODEL_FILES = (
    *("*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json", "adapter_config.json"),
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.model"),
    *("chat_template.jinja", "README.md"),
)
"""Patterns of the files that loaders read of a model or adapter folder, and its card."""

# Files that a run writes; `overwrite` deletes these and no others.
_WRITTEN = (
    *("metrics.jsonl", "data.json", "samples.jsonl", "accuracy.json", "health.json"),
    *("report.html", "compare.html", "evaluation.html", "evaluation.md", "evaluation.json"),
    *("runs", "checkpoint-*"),
    *MODEL_FILES,
    *("trainer_state.json", "all_results.json", "train_results.json", "eval_results.json"),
)

LOCK = ".lock"
"""Locked by the process that writes to the run. The file is never deleted, because other processes may wait for it."""

_locks: dict[Path, BaseFileLock] = {}


class RunDir:
    """The paths of one run's files, and its `run.json`."""

    def __init__(self, path: PathLike) -> None:
        self.path = Path(path)
        self.run_json = self.path / "run.json"
        self.metrics = self.path / "metrics.jsonl"
        self.data = self.path / "data.json"
        self.samples = self.path / "samples.jsonl"
        self.accuracy = self.path / "accuracy.json"
        self.health = self.path / "health.json"
        self.report = self.path / "report.html"
        self.evaluation = self.path / "evaluation.html"

    @classmethod
    def open(cls, path: PathLike) -> RunDir:
        """An existing run, for reading; raises ArtifactError if the folder has no `run.json`."""
        run = cls(path)
        if not run.path.is_dir():
            raise MissingInputError(f"{run.path}: no such run directory")
        if not run.run_json.is_file():
            raise ArtifactError(f"{run.path}: not a run directory, it has no run.json")
        return run

    @classmethod
    def claim(cls, path: PathLike, *, resume: bool = False, overwrite: bool = False) -> RunDir:
        """Lock a directory for writing and write a `run.json` with the status `running`.

        A directory with a run needs `resume` (all files stay) or `overwrite` (files of a run are deleted, others stay).
        A directory that has only other files, or that another process writes to, raises ArtifactError. `resume` in an
        empty directory starts a new run.
        """
        run = cls(path)
        if run.path.is_dir():  # checked before the lock, so that a refused folder gets no lock file
            run._check_entries(run._entries(), resume=resume, overwrite=overwrite)
        with write_errors(run.path):
            run.path.mkdir(parents=True, exist_ok=True)
            run._lock()
        try:
            run._start(resume=resume, overwrite=overwrite)
        except BaseException:  # an interrupt, too, releases the lock
            run.release()
            raise
        return run

    @classmethod
    def check(cls, path: PathLike, *, resume: bool = False, overwrite: bool = False) -> None:
        """Raise the same errors as `claim`, but change nothing."""
        run = cls(path)
        # Checked now, not at the first write after data and model are loaded.
        above = next(path for path in (run.path, *run.path.absolute().parents) if path.exists())
        if not above.is_dir():
            raise ArtifactError(f"{above}: is a file; choose another output_dir")
        if not os.access(above, os.W_OK | os.X_OK):
            raise ArtifactError(f"{run.path}: {above} cannot be written to; grant permission or choose another folder")
        if run.path.is_dir():
            run._check_entries(run._entries(), resume=resume, overwrite=overwrite)

    def _entries(self) -> list[str]:
        return sorted(p.name for p in self.path.iterdir() if p.name not in (LOCK, LOCK + SOFT))

    def _check_entries(self, entries: list[str], *, resume: bool, overwrite: bool) -> None:
        """Raise ArtifactError if the directory's entries do not allow a new run, or a resumed or overwritten one."""
        is_run = self.run_json.is_file() or "trainer_state.json" in entries or bool(checkpoints(self.path))
        if entries and not is_run:
            shown = ", ".join(entries[:3]) + (" …" if len(entries) > 3 else "")
            raise ArtifactError(f"{self.path}: has files that are not from a run ({shown}); choose another output_dir")
        if entries and not (resume or overwrite):
            raise ArtifactError(
                f"{self.path}: already has a run ({self._status()}); continue it with resume_from_checkpoint: "
                "true, replace it with overwrite_output_dir: true, or choose another output_dir"
            )

    def _start(self, *, resume: bool, overwrite: bool) -> None:
        """Prepare the locked directory: remove leftovers, write the status, delete the files to overwrite."""
        remove_leftovers(self.path)
        self._check_entries(self._entries(), resume=resume, overwrite=overwrite)
        fresh = not (resume and self.run_json.is_file())
        before = {} if fresh else self.read()
        # Status first: a kill during the deletion must not leave the status `completed` with half of the files.
        started = before.get("started", now())
        write_json(self.run_json, {"format": FORMAT, **before, "status": "running", "started": started})
        if overwrite and not resume:
            with write_errors(self.path):
                for pattern in _WRITTEN:
                    for old in self.path.glob(pattern):
                        remove(old)

    def _status(self) -> str:
        try:
            return str(self.read().get("status", "status unknown"))
        except ArtifactError:
            return "status unknown"

    def _lock(self) -> None:
        """Lock the directory until `release` or the end of this process; raises ArtifactError if it is locked."""
        self.release()
        lock = acquire(
            self.path / LOCK,
            f"{self.path}: another process is writing to this run; wait for it or choose another output_dir",
        )
        _locks[self.path.resolve()] = lock

    def release(self) -> None:
        """Unlock the directory; does nothing if this process has not locked it."""
        lock = _locks.pop(self.path.resolve(), None)
        if lock is not None:
            lock.release()

    def read(self) -> dict[str, Any]:
        """`run.json` as a dict; raises ArtifactError for a run of a newer palate."""
        value = read_json(self.run_json)
        if not isinstance(value, dict):
            raise ArtifactError(f"{self.run_json}: expected a JSON object, found {type(value).__name__}")
        if value.get("format", FORMAT) != FORMAT:
            raise ArtifactError(
                f"{self.run_json}: the run is of format {value['format']!r}, this palate reads {FORMAT}; upgrade palate"
            )
        return value

    def update(self, **fields: Any) -> dict[str, Any]:
        """Set fields of `run.json` in one atomic write; returns all fields. Only `finish` may set `status`."""
        if "status" in fields:
            raise ValueError("the status of a run is set by finish()")
        value = {**(self.read() if self.run_json.exists() else {"status": "running"}), **fields}
        write_json(self.run_json, value)
        return value

    def finish(self, status: Status, **fields: Any) -> dict[str, Any]:
        """End the run: write status, end time and `fields` to `run.json`, and release the lock; returns all fields.

        Raises:
            ArtifactError: the status is `completed`, but one of the required files is missing or empty.
        """
        missing = [names for names in REQUIRED if not self._has(names)] if status == "completed" else []
        if missing:
            raise ArtifactError(f"{self.path}: cannot be completed, missing {', '.join(missing)}")
        value = {**self.read(), **fields, "status": status, "finished": now()}
        write_json(self.run_json, value)
        self.release()
        return value

    def _has(self, names: str) -> bool:
        """Whether a non-empty file matches one of the patterns, separated by `|`."""
        matches = [path for pattern in names.split("|") for path in self.path.glob(pattern)]
        return any(path.is_dir() or path.stat().st_size > 0 for path in matches)


def now() -> str:
    """The current time as ISO 8601 in UTC, to the second: `2026-01-31T12:00:00Z`."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
