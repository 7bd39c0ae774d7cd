"""The list of runs, one run, and the reports in their folders."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from palate.artifacts.files import json_hash, read_bytes
from palate.charts.text import shortened
from palate.errors import ArtifactError
from palate.registry import versions
from palate.web.pages import render
from palate.web.security.people import Reviewer
from palate.web.state import state
from palate.web.trainings.content import content_of
from palate.web.trainings.folders import SEVERAL, Found, Kind, TrainingFolder, find_entries
from palate.web.trainings.listing import damage_named, problem_text, read_row

router = APIRouter()

PAGE = 50
"""Rows of a page."""

PageNumber = Annotated[int, Query(ge=1, le=100_000)]

REPORT_POLICY = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""Of a report, which is a file of its own: its style sheet and nothing else; no script, no form."""


@router.get("/runs")
def list_runs(request: Request, who: Reviewer, page: PageNumber = 1) -> Response:
    """The runs that changed last come first."""
    del who
    found = found_runs(request)
    entries = found.of("run", *SEVERAL)
    pages = max(1, -(-len(entries) // PAGE))
    rows = [read_row(entry, found.inside(entry)) for entry in entries[(page - 1) * PAGE : page * PAGE]]
    return render(
        request,
        "trainings/list.html",
        rows=rows,
        notices=found.notices,
        page=page,
        pages=pages,
        count=len(entries),
        running=any(row.status == "running" for row in rows),
    )


@router.get("/runs/{name:path}")
def show_run(request: Request, who: Reviewer, name: str, seen: str = "") -> Response:
    """A run, pipeline or sweep as it is now; while it runs, the page asks again, with the stamp of what is `seen`."""
    del who
    found = found_runs(request)
    entry = entry_of(found, name, "run", *SEVERAL)
    inside = found.inside(entry)
    row = read_row(entry, inside)
    stamp = json_hash([row.status, row.silent, *sorted(one.stamp for one in (entry, *inside))])[:16]
    if seen == stamp:
        return Response(status_code=204)
    made = [version.name for version in versions(state(request).store) if version.lineage["source"] == str(entry.path)]
    around = found.around(entry)
    content, problem = "", row.problem
    if not problem:
        try:
            with damage_named(entry):
                content = content_of(row, inside, around)
        except ArtifactError as error:
            problem = problem_text(entry, error)
    return render(
        request,
        "trainings/run.html",
        entry=entry,
        row=row,
        around=around,
        stamp=stamp,
        content=content,
        problem=problem,
        versions=made,
    )


@router.get("/reports/{file:path}")
def show_report(request: Request, who: Reviewer, file: str) -> Response:
    """A report in the folder of a run or result. Links between reports, which are relative, lead here too."""
    del who
    name, _, report = file.rpartition("/")
    entry = found_runs(request).entries.get(name)
    if entry is None or report not in entry.reports:
        raise HTTPException(404, f"There is no report {shortened(file, 200)}.")
    return HTMLResponse(read_bytes(entry.path / report), headers={"Content-Security-Policy": REPORT_POLICY})


def found_runs(request: Request) -> Found:
    """What lies below the server's folders now."""
    return find_entries(state(request).settings.runs or ())


def entry_of(found: Found, name: str, *kinds: Kind) -> TrainingFolder:
    """The entry of a name.

    Raises:
        HTTPException: 404, there is none of these kinds.
    """
    entry = found.entries.get(name)
    if entry is None or entry.kind not in kinds:
        raise HTTPException(404, f"There is no {kinds[0]} {shortened(name, 200)}.")
    return entry
