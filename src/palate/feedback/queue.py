"""The queue of a campaign: people get tasks, vote, and take a vote back. Every function is part of one transaction.

Guaranteed, whatever people send at the same time: a task gets exactly as many votes as it wants; nobody gets a task
twice, except as a planned repeat with sides swapped; a form that is sent twice gives one vote.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from palate.errors import UsageError
from palate.feedback.assignment import Assignment, active_lease, assignment, new_lease
from palate.feedback.ballot import DECIDED, Ballot, Choice
from palate.feedback.campaign import find_campaign
from palate.feedback.campaign_schema import read_schema
from palate.feedback.people import PersonProgress, people
from palate.feedback.review import CampaignProgress, Conflict, conflicts, decide, progress
from palate.feedback.slots import (
    lock_campaign,
    lock_participant,
    lock_task,
    release_expired,
    update_open,
    uses_slot,
)
from palate.feedback.stored_votes import is_valid, vote_of_request
from palate.feedback.transfer import to_vote
from palate.feedback.votes import Vote
from palate.store.tables import Campaign, Lease, Participant, Task, User, VoteRow

__all__ = [
    "Assignment",
    "Ballot",
    "CampaignProgress",
    "Choice",
    "Conflict",
    "PersonProgress",
    "Receipt",
    "conflicts",
    "decide",
    "next_assignment",
    "people",
    "progress",
    "release_expired",
    "submit",
    "undo",
]

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
        lease.expires = now + timedelta(minutes=schema.lease_minutes)
    else:
        release_expired(session, now, campaign.id)
        lease = new_lease(session, campaign, schema, person, now)
    return None if lease is None else assignment(session, campaign, person, lease)


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
    session.refresh(lease)
    ballot.check(read_schema(session, campaign, lease.schema_version))
    earlier = vote_of_request(session, user_id, ballot)
    if earlier is not None or lease.state in _FINISHED:
        return Receipt("already", to_vote(earlier or _valid_vote(session, lease)))
    task = lock_task(session, lease.task_id)
    outcome = ballot.outcome("left_first" if lease.shown == "left_first" else "right_first")
    takes_slot = uses_slot(task, lease) and outcome in DECIDED
    if takes_slot and lease.state == "expired" and task.open == 0:
        return Receipt("full", None)
    return Receipt("recorded", vote)
