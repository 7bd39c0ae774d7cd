"""On which day a step of a cycle may begin. All days are in UTC and begin at midnight."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

from palate.loop.config import DAYS, ScheduleFields


def first_day(schedule: ScheduleFields, begun: datetime, before: date | None) -> date:
    """The day of a cycle's collecting: the first of its weekday, not before the cycle began.

    Args:
        before: collecting day of the cycle before; this one is later.
    """
    earliest = begun.astimezone(UTC).date()
    if before is not None:
        earliest = max(earliest, before + timedelta(days=1))
    return _on_or_after(earliest, schedule.collect)


def not_before(schedule: ScheduleFields, step: str, collect: date) -> datetime | None:
    """When a step may begin at the earliest; None if it has no day of its own.

    Args:
        schedule: the weekdays; each is the first one on or after that of the step before.
    """
    day = collect
    for name in ScheduleFields.model_fields:
        if name != "collect":
            day = _on_or_after(day, getattr(schedule, name))
        if name == step:
            return datetime.combine(day, time(), UTC)
    return None


def _on_or_after(day: date, weekday: str) -> date:
    return day + timedelta(days=(DAYS.index(weekday) - day.weekday()) % len(DAYS))
