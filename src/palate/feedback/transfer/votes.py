"""Votes of files as rows of a campaign, and back."""

from __future__ import annotations

import hashlib
import json
import math
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from palate.errors import DataError
from palate.feedback.campaigns.campaign import find_campaign
from palate.feedback.transfer.checks import Imported, batches, check_number, check_text
from palate.feedback.votes import Vote, read_time, time_text
from palate.store.tables import Campaign, CampaignItem, Response, VoteRow

_LONGEST_ID = 100
_LONGEST_CAMPAIGN = 100
_WITHOUT_ID = "row:"
"""Begins the id under which a vote without one is stored; it is made of the vote's content."""

_SAME = {entry.name for entry in fields(Vote)} - {"item", "when", "tags", "dimensions", "id", "supersedes"}
"""Fields of a vote that the row has under the same name and in the same form."""


def to_row(
    vote: Vote,
    *,
    item_id: int,
    campaign_id: int,
    user_id: int | None = None,
    lease_id: str | None = None,
    request_key: str | None = None,
) -> VoteRow:
    """A vote as a row of the store; a vote without an id gets a new one.

    Args:
        item_id: of the item that has the name `vote.item`.
        campaign_id: of the campaign that has the item.
        user_id, lease_id, request_key: of a vote of the page.
    """
    return VoteRow(
        **{name: getattr(vote, name) for name in _SAME},
        id=vote.id or str(uuid.uuid4()),
        item_id=item_id,
        campaign_id=campaign_id,
        user_id=user_id,
        lease_id=lease_id,
        at=read_time(vote.when),
        tags=list(vote.tags),
        dimensions={name: list(scores) for name, scores in vote.dimensions.items()},
        supersedes=vote.supersedes or None,
        request_key=request_key,
    )


def to_vote(row: VoteRow, item: str) -> Vote:
    """A row of the store as a vote; `item` is the name of its item."""
    return Vote(
        **{name: getattr(row, name) for name in _SAME},
        item=item,
        when=time_text(row.at),
        tags=tuple(row.tags),
        dimensions={name: (left, right) for name, (left, right) in row.dimensions.items()},
        id="" if row.id.startswith(_WITHOUT_ID) else row.id,
        supersedes=row.supersedes or "",
    )


def votes_in(session: Session, campaign_name: str) -> list[Vote]:
    """The votes on a campaign's items in the order in which they were stored, superseded ones included.

    Raises:
        UsageError: there is no such campaign.
    """
    campaign = find_campaign(session, campaign_name)
    rows = session.execute(
        select(VoteRow, CampaignItem.name)
        .join(CampaignItem, CampaignItem.id == VoteRow.item_id)
        .where(VoteRow.campaign_id == campaign.id)
        .order_by(VoteRow.number)
        .execution_options(yield_per=1000)
    )
    return [to_vote(row, name) for row, name in rows]


def import_votes(session: Session, campaign_name: str, votes: Iterable[Vote]) -> Imported:
    """Add votes to a campaign that has their items; votes that it has already are counted.

    A vote keeps its id, its time and the campaign in which it was given. Equal votes without an id are several votes,
    but the same file imported again adds nothing.

    Args:
        session: of one transaction, so that either all votes are added or none.
        votes: any number; only a batch is held.

    Raises:
        DataError: a vote is on an unknown item or answer, has the id of another vote, or supersedes an unknown one.
        UsageError: there is no such campaign.
    """
    campaign = find_campaign(session, campaign_name)
    equal: Counter[str] = Counter()
    new = same = 0
    for batch in batches(votes):
        named = [_with_id(vote, campaign.id, equal) for vote in batch]
        fresh = _fresh(session, campaign, named)
        items = _items(session, campaign.id, {vote.item for vote in fresh})
        _check_items(campaign_name, fresh, items)
        _check_superseded(session, fresh)
        session.add_all([to_row(vote, item_id=items[vote.item][0], campaign_id=campaign.id) for vote in fresh])
        session.flush()
        new += len(fresh)
        same += len(batch) - len(fresh)
    return Imported(new, same)


def _with_id(vote: Vote, campaign_id: int, equal: Counter[str]) -> Vote:
    """The vote as it is stored. Without an id it gets one of its content and the number of equal votes before it."""
    try:
        vote = replace(vote, when=time_text(read_time(vote.when)))
    except ValueError as error:
        raise DataError(f"{_name(vote)}: when {vote.when!r} is not a time in ISO 8601") from error
    if vote.id.startswith(_WITHOUT_ID):
        raise DataError(f"{_name(vote)}: ids that begin with {_WITHOUT_ID} are the store's own; give it another one")
    if vote.id:
        return vote
    content = json.dumps([campaign_id, vote.to_json()], sort_keys=True)
    number = equal[content]
    equal[content] += 1
    digest = hashlib.sha256(json.dumps([number, content]).encode()).hexdigest()
    return replace(vote, id=_WITHOUT_ID + digest)


