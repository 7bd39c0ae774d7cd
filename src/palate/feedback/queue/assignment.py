"""Chooses what a person does next: a gold task, a repeat, or the next task in order."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Select, false, literal_column, select, text, true
from sqlalchemy.orm import Session, aliased

from palate.data.mix import drawn_key
from palate.feedback.campaigns.schema import CampaignSchema, read_schema
from palate.feedback.campaigns.task_order import uniform
from palate.feedback.candidates import read_prompt
from palate.feedback.queue.slots import missing_votes, update_open, uses_slot
from palate.feedback.queue.stored_votes import answer_texts
from palate.feedback.votes import Shown
from palate.records import Messages
from palate.store.tables import Campaign, CampaignItem, Lease, Participant, Task

BETWEEN_REPEATS = 10
"""Tasks between a task and its repeat, at least."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """A task as the page shows it.

    Attributes:
        lease: id that the vote must name.
        campaign: its name.
        schema: what the person is asked, of version `schema_version`.
        item: name of the item.
        prompt: the conversation so far.
        tools: JSON list of tool specifications, if the prompt has any.
        first, second: the answers in the order shown.
        shown: which of the two is first.
        repeat: whether the person had it before with sides swapped; the page must not say so.
        draft_key: under which the page keeps what is not sent yet.
        done: tasks that the person has finished.
        remaining: tasks left for the person, this one included; fewer if others finish them first.
    """

    lease: str
    campaign: str
    schema: CampaignSchema
    schema_version: int
    item: str
    prompt: Messages
    tools: str | None
    first: str
    second: str
    shown: Shown
    repeat: bool
    draft_key: str
    done: int
    remaining: int


def active_lease(session: Session, campaign: Campaign, user_id: int) -> Lease | None:
    """The person's lease in progress, the first given if there are several (after undo)."""
    return session.scalars(
        select(Lease)
        .where(Lease.user_id == user_id, Lease.state == "active", Lease.campaign_id == campaign.id)
        .order_by(Lease.number)
        .limit(1)
        .with_for_update()
    ).first()


def new_lease(
    session: Session, campaign: Campaign, schema: CampaignSchema, person: Participant, now: datetime
) -> Lease | None:
    """Give the person a task; None if there is none left. The participant's row is locked.

    Whether it is a gold task or a repeat is a pseudo-random draw of the schema's shares. If there is none, it is the
    next task in order.
    """
    draw = uniform(schema.seed, f"{campaign.name} {person.user_id} {person.given}")
    if draw < schema.gold_share:
        task = session.scalars(_open_tasks(campaign, person).where(Task.gold == true())).first()
        if task is not None:
            return _give(session, campaign, schema, person, task, now)
    elif draw < schema.gold_share + schema.repeat_share:
        before = _to_repeat(session, campaign, schema, person)
        if before is not None:
            task = session.get_one(Task, before.task_id)
            return _give(session, campaign, schema, person, task, now, repeats=before)
    return next_in_order_lease(session, campaign, schema, person, now)


def next_in_order_lease(
    session: Session, campaign: Campaign, schema: CampaignSchema, person: Participant, now: datetime
) -> Lease | None:
    """Give the person the next task in order, neither a gold task nor a repeat; None if there is none left."""
    task = _next_in_order(session, campaign, person)
    return None if task is None else _give(session, campaign, schema, person, task, now)


def assignment(session: Session, campaign: Campaign, person: Participant, lease: Lease) -> Assignment:
    """The task of a lease as the page shows it."""
    task = session.get_one(Task, lease.task_id)
    item = session.get_one(CampaignItem, task.item_id)
    texts = answer_texts(session, task)
    shown: Shown = "left_first" if lease.shown == "left_first" else "right_first"
    first, second = (task.left, task.right) if shown == "left_first" else (task.right, task.left)
    remaining = min(max(0, campaign.tasks - person.had), missing_votes(session, campaign))
    return Assignment(
        lease=lease.id,
        campaign=campaign.name,
        schema=read_schema(session, campaign, lease.schema_version),
        schema_version=lease.schema_version,
        item=item.name,
        prompt=read_prompt(item.prompt, item.name),
        tools=item.tools,
        first=texts[first],
        second=texts[second],
        shown=shown,
        repeat=lease.repeat,
        draft_key=f"{campaign.name}/{lease.id}",
        done=person.done,
        remaining=max(1, remaining + (not uses_slot(task, lease))),
    )


