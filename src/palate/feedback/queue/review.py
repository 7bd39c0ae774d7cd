"""What reviewers and admins see of a campaign: progress, tasks whose votes disagree, and deciding votes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, case, false, func, or_, select
from sqlalchemy.orm import Session, aliased

from palate.errors import UsageError
from palate.feedback.campaigns.campaign import find_campaign
from palate.feedback.campaigns.schema import read_schema
from palate.feedback.candidates import read_prompt
from palate.feedback.queue.ballot import Ballot
from palate.feedback.queue.slots import lock_campaign, lock_row
from palate.feedback.queue.stored_votes import PairKey, counts, is_valid, on_task, request_key, vote_of_request
from palate.feedback.transfer import to_row, to_vote
from palate.feedback.votes import DECIDED, Vote, time_text
from palate.records import Messages
from palate.store.tables import Campaign, CampaignItem, Response, Task, User, VoteRow


@dataclass(frozen=True, slots=True)
class CampaignProgress:
    """Counts of a campaign's tasks.

    Attributes:
        tasks: number of tasks without gold tasks, and `gold` of those.
        wanted: votes that the tasks want in all, and `votes` those that they have.
        finished: tasks with all the votes that they want.
        flagged: tasks that somebody flagged and that no reviewer has decided.
        conflicts: tasks whose votes disagree and that no reviewer has decided.
        identity_leak: tasks with an answer that names its model or maker.
    """

    tasks: int
    gold: int
    wanted: int
    votes: int
    finished: int
    flagged: int
    conflicts: int
    identity_leak: int


@dataclass(frozen=True, slots=True)
class Conflict:
    """A task that needs a reviewer.

    Attributes:
        task: its id, for `decide`.
        item: name of its item.
        prompt: the conversation so far.
        tools: JSON list of tool specifications, if any.
        left, right: the two answers; a reviewer sees left first.
        votes: the valid votes of people, skips and flags included.
        flagged: whether somebody flagged it; the votes of a flagged task may agree.
    """

    task: int
    item: str
    prompt: Messages
    tools: str | None
    left: str
    right: str
    votes: tuple[Vote, ...]
    flagged: bool


def progress(session: Session, campaign_name: str) -> CampaignProgress:
    """Counts of the campaign's tasks.

    Raises:
        UsageError: there is no such campaign.
    """
    campaign = find_campaign(session, campaign_name)

    def number(condition: Any) -> ColumnElement[int]:
        return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)

    ordinary = Task.gold == false()
    row = session.execute(
        select(
            number(ordinary),
            number(Task.gold),
            func.coalesce(func.sum(Task.wanted), 0),
            func.coalesce(func.sum(case((ordinary, Task.votes), else_=0)), 0),
            number(and_(ordinary, Task.votes >= Task.wanted)),
            number(Task.identity_leak),
        ).where(Task.campaign_id == campaign.id)
    ).one()
    tasks, gold, wanted, votes, finished, leaks = row
    flagged, disagreeing = (
        session.scalar(select(func.count()).select_from(found.where(~_is_decided()).subquery())) or 0
        for found in (select(Task.id).where(Task.campaign_id == campaign.id, Task.flagged), _disagreeing(campaign))
    )
    return CampaignProgress(tasks, gold, wanted, votes, finished, flagged, disagreeing, identity_leak=leaks)


def conflicts(session: Session, campaign_name: str, *, limit: int = 100) -> list[Conflict]:
    """Tasks without a reviewer's decision whose votes disagree or that somebody flagged, in the order of the queue.

    Args:
        limit: at most so many; the next ones come when these are decided.

    Raises:
        UsageError: there is no such campaign.
    """
    campaign = find_campaign(session, campaign_name)
    tasks = session.scalars(
        select(Task)
        .where(Task.campaign_id == campaign.id, or_(Task.flagged, Task.id.in_(_disagreeing(campaign))), ~_is_decided())
        .order_by(Task.priority)
        .limit(limit)
    )
    return _conflicts(session, tasks.all())


def find_conflict(session: Session, campaign_name: str, task_id: int) -> Conflict | None:
    """A task of the campaign as reviewers see it, also one that is decided; None if the campaign has no such task.

    Raises:
        UsageError: there is no such campaign.
    """
    task = session.get(Task, task_id)
    if task is None or task.campaign_id != find_campaign(session, campaign_name).id:
        return None
    return _conflicts(session, [task])[0]


def decide(session: Session, task_id: int, user_id: int, ballot: Ballot, now: datetime) -> Vote:
    """Record a reviewer's vote, which decides the task instead of the other votes; a later one supersedes it.

    The ballot's `first` is the left answer.

    Raises:
        UsageError: there is no such task, or the ballot decides nothing or does not fit the schema.
    """
    task = session.get(Task, task_id)
    if task is None:
        raise UsageError(f"there is no task {task_id}; reload the page")
    campaign = lock_campaign(session, task.campaign_id)
    task = lock_row(session, Task, task_id)
    ballot.check(read_schema(session, campaign))
    item = session.get_one(CampaignItem, task.item_id)
    earlier = vote_of_request(session, user_id, ballot)
    if earlier is not None:
        return to_vote(earlier, item.name)
    if ballot.outcome("left_first") not in DECIDED:
        raise UsageError(f"a deciding vote is for an answer, a tie or both bad, not {ballot.choice}")
    before = session.scalars(select(VoteRow).where(on_task(VoteRow, task), VoteRow.deciding, is_valid())).first()
    vote = replace(
        ballot.vote(
            "left_first",
            item=item.name,
            left=task.left,
            right=task.right,
            who=session.get_one(User, user_id).name,
            when=time_text(now),
        ),
        campaign=campaign.name,
        schema_version=campaign.version,
        identity_leak=task.identity_leak,
        deciding=True,
        supersedes=before.id if before is not None else "",
    )
    key = request_key(user_id, ballot)
    row = to_row(vote, item_id=item.id, campaign_id=campaign.id, user_id=user_id, request_key=key)
    session.add(row)
    session.flush()
    return to_vote(row, item.name)


def _disagreeing(campaign: Campaign) -> Select[int]:
    """Ids of tasks with votes that count and are of more than one outcome."""
    return (
        select(Task.id)
        .join(VoteRow, on_task(VoteRow, Task))
        .where(Task.campaign_id == campaign.id, Task.votes > 1, counts())
        .group_by(Task.id)
        .having(func.count(VoteRow.outcome.distinct()) > 1)
    )


def _is_decided() -> ColumnElement[bool]:
    """SQL: a reviewer has decided the task. A superseded decision was superseded by another."""
    found = aliased(VoteRow)
    return select(found.id).where(on_task(found, Task), found.deciding).correlate(Task).exists()


def _conflicts(session: Session, tasks: Sequence[Task]) -> list[Conflict]:
    """The tasks with their items, answers and votes, by one query for each kind."""
    ids = {task.item_id for task in tasks}
    items = {item.id: item for item in session.scalars(select(CampaignItem).where(CampaignItem.id.in_(ids)))}
    answers = session.execute(select(Response.item_id, Response.number, Response.text).where(Response.item_id.in_(ids)))
    texts = {(item, number): text for item, number, text in answers}
    votes: dict[PairKey, list[Vote]] = {}
    cast = select(VoteRow).where(VoteRow.item_id.in_(ids), VoteRow.kind == "person", is_valid())
    for row in session.scalars(cast.order_by(VoteRow.number)):
        votes.setdefault((row.item_id, row.left, row.right), []).append(to_vote(row, items[row.item_id].name))
    return [
        Conflict(
            task=task.id,
            item=items[task.item_id].name,
            prompt=read_prompt(items[task.item_id].prompt, items[task.item_id].name),
            tools=items[task.item_id].tools,
            left=texts[task.item_id, task.left],
            right=texts[task.item_id, task.right],
            votes=tuple(votes.get((task.item_id, task.left, task.right), ())),
            flagged=task.flagged,
        )
        for task in tasks
    ]