def _fresh(session: Session, campaign: Campaign, votes: Sequence[Vote]) -> list[Vote]:
    """The votes that the store does not have."""
    rows = session.execute(
        select(VoteRow, CampaignItem.name)
        .join(CampaignItem, CampaignItem.id == VoteRow.item_id)
        .where(VoteRow.id.in_({vote.id for vote in votes}))
    )
    known = {}
    for row, item in rows:
        if row.campaign_id != campaign.id:
            raise DataError(f"vote {row.id}: another campaign has it; import its votes into that one")
        known[row.id] = replace(to_vote(row, item), id=row.id)
    fresh = []
    for vote in votes:
        before = known.get(vote.id)
        if before is None:
            _check(vote)
            fresh.append(vote)
            known[vote.id] = vote
        elif before != vote:
            raise DataError(f"vote {vote.id}: the campaign {campaign.name} has this id with other content")
    return fresh


def _check(vote: Vote) -> None:
    where = _name(vote)
    check_text(vote.id, "its id", where, _LONGEST_ID)
    for name in ("who", "reason"):
        check_text(getattr(vote, name), name, where)
    check_text(vote.campaign, "campaign", where, _LONGEST_CAMPAIGN)
    check_number(vote.schema_version, "schema_version", where)
    if not 0 <= vote.left < vote.right:
        raise DataError(f"{where}: left {vote.left} and right {vote.right}; left is the lower index, from 0")
    scores = [score for pair in vote.dimensions.values() for score in pair]
    for value in (vote.probability_left, vote.seconds, vote.seconds_total, *scores):
        if value is not None and not math.isfinite(value):
            raise DataError(f"{where}: has the number {value}, which is not finite")


def _items(session: Session, campaign_id: int, names: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Name → id and number of answers of the campaign's items."""
    rows = session.execute(
        select(CampaignItem.name, CampaignItem.id, func.count(Response.id))
        .join(Response, Response.item_id == CampaignItem.id)
        .where(CampaignItem.campaign_id == campaign_id, CampaignItem.name.in_(names))
        .group_by(CampaignItem.name, CampaignItem.id)
    )
    return {name: (item, answers) for name, item, answers in rows}


def _check_items(campaign_name: str, votes: Sequence[Vote], items: dict[str, tuple[int, int]]) -> None:
    for vote in votes:
        if vote.item not in items:
            raise DataError(
                f"{_name(vote)}: the campaign {campaign_name} has no such candidates; import the file that was judged"
            )
        answers = items[vote.item][1]
        if vote.right >= answers:
            raise DataError(f"{_name(vote)}: is on answer {vote.right}, but there are {answers}, from 0")


def _check_superseded(session: Session, votes: Sequence[Vote]) -> None:
    """Refuse a vote that supersedes an unknown or later one, one on other answers, or a superseded one."""
    wanted = {vote.supersedes for vote in votes if vote.supersedes}
    if not wanted:
        return
    rows = session.execute(
        select(VoteRow.id, CampaignItem.name, VoteRow.left, VoteRow.right)
        .join(CampaignItem, CampaignItem.id == VoteRow.item_id)
        .where(VoteRow.id.in_(wanted))
    )
    earlier = {identifier: (name, left, right) for identifier, name, left, right in rows}
    replaced = set(session.scalars(select(VoteRow.supersedes).where(VoteRow.supersedes.in_(wanted))))
    for vote in votes:
        if vote.supersedes:
            where = f"{_name(vote)}: supersedes {vote.supersedes}"
            if vote.supersedes not in earlier:
                raise DataError(f"{where}, which is neither in the store nor before it in the file")
            if earlier[vote.supersedes] != (vote.item, vote.left, vote.right):
                raise DataError(f"{where}, which is a vote on other answers")
            if vote.supersedes in replaced:
                raise DataError(f"{where}, which another vote supersedes already")
            replaced.add(vote.supersedes)
        earlier[vote.id] = (vote.item, vote.left, vote.right)


def _name(vote: Vote) -> str:
    identifier = f" {vote.id[:100]}" if vote.id and not vote.id.startswith(_WITHOUT_ID) else ""
    return f"vote{identifier} of {vote.who} on {vote.item}"
