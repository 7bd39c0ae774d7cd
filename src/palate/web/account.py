"""A person's own account: a new password."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from palate.errors import UsageError
from palate.web.login import client_address, give_login
from palate.web.pages import render
from palate.web.security import accounts, passwords
from palate.web.security.people import Annotator
from palate.web.security.tokens import set_cookie
from palate.web.state import state

router = APIRouter()


@router.get("/account")
def show_account(request: Request, who: Annotator, changed: bool = False) -> Response:
    """Name, role, and the form for a new password."""
    _needs_account(request)
    return render(request, "account.html", who=who, message="", done=changed)


@router.post("/account/password")
def change_password(
    request: Request,
    who: Annotator,
    old: Annotated[str, Form(max_length=1000)] = "",
    new: Annotated[str, Form(max_length=1000)] = "",
    again: Annotated[str, Form(max_length=1000)] = "",
) -> Response:
    """Change the password. Every other browser of the person is logged out; this one gets a new login."""
    _needs_account(request)

    def refused(message: str) -> Response:
        return render(request, "account.html", status=400, who=who, message=message, done=False)

    site = state(request)
    site.rates.login(who.name, client_address(request))
    account = site.store.read(lambda session: accounts.find_account(session, who.name))
    if account is None or not passwords.matches(account.password_hash, old):
        return refused("The old password is wrong.")
    if new != again:
        return refused("The new password was not typed the same way twice.")
    try:
        stored = passwords.hash_password(new, name=who.name)
    except UsageError as error:
        return refused(f"{str(error)[:1].upper()}{str(error)[1:]}.")
    site.store.write(lambda session: accounts.set_password(session, who.name, stored))
    token = give_login(request, who.id)
    response = RedirectResponse("/account?changed=true", 303)
    set_cookie(response, site.settings.session_cookie, token, site.settings)
    return response


def _needs_account(request: Request) -> None:
    if state(request).local is not None:
        raise HTTPException(404, "This server has no accounts; palate label users add makes one.")
