"""The tables of the store. Votes and judgements are append-only.

A campaign has items; an item is a prompt with K responses; a task is two responses of an item that people compare; a
lease is a task that one person is working on or has finished; a vote is what the person, or a judge, said.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    MetaData,
    String,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from palate.store.personal import AccountName, PersonalJson, PersonalList, PersonalText, PlainJson, PlainList, PlainText


def utc_now() -> datetime:
    """The time in UTC."""
    return datetime.now(UTC)


class UtcTime(TypeDecorator[datetime]):
    """A time in UTC; SQLite, which keeps no time zone, gives it back in UTC too. A time without zone is refused."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        del dialect
        if value is None:
            return None
        if value.tzinfo is None:  # it would be read as this machine's local time
            raise ValueError(f"the time {value.isoformat()} has no time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        del dialect
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """Base of the tables; constraints have fixed names, so that migrations can refer to them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it from the class
        datetime: UtcTime(),
        dict[str, Any]: JSON,
        list[Any]: JSON,
    }


class User(Base):
    """A person with an account."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[AccountName] = mapped_column(String(100), unique=True)
    password_hash: Mapped[PlainText] = mapped_column(default="")
    """argon2; empty for the local person, who cannot log in from elsewhere."""
    role: Mapped[PlainText] = mapped_column(String(20))
    """annotator, reviewer or admin."""
    active: Mapped[bool] = mapped_column(default=True)
    created: Mapped[datetime]


class LoginSession(Base):
    """A login; the cookie has the token, the table its SHA-256."""

    __tablename__ = "sessions"

    token_hash: Mapped[PlainText] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    created: Mapped[datetime]
    expires: Mapped[datetime]


class Campaign(Base):
    """A set of items to label under one schema."""

    __tablename__ = "campaigns"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[PlainText] = mapped_column(String(100), unique=True)
    version: Mapped[int] = mapped_column(default=1)
    """The current version of the schema."""
    closed: Mapped[bool] = mapped_column(default=False)
    tasks: Mapped[int] = mapped_column(default=0)
    """Number of tasks without gold tasks, and `slots`: votes given plus votes still wanted on them. Both are counted
    when tasks are made or the schema changes, so that a person's page need not count them."""
    slots: Mapped[int] = mapped_column(default=0)
    created: Mapped[datetime]


class CampaignVersion(Base):
    """A version of a campaign's schema; votes refer to the version that the person saw."""

    __tablename__ = "campaign_versions"

    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaigns.id"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    schema: Mapped[PlainJson]
    who: Mapped[AccountName] = mapped_column(String(100), default="")
    created: Mapped[datetime]


class Participant(Base):
    """A person's position in a campaign. Its row is locked while the person is given a task or votes."""

    __tablename__ = "participants"

    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaigns.id"), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True)
    given: Mapped[int] = mapped_column(default=0)
    """Leases of any kind: the number of the person's last one."""
    had: Mapped[int] = mapped_column(default=0)
    """Leases on tasks that are neither gold nor repeated."""
    done: Mapped[int] = mapped_column(default=0)
    """Leases that the person finished with a vote, a skip or a flag."""
    counted: Mapped[int] = mapped_column(default=0)
    """Votes that count towards the votes that a task wants."""
    place: Mapped[float | None]
    """Priority of the last task taken in order; tasks before it are had, full or reopened. None: start again."""


class CampaignItem(Base):
    """A prompt of a campaign."""

    __tablename__ = "items"
    __table_args__ = (UniqueConstraint("campaign_id", "name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaigns.id"))
    name: Mapped[PlainText] = mapped_column(String(500))
    """The id of its candidates row."""
    prompt: Mapped[PersonalList]
    tools: Mapped[PersonalText | None]
    columns: Mapped[PersonalJson] = mapped_column(default=dict)
    content_hash: Mapped[PlainText] = mapped_column(String(64), index=True)
    """SHA-256 of prompt and tools."""
    created: Mapped[datetime]


class Response(Base):
    """An answer to an item."""

    __tablename__ = "responses"
    __table_args__ = (UniqueConstraint("item_id", "number"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    item_id: Mapped[int] = mapped_column(ForeignKey("items.id"))
    number: Mapped[int]
    """Index within the candidates row, from 0."""
    text: Mapped[PersonalText]
    finish_reason: Mapped[PlainText] = mapped_column(default="stop")
    tokens: Mapped[int | None]
    model: Mapped[PlainText] = mapped_column(default="")
    identity: Mapped[PlainText | None]
    """Content hash of the model's weights, if known."""
    seed: Mapped[int | None] = mapped_column(BigInteger)
    """Seed of the sampling."""
    decoding: Mapped[PlainJson] = mapped_column(default=dict)
    content_hash: Mapped[PlainText] = mapped_column(String(64))


_OPEN = text("open > 0")
_AGAIN = text("open > 0 AND reopened")


class Task(Base):
    """Two answers of an item that people compare.

    `open` is the number of votes still to give out: wanted − votes − leases in progress, at least 0. It changes in the
    same transaction as the lease or the vote, under a lock on this row. A gold task goes to everybody: it wants no
    votes, and its `open` stays 1. The indices have only tasks that are open, so finding the next one needs no scan.
    """

    __tablename__ = "tasks"
    __table_args__ = (
        UniqueConstraint("item_id", "left", "right"),
        Index("ix_tasks_next", "campaign_id", "gold", "priority", sqlite_where=_OPEN, postgresql_where=_OPEN),
        Index("ix_tasks_reopened", "campaign_id", "priority", sqlite_where=_AGAIN, postgresql_where=_AGAIN),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaigns.id"))
    item_id: Mapped[int] = mapped_column(ForeignKey("items.id"))
    left: Mapped[int]
    right: Mapped[int]
    wanted: Mapped[int]
    votes: Mapped[int] = mapped_column(default=0)
    open: Mapped[int]
    priority: Mapped[float]
    """Tasks are given out in ascending order."""
    probability: Mapped[float | None]
    """Of being drawn first from the campaign's tasks, w/Σw, for weighted estimates; None for gold."""
    gold: Mapped[bool] = mapped_column(default=False)
    gold_outcome: Mapped[PlainText | None] = mapped_column(String(20))
    flagged: Mapped[bool] = mapped_column(default=False)
    reopened: Mapped[bool] = mapped_column(default=False)
    """Whether a vote was given out and came back (skip, flag, expiry), maybe behind the place of other people."""
    identity_leak: Mapped[bool] = mapped_column(default=False)


class Lease(Base):
    """A task given to a person: in progress, or finished. A person gets a task once, and again only as a repeat."""

    __tablename__ = "leases"
    __table_args__ = (
        UniqueConstraint("task_id", "user_id", "repeat"),
        UniqueConstraint("campaign_id", "user_id", "number"),
        Index("ix_leases_user", "campaign_id", "user_id", "state", "number"),
        Index("ix_leases_expiry", "state", "expires"),
    )

    id: Mapped[PlainText] = mapped_column(String(36), primary_key=True)
    """UUID; the page's form sends it back."""
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaigns.id"))
    task_id: Mapped[int] = mapped_column(ForeignKey("tasks.id"))
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    number: Mapped[int]
    """Of the person's leases in the campaign, from 1."""
    schema_version: Mapped[int]
    """The version of the campaign's schema that the person sees."""
    repeat: Mapped[bool] = mapped_column(default=False)
    shown: Mapped[PlainText] = mapped_column(String(12))
    state: Mapped[PlainText] = mapped_column(String(12))
    """active, voted, skipped, flagged or expired."""
    created: Mapped[datetime]
    expires: Mapped[datetime]


class VoteRow(Base):
    """A vote, as `feedback.votes.Vote`. Append-only: an undo is a row that supersedes another."""

    __tablename__ = "votes"
    __table_args__ = (Index("ix_votes_item", "item_id", "left", "right"), Index("ix_votes_user", "user_id", "at"))

    number: Mapped[int] = mapped_column(primary_key=True)
    """Ascending in the order in which the votes were stored."""
    id: Mapped[PlainText] = mapped_column(String(100), unique=True)
    """UUID; an imported vote keeps its own."""
    item_id: Mapped[int] = mapped_column(ForeignKey("items.id"))
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaigns.id"), index=True)
    """The campaign that has the item."""
    campaign: Mapped[PlainText] = mapped_column(String(100), default="")
    """Name of the campaign in which the vote was given; empty for a vote given outside of any."""
    left: Mapped[int]
    right: Mapped[int]
    outcome: Mapped[PlainText] = mapped_column(String(12))
    strength: Mapped[int] = mapped_column(default=1)
    who: Mapped[AccountName]
    kind: Mapped[PlainText] = mapped_column(String(12))
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    lease_id: Mapped[PlainText | None] = mapped_column(ForeignKey("leases.id"), index=True)
    at: Mapped[datetime]
    shown: Mapped[PlainText] = mapped_column(String(12))
    reason: Mapped[PersonalText] = mapped_column(default="")
    probability_left: Mapped[float | None]
    tags: Mapped[PlainList] = mapped_column(default=list)
    dimensions: Mapped[PlainJson] = mapped_column(default=dict)
    schema_version: Mapped[int | None]
    seconds: Mapped[float | None]
    seconds_total: Mapped[float | None]
    gold: Mapped[bool] = mapped_column(default=False)
    repeat: Mapped[bool] = mapped_column(default=False)
    saw_judge: Mapped[bool] = mapped_column(default=False)
    identity_leak: Mapped[bool] = mapped_column(default=False)
    deciding: Mapped[bool] = mapped_column(default=False)
    """A reviewer's vote on a task whose votes disagree; it decides instead of them."""
    supersedes: Mapped[PlainText | None] = mapped_column(String(100), ForeignKey("votes.id"), unique=True)
    request_key: Mapped[PlainText | None] = mapped_column(String(100), unique=True)
    """The form's idempotency key: sending a form twice gives one vote."""


class Judgement(Base):
    """A judge's reply to one request, keyed by everything that determines it. Append-only; also the judge's cache."""

    __tablename__ = "judgements"

    key: Mapped[PlainText] = mapped_column(String(64), primary_key=True)
    """SHA-256 of content, order, prompt, model and decoding."""
    judge: Mapped[PlainText]
    request: Mapped[PersonalJson]
    """Prompt name and version, model, decoding, order; not the texts."""
    text: Mapped[PersonalText]
    outcome: Mapped[PlainText] = mapped_column(String(12))
    """left (the answer shown first), right, tie or unparsed; else `rubric`, `own_answer` or `own`."""
    probability: Mapped[float | None]
    """That the answer shown first is better."""
    error: Mapped[PersonalText | None]
    prompt_tokens: Mapped[int | None]
    completion_tokens: Mapped[int | None]
    attempts: Mapped[int] = mapped_column(default=1)
    at: Mapped[datetime]


class EndpointRow(Base):
    """What a judge's endpoint can do, as `feedback.judges.probe.Endpoint`."""

    __tablename__ = "endpoints"

    identity: Mapped[PlainText] = mapped_column(String(64), primary_key=True)
    """SHA-256 of what the endpoint says its model is."""
    base_url: Mapped[PlainText] = mapped_column(primary_key=True)
    model: Mapped[PlainText]
    endpoint: Mapped[PlainJson]
    at: Mapped[datetime]


class StoredJudgeCard(Base):
    """What was measured of a judge, as `palate judge calibrate` writes it."""

    __tablename__ = "judge_cards"

    id: Mapped[int] = mapped_column(primary_key=True)
    judge: Mapped[PlainText] = mapped_column(index=True)
    content_hash: Mapped[PlainText] = mapped_column(String(64), unique=True)
    card: Mapped[dict[str, Any]] = mapped_column(info={"personal": "account"})
    """Has the agreement of each voter under its name."""
    at: Mapped[datetime]
