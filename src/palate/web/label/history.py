"""What a person has done in a campaign: the last vote and the time per vote."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from sqlalchemy import select
from sqlalchemy.orm import Session

from palate.store.tables import Campaign, VoteRow

_FEWEST = 3
_LATEST = 50


@dataclass(frozen=True, slots=True)
class History:
    """A person's votes in a campaign.

    Attributes:
        last: id of the last row, a vote or the undo of one; empty without one. Decisions of a reviewer do not count.
        seconds: median active time of the latest 50 votes, in seconds; None with fewer than 3 that have a time.
    """

    last: str = ""
    seconds: float | None = None

    def time_left(self, remaining: int) -> str:
        """The expected time for `remaining` items in words; empty if nothing is known."""
        if self.seconds is None or remaining == 0:
            return ""
        minutes = self.seconds * remaining / 60
        if minutes < 1:
            return "less than a minute left"
        if minutes < 90:
            return f"about {minutes:.0f} min left"
        return f"about {minutes / 60:.0f} h left"


def history(session: Session, campaign: str, user_id: int) -> History:
    """The person's history in the campaign of this name."""
    mine = (
        select(VoteRow.id, VoteRow.seconds)
        .join(Campaign, Campaign.id == VoteRow.campaign_id)
        .where(VoteRow.user_id == user_id, VoteRow.lease_id.is_not(None), Campaign.name == campaign)
        .order_by(VoteRow.number.desc())
        .limit(_LATEST)
    )
    rows = session.execute(mine).all()
    times = [row.seconds for row in rows if row.seconds is not None]
    return History(rows[0].id if rows else "", median(times) if len(times) >= _FEWEST else None)
