"""The queue of a campaign: people get tasks, vote, and take a vote back. Every function is part of one transaction.

Guaranteed, whatever people send at the same time: a task gets exactly as many votes as it wants; nobody gets a task
twice, except as a planned repeat with sides swapped; a form that is sent twice gives one vote.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from palate.errors import UsageError
from palate.feedback.campaigns.campaign import find_campaign
from palate.feedback.campaigns.schema import read_schema
from palate.feedback.queue.assignment import Assignment, active_lease, assignment, new_lease, next_in_order_lease
from palate.feedback.queue.ballot import Ballot
from palate.feedback.queue.slots import (
    lock_campaign,
    lock_participant,
    lock_row,
    release_expired,
    update_open,
    uses_slot,
)
from palate.feedback.queue.stored_votes import flags, is_valid, request_key, vote_of_request
from palate.feedback.transfer import to_row, to_vote
from palate.feedback.votes import DECIDED, Shown, Vote, time_text
from palate.store.tables import CampaignItem, Lease, Participant, Task, User, VoteRow

_STATES = {"skip": "skipped", "flag": "flagged"}
_FINISHED = ("voted", "skipped", "flagged")


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a ballot.

    Attributes:
        status: `recorded`; `already`: the form was sent before, or the task is voted on; `full`: the lease expired and
            others gave the votes meanwhile, so nothing was stored.
        vote: the new or the earlier vote.
    """

    status: Literal["recorded", "already", "full"]
    vote: Vote | None


def next_assignment(session: Session, campaign_name: str, user_id: int, now: datetime) -> Assignment | None:
    """What the person does next; None if there is nothing left or the campaign is closed.

    A task that the person has already (page reloaded, second tab) comes first; its time begins again.

    Raises:
        UsageError: there is no such campaign.
    """
    campaign = lock_campaign(session, find_campaign(session, campaign_name).id)
    if campaign.closed:
        return None
    person = lock_participant(session, campaign.id, user_id)
    schema = read_schema(session, campaign)
    lease = active_lease(session, campaign, user_id)
    if lease is not None:
        lease.expires = max(lease.expires, now + timedelta(minutes=schema.lease_minutes))
    else:
        release_expired(session, now, campaign.id)
        lease = new_lease(session, campaign, schema, person, now)
    return None if lease is None else assignment(session, campaign, person, lease)


def reserve(session: Session, campaign_name: str, user_id: int, tasks: int, until: datetime, now: datetime) -> int:
    """Give the person the next `tasks` tasks at once; nobody else gets them until `until`. Returns how many there were.

    Raises:
        UsageError: there is no such campaign or person.
    """
    campaign = lock_campaign(session, find_campaign(session, campaign_name).id)
    person = lock_participant(session, campaign.id, user_id)
    schema = read_schema(session, campaign)
    for number in range(tasks):
        lease = next_in_order_lease(session, campaign, schema, person, now)
        if lease is None:
            return number
        lease.expires = until
    session.flush()
    return tasks


