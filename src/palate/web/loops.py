"""The state of each loop: its steps, what or whom it waits for, the next act, its verdicts and its past cycles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter
from sqlalchemy.orm import Session
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from palate.charts.text import shortened
from palate.loop.status import CycleFacts, LoopStatus, loop_status, loops
from palate.registry.verdicts import VerdictFacts, verdicts
from palate.report.tables import Block, block
from palate.web.pages import render
from palate.web.security.people import Reviewer
from palate.web.state import state
from palate.web.trainings.folders import Found
from palate.web.trainings.routes import found_runs

router = APIRouter(prefix="/loop")


@router.get("")
def list_loops(request: Request, who: Reviewer) -> Response:
    """All loops with their state."""
    del who
    found = state(request).store.read(lambda session: [loop_status(session, name) for name in loops(session)])
    return render(request, "loops/list.html", loops=found)


@router.get("/{name}")
def show_loop(request: Request, who: Reviewer, name: str) -> Response:
    """One loop; the page renews itself while a cycle goes on."""

    def read(session: Session) -> tuple[LoopStatus, list[VerdictFacts]] | None:
        if name not in loops(session):
            return None
        return loop_status(session, name), verdicts(session)

    read_now = state(request).store.read(read)
    if read_now is None:
        raise HTTPException(404, f"There is no loop {shortened(name, 100)} that has begun a cycle.")
    status, said = read_now
    found = found_runs(request)
    cycle = status.cycle or next(iter(status.past), None)
    return render(
        request,
        "loops/loop.html",
        who=who,
        facts=status,
        shown=cycle,
        figures={step.name: _figures(step.figures) for step in status.steps},
        verdicts=[one for one in reversed(said) if cycle is not None and one.cycle_id == cycle.id],
        reports={one.id: _debug_report(found, one) for one in (*([cycle] if cycle else ()), *status.past)},
    )


def _figures(figures: dict[str, Any] | None) -> Block | None:
    shown = {key: one for key, one in (figures or {}).items() if key not in ("next_act", "ended")}
    return block("", shown) if shown else None


def _debug_report(found: Found, cycle: CycleFacts) -> str:
    """The address of the cycle's DEBUG report, if it lies in the folders that the server shows; else empty."""
    folder = Path(cycle.folder).resolve()
    for entry in found.entries.values():
        if "debug.html" in entry.reports and entry.path.is_relative_to(folder):
            return f"{entry.name}/debug.html"
    return ""
