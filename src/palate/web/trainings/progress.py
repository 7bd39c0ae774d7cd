"""How far a run, pipeline or sweep is, from its files: steps, time left, and whether a process still writes to it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime

from palate.artifacts.locks import is_held, writer_lock
from palate.artifacts.run_dir import LOCK
from palate.charts.text import amount
from palate.report.contents import RunContents, finite, is_number
from palate.web.trainings.folders import TrainingFolder

_SILENT_MINUTES = 10
_BETWEEN_SECONDS = 60
"""A folder that was changed in these is not called interrupted: another machine may write to it, with its own locks."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Which part of a whole goes on.

    Attributes:
        noun: `step`, `stage`, `round`, `run`.
        number: of the last step made, or of the part that goes on.
        total: number of all.
        left: seconds until the end by the pace so far; None if it is not known.
    """

    noun: str
    number: int
    total: int
    left: float | None = None

    def __str__(self) -> str:
        """`step 30 of 81, about 2 min left`."""
        left = "" if self.left is None else f", about {time_left(self.left)} left"
        return f"{self.noun} {self.number:,} of {self.total:,}{left}"


def time_left(seconds: float) -> str:
    """`50 s`, `6 min`, `5 h 02 min`: no more exact than an estimate can be."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def steps_of(contents: RunContents) -> Progress | None:
    """The steps of a run; None before the first one, and for a run that did not record how many there are."""
    steps, first = contents.find("progress.steps"), contents.find("progress.step", default=0)
    if not is_number(steps) or not is_number(first) or not contents.train:
        return None
    made = int(contents.train[-1]["step"])
    left = None
    try:
        written = (contents.path / "metrics.jsonl").stat().st_mtime
        spent = written - datetime.fromisoformat(str(contents.find("progress.since"))).timestamp()
        if made > first and spent > 0:
            left = finite(spent / (made - first) * max(0, steps - made))
    except (OSError, ValueError):  # it has gone since, or is no time
        left = None
    return Progress("step", made, int(steps), left)


def status_now(entry: TrainingFolder, recorded: str, changed: float) -> str:
    """The recorded status; `interrupted` if that is `running` and no process has the lock of the folder.

    `changed` is the time of the last change of its files and of the runs in it.
    """
    if recorded != "running" or time.time() - changed < _BETWEEN_SECONDS:
        return recorded
    lock = entry.path / LOCK if entry.kind == "run" else writer_lock(entry.path / f"{entry.kind}.json")
    return "interrupted" if is_held(lock) is False else recorded


def silent_for(status: str, changed: float) -> str:
    """How long a running run has written nothing; empty for less than ten minutes, and for one that has ended."""
    minutes = (time.time() - changed) / 60
    if status != "running" or minutes < _SILENT_MINUTES:
        return ""
    return amount(int(minutes), "minute") if minutes < 120 else amount(int(minutes / 60), "hour")