def _next_in_order(session: Session, campaign: Campaign, person: Participant) -> Task | None:
    """The next task with an open slot that the person has not had, locked.

    Up to the person's place every task is had or full, except those whose slot came back; they have an index of their
    own. From the place on the first open task is the next. On PostgreSQL tasks that others are taking are passed over;
    if there are only such tasks, they are waited for.
    """
    postgresql = session.get_bind().dialect.name == "postgresql"
    every = _open_tasks(campaign, person).where(Task.gold == false())
    in_order, searches = every, [every]
    if person.place is not None:
        # Without `gold` in the condition, which the index of reopened tasks does not have; gold tasks never are.
        again = _open_tasks(campaign, person).where(text("tasks.reopened"), Task.priority <= person.place)
        in_order = every.where(Task.priority > person.place)
        searches = [again, in_order, every]
    locked = (session.scalars(search.with_for_update(skip_locked=True, of=Task)).first() for search in searches)
    found = next((task for task in locked if task is not None), None)
    if found is None and postgresql:
        found = session.scalars(every.with_for_update(of=Task)).first()
    if found is None or (person.place is not None and found.priority <= person.place):
        return found
    # A task that was passed over must not be left behind.
    if not postgresql or session.scalars(in_order).first() is found:
        person.place = found.priority
    return found


def _open_tasks(campaign: Campaign, person: Participant) -> Select[Task]:
    """The first open task that the person has not had; a task whose lease expired is not had."""
    had = select(Lease.id).where(
        Lease.task_id == Task.id, Lease.user_id == person.user_id, Lease.repeat == false(), Lease.state != "expired"
    )
    # The 0 is in the SQL and not a parameter: only then do the partial indices apply.
    is_open = Task.open > literal_column("0")
    return (
        select(Task)
        .where(Task.campaign_id == campaign.id, is_open, ~had.exists())
        .order_by(Task.priority)
        .limit(1)
        .execution_options(populate_existing=True)
    )


def _to_repeat(session: Session, campaign: Campaign, schema: CampaignSchema, person: Participant) -> Lease | None:
    """A lease that the person voted on, at least BETWEEN_REPEATS tasks ago, and has not had again: one at random."""
    last = person.given - BETWEEN_REPEATS
    if last < 1:
        return None
    drawn = 1 + int(last * uniform(schema.seed, f"repeat {campaign.name} {person.user_id} {person.given}"))
    again = aliased(Lease)
    possible = (
        select(Lease)
        .join(Task, Task.id == Lease.task_id)
        .where(
            Lease.campaign_id == campaign.id,
            Lease.user_id == person.user_id,
            Lease.state == "voted",
            Lease.repeat == false(),
            Task.gold == false(),
            ~select(again.id)
            .where(again.task_id == Lease.task_id, again.user_id == person.user_id, again.repeat == true())
            .exists(),
        )
        .limit(1)
    )
    after = possible.where(Lease.number >= drawn, Lease.number <= last).order_by(Lease.number)
    before = possible.where(Lease.number < drawn).order_by(Lease.number.desc())
    return session.scalars(after).first() or session.scalars(before).first()


def _give(
    session: Session,
    campaign: Campaign,
    schema: CampaignSchema,
    person: Participant,
    task: Task,
    now: datetime,
    *,
    repeats: Lease | None = None,
) -> Lease:
    """Lease the task to the person; an expired lease of the same task begins again, with the same sides."""
    person.given += 1
    is_repeat = repeats is not None
    shown = _sides(schema.seed, task, person.user_id) if repeats is None else _SWAPPED[repeats.shown]
    lease = session.scalars(
        select(Lease).where(
            Lease.task_id == task.id,
            Lease.user_id == person.user_id,
            Lease.repeat == (true() if is_repeat else false()),
        )
    ).one_or_none()
    if lease is None:
        lease = Lease(
            id=str(uuid.uuid4()),
            campaign_id=campaign.id,
            task_id=task.id,
            user_id=person.user_id,
            repeat=is_repeat,
            shown=shown,
            created=now,
        )
        session.add(lease)
    lease.number, lease.state = person.given, "active"
    lease.schema_version = campaign.version
    lease.expires = now + timedelta(minutes=schema.lease_minutes)
    session.flush()
    if uses_slot(task, lease):
        update_open(session, task)
    return lease


_SWAPPED = {"left_first": "right_first", "right_first": "left_first"}


def _sides(seed: int, task: Task, user_id: int) -> Shown:
    return "left_first" if drawn_key(seed, f"sides {task.id} {user_id}")[0] % 2 else "right_first"
