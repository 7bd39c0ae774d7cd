"""Runs as rows of a table: state, objective, last figures, health; what cannot be read is a row with its problem."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from palate.charts.text import amount
from palate.errors import ArtifactError
from palate.report.contents import RunContents, mapping, read_contents
from palate.report.judgements.stages import stage_of
from palate.report.key_figures import Card, cards, seconds_of
from palate.report.pages.pipeline import pipeline_facts
from palate.report.pages.sweep import best_card, read_sweep
from palate.web.trainings.folders import SEVERAL, TrainingFolder
from palate.web.trainings.progress import Progress, silent_for, status_now, steps_of

_CARDS = 3
_DAMAGED = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError)


@dataclass(frozen=True, slots=True)
class RunRow:
    """A row of the list.

    Attributes:
        entry: the folder.
        status: as recorded, or `interrupted`; empty if it cannot be read.
        what: stage, objective and model; of a pipeline or sweep the number of its runs.
        figures: the first key figures; of a sweep the best one.
        findings: names of the health findings.
        error: why a pipeline or sweep failed.
        silent: how long a running one has written nothing; empty for less than ten minutes.
        problem: why it cannot be read; empty if it can.
        seconds: that a finished run took; None if they are not recorded.
        progress: how far it is, unless it is completed.
        runs: names of the runs of a pipeline or sweep, in order.
        current: the first of them that is not completed; None if it has not begun.
    """

    entry: TrainingFolder
    status: str = ""
    what: str = ""
    figures: Sequence[Card] = ()
    findings: Sequence[str] = ()
    error: str = ""
    silent: str = ""
    problem: str = ""
    seconds: float | None = None
    progress: Progress | None = None
    runs: Sequence[str] = ()
    current: RunRow | None = None

    @property
    def current_name(self) -> str:
        """The name of the run that goes on, or is next; empty if all are completed."""
        return self.runs[self.progress.number - 1] if self.runs and self.progress else ""


def read_row(entry: TrainingFolder, inside: Sequence[TrainingFolder] = ()) -> RunRow:
    """The row of a folder, with the runs that are `inside` of a pipeline or sweep; read again only after a change."""
    row = _read(entry)
    changed = max(one.changed for one in (entry, *inside))
    status = status_now(entry, row.status, changed)
    row = replace(row, status=status, silent=silent_for(status, changed))
    if status == "completed":
        return replace(row, progress=None)
    if row.runs:
        row = _with_runs(row, {one.path.name: read_row(one) for one in inside})
    if row.progress is not None and status != "running":
        return replace(row, progress=replace(row.progress, left=None))
    return row


def _with_runs(row: RunRow, begun: Mapping[str, RunRow]) -> RunRow:
    """Which run of a pipeline or sweep goes on; the time left is that of all runs of a sweep."""
    done = [name for name in row.runs if name in begun and begun[name].status == "completed"]
    waiting = [name for name in row.runs if name not in done]
    if not waiting:
        return row
    current = begun.get(waiting[0])
    left = None
    if row.entry.kind == "sweep":
        noun = "run"
        spent = [seconds for name in done if (seconds := begun[name].seconds) is not None]
        if current and current.progress and current.progress.left is not None and (spent or len(waiting) == 1):
            left = current.progress.left + sum([statistics.median(spent)] * (len(waiting) - 1) if spent else [])
    else:
        noun = "round" if row.runs[0].startswith("round-") else "stage"
    progress = Progress(noun, row.runs.index(waiting[0]) + 1, len(row.runs), left)
    return replace(row, progress=progress, current=current)


@lru_cache(maxsize=1_000)
def _read(entry: TrainingFolder) -> RunRow:
    try:
        with damage_named(entry):
            return _several(entry) if entry.kind in SEVERAL else _run(entry)
    except ArtifactError as error:
        return RunRow(entry, problem=problem_text(entry, error))


def read_run(entry: TrainingFolder) -> RunContents:
    """The files of a run.

    Raises:
        ArtifactError: they cannot be read, or are no run's.
    """
    if entry.problem:
        raise ArtifactError(f"{entry.path}: {entry.problem}")
    contents = read_contents(entry.path)
    with damage_named(entry):
        cards(contents)
    return contents


@contextlib.contextmanager
def damage_named(entry: TrainingFolder) -> Iterator[None]:
    """A context in which JSON of another form, say a text for a number, raises ArtifactError."""
    try:
        yield
    except _DAMAGED as error:
        raise ArtifactError(f"{entry.path}: its files are not those of a {entry.kind} ({error})") from error


def problem_text(entry: TrainingFolder, error: Exception) -> str:
    """An error about a folder, without the place of the folder on this machine."""
    return str(error).replace(f"{entry.path}/", "").replace(f"{entry.path}: ", "")


def _run(entry: TrainingFolder) -> RunRow:
    contents = read_run(entry)
    health = contents.run.get("health")
    findings = [str(mapping(one).get("name", "finding")) for one in health] if isinstance(health, list) else []
    stage, objective = stage_of(contents), contents.find("objective", "config.pref_loss")
    model = Path(str(contents.find("model.name", "config.model_name_or_path", default=""))).name
    what = " ".join([stage.upper(), *([str(objective)] if objective not in (None, stage) else [])])
    what += f" of {model}" if model else ""
    return RunRow(
        entry,
        contents.status,
        what,
        cards(contents)[:_CARDS],
        findings,
        seconds=seconds_of(contents),
        progress=steps_of(contents),
    )


def _several(entry: TrainingFolder) -> RunRow:
    """A pipeline or sweep, without its runs."""
    if entry.problem:
        raise ArtifactError(f"{entry.path}: {entry.problem}")
    if entry.kind == "pipeline":
        facts, figures = pipeline_facts(entry.path), []
        names = [str(row["name"]) for row in facts["runs"]]
    else:
        points, facts = read_sweep(entry.path)
        names, figures = [point.name for point in points], best_card(points)
    what = f"{entry.kind} of {amount(len(names), 'run')}"
    status, error = str(facts.get("status", "unknown")), str(facts.get("error") or "")
    return RunRow(entry, status, what, figures, error=error, runs=tuple(names))
