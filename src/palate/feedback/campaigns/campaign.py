"""Campaigns: created, found, and changed by new versions of their schema."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from difflib import get_close_matches

from sqlalchemy import case, false, func, select, update
from sqlalchemy.orm import Session

from palate.errors import UsageError
from palate.feedback.campaigns.schema import CampaignSchema, read_schema
from palate.feedback.campaigns.tasks import MadeTasks, make_tasks
from palate.feedback.queue.slots import lock_campaign, update_slots
from palate.store.tables import Campaign, CampaignVersion, Lease, Task
from palate.store.texts import is_storable

__all__ = [
    "CampaignSchema",
    "MadeTasks",
    "change_schema",
    "create_campaign",
    "current_schema",
    "find_campaign",
    "list_campaigns",
    "make_tasks",
]

# It is part of the page's address.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


def create_campaign(session: Session, name: str, schema: CampaignSchema, who: str) -> Campaign:
    """Create a campaign without items; `who` is kept with the first version of its schema.

    Raises:
        UsageError: the name is taken, or cannot be part of an address.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"campaign {name!r}: a name has letters, digits, `_`, `-` and `.`, at most 100")
    if session.scalar(select(Campaign.id).where(Campaign.name == name)) is not None:
        raise UsageError(f"there is a campaign {name} already; choose another name, or change its schema with --update")
    now = datetime.now(UTC)
    campaign = Campaign(name=name, version=1, created=now)
    session.add(campaign)
    session.flush()
    session.add(_version(campaign, schema, who, now))
    session.flush()
    return campaign


def find_campaign(session: Session, name: str) -> Campaign:
    """The campaign of this name.

    Raises:
        UsageError: there is none.
    """
    # PostgreSQL fails on a name with NUL.
    found = session.scalar(select(Campaign).where(Campaign.name == name)) if is_storable(name) else None
    if found is None:
        names = list(session.scalars(select(Campaign.name).order_by(Campaign.name)))
        close = get_close_matches(name, names, n=3, cutoff=0.5) or names[:5]
        hint = f"there are {', '.join(close)}" if names else "create it with `palate label create`"
        raise UsageError(f"there is no campaign {name}; {hint}")
    return found


def list_campaigns(session: Session) -> list[Campaign]:
    return list(session.scalars(select(Campaign).order_by(Campaign.name)))


def current_schema(session: Session, campaign_id: int) -> CampaignSchema:
    """The schema under which tasks are given out now."""
    return read_schema(session, session.get_one(Campaign, campaign_id))


def change_schema(session: Session, name: str, schema: CampaignSchema, who: str) -> int:
    """Make `schema` the campaign's next version; returns its number.

    Tasks want the new number of votes from now on. Leases keep the version that the person sees, and their votes are
    accepted even if fewer votes are wanted now. A new order, `per_prompt` or seed applies to tasks when they are made
    again (`make_tasks`).

    Raises:
        UsageError: there is no such campaign.
    """
    campaign = lock_campaign(session, find_campaign(session, name).id, change=True)
    before = read_schema(session, campaign)
    campaign.version += 1
    session.add(_version(campaign, schema, who, datetime.now(UTC)))
    session.flush()
    if schema.votes_per_item != before.votes_per_item:
        _want(session, campaign, schema.votes_per_item)
    return campaign.version


def _want(session: Session, campaign: Campaign, votes_per_item: int) -> None:
    """Set the number of votes that every task wants, and how many of them are still to give out."""
    active = (
        select(func.count())
        .where(Lease.task_id == Task.id, Lease.state == "active", Lease.repeat == false())
        .correlate(Task)
        .scalar_subquery()
    )
    free = votes_per_item - Task.votes - active
    session.execute(
        update(Task)
        .where(Task.campaign_id == campaign.id, Task.gold == false())
        .values(wanted=votes_per_item, open=case((free > 0, free), else_=0))
        .execution_options(synchronize_session=False)
    )
    update_slots(session, campaign)


def _version(campaign: Campaign, schema: CampaignSchema, who: str, now: datetime) -> CampaignVersion:
    return CampaignVersion(
        campaign_id=campaign.id, version=campaign.version, schema=schema.to_json(), who=who, created=now
    )
