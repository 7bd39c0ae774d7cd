"""The tables of the gateway: API keys, recorded interactions, feedback on them, and what was deleted."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import JSON, BigInteger, ColumnElement, ForeignKey, Index, String, UniqueConstraint, exists
from sqlalchemy.orm import Mapped, aliased, mapped_column

from palate.store.personal import PersonalJson, PersonalText, PersonalValue, PlainJson, PlainList, PlainText, UserHash
from palate.store.tables import Base

_ID = String(64)


class ApiKey(Base):
    """A key of the gateway, and what is recorded of the requests that are made with it."""

    __tablename__ = "api_keys"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[PlainText] = mapped_column(String(100), unique=True)
    key_hash: Mapped[PlainText] = mapped_column(_ID, unique=True)
    """SHA-256 of the key, which is 32 random bytes and is shown once."""
    recording: Mapped[PlainText] = mapped_column(String(12), default="none")
    """none, metadata, redacted or full."""
    consent: Mapped[bool] = mapped_column(default=False)
    """Whether people consented to training, where a request does not say."""
    requests_per_minute: Mapped[int | None]
    tokens_per_day: Mapped[int | None]
    retention_days: Mapped[int | None]
    """Interactions that are older are deleted; None: they are kept."""
    active: Mapped[bool] = mapped_column(default=True)
    created: Mapped[datetime]
    last_used: Mapped[datetime | None]
    used_day: Mapped[int | None]
    """Of `used_tokens`, in UTC days since 1970."""
    used_tokens: Mapped[int | None] = mapped_column(BigInteger)
    """Tokens that were read and written on that day, of a key that has a limit."""


class Secret(Base):
    """A random value that the processes of a store share."""

    __tablename__ = "secrets"

    name: Mapped[PlainText] = mapped_column(String(100), primary_key=True)
    value: Mapped[PlainText] = mapped_column(_ID)
    """32 bytes in hexadecimal."""


class Interaction(Base):
    """A request to the gateway and what became of it. Committed before the client gets the first byte."""

    __tablename__ = "interactions"
    __table_args__ = (
        Index("ix_interactions_user", "user", "created"),
        Index("ix_interactions_created", "created"),
        Index("ix_interactions_state", "state", "touched"),
    )

    id: Mapped[PlainText] = mapped_column(_ID, primary_key=True)
    """Also the id of the completion that the client gets."""
    key_id: Mapped[int | None] = mapped_column(ForeignKey("api_keys.id"), index=True)
    user: Mapped[UserHash] = mapped_column(_ID)
    """HMAC-SHA-256 of the person's id."""
    endpoint: Mapped[PlainText] = mapped_column(String(20))
    """chat, completions or responses."""
    state: Mapped[PlainText] = mapped_column(String(16))
    """reserved, streaming, complete, cancelled, refused, unreachable, upstream_error or partial."""
    policy: Mapped[PlainText] = mapped_column(String(12))
    consent: Mapped[bool]
    model: Mapped[PlainText]
    """Name of the version that answered."""
    identity: Mapped[PlainText | None] = mapped_column(String(100))
    """Content hash of its weights, if known."""
    template: Mapped[PlainText | None] = mapped_column(_ID)
    """SHA-256 of the chat template."""
    decoding: Mapped[PersonalJson] = mapped_column(default=dict)
    """Sampling settings; stop sequences are texts of the client."""
    route: Mapped[PlainText] = mapped_column(String(100), default="")
    probability: Mapped[float | None]
    """Of the route, for this person."""
    prompt: Mapped[PersonalValue | None] = mapped_column(JSON(none_as_null=True))
    """Messages, or the text of a completion; None under the policy `metadata`."""
    tools: Mapped[PersonalText | None]
    prompt_tokens: Mapped[int | None]
    completion_tokens: Mapped[int | None]
    error: Mapped[PersonalText | None]
    """What went wrong; an engine's message may quote the prompt."""
    writer: Mapped[PlainText] = mapped_column(String(200))
    """The process that writes the end of this row."""
    created: Mapped[datetime]
    touched: Mapped[datetime]
    """When the row was written last."""
    finished: Mapped[datetime | None]
    """When its writer wrote the end; None for a row that another process gave up for it."""


class InteractionAnswer(Base):
    """An answer of an interaction."""

    __tablename__ = "interaction_answers"

    interaction_id: Mapped[PlainText] = mapped_column(_ID, ForeignKey("interactions.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    """Index of the choice, from 0."""
    text: Mapped[PersonalText | None]
    """None under the policy `metadata`."""
    tool_calls: Mapped[PersonalValue | None] = mapped_column(JSON(none_as_null=True))
    finish_reason: Mapped[PlainText | None] = mapped_column(String(40))
    """None of an answer that did not end."""
    tokens: Mapped[int | None]


class FeedbackRow(Base):
    """What a person says of an answer. Append-only: a changed mind is a row that supersedes another."""

    __tablename__ = "interaction_feedback"
    __table_args__ = (
        UniqueConstraint("interaction_id", "request_key"),
        Index("ix_interaction_feedback_interaction", "interaction_id", "answer"),
    )

    number: Mapped[int] = mapped_column(primary_key=True)
    """Ascending in the order in which the rows were stored."""
    interaction_id: Mapped[PlainText] = mapped_column(_ID, ForeignKey("interactions.id"))
    answer: Mapped[int | None]
    """Index of the answer; None of a choice between the answers."""
    thumbs: Mapped[PlainText | None] = mapped_column(String(4))
    """up or down."""
    score: Mapped[float | None]
    """In [0, 1]."""
    comment: Mapped[PersonalText | None]
    edit: Mapped[PersonalText | None]
    """The answer as the person corrected it."""
    chosen: Mapped[int | None]
    """Index of the better of two answers."""
    at: Mapped[datetime]
    supersedes: Mapped[int | None] = mapped_column(ForeignKey("interaction_feedback.number"), unique=True)
    request_key: Mapped[PlainText | None] = mapped_column(_ID)
    """SHA-256 of the client's idempotency key."""


def holds() -> ColumnElement[bool]:
    """That no later feedback supersedes a row of `FeedbackRow`."""
    later = aliased(FeedbackRow)
    return ~exists().where(later.supersedes == FeedbackRow.number)


class InteractionExport(Base):
    """A folder that `palate data from-interactions` wrote, where rows of a forgotten person are looked for."""

    __tablename__ = "interaction_exports"

    folder: Mapped[PlainText] = mapped_column(primary_key=True)
    hashes: Mapped[PlainList]
    """SHA-256 of every data file that was ever written there, by which trained versions refer to it."""
    at: Mapped[datetime]


class Deletion(Base):
    """That something was deleted, and how much; not of whom."""

    __tablename__ = "deletions"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[PlainText] = mapped_column(String(12))
    """forget, delete or purge."""
    at: Mapped[datetime]
    counts: Mapped[PlainJson]
    """Table or file → rows."""
