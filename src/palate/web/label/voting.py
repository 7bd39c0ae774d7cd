"""A person's votes: cast, taken back, and the last one with the time per vote.

The file of `--save` follows the database.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.datastructures import FormData

from palate.feedback.page.decided import task_of_lease, write_and_save
from palate.feedback.queue.voting import Receipt, submit, undo
from palate.store.tables import Campaign, VoteRow
from palate.web.label.ballots import notice_of, read_ballot, text_field
from palate.web.security.people import Person
from palate.web.state import State

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


def cast(site: State, who: Person, form: FormData) -> str:
    """Store the vote of a form, once however often it is sent; returns the name of the notice."""
    site.rates.vote(who.id)
    ballot, lease, now = read_ballot(form), text_field(form, "lease"), site.settings.clock()

    def work(session: Session) -> Receipt:
        return submit(session, lease, who.id, ballot, now)

    receipt = write_and_save(site.store, site.save, work, lambda session, _: task_of_lease(session, lease))
    return notice_of(ballot, receipt)


def take_back(site: State, who: Person, campaign: str, form: FormData) -> str:
    """Take the person's last vote in a campaign back and open its item again; returns the name of the notice.

    The form names the vote that was the last one when the page was made, so a form that is sent twice undoes one vote.
    """
    site.rates.vote(who.id)
    expected, now = text_field(form, "last_vote"), site.settings.clock()

    def work(session: Session) -> tuple[str, str]:
        last = history(session, campaign, who.id).last
        if last != expected:
            return "", ""
        again = undo(session, campaign, who.id, now) if last else None
        return ("nothing", "") if again is None else ("undone", again.lease)

    said, _ = write_and_save(
        site.store, site.save, work, lambda session, done: task_of_lease(session, done[1]) if done[1] else None
    )
    return said
