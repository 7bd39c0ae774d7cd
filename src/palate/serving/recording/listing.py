"""Recorded interactions by filter, with their answers and the feedback that holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Select, exists, select
from sqlalchemy.orm import Session

from palate.store.serving_tables import ApiKey, FeedbackRow, Interaction, InteractionAnswer, holds
from palate.store.tables import Base

SCHEMA: Final = 1
"""Version of the fields of an interaction as JSON."""
_BATCH = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which interactions; None is any.

    Attributes:
        model: name or content hash of the version.
        state: as in `entries.State`.
        since, until: when the request came, until excluded.
        thumbs: up or down, of feedback that holds.
        key: name of the API key.
        route: as it was recorded.
        user: the hash of the person.
    """

    model: str | None = None
    state: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    thumbs: str | None = None
    key: str | None = None
    route: str | None = None
    user: str | None = None

    def query(self) -> Select[str]:
        """The ids, oldest first."""
        wanted = select(Interaction.id).order_by(Interaction.created, Interaction.id)
        if self.model is not None:
            wanted = wanted.where((Interaction.model == self.model) | (Interaction.identity == self.model))
        if self.state is not None:
            wanted = wanted.where(Interaction.state == self.state)
        if self.since is not None:
            wanted = wanted.where(Interaction.created >= self.since)
        if self.until is not None:
            wanted = wanted.where(Interaction.created < self.until)
        if self.user is not None:
            wanted = wanted.where(Interaction.user == self.user)
        if self.route is not None:
            wanted = wanted.where(Interaction.route == self.route)
        if self.key is not None:
            wanted = wanted.join(ApiKey, ApiKey.id == Interaction.key_id).where(ApiKey.name == self.key)
        if self.thumbs is not None:
            rated = exists().where(
                FeedbackRow.interaction_id == Interaction.id, FeedbackRow.thumbs == self.thumbs, holds()
            )
            wanted = wanted.where(rated)
        return wanted


@dataclass(frozen=True, slots=True)
class Recorded:
    """An interaction.

    Attributes:
        row: of the table.
        answers: in their order.
        feedback: that holds, in the order in which it came.
    """

    row: Interaction
    answers: Sequence[InteractionAnswer]
    feedback: Sequence[FeedbackRow]

    def to_json(self) -> dict[str, Any]:
        """Every column, times in ISO 8601, the process that wrote it left out."""
        return {
            "schema": SCHEMA,
            **_columns(self.row, {"writer"}),
            "answers": [_columns(answer, {"interaction_id"}) for answer in self.answers],
            "feedback": [_columns(row, {"interaction_id", "request_key"}) for row in self.feedback],
        }


def read_interactions(session: Session, ids: Sequence[str]) -> Iterator[Recorded]:
    """The interactions with these ids, in this order; ids that do not exist are left out."""
    for start in range(0, len(ids), _BATCH):
        some = ids[start : start + _BATCH]
        rows = {row.id: row for row in session.scalars(select(Interaction).where(Interaction.id.in_(some)))}
        answers: dict[str, list[InteractionAnswer]] = defaultdict(list)
        of = InteractionAnswer.interaction_id
        for answer in session.scalars(select(InteractionAnswer).where(of.in_(some)).order_by(InteractionAnswer.number)):
            answers[answer.interaction_id].append(answer)
        feedback: dict[str, list[FeedbackRow]] = defaultdict(list)
        held = select(FeedbackRow).where(FeedbackRow.interaction_id.in_(some), holds())
        for row in session.scalars(held.order_by(FeedbackRow.number)):
            feedback[row.interaction_id].append(row)
        yield from (Recorded(rows[one], answers[one], feedback[one]) for one in some if one in rows)


def _columns(row: Base, without: set[str]) -> dict[str, Any]:
    values = {column.name: getattr(row, column.name) for column in row.__table__.columns if column.name not in without}
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()}
