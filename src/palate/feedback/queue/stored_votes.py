"""Selections of a campaign's votes in the store."""

from __future__ import annotations

from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, and_, func, select
from sqlalchemy.orm import Session, aliased

from palate.feedback.queue.ballot import Ballot
from palate.feedback.votes import DECIDED
from palate.records import LEFT_SHARE
from palate.store.tables import Response, Task, VoteRow

PairKey: TypeAlias = tuple[int, int, int]
"""Id of an item's row, and the indices of two of its answers, the lower one first."""

_LATER = aliased(VoteRow)


def on_task(vote: Any, task: Any) -> ColumnElement[bool]:
    """SQL: a vote is on the two answers of a task; each is a row or a table."""
    return and_(vote.item_id == task.item_id, vote.left == task.left, vote.right == task.right)


def is_valid() -> ColumnElement[bool]:
    """SQL: the vote is not superseded by another."""
    return ~select(_LATER.id).where(_LATER.supersedes == VoteRow.id).exists()


def counts() -> ColumnElement[bool]:
    """SQL: the vote is valid, of a person, decides something, and is one of those that a task wants."""
    return (
        (VoteRow.kind == "person")
        & VoteRow.outcome.in_(DECIDED)
        & ~(VoteRow.gold | VoteRow.repeat | VoteRow.deciding)
        & is_valid()
    )


def judge_scores(session: Session, campaign_id: int) -> dict[PairKey, list[float]]:
    """The left answer's share of a win in each valid vote of a judge, reward model or rule, by pair of answers."""
    rows = session.execute(
        select(VoteRow.item_id, VoteRow.left, VoteRow.right, VoteRow.outcome).where(
            VoteRow.campaign_id == campaign_id,
            VoteRow.kind != "person",
            VoteRow.outcome.in_(list(LEFT_SHARE)),
            is_valid(),
        )
    )
    scores: dict[PairKey, list[float]] = {}
    for item, left, right, outcome in rows:
        scores.setdefault((item, left, right), []).append(LEFT_SHARE[outcome])
    return scores


def people_votes(session: Session, campaign_id: int) -> dict[PairKey, int]:
    """Number of people with a vote that counts, by pair of answers."""
    rows = session.execute(
        select(VoteRow.item_id, VoteRow.left, VoteRow.right, VoteRow.who)
        .where(VoteRow.campaign_id == campaign_id, counts())
        .distinct()
    )
    found: dict[PairKey, int] = {}
    for item, left, right, _ in rows:
        found[item, left, right] = found.get((item, left, right), 0) + 1
    return found


def flags(session: Session, task: Task) -> int:
    """Number of valid flags of people on the task."""
    found = select(func.count()).where(on_task(VoteRow, task), VoteRow.outcome == "flag", is_valid())
    return session.scalar(found) or 0


def request_key(user_id: int, ballot: Ballot) -> str:
    """The ballot's key in the store; that of one person cannot be another person's."""
    return f"{user_id}:{ballot.request_key}"


def vote_of_request(session: Session, user_id: int, ballot: Ballot) -> VoteRow | None:
    """The vote that an earlier sending of the same form gave."""
    return session.scalars(select(VoteRow).where(VoteRow.request_key == request_key(user_id, ballot))).one_or_none()


def answer_texts(session: Session, task: Task) -> dict[int, str]:
    """Number → text of the task's two answers."""
    wanted = (Response.item_id == task.item_id, Response.number.in_((task.left, task.right)))
    return dict(session.execute(select(Response.number, Response.text).where(*wanted)).all())
