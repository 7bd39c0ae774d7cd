"""The report of a run, pipeline or sweep as it is now, for the page that shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from palate.errors import ArtifactError
from palate.report.contents import RunContents
from palate.report.html import fragment
from palate.report.pages.pipeline import pipeline_report, read_pipeline
from palate.report.pages.run import run_report
from palate.report.pages.sweep import read_sweep, sweep_report
from palate.web.trainings.folders import Entry
from palate.web.trainings.listing import RunRow, problem_text, read_row, read_run


def content_of(row: RunRow, inside: Sequence[Entry]) -> tuple[str, list[str]]:
    """The report in HTML, and a line for each of the runs `inside` that cannot be read.

    Only folders among `inside` are read, whatever paths the files of a pipeline or sweep name.

    Raises:
        ArtifactError: the files cannot be read, or are those of something else.
    """
    entry = row.entry
    if entry.kind == "run":
        return run_report(_read(entry), fragment), []
    contents: dict[Path, RunContents] = {}
    problems: list[str] = []
    for one in inside:
        try:
            contents[one.path] = _read(one)
        except ArtifactError as error:
            problems.append(f"{one.path.name}: {problem_text(one, error)}")
    links = {one.path: f"/runs/{quote(one.name)}" for one in inside}
    if entry.kind == "pipeline":
        runs, _ = read_pipeline(entry.path, contents.get)
        return pipeline_report(runs, row.status, entry.path.name, links.get, fragment), problems
    points, facts = read_sweep(entry.path)
    by_name = {path.name: one for path, one in contents.items()}
    addresses = {path.name: address for path, address in links.items()}
    facts = {**facts, "status": row.status}
    return sweep_report(points, facts, entry.path.name, by_name, addresses, fragment), problems


def _read(entry: Entry) -> RunContents:
    """The files of a run, with its status as it is now."""
    contents = read_run(entry)
    return replace(contents, run={**contents.run, "status": read_row(entry).status})
