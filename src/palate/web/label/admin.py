"""The pages of admins: progress and people of a campaign, and how far its votes agree."""

from __future__ import annotations

from fastapi import APIRouter
from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import Response

from palate.feedback.agreement import AnnotatorQuality, PeopleAgreement, annotator_quality, people_agreement
from palate.feedback.people_votes import people_votes
from palate.feedback.queue.people import PersonProgress, people
from palate.feedback.queue.review import CampaignProgress, Conflict, conflicts, progress
from palate.feedback.transfer import votes_in
from palate.web.pages import render
from palate.web.security.people import Admin
from palate.web.state import state

router = APIRouter(prefix="/label/{campaign}")


@router.get("/admin")
def overview(request: Request, who: Admin, campaign: str) -> Response:
    """Progress, people and flagged items."""
    del who

    def work(session: Session) -> tuple[CampaignProgress, list[PersonProgress], list[Conflict]]:
        return progress(session, campaign), people(session, campaign), conflicts(session, campaign)

    counts, persons, waiting = state(request).store.read(work)
    return render(
        request,
        "label/admin.html",
        campaign=campaign,
        progress=counts,
        people=persons,
        flagged=[conflict for conflict in waiting if conflict.flagged],
    )


@router.get("/agreement")
def agreement(request: Request, who: Admin, campaign: str) -> Response:
    """How far people agree with each other; computed from all votes at each call."""
    del who
    votes = people_votes(state(request).store.read(lambda session: votes_in(session, campaign)))
    found: PeopleAgreement = people_agreement(votes)
    quality: list[AnnotatorQuality] = annotator_quality(votes)
    return render(request, "label/agreement.html", campaign=campaign, agreement=found, people=quality)
