"""Free prompts in the store: a person's prompt with two models' answers is an item like any other, and is voted on so.

The item, its answers and the lease are committed before the person can vote.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from palate.errors import UsageError
from palate.feedback.campaigns.campaign import create_campaign, current_schema
from palate.feedback.campaigns.identity_leak import leaked_name
from palate.feedback.campaigns.schema import CampaignSchema
from palate.feedback.campaigns.task_order import priority
from palate.feedback.candidates import SAME_MODEL, AnswerOrigin, Candidates, read_prompt
from palate.feedback.page.chat import Chat, Ended
from palate.feedback.queue.slots import lock_campaign, lock_participant
from palate.feedback.queue.stored_votes import is_valid
from palate.feedback.transfer import import_candidates
from palate.feedback.votes import Shown
from palate.records import Message, Messages
from palate.store.tables import Campaign, CampaignItem, Lease, Response, Task, VoteRow

CAMPAIGN = "free-prompts"

SCHEMA = CampaignSchema(
    criteria="which answer helps more with the prompt",
    tags=("wrong", "incomplete", "off topic", "unclear", "too long", "unsafe"),
    lease_minutes=24 * 60,
)


@dataclass(frozen=True, slots=True)
class LastVote:
    """What a person said last of a free prompt, for the page that follows.

    Attributes:
        vote: its id.
        outcome: as in `Vote`.
        better: which of the answers as shown is better; None without a winner.
        prompt: the conversation that was answered.
        first, second: the answers as they were shown.
        first_model, second_model: who wrote them; told after the vote only.
        chosen: the answer that the conversation can go on with; None after both bad, skip and flag.
    """

    vote: str
    outcome: str
    better: Literal["first", "second"] | None
    prompt: Messages
    first: str
    second: str
    first_model: str
    second_model: str
    chosen: str | None


def exchange_row(chat: Chat, prompt: Messages, ends: Sequence[Ended], after: str) -> Candidates:
    """A prompt with both models' answers, as a row of candidates.

    Args:
        prompt: the whole conversation.
        ends: the two answers, in the order of the models.
        after: id of the vote after which the conversation went on; "" for a new one.
    """
    how = {name: value for name, value in asdict(chat.decoding).items() if name != "seed"}
    columns = {**({SAME_MODEL: True} if chat.same else {}), **({"after": after} if after else {})}
    row = Candidates(f"free-{uuid.uuid4()}", prompt, tuple(end.answer for end in ends), columns=columns)
    pairs = zip(chat.models, ends, strict=True)
    return row.with_origins([AnswerOrigin(model.name, model.identity, end.seed, how) for model, end in pairs])


def record_exchange(
    session: Session, user_id: int, who: str, row: Candidates, *, shown: Shown, now: datetime
) -> str | None:
    """Store a prompt with its two answers and give it to the person; returns the lease to vote with.

    Answers with equal texts are stored too, but there is nothing to compare: then it returns None.

    Args:
        row: of `exchange_row`.
        shown: which of its answers is shown first.
    """
    campaign = _campaign(session, who)
    schema = current_schema(session, campaign.id)
    participant = lock_participant(session, campaign.id, user_id)
    import_candidates(session, CAMPAIGN, [row])
    if row.completions[0].text == row.completions[1].text:
        return None
    item = session.scalars(
        select(CampaignItem.id).where(CampaignItem.campaign_id == campaign.id, CampaignItem.name == row.id)
    ).one()
    task = Task(
        campaign_id=campaign.id,
        item_id=item,
        left=0,
        right=1,
        wanted=schema.votes_per_item,
        open=schema.votes_per_item - 1,
        priority=priority(schema.seed, row.id),
        probability=None,
        identity_leak=any(leaked_name(answer.text) is not None for answer in row.completions),
    )
    session.add(task)
    session.flush()
    campaign.tasks += 1
    campaign.slots += task.wanted
    participant.given += 1
    lease = Lease(
        id=str(uuid.uuid4()),
        campaign_id=campaign.id,
        task_id=task.id,
        user_id=user_id,
        number=participant.given,
        schema_version=campaign.version,
        shown=shown,
        state="active",
        created=now,
        expires=now + timedelta(minutes=schema.lease_minutes),
    )
    session.add(lease)
    session.flush()
    return lease.id


def has_open_exchange(session: Session, user_id: int, now: datetime) -> bool:
    """Whether the person has answers that wait for a vote."""
    wanted = (
        select(Lease.id)
        .join(Campaign, Campaign.id == Lease.campaign_id)
        .where(Campaign.name == CAMPAIGN, Lease.user_id == user_id, Lease.state == "active", Lease.expires >= now)
    )
    return session.scalar(wanted.limit(1)) is not None


def last_vote(session: Session, user_id: int) -> LastVote | None:
    """The person's last vote on a free prompt; None before the first."""
    wanted = (
        select(VoteRow)
        .join(Campaign, Campaign.id == VoteRow.campaign_id)
        .where(Campaign.name == CAMPAIGN, VoteRow.user_id == user_id, is_valid())
        .order_by(VoteRow.number.desc())
    )
    row = session.scalar(wanted.limit(1))
    return None if row is None else _last_vote(session, row)


def conversation_after(session: Session, vote: str, user_id: int) -> Messages:
    """The conversation up to and with the answer that the person's vote chose.

    Raises:
        UsageError: the vote is not this person's last one, or chose no answer.
    """
    found = last_vote(session, user_id)
    if found is None or found.vote != vote:
        raise UsageError("this is not your last vote any more; reload the page to go on")
    if found.chosen is None:
        raise UsageError("your last vote chose no answer to go on with; begin a new conversation")
    return (*found.prompt, Message("assistant", found.chosen))


def _campaign(session: Session, who: str) -> Campaign:
    """The campaign, locked for a change of its counts; created for the first exchange."""
    campaign_id = session.scalar(select(Campaign.id).where(Campaign.name == CAMPAIGN))
    if campaign_id is None:
        campaign_id = create_campaign(session, CAMPAIGN, SCHEMA, who).id
    return lock_campaign(session, campaign_id, change=True)


def _last_vote(session: Session, row: VoteRow) -> LastVote:
    item = session.get_one(CampaignItem, row.item_id)
    responses = {
        response.number: response for response in session.scalars(select(Response).where(Response.item_id == item.id))
    }
    left, right = responses[row.left], responses[row.right]
    first, second = (left, right) if row.shown == "left_first" else (right, left)
    better: Literal["first", "second"] | None = None
    if row.outcome in ("left", "right"):
        better = "first" if (row.outcome == "left") == (row.shown == "left_first") else "second"
    chosen = {"left": left.text, "right": right.text, "tie": first.text}.get(row.outcome)
    return LastVote(
        vote=row.id,
        outcome=row.outcome,
        better=better,
        prompt=read_prompt(item.prompt, item.name),
        first=first.text,
        second=second.text,
        first_model=first.model,
        second_model=second.model,
        chosen=chosen,
    )
