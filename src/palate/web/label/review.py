"""The pages of reviewers: items whose votes disagree, or that were flagged, and the vote that decides."""

from __future__ import annotations

import uuid
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Path
from sqlalchemy.orm import Session
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from palate.feedback.page.decided import write_and_save
from palate.feedback.queue.review import conflicts, decide, find_conflict
from palate.web.label.ballots import OTHERS, VERDICTS, SentForm, read_ballot, words_of
from palate.web.label.conversation import prompt_blocks
from palate.web.pages import render
from palate.web.security.people import Reviewer
from palate.web.state import state

router = APIRouter(prefix="/label/{campaign}/conflicts")

TaskNumber = Annotated[int, Path(lt=2**31)]  # the database has no larger ids

_DECIDING = (*VERDICTS, *(other for other in OTHERS if other[0] == "both_bad"))


@router.get("")
def list_conflicts(request: Request, who: Reviewer, campaign: str) -> Response:
    """The items that need a decision, in the order of the queue."""
    del who
    found = state(request).store.read(lambda session: conflicts(session, campaign))
    return render(request, "label/conflicts.html", campaign=campaign, conflicts=found, words_of=words_of)


@router.get("/{task}")
def show_conflict(request: Request, who: Reviewer, campaign: str, task: TaskNumber) -> Response:
    """One item with all its votes; the names of the voters only after the reviewer has decided."""
    found = state(request).store.read(lambda session: find_conflict(session, campaign, task))
    if found is None:
        raise HTTPException(404)
    own = any(vote.deciding and vote.who == who.name for vote in found.votes)
    return render(
        request,
        "label/conflict.html",
        campaign=campaign,
        conflict=found,
        blocks=prompt_blocks(found.prompt, found.tools),
        choices=_DECIDING,
        decided=own,
        request_key=uuid.uuid4().hex,
        words_of=words_of,
    )


@router.post("/{task}")
def decide_conflict(request: Request, who: Reviewer, campaign: str, task: TaskNumber, form: SentForm) -> Response:
    """Store the deciding vote; a later one of any reviewer replaces it."""
    site = state(request)
    site.rates.vote(who.id)
    ballot, now = read_ballot(form), site.settings.clock()

    def work(session: Session) -> bool:
        if find_conflict(session, campaign, task) is None:  # the task of another campaign
            return False
        decide(session, task, who.id, ballot, now)
        return True

    if not write_and_save(site.store, site.save, work, lambda _, found: task if found else None):
        raise HTTPException(404)
    return RedirectResponse(f"/label/{quote(campaign, safe='')}/conflicts/{task}", 303)
