"""Runs as rows of a table: state, objective, last figures, health; what cannot be read is a row with its problem."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from palate.artifacts import read_json
from palate.charts.text import amount
from palate.errors import ArtifactError
from palate.report.contents import RunContents, mapping, read_contents
from palate.report.judgements.stages import stage_of
from palate.report.key_figures import Card, cards
from palate.web.trainings.folders import Entry

_SILENT_MINUTES = 10
_CARDS = 3
_DAMAGED = (KeyError, IndexError, TypeError, ValueError, AttributeError)


@dataclass(frozen=True, slots=True)
class RunRow:
    """A row of the list.

    Attributes:
        entry: the folder.
        status: as recorded; empty if it cannot be read.
        what: stage, objective and model; of a pipeline or sweep the number of its runs.
        figures: the first key figures.
        findings: names of the health findings.
        silent: how long a running one has written nothing; empty for less than ten minutes.
        problem: why it cannot be read; empty if it can.
    """

    entry: Entry
    status: str = ""
    what: str = ""
    figures: Sequence[Card] = ()
    findings: Sequence[str] = ()
    silent: str = ""
    problem: str = ""


def read_row(entry: Entry) -> RunRow:
    """The row of a folder; read again only after a change."""
    row = _read(entry)
    return replace(row, silent=silent_for(entry, row.status))


@lru_cache(maxsize=1_000)
def _read(entry: Entry) -> RunRow:
    try:
        return _several(entry) if entry.kind in ("pipeline", "sweep") else _run(entry)
    except ArtifactError as error:
        return RunRow(entry, problem=problem_text(entry, error))


def read_run(entry: Entry) -> RunContents:
    """The files of a run.

    Raises:
        ArtifactError: they cannot be read, or are no run's.
    """
    if entry.problem:
        raise ArtifactError(f"{entry.path}: {entry.problem}")
    contents = read_contents(entry.path)
    try:
        cards(contents)
    except _DAMAGED as error:
        raise ArtifactError(f"{entry.path}: its files are not those of a run ({error})") from error
    return contents


def problem_text(entry: Entry, error: Exception) -> str:
    """An error about a folder, without the place of the folder on this machine."""
    return str(error).replace(f"{entry.path}/", "").replace(f"{entry.path}: ", "")


def silent_for(entry: Entry, status: str) -> str:
    """How long a running run has written nothing; empty for one that has ended or writes."""
    minutes = (time.time() - entry.changed) / 60
    if status != "running" or minutes < _SILENT_MINUTES:
        return ""
    return amount(int(minutes), "minute") if minutes < 120 else amount(int(minutes / 60), "hour")


def _run(entry: Entry) -> RunRow:
    contents = read_run(entry)
    health = contents.run.get("health")
    findings = [str(mapping(one).get("name", "finding")) for one in health] if isinstance(health, list) else []
    stage, objective = stage_of(contents), contents.find("objective", "config.pref_loss")
    model = Path(str(contents.find("model.name", "config.model_name_or_path", default=""))).name
    what = " ".join([stage.upper(), *([str(objective)] if objective not in (None, stage) else [])])
    what += f" of {model}" if model else ""
    return RunRow(entry, contents.status, what, cards(contents)[:_CARDS], findings)


def _several(entry: Entry) -> RunRow:
    """A pipeline or sweep."""
    if entry.problem:
        raise ArtifactError(entry.problem)
    facts: Mapping[str, Any] = mapping(read_json(entry.path / f"{entry.kind}.json"))
    rows = facts.get("runs" if entry.kind == "pipeline" else "points")
    if not isinstance(rows, list):
        raise ArtifactError(f"{entry.kind}.json lists no runs; it is damaged")
    return RunRow(entry, str(facts.get("status", "unknown")), f"{entry.kind} of {amount(len(rows), 'run')}")
