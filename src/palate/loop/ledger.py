"""The ledger of a loop: its cycles and their steps, each written in a transaction of its own."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from palate.store import Store
from palate.store.loop_tables import Cycle, CycleStep


def last_cycle(session: Session, loop: str) -> Cycle | None:
    """The newest cycle, finished or not."""
    return session.scalars(select(Cycle).where(Cycle.loop == loop).order_by(Cycle.number.desc()).limit(1)).one_or_none()


def steps_of(session: Session, cycle_id: int | None) -> dict[str, CycleStep]:
    """Step → its row, of the steps that have begun."""
    return {row.name: row for row in session.scalars(select(CycleStep).where(CycleStep.cycle_id == cycle_id))}


def window_end(session: Session, loop: str) -> datetime | None:
    """Until when interactions were collected. The window of an abandoned cycle is collected again."""
    ends = [
        row.output["figures"]["until"]
        for row in session.scalars(
            select(CycleStep)
            .join(Cycle, Cycle.id == CycleStep.cycle_id)
            .where(Cycle.loop == loop, CycleStep.name == "collect", CycleStep.state == "done")
            .where(Cycle.outcome.is_distinct_from("abandoned"))
        )
        if "until" in row.output["figures"]
    ]
    return max(map(datetime.fromisoformat, ends), default=None)


def last_day(session: Session, loop: str, number: int) -> date | None:
    """The collecting day of the cycle before this number; None without schedule, and after an abandoned cycle."""
    cycle = session.scalars(select(Cycle).where(Cycle.loop == loop, Cycle.number == number - 1)).one_or_none()
    if cycle is None or cycle.outcome == "abandoned" or not cycle.config.get("day"):
        return None
    return date.fromisoformat(cycle.config["day"])


def save_step(store: Store, cycle_id: int, name: str, **values: Any) -> None:
    """Write values of a step's row, which is made if it is missing; `input_hash`, `state` and `started` must be new."""

    def write(session: Session) -> None:
        row = session.get(CycleStep, (cycle_id, name))
        if row is None:
            session.add(CycleStep(cycle_id=cycle_id, name=name, **values))
            return
        for key, value in values.items():
            setattr(row, key, value)

    store.write(write)


def finish_step(
    store: Store, cycle_id: int, name: str, *, values: Mapping[str, Any], outcome: str | None, now: datetime
) -> None:
    """Write the end of a step, and that of its cycle in the same transaction if there is an outcome."""

    def write(session: Session) -> None:
        row = session.get_one(CycleStep, (cycle_id, name))
        for key, value in values.items():
            setattr(row, key, value)
        if outcome is not None:
            end_cycle(session, session.get_one(Cycle, cycle_id), outcome, now)

    store.write(write)


def end_cycle(session: Session, cycle: Cycle, outcome: str, now: datetime) -> None:
    """Finish a cycle; steps that were still waiting or had failed are skipped."""
    cycle.outcome, cycle.finished = outcome, now
    for row in steps_of(session, cycle.id).values():
        if row.state in ("running", "waiting", "failed"):
            row.state, row.waits_for, row.until = "skipped", "", None


def forget_step(store: Store, cycle_id: int, name: str) -> None:
    """Delete a step's row: its inputs have changed, and it is run again from its start."""

    def write(session: Session) -> None:
        row = session.get(CycleStep, (cycle_id, name))
        if row is not None:
            session.delete(row)

    store.write(write)
