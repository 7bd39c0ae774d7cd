"""The labelling page: the next item of a campaign, votes, undo, differences of the two answers."""

from __future__ import annotations

import uuid
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter
from sqlalchemy.orm import Session
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from palate.charts.text import visible
from palate.feedback.campaigns.campaign import current_schema, list_campaigns
from palate.feedback.queue.stored_votes import answer_texts
from palate.feedback.queue.voting import next_assignment
from palate.store.tables import Lease, Task
from palate.store.texts import is_storable
from palate.web.label.ballots import NOTICES, OTHERS, VERDICTS, SentForm
from palate.web.label.conversation import prompt_blocks
from palate.web.label.differences import differences, marked
from palate.web.label.voting import cast, history, take_back
from palate.web.pages import render
from palate.web.problems import wants_page
from palate.web.security.people import Annotator, Person
from palate.web.state import state

router = APIRouter(prefix="/label")


@router.get("")
def campaigns(request: Request, who: Annotator) -> Response:
    """The campaigns that the person can label."""

    def work(session: Session) -> list[dict[str, Any]]:
        return [
            {"name": row.name, "closed": row.closed, "criteria": current_schema(session, row.id).criteria}
            for row in list_campaigns(session)
        ]

    return render(request, "label/campaigns.html", who=who, campaigns=state(request).store.read(work))


@router.get("/{campaign}")
def next_item(request: Request, who: Annotator, campaign: str, said: str = "") -> Response:
    """The item that the person has open, else the next one; a reload and a second tab show the same item."""
    return _item_page(request, who, campaign, said)


@router.post("/{campaign}/vote")
def vote(request: Request, who: Annotator, campaign: str, form: SentForm) -> Response:
    """Store a vote. The same form sent twice gives one vote."""
    return _answer(request, who, campaign, cast(state(request), who, form))


@router.post("/{campaign}/undo")
def undo_vote(request: Request, who: Annotator, campaign: str, form: SentForm) -> Response:
    """Take the person's last vote back and open its item again."""
    return _answer(request, who, campaign, take_back(state(request), who, campaign, form))


@router.get("/{campaign}/differences")
def show_differences(request: Request, who: Annotator, campaign: str, lease: str = "") -> Response:
    """The two answers of an item that the person has open, with the words marked in which they differ."""
    texts = state(request).store.read(lambda session: _texts(session, lease, who.id))
    if texts is None:
        raise HTTPException(404, "This item is not open any more; reload the page.")
    first, second = differences(*map(visible, texts))
    return render(
        request,
        "label/differences.html",
        campaign=campaign,
        first=marked(first, "first"),
        second=marked(second, "second"),
    )


def _answer(request: Request, who: Person, campaign: str, said: str) -> Response:
    """The response to a form: for a script the next item, else the way to its page."""
    if wants_page(request):
        return RedirectResponse(f"/label/{quote(campaign, safe='')}{f'?said={said}' if said else ''}", 303)
    return _item_page(request, who, campaign, said, status=409 if said == "full" else 200)


def _item_page(request: Request, who: Person, campaign: str, said: str, status: int = 200) -> Response:
    site = state(request)
    now = site.settings.clock()
    assignment, past = site.store.write(
        lambda session: (next_assignment(session, campaign, who.id, now), history(session, campaign, who.id))
    )
    return render(
        request,
        "label/item.html",
        status=status,
        assignment=assignment,
        blocks=[] if assignment is None else prompt_blocks(assignment.prompt, assignment.tools),
        campaign=campaign,
        notice=NOTICES.get(said, ""),
        last_vote=past.last,
        verdicts=VERDICTS,
        others=OTHERS,
        request_key=uuid.uuid4().hex,
        time_left="" if assignment is None else past.time_left(assignment.remaining),
    )


def _texts(session: Session, lease: str, user_id: int) -> tuple[str, str] | None:
    """The texts of a lease's answers in the order shown; None if the person has no such lease."""
    row = session.get(Lease, lease) if is_storable(lease) else None
    if row is None or row.user_id != user_id:
        return None
    task = session.get_one(Task, row.task_id)
    texts = answer_texts(session, task)
    left, right = texts[task.left], texts[task.right]
    return (left, right) if row.shown == "left_first" else (right, left)
