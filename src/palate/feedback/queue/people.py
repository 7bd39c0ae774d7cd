"""Figures of the people of a campaign: how much, how fast, and how far their votes can be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Integer, and_, case, cast, false, func, or_, select, true
from sqlalchemy.orm import Session, aliased

from palate.feedback.campaigns.campaign import find_campaign
from palate.feedback.queue.stored_votes import is_valid
from palate.feedback.votes import DECIDED
from palate.stats.comparison.significance import binomial_exact
from palate.stats.intervals import Interval, wilson
from palate.store.tables import Lease, Participant, Task, User, VoteRow

IDLE_SECONDS = 300.0
"""A vote counts as at most so much work; the rest of its time was a pause."""


@dataclass(frozen=True, slots=True)
class PersonProgress:
    """A person's votes in a campaign. Superseded votes do not count; intervals are Wilson's, 95 %.

    Attributes:
        user_id, name: of the person.
        votes: on tasks, gold tasks and repeats.
        skipped, flagged: tasks that the person skipped or flagged.
        seconds: active time of the votes whose time is known, pauses above 300 s a vote cut off.
        per_hour: votes per hour of that time; None if no vote has a time.
        left_share: share of votes with a winner in which the answer shown first (on the left) won; sides are random, so
            ½ is unbiased. None without such a vote.
        side_bias: exact two-sided binomial p-value of that share against ½.
        gold_accuracy: share of votes on gold tasks with the known answer; None without one.
        self_consistency: share of repeats with the same vote as before; None without one.
    """

    user_id: int
    name: str
    votes: int
    skipped: int
    flagged: int
    seconds: float
    per_hour: float | None
    left_share: Interval | None
    side_bias: float | None
    gold_accuracy: Interval | None
    self_consistency: Interval | None


def people(session: Session, campaign_name: str) -> list[PersonProgress]:
    """Everybody who was given a task of the campaign, by name.

    Raises:
        UsageError: there is no such campaign.
    """
    campaign = find_campaign(session, campaign_name).id
    names = session.execute(
        select(User.id, User.name)
        .join(Participant, Participant.user_id == User.id)
        .where(Participant.campaign_id == campaign)
        .order_by(User.name)
    ).all()
    votes, states, repeats = _votes(session, campaign), _states(session, campaign), _repeats(session, campaign)
    return [
        _person(user, name, votes.get(user, (0,) * 7), states.get(user, {}), repeats.get(user, (0, 0)))
        for user, name in names
    ]


def _person(
    user_id: int, name: str, votes: Sequence[Any], states: Mapping[str, int], repeats: tuple[int, int]
) -> PersonProgress:
    count, timed, seconds, won, first, gold, right = votes
    seconds = float(seconds or 0)
    return PersonProgress(
        user_id=user_id,
        name=name,
        votes=count,
        skipped=states.get("skipped", 0),
        flagged=states.get("flagged", 0),
        seconds=seconds,
        per_hour=3600 * timed / seconds if seconds > 0 else None,
        left_share=_share(first, won),
        side_bias=binomial_exact(first, won) if won else None,
        gold_accuracy=_share(right, gold),
        self_consistency=_share(*repeats),
    )


def _share(successes: int, n: int) -> Interval | None:
    return wilson(successes, n) if n else None


def _votes(session: Session, campaign: int) -> dict[int, Sequence[Any]]:
    """Seven numbers of each person's valid votes that decide something.

    How many, those with a time, active seconds, those with a winner, those that the answer shown first won, those on
    gold tasks, and the right ones of these.
    """
    decided = VoteRow.outcome.in_(("left", "right"))
    first_won = or_(
        and_(VoteRow.outcome == "left", VoteRow.shown == "left_first"),
        and_(VoteRow.outcome == "right", VoteRow.shown == "right_first"),
    )
    known = and_(VoteRow.gold, VoteRow.outcome == Task.gold_outcome)
    active = case((VoteRow.seconds > IDLE_SECONDS, IDLE_SECONDS), else_=VoteRow.seconds)
    rows = session.execute(
        select(
            VoteRow.user_id,
            func.count(),
            func.count(VoteRow.seconds),
            func.sum(active),
            _sum(decided),
            _sum(first_won),
            _sum(VoteRow.gold),
            _sum(known),
        )
        .join(Lease, Lease.id == VoteRow.lease_id)
        .join(Task, Task.id == Lease.task_id)
        .where(Lease.campaign_id == campaign, VoteRow.outcome.in_(DECIDED), is_valid())
        .group_by(VoteRow.user_id)
    )
    return {user: sums for user, *sums in rows}


def _states(session: Session, campaign: int) -> dict[int, dict[str, int]]:
    """Each person's number of leases by state."""
    rows = session.execute(
        select(Lease.user_id, Lease.state, func.count())
        .where(Lease.campaign_id == campaign)
        .group_by(Lease.user_id, Lease.state)
    )
    found: dict[int, dict[str, int]] = {}
    for user, state, count in rows:
        found.setdefault(user, {})[state] = count
    return found


def _repeats(session: Session, campaign: int) -> dict[int, tuple[int, int]]:
    """Each person's number of repeats with the same vote as before, and of all repeats with two votes."""
    again, first_lease, first = aliased(Lease), aliased(Lease), aliased(VoteRow)
    later = aliased(VoteRow)
    rows = session.execute(
        select(again.user_id, _sum(VoteRow.outcome == first.outcome), func.count())
        .join(VoteRow, VoteRow.lease_id == again.id)
        .join(
            first_lease,
            and_(
                first_lease.task_id == again.task_id,
                first_lease.user_id == again.user_id,
                first_lease.repeat == false(),
            ),
        )
        .join(first, first.lease_id == first_lease.id)
        .where(
            again.campaign_id == campaign,
            again.repeat == true(),
            VoteRow.outcome.in_(DECIDED),
            first.outcome.in_(DECIDED),
            is_valid(),
            ~select(later.id).where(later.supersedes == first.id).exists(),
        )
        .group_by(again.user_id)
    )
    return {user: (same, count) for user, same, count in rows}


def _sum(condition: Any) -> Any:
    return func.coalesce(func.sum(cast(case((condition, 1), else_=0), Integer)), 0)
