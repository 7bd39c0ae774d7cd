"""The ledger of a loop: its cycles and their steps, each written in a transaction of its own."""

from __future__ import annotations

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


def save_step(store: Store, cycle_id: int, name: str, *, outcome: str | None = None, **values: Any) -> None:
    """Write values of a step's row, which is made if it is missing, in one transaction with the end of its cycle.

    Args:
        outcome: of the cycle, if it ends; `finished` must be among the values then. Steps that still wait are skipped.
        values: columns; `input_hash`, `state` and `started` if the row is new.
    """

    def write(session: Session) -> None:
        row = session.get(CycleStep, (cycle_id, name))
        if row is None:
            session.add(CycleStep(cycle_id=cycle_id, name=name, **values))
        else:
            for key, value in values.items():
                setattr(row, key, value)
        if outcome is None:
            return
        session.flush()
        cycle = session.get_one(Cycle, cycle_id)
        cycle.outcome, cycle.finished = outcome, values["finished"]
        for other in steps_of(session, cycle_id).values():
            if other.state in ("running", "waiting", "failed"):
                other.state, other.waits_for, other.until = "skipped", "", None

    store.write(write)
