"""The report of a run, pipeline or sweep as it is now, for the page that shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup

from palate.errors import ArtifactError
from palate.report.contents import RunContents
from palate.report.html import fragment
from palate.report.pages.pipeline import pipeline_report, read_pipeline
from palate.report.pages.run import run_report
from palate.report.pages.sweep import read_sweep, sweep_report
from palate.web.pages import environment
from palate.web.trainings.folders import TrainingFolder
from palate.web.trainings.listing import RunRow, problem_text, read_row, read_run


def content_of(row: RunRow, inside: Sequence[TrainingFolder], around: TrainingFolder | None) -> str:
    """The report in HTML, with its progress below the title.

    Of the runs of a pipeline or sweep, only folders `inside` are read, whatever paths its files name; those that cannot
    be read are named. `around` is the pipeline or sweep that a run is part of.

    Raises:
        ArtifactError: the files cannot be read, or are those of something else.
    """
    entry = row.entry
    contents: dict[Path, RunContents] = {}
    problems: list[str] = []
    for one in inside:
        try:
            contents[one.path] = _read(one)
        except ArtifactError as error:
            problems.append(f"{one.path.name}: {problem_text(one, error)}")
    progress = environment().get_template("trainings/progress.html")
    live = Markup(progress.render(row=row, around=around, problems=problems))  # noqa: S704 - autoescaped
    draw = partial(fragment, live=live)
    if entry.kind == "run":
        return run_report(_read(entry), draw)
    links = {one.path: f"/runs/{quote(one.name)}" for one in inside}
    if entry.kind == "pipeline":
        runs, _ = read_pipeline(entry.path, contents.get)
        return pipeline_report(runs, row.status, entry.path.name, links.get, draw)
    points, facts = read_sweep(entry.path)
    by_name = {path.name: one for path, one in contents.items()}
    addresses = {path.name: address for path, address in links.items()}
    return sweep_report(points, {**facts, "status": row.status}, entry.path.name, by_name, addresses, draw)


def _read(entry: TrainingFolder) -> RunContents:
    """The files of a run, with its status as it is now."""
    contents = read_run(entry)
    return replace(contents, run={**contents.run, "status": read_row(entry).status})
