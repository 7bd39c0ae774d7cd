"""The start page: the campaign that the server was started for, else the free prompt, else the person's pages."""

from __future__ import annotations

from urllib.parse import quote

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from palate.web.pages import render
from palate.web.security.people import Annotator
from palate.web.state import state

router = APIRouter()


@router.get("/")
def start(request: Request, who: Annotator) -> Response:
    del who  # the navigation of the page depends on the role
    campaign = state(request).settings.campaign
    if campaign is not None:
        return RedirectResponse(f"/label/{quote(campaign, safe='')}", 303)
    if state(request).chat is not None:
        return RedirectResponse("/ask", 303)
    return render(request, "home.html")
