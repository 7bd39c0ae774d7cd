"""Feedback on an interaction: thumbs, a score, a comment, a corrected answer, or the better of two answers."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from palate.errors import PalateError
from palate.serving.recording.entries import OPEN, Policy
from palate.serving.recording.privacy import kept_text
from palate.store.serving_tables import FeedbackRow, Interaction, InteractionAnswer

LONGEST = MappingProxyType({"comment": 10_000, "edit": 200_000, "idempotency_key": 200})
"""Characters of a form's texts."""
MOST_CHANGES = 50
"""Rows of feedback on one answer: a client that changes its mind for ever must not fill the disk."""

_VALUES = ("thumbs", "score", "comment", "edit", "chosen")
_TEXTS = ("comment", "edit")


class FeedbackError(PalateError):
    """Feedback that is not accepted.

    Attributes:
        status: the HTTP status that says why.
    """

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class Feedback(BaseModel):
    """What a client sends. A value that is null is taken back; one that is left out stays as it was.

    Attributes:
        thumbs: up or down.
        score: in [0, 1].
        comment: any text.
        edit: the answer as it should have been.
        chosen: index of the better of two answers, from 0. Goes with a comment only.
        answer: index of the answer that the other values are about.
        id: of the completion, if the client sends it; the token must be for the same.
        idempotency_key: a form with a known key is not stored again, whatever came in between.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    thumbs: Literal["up", "down"] | None = None
    score: float | None = None
    comment: str | None = None
    edit: str | None = None
    chosen: int | None = None
    answer: int = 0
    id: str | None = Field(None, max_length=100)
    idempotency_key: str | None = None

    @property
    def given(self) -> Mapping[str, Any]:
        """The values that the form changes."""
        return {name: getattr(self, name) for name in _VALUES if name in self.model_fields_set}

    def check(self) -> None:
        """Raises FeedbackError for a form that says nothing, or values out of range."""
        problem = None
        if not self.given:
            problem = f"says nothing; send one of {', '.join(_VALUES)}"
        elif self.score is not None and not (math.isfinite(self.score) and 0 <= self.score <= 1):
            problem = "score is a number from 0 to 1"
        elif "chosen" in self.given and not {"chosen", "comment"} >= set(self.given):
            problem = "chosen compares two answers; send thumbs, score and edit of one answer by themselves"
        elif not 0 <= self.answer < 1000 or not 0 <= (self.chosen or 0) < 1000:
            problem = "answer and chosen are indices from 0"
        for name, longest in LONGEST.items():
            if len(getattr(self, name) or "") > longest:
                problem = f"{name} has more than {longest:,} characters"
        if problem is not None:
            raise FeedbackError(f"the feedback {problem}", status=400)


def add_feedback(session: Session, interaction_id: str, form: Feedback, now: datetime) -> FeedbackRow:
    """Store a form in this transaction; returns the row that holds now, which may be an earlier one.

    Raises:
        FeedbackError: the interaction was deleted, has not that answer, or has too many changes.
    """
    form.check()
    interaction = session.get(Interaction, interaction_id, with_for_update=True)
    if interaction is None:
        raise FeedbackError("this completion is not recorded any more", status=404)
    answer = None if "chosen" in form.given else form.answer
    _check_answers(session, interaction, form)
    sent = form.idempotency_key
    key = None if sent is None else hashlib.sha256(sent.encode("utf-8", "replace")).hexdigest()
    rows = select(FeedbackRow).where(FeedbackRow.interaction_id == interaction_id)
    if key is not None:
        before = session.scalars(rows.where(FeedbackRow.request_key == key)).first()
        if before is not None:
            return before
    same = rows.where(FeedbackRow.answer.is_(None) if answer is None else FeedbackRow.answer == answer)
    current = session.scalars(same.order_by(FeedbackRow.number.desc()).limit(1)).first()
    policy = cast(Policy, interaction.policy)
    values = {name: None if current is None else getattr(current, name) for name in _VALUES}
    values |= {name: kept_text(value, policy) if name in _TEXTS else value for name, value in form.given.items()}
    if current is not None:
        if all(getattr(current, name) == value for name, value in values.items()):
            return current
        if session.scalar(select(func.count()).select_from(same.subquery())) >= MOST_CHANGES:  # type: ignore[operator]
            raise FeedbackError("this feedback was changed too often", status=429)
    row = FeedbackRow(
        interaction_id=interaction_id,
        answer=answer,
        at=now,
        supersedes=None if current is None else current.number,
        request_key=key,
        **values,
    )
    session.add(row)
    session.flush()
    return row


def _check_answers(session: Session, interaction: Interaction, form: Feedback) -> None:
    """Refuse feedback on an answer that there is not; while they are written, their number is what was asked for."""
    if interaction.state in OPEN:
        count = interaction.decoding.get("n") or 1
    else:
        of = InteractionAnswer.interaction_id == interaction.id
        count = session.scalar(select(func.count()).where(of)) or 0
    if "chosen" in form.given and count != 2:
        raise FeedbackError(f"chosen compares two answers, and this completion has {count}", status=400)
    if max(form.answer, form.chosen or 0) >= count:
        raise FeedbackError(f"the completion has {count} answers, counted from 0", status=400)
