"""The votes that a version learnt from, by voter and one by one, and the way back from a vote or a served answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import and_, func, select
from sqlalchemy.orm import Session

from palate.registry.lineage import vote_ids
from palate.registry.versions import Version
from palate.store.serving_tables import Interaction
from palate.store.tables import Campaign, Item, Task, VoteRow

_AT_A_TIME = 500


@dataclass(frozen=True, slots=True)
class Voter:
    """A person or judge, with the number of their votes that a version learnt from.

    Attributes:
        who: name of the account, or of the judge.
        kind: as in `feedback.votes.Vote`: person, judge and so on.
        votes: the number.
    """

    who: str
    kind: str
    votes: int


@dataclass(frozen=True, slots=True)
class LearntVote:
    """A vote that a version learnt from.

    Attributes:
        id: of the vote.
        who, kind, outcome, at: of the vote; empty and None if this store does not have it.
        item: name of the item.
        campaign: the campaign that has the item.
        task: number of its task, if there is one.
    """

    id: str
    who: str = ""
    kind: str = ""
    outcome: str = ""
    at: datetime | None = None
    item: str = ""
    campaign: str = ""
    task: int | None = None


def voters(session: Session, ids: Sequence[str]) -> list[Voter]:
    """Who cast these votes, as far as the store has them, those with most votes first."""
    found: Counter[tuple[str, str]] = Counter()
    for some in _parts(ids):
        rows = select(VoteRow.who, VoteRow.kind, func.count()).where(VoteRow.id.in_(some))
        for who, kind, count in session.execute(rows.group_by(VoteRow.who, VoteRow.kind)):
            found[who, kind] += count
    return [Voter(who, kind, count) for (who, kind), count in sorted(found.items(), key=lambda row: (-row[1], row[0]))]


def learnt_votes(session: Session, ids: Sequence[str]) -> list[LearntVote]:
    """These votes in their order; of one that the store does not have, only the id is known."""
    of_task = and_(Task.item_id == VoteRow.item_id, Task.left == VoteRow.left, Task.right == VoteRow.right)
    found = {}
    for some in _parts(ids):
        rows = (
            select(VoteRow, Item.name, Campaign.name, Task.id)
            .join(Item, Item.id == VoteRow.item_id)
            .join(Campaign, Campaign.id == VoteRow.campaign_id)
            .outerjoin(Task, of_task)
            .where(VoteRow.id.in_(some))
        )
        for row, item, campaign, task in session.execute(rows):
            found[row.id] = LearntVote(row.id, row.who, row.kind, row.outcome, row.at, item, campaign, task)
    return [found.get(one, LearntVote(one)) for one in ids]


def learnt_from(versions: Sequence[Version], vote: str) -> list[Version]:
    """The versions that learnt from a vote."""
    return [version for version in versions if vote in vote_ids(version.folder)]


def version_of_answer(
    session: Session, versions: Sequence[Version], interaction: str
) -> tuple[Interaction, Version | None] | None:
    """The interaction of an id, and the version that answered it: None if the registry does not have that model."""
    row = session.get(Interaction, interaction)
    if row is None:
        return None
    session.expunge(row)
    by_hash = [version for version in versions if row.identity and version.content_hash == row.identity]
    named = [version for version in versions if version.name == row.model]
    return row, next(iter(named or by_hash), None)


def _parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[start : start + _AT_A_TIME] for start in range(0, len(ids), _AT_A_TIME))
