"""The slots of tasks: a task has as many as it wants votes; a vote or a lease in progress takes one.

Locks are taken in one order: campaign (shared, except to change it), participant, lease, task. SQLite ignores them: its
write transactions run one after another.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import case, false, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from palate.errors import UsageError
from palate.store.tables import Campaign, Lease, Participant, Task

Locked = TypeVar("Locked", Lease, Task)

_FRESH: Mapping[str, Any] = {"populate_existing": True}
"""A row is read again after its lock was waited for."""

# Of PostgreSQL's advisory locks, those on campaigns.
_ADVISORY = 7205760

# At most this many leases are released by one call, so that a person never waits for a backlog.
_RELEASED_AT_ONCE = 100


def lock_campaign(session: Session, campaign_id: int, *, change: bool = False) -> Campaign:
    """The campaign, which does not change until the transaction ends.

    Args:
        change: whether this transaction changes it, so that nobody else is given a task or votes meanwhile.
    """
    if _runs_alone(session):
        return session.get_one(Campaign, campaign_id)
    # Not a lock on the row: those who share it would let who wants to change it wait for ever.
    lock = func.pg_advisory_xact_lock if change else func.pg_advisory_xact_lock_shared
    session.execute(select(lock(_ADVISORY, campaign_id)))
    return session.scalars(select(Campaign).where(Campaign.id == campaign_id).execution_options(**_FRESH)).one()


def lock_participant(session: Session, campaign_id: int, user_id: int) -> Participant:
    """The person's position in the campaign, created at the first call. Two requests of a person wait for each other.

    Raises:
        UsageError: there is no such person.
    """
    wanted = select(Participant).where(Participant.campaign_id == campaign_id, Participant.user_id == user_id)
    wanted = wanted.with_for_update().execution_options(**_FRESH)
    found = session.scalars(wanted).one_or_none()
    if found is not None:
        return found
    try:
        with session.begin_nested():
            session.add(Participant(campaign_id=campaign_id, user_id=user_id))
    except IntegrityError as error:  # another request of this person was first, or the user does not exist
        found = session.scalars(wanted).one_or_none()
        if found is None:
            raise UsageError(f"there is no person with the number {user_id}") from error
        return found
    return session.scalars(wanted).one()


def lock_row(session: Session, table: type[Locked], key: int | str) -> Locked:
    """The row of this id, which nobody else changes until the transaction ends."""
    if _runs_alone(session):
        return session.get_one(table, key)
    return session.scalars(select(table).where(table.id == key).with_for_update().execution_options(**_FRESH)).one()


def uses_slot(task: Task, lease: Lease) -> bool:
    """Whether the lease takes one of the task's slots; gold tasks and repeats do not."""
    return not (task.gold or lease.repeat)


def update_open(session: Session, task: Task) -> None:
    """Count the open slots of a locked task again; a slot that came back is marked for those who are past it."""
    if task.gold:
        return
    active = select(func.count()).where(Lease.task_id == task.id, Lease.state == "active", Lease.repeat == false())
    now_open = max(0, task.wanted - task.votes - (session.scalar(active) or 0))
    task.reopened = now_open > 0 and (task.reopened or now_open > task.open)
    task.open = now_open


def update_slots(session: Session, campaign: Campaign) -> None:
    """Count the campaign's tasks, and the votes that they have and want, again."""
    missing = case((Task.wanted > Task.votes, Task.wanted - Task.votes), else_=0)
    tasks, wanted = session.execute(
        select(func.count(), func.coalesce(func.sum(missing), 0)).where(
            Task.campaign_id == campaign.id, Task.gold == false()
        )
    ).one()
    campaign.tasks, campaign.slots = tasks, wanted + _counted(session, campaign.id)


def missing_votes(session: Session, campaign: Campaign) -> int:
    """Number of votes that the campaign's tasks still want, by a sum over people and not over tasks."""
    return max(0, campaign.slots - _counted(session, campaign.id))


def release_expired(session: Session, now: datetime, campaign_id: int | None = None) -> int:
    """End the leases whose time is over, the oldest first and at most 100; returns their number.

    A vote on such a lease is still accepted while its task has an open slot.

    Args:
        campaign_id: only of this campaign, which the transaction has locked; None for all.
    """
    ended = (
        select(Lease)
        .where(Lease.state == "active", Lease.expires < now)
        .order_by(Lease.expires)
        .limit(_RELEASED_AT_ONCE)
        .with_for_update(skip_locked=True)
        .execution_options(**_FRESH)
    )
    if campaign_id is not None:
        ended = ended.where(Lease.campaign_id == campaign_id)
    else:
        for campaign in session.scalars(select(Campaign.id).order_by(Campaign.id)).all():
            lock_campaign(session, campaign)
    leases = session.scalars(ended).all()
    for lease in sorted(leases, key=lambda lease: lease.task_id):
        lease.state = "expired"
        update_open(session, lock_row(session, Task, lease.task_id))
    session.flush()
    return len(leases)


def _runs_alone(session: Session) -> bool:
    """Whether no other transaction writes at the same time, so that what the session has read is still right."""
    return session.get_bind().dialect.name == "sqlite"


def _counted(session: Session, campaign_id: int) -> int:
    return session.scalar(select(func.sum(Participant.counted)).where(Participant.campaign_id == campaign_id)) or 0
