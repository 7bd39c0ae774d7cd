"""The state of a loop as its ledger has it: what each step did, what or whom it waits for, and the next act."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from palate.loop.ledger import steps_of
from palate.store.loop_tables import Cycle, CycleStep

STEPS: Final = (
    *("collect", "sample", "candidates", "annotate", "pairs", "train", "evaluate", "gate", "canary", "deploy"),
    "debug",
)
"""In their order; debug runs in place of canary and deploy where a candidate did not pass, or was taken back."""
NOT_BEGUN: Final = "not begun"
_STEP_COLUMNS = ("name", "state", "waits_for", "until", "error", "attempts", "started", "finished")
_PAST = 20


@dataclass(frozen=True, slots=True)
class StepFacts:
    """A step.

    Attributes:
        name: of `STEPS`.
        state: not begun, running, waiting, failed, done or skipped.
        waits_for: what or whom it waits for, as a sentence; until when, in UTC, in `until`.
        error: why it failed, one line.
        attempts: how often it was begun.
        started, finished: in UTC.
        command: the command that runs, or the last one; "" for a step that runs none.
        figures: what it found, by name.
    """

    name: str
    state: str = NOT_BEGUN
    waits_for: str = ""
    until: datetime | None = None
    error: str = ""
    attempts: int = 0
    started: datetime | None = None
    finished: datetime | None = None
    command: str = ""
    figures: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class CycleFacts:
    """A cycle.

    Attributes:
        id: of its row, to which the verdicts of its gate refer.
        number: of the loop's cycles, from 1.
        folder: of its files.
        incumbent, candidate: versions by name; the candidate is None before it is trained.
        outcome: deployed, rejected or abandoned; None while it goes on.
        why: why it ended so.
        started, finished: in UTC.
    """

    id: int
    number: int
    folder: str
    incumbent: str
    candidate: str | None
    outcome: str | None
    why: str
    started: datetime
    finished: datetime | None


@dataclass(frozen=True, slots=True)
class LoopStatus:
    """A loop.

    Attributes:
        loop: its name.
        cycle: the one that goes on; None if the next has not begun.
        steps: all steps in their order, of this cycle, else of the last one.
        waits_for: what or whom the loop waits for now; "" while a step runs.
        next_act: what to do, with its command.
        past: finished cycles, the newest first, at most 20.
    """

    loop: str
    cycle: CycleFacts | None
    steps: tuple[StepFacts, ...]
    waits_for: str
    next_act: str
    past: tuple[CycleFacts, ...]


def loops(session: Session) -> list[str]:
    """The names of all loops that have begun a cycle."""
    return list(session.scalars(select(Cycle.loop).distinct().order_by(Cycle.loop)))


def loop_status(session: Session, loop: str) -> LoopStatus:
    """The state of a loop; one that has begun no cycle has no steps to show."""
    rows = session.scalars(select(Cycle).where(Cycle.loop == loop).order_by(Cycle.number.desc()).limit(_PAST + 1)).all()
    if not rows:
        act = "palate loop tick begins the first cycle"
        return LoopStatus(loop, None, tuple(map(StepFacts, STEPS)), "its first tick", act, ())
    found = {row.id: _steps(session, row) for row in rows}
    cycles = [_cycle(row, found[row.id]) for row in rows]
    steps, now = found[rows[0].id], cycles[0] if rows[0].outcome is None else None
    waits, act = _next(rows[0], steps)
    return LoopStatus(loop, now, steps, waits, act, tuple(one for one in cycles if one.outcome is not None)[:_PAST])


def _steps(session: Session, cycle: Cycle) -> tuple[StepFacts, ...]:
    rows = steps_of(session, cycle.id)
    return tuple(_step(rows[name]) if name in rows else StepFacts(name) for name in STEPS)


def _step(row: CycleStep) -> StepFacts:
    ran = row.output.get("ran") or {}
    columns = {name: getattr(row, name) for name in _STEP_COLUMNS}
    command = str(row.output.get("command") or next(reversed(ran), ""))
    return StepFacts(**columns, command=command, figures=row.output.get("figures"))


def _cycle(row: Cycle, steps: Sequence[StepFacts]) -> CycleFacts:
    why = next((str(step.figures["ended"]) for step in steps if step.figures and "ended" in step.figures), "")
    columns = [field.name for field in fields(CycleFacts) if field.name != "why"]
    return CycleFacts(**{name: getattr(row, name) for name in columns}, why=why)


def _next(cycle: Cycle, steps: Sequence[StepFacts]) -> tuple[str, str]:
    """What the loop waits for, and the next act."""
    tick = f"palate loop tick {cycle.config.get('file', '')}".rstrip()
    if cycle.outcome is not None:
        act = f"{tick} begins cycle {cycle.number + 1}"
        if cycle.outcome == "rejected" and cycle.candidate is not None:  # a cycle that has ended is not opened again
            act += (
                f"; palate loop force {cycle.candidate}, then palate model promote, deploys its candidate all the same"
            )
        return "its next tick", act
    step = next((one for one in steps if one.state in ("running", "waiting", "failed")), None)
    if step is None:
        return "its next tick", f"{tick} goes on"
    if step.state == "running":
        return "", f"{step.name} runs; if its process has ended, {tick} goes on where it stopped"
    if step.state == "failed":
        return f"the cause of the failure of {step.name} to be removed", f"{tick} tries again"
    act = (step.figures or {}).get("next_act") or f"{tick} looks again"
    return step.waits_for, str(act)