def submit(session: Session, lease_id: str, user_id: int, ballot: Ballot, now: datetime) -> Receipt:
    """Record a ballot. It never fails because of another person's: an expired lease is accepted while there is room.

    Raises:
        UsageError: the lease is not this person's, or the ballot does not fit the schema that the person saw.
    """
    lease = session.get(Lease, lease_id)
    if lease is None or lease.user_id != user_id:
        raise UsageError("this task was not given to you; reload the page")
    campaign = lock_campaign(session, lease.campaign_id)
    person = lock_participant(session, campaign.id, user_id)
    lease = lock_row(session, Lease, lease.id)
    ballot.check(read_schema(session, campaign, lease.schema_version))
    earlier = vote_of_request(session, user_id, ballot)
    if earlier is None and lease.state in _FINISHED:
        earlier = _valid_row(session, lease)
    task = lock_row(session, Task, lease.task_id)
    item = session.get_one(CampaignItem, task.item_id)
    if earlier is not None:
        return Receipt("already", to_vote(earlier, item.name))
    outcome = ballot.outcome(_shown(lease))
    decides = outcome in DECIDED
    if decides and uses_slot(task, lease) and lease.state == "expired" and task.open == 0:
        return Receipt("full", None)
    before = _valid_row(session, lease)  # of an undo
    vote = replace(
        ballot.vote(
            _shown(lease),
            item=item.name,
            left=task.left,
            right=task.right,
            who=session.get_one(User, user_id).name,
            when=time_text(now),
        ),
        campaign=campaign.name,
        schema_version=lease.schema_version,
        gold=task.gold,
        repeat=lease.repeat,
        identity_leak=task.identity_leak,
        supersedes=before.id if before is not None else "",
    )
    row = _append(session, vote, lease, task, key=request_key(user_id, ballot))
    lease.state = _STATES.get(outcome, "voted")
    task.flagged = task.flagged or outcome == "flag"
    _count(session, person, task, lease, 1, decides=decides)
    return Receipt("recorded", to_vote(row, item.name))


def undo(session: Session, campaign_name: str, user_id: int, now: datetime) -> Assignment | None:
    """Take the person's last vote, skip or flag back, and give its task to the person again.

    A row with the outcome `skip` supersedes the vote; the next ballot on the task supersedes that row. None if there
    is nothing to take back, or if the person had skipped or flagged the task and others gave its votes meanwhile.
    """
    campaign = lock_campaign(session, find_campaign(session, campaign_name).id)
    person = lock_participant(session, campaign.id, user_id)
    last = session.execute(
        select(VoteRow, Lease)
        .join(Lease, Lease.id == VoteRow.lease_id)
        .where(VoteRow.user_id == user_id, Lease.campaign_id == campaign.id, Lease.state.in_(_FINISHED), is_valid())
        .order_by(VoteRow.at.desc(), VoteRow.number.desc())
        .limit(1)
    ).first()
    if last is None:
        return None
    row, lease = last
    task = lock_row(session, Task, lease.task_id)
    decided = lease.state == "voted"
    if not decided and uses_slot(task, lease) and task.open == 0:
        return None
    vote = replace(
        to_vote(row, session.get_one(CampaignItem, task.item_id).name),
        id="",
        outcome="skip",
        strength=1,
        when=time_text(now),
        reason="undone",
        tags=(),
        dimensions={},
        seconds=None,
        seconds_total=None,
        supersedes=row.id,
    )
    _append(session, vote, lease, task)
    lease.state = "active"
    lease.expires = now + timedelta(minutes=read_schema(session, campaign).lease_minutes)
    if row.outcome == "flag":
        task.flagged = flags(session, task) > 0
    _count(session, person, task, lease, -1, decides=decided)
    return assignment(session, campaign, person, lease)


def _valid_row(session: Session, lease: Lease) -> VoteRow | None:
    """The vote of the lease that is not superseded; after an undo the row that says so."""
    return session.scalars(select(VoteRow).where(VoteRow.lease_id == lease.id, is_valid())).one_or_none()


def _append(session: Session, vote: Vote, lease: Lease, task: Task, *, key: str | None = None) -> VoteRow:
    row = to_row(
        vote,
        item_id=task.item_id,
        campaign_id=lease.campaign_id,
        user_id=lease.user_id,
        lease_id=lease.id,
        request_key=key,
    )
    session.add(row)
    session.flush()
    return row


def _count(session: Session, person: Participant, task: Task, lease: Lease, step: int, *, decides: bool) -> None:
    """Add a finished lease (step 1), or an undone one (−1), to the counts of the person and of the locked task."""
    person.done += step
    if uses_slot(task, lease):
        person.had += step
        if decides:
            person.counted += step
            task.votes += step
        session.flush()
        update_open(session, task)
    session.flush()


def _shown(lease: Lease) -> Shown:
    return "left_first" if lease.shown == "left_first" else "right_first"
