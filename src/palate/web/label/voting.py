"""Casting a vote and taking it back, for the pages that do it; the file of `--save` follows the database."""

from __future__ import annotations

from sqlalchemy.orm import Session
from starlette.datastructures import FormData

from palate.feedback.page.decided import task_of_lease, write_and_save
from palate.feedback.queue.voting import Receipt, submit, undo
from palate.web.label.ballots import notice_of, read_ballot, text_field
from palate.web.label.history import history
from palate.web.security.people import Person
from palate.web.state import State


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
