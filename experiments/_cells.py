"""An experiment is a list of cells: each is made once, in a process of its own, and leaves one record.

A cell that is there is not made again, so an experiment that was interrupted goes on, and one whose config grew makes
only what is new. What a cell depends on is hashed; a record made of something else is made anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import multiprocessing
import os
import re
import resource
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeAlias

from palate.artifacts import read_json, remove_folder, write_json
from palate.errors import PalateError

Record: TypeAlias = dict[str, Any]


class CellError(PalateError):
    """A cell ended with an error; its log says more."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One thing to make.

    Attributes:
        name: unique within the experiment, `dpo beta 0.1 seed 2`.
        make: called with an empty folder for what it leaves on disk; returns plain JSON values.
        settings: everything that the record depends on but for the cells it needs; plain JSON values.
        needs: names of cells that must be made first.
    """

    name: str
    make: Callable[[Path], Record]
    settings: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()


class Workshop:
    """Where the cells of one experiment lie.

    Args:
        folder: of the experiment; `cells/NAME/` holds what a cell left, `records/NAME.json` its record.
        cells: in an order in which each comes after those that it needs.

    Raises:
        CellError: a name stands twice.
        ValueError: a cell needs one that does not come before it.
    """

    def __init__(self, folder: Path, cells: Sequence[Cell]) -> None:
        self.folder = folder
        self.cells = list(cells)
        self._digest: dict[str, str] = {}
        for cell in self.cells:
            if cell.name in self._digest:
                raise CellError(f"{cell.name}: would be made twice; the config gives one of its values twice")
            unknown = [name for name in cell.needs if name not in self._digest]
            if unknown:
                raise ValueError(f"cell {cell.name}: needs {unknown} before it is made")
            inputs = [cell.name, dict(cell.settings), *(self._digest[name] for name in cell.needs)]
            self._digest[cell.name] = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]

    def records(self) -> list[Record]:
        """What is made so far, in the order of the cells: name, settings, seconds, peak_bytes, record."""
        return [found for cell in self.cells if (found := self._record(cell)) is not None]

    def make(self, *, workers: int, threads: int, on_progress: Callable[[str], None]) -> list[Record]:
        """Make what is missing, `workers` cells at a time with `threads` threads each.

        Raises:
            CellError: names the cell and its log, and what was made stays; or another process is at work in the folder.
        """
        with held(self.folder, f"{self.folder}: another run, or a cell that one left behind, is still at work here"):
            return self._make(workers, threads, on_progress)

    def _make(self, workers: int, threads: int, on_progress: Callable[[str], None]) -> list[Record]:
        waiting = [cell for cell in self.cells if self._record(cell) is None]
        done = {cell.name for cell in self.cells} - {cell.name for cell in waiting}
        if done:
            on_progress(f"{len(done)} of {len(self.cells)} cells are there already")
        running: dict[str, BaseProcess] = {}
        begin = time.monotonic()
        try:
            while waiting or running:
                for cell in [cell for cell in waiting if done.issuperset(cell.needs)][: workers - len(running)]:
                    waiting.remove(cell)
                    running[cell.name] = self._start(cell, threads)
                time.sleep(0.05)
                for name, process in list(running.items()):
                    if process.is_alive():
                        continue
                    del running[name]
                    if process.exitcode:
                        raise CellError(f"{name}: {_last_line(self._log(name))}; all of it is in {self._log(name)}")
                    done.add(name)
                    on_progress(f"{len(done)}/{len(self.cells)} {name} ({time.monotonic() - begin:.0f} s)")
        finally:
            for process in running.values():
                process.kill()
                process.join()
        return self.records()

    def place(self, name: str) -> Path:
        """The folder of a cell, by its name."""
        return place(self.folder, name)

    def _start(self, cell: Cell, threads: int) -> BaseProcess:
        place = self.place(cell.name)
        if place.exists():
            remove_folder(place)
        place.mkdir(parents=True)
        # Forked: torch and transformers are imported once, not in each of a hundred processes.
        process = multiprocessing.get_context("fork").Process(target=self._run, args=(cell, threads))
        process.start()
        return process

    def _run(self, cell: Cell, threads: int) -> None:
        """In the child."""
        _say_into(self._log(cell.name))
        import torch

        torch.set_num_threads(threads)
        begin = time.monotonic()
        try:
            record = cell.make(self.place(cell.name))
        except PalateError as error:
            print(error, file=sys.stderr, flush=True)
            os._exit(1)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        whole = {
            "name": cell.name,
            "settings": dict(cell.settings),
            "digest": self._digest[cell.name],
            "seconds": round(time.monotonic() - begin, 2),
            "peak_bytes": _peak_bytes(),
            "record": record,
        }
        write_json(self._path(cell.name), whole)

    def _record(self, cell: Cell) -> Record | None:
        path = self._path(cell.name)
        if not path.exists():
            return None
        found: Record = read_json(path)
        return found if found.get("digest") == self._digest[cell.name] else None

    def _path(self, name: str) -> Path:
        return self.folder / "records" / f"{slug(name)}.json"

    def _log(self, name: str) -> Path:
        return self.place(name) / "log.txt"


@contextlib.contextmanager
def held(folder: Path, refusal: str = "") -> Iterator[None]:
    """One process at a time in a folder, which is made where it is missing; the others wait, or are refused.

    Processes forked inside hold the lock too: where a run is killed, its cells go on, and until they have ended nobody
    may make the same ones beside them.

    Raises:
        CellError: with `refusal`, where one is given and another process is there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (fcntl.LOCK_NB if refusal else 0))
        except BlockingIOError as error:
            raise CellError(refusal) from error
        yield
    finally:
        os.close(lock)


def place(folder: Path, name: str) -> Path:
    """The folder of a cell of the experiment in `folder`: where a cell finds what those that it needs left."""
    return folder / "cells" / slug(name)


def slug(name: str) -> str:
    """A cell's name as a file name."""
    return re.sub(r"[^\w.=-]+", "_", name).strip("_")


def _say_into(log: Path) -> None:
    """What the libraries print in a child belongs to the cell, not to the terminal that many cells share."""
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(target, stream)
    sys.stdout = sys.stderr = os.fdopen(target, "w", buffering=1, encoding="utf-8")


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1].strip() if lines else "ended without a word"


def _peak_bytes() -> int:
    """Most memory that this process held resident; what it shares with the parent counts."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
