"""Runs side by side: what `palate compare` shows, and the win rates and benchmarks of these runs in the folders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from palate.artifacts import RunDir
from palate.charts.text import amount
from palate.errors import ArtifactError, DataError
from palate.evaluation.answers.table import prompt_answers, side_by_side
from palate.report.document import Section
from palate.report.evaluation.page import measured_models, result_sections
from palate.report.evaluation.results import ResultFile, read_results
from palate.report.html import fragment
from palate.report.pages.compare import compare_report, unique_names
from palate.web.pages import render
from palate.web.security.people import Reviewer
from palate.web.trainings.folders import Found, TrainingFolder
from palate.web.trainings.listing import problem_text, read_run
from palate.web.trainings.routes import entry_of, found_runs

router = APIRouter()

FEWEST, MOST = 2, 6
_LISTED = 200

Names = Annotated[list[str] | None, Query()]


@router.get("/compare")
def compare(request: Request, who: Reviewer, run: Names = None, choose: bool = False) -> Response:
    """The comparison of two to six runs; of fewer or more, or with `choose`, the form that chooses them."""
    del who
    found, chosen = found_runs(request), list(dict.fromkeys(run or ()))
    entries = [entry_of(found, name, "run") for name in chosen[: MOST + 1]]
    problems, contents = [], []
    for entry in entries if FEWEST <= len(entries) <= MOST and not choose else ():
        try:
            contents.append(read_run(entry))
        except ArtifactError as error:
            problems.append(f"{entry.name}: {problem_text(entry, error)}")
    if len(contents) < FEWEST:
        if entries and not problems and not choose:
            problems = [f"Choose {FEWEST} to {MOST} runs; {amount(len(chosen), 'run')} chosen."]
        listed = found.of("run")
        return render(
            request,
            "trainings/choose.html",
            status=400 if problems and len(entries) != 1 else 200,
            problems=problems,
            entries=listed[:_LISTED],
            more=max(0, len(listed) - _LISTED),
            chosen=chosen,
        )
    names = unique_names(contents)
    rows = side_by_side({name: prompt_answers(one.samples) for name, one in zip(names, contents, strict=True)})
    sections, damaged = _measured(found, [one.path.name for one in contents])
    content = compare_report("Runs side by side", rows, contents, sections, fragment)
    return render(request, "trainings/compare.html", content=content, chosen=chosen, problems=[*problems, *damaged])


def _measured(found: Found, names: Sequence[str]) -> tuple[list[Section], list[str]]:
    """What the results in the folders say about runs of these names, and a line for each that cannot be read."""
    sources: list[ResultFile] = []
    problems: list[str] = []
    for entry in found.entries.values():
        try:
            sources += [source for source in _results(entry) if not measured_models(source).keys().isdisjoint(names)]
        except (ArtifactError, DataError) as error:
            problems.append(f"{entry.name}: {problem_text(entry, error)}")
    try:
        return result_sections(sources, names[-1]), problems
    except DataError as error:
        return [], [*problems, str(error)]


def _results(entry: TrainingFolder) -> list[ResultFile]:
    if not entry.results:
        return []
    if entry.problem:
        raise ArtifactError(entry.problem)
    read = read_results(RunDir(entry.path), [entry.path / name for name in entry.results])
    return [source for source in read if source.kind != "accuracy"]
