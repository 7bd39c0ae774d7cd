"""What the rest of a cycle would run, with what the last cycle took and what its sizes ask of models and judges."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from math import comb

from sqlalchemy import select
from sqlalchemy.orm import Session

from palate.loop.cycle import Loop, cycle_values, newest_cycle, work_of
from palate.loop.status import STEPS
from palate.loop.steps.table import STEP
from palate.loop.work import Command, Waiting, Work
from palate.store.loop_tables import Cycle, CycleStep


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """A step that has not ended.

    Attributes:
        name: of the step.
        commands: as they are typed; `CANDIDATE` is the version that evaluation will make.
        waits: what it will wait for.
        requests: what it asks of models and judges, from the sizes in the configs; "" if nothing.
        seconds: its commands' time in the newest cycle that ran it; None: unknown.
        cost: what the judge said then about requests, tokens and cost; "" if unknown.
    """

    name: str
    commands: tuple[str, ...]
    waits: tuple[str, ...]
    requests: str
    seconds: float | None
    cost: str


def plan(loop: Loop, now: datetime, *, until: str | None = None) -> list[PlannedStep]:
    """The steps that are still to come, up to `until`, if every verdict is good. Nothing is written.

    Raises:
        ConfigError: something that a cycle needs is wrong or missing.
    """
    cycle, rows = newest_cycle(loop)
    if cycle is None or cycle.outcome is not None or rows.get("collect") != "done":
        number = 1 if cycle is None else cycle.number + (cycle.outcome is not None)
        rows, cycle = {}, Cycle(loop=loop.config.name, number=number, **cycle_values(loop, number, now))
    work = replace(work_of(loop, cycle, now), dry=True)
    planned = []
    for name in STEPS[: None if until is None else STEPS.index(until) + 1]:
        if rows.get(name) in ("done", "skipped") or name == "debug":
            continue
        items = list(STEP[name](work))
        seconds, cost = loop.store.read(partial(_before, loop=loop.config.name, name=name))
        planned.append(
            PlannedStep(
                name,
                tuple(item.text for item in items if isinstance(item, Command)),
                tuple(item.reason for item in items if isinstance(item, Waiting)),
                _requests(work, name),
                seconds,
                cost,
            )
        )
    return planned


def _requests(work: Work, name: str) -> str:
    settings, gate = work.config, work.gate
    k, prompts = settings.candidates.k, settings.collect.sample
    if name == "candidates":
        return f"{prompts * (k - (settings.collect.prompts is None)):,} answers of {work.incumbent}"
    if name == "annotate":
        pairs = prompts * comb(k, 2)
        people, judge = settings.annotate.people, settings.annotate.judge
        asked = [] if people is None else [f"{pairs * people.votes_per_item:,} votes of people"]
        return ", ".join([*asked, *([] if judge is None else [f"{2 * pairs:,} judgements of {judge}"])])
    if name == "evaluate":
        return f"{2 * gate.n:,} answers, {2 * gate.n:,} judgements of {gate.judge}"
    return ""


def _before(session: Session, loop: str, name: str) -> tuple[float | None, str]:
    """Seconds and cost of the step in the newest cycle that ran it."""
    ran = select(CycleStep, Cycle.folder).join(Cycle, Cycle.id == CycleStep.cycle_id)
    newest = ran.where(Cycle.loop == loop, CycleStep.name == name, CycleStep.state == "done")
    found = session.execute(newest.order_by(Cycle.number.desc()).limit(1)).one_or_none()
    if found is None:
        return None, ""
    output = found[0].output
    return sum((output.get("ran") or {}).values()), str(output.get("asked", ""))
