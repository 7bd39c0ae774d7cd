"""Logging in and out. A page that is open already logs in by a dialog, whose script sends the same form."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Form
from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from palate.web.pages import render
from palate.web.problems import wants_page
from palate.web.security import accounts, passwords, sessions
from palate.web.security.people import Anyone, Person, person
from palate.web.security.tokens import give_cookie, page_token, set_cookie, token_of
from palate.web.state import state

router = APIRouter(dependencies=[Anyone])

_WRONG = "The name or the password is wrong."

Visitor = Annotated[Person | None, Depends(person)]


@router.get("/login")
def show_login(request: Request, visitor: Visitor, next: str = "") -> Response:
    """The form; for a script the token that the form needs."""
    if not wants_page(request):
        settings = state(request).settings
        response = JSONResponse({"csrf_token": page_token(request, settings)})
        give_cookie(request, response, settings)
        return response
    if visitor is not None:
        return RedirectResponse(own_path(next), 303)
    return render(request, "login.html", next=own_path(next), name="", message="")


@router.post("/login")
def log_in(
    request: Request,
    name: Annotated[str, Form(max_length=200)] = "",
    password: Annotated[str, Form(max_length=1000)] = "",
    next: Annotated[str, Form(max_length=2000)] = "",
) -> Response:
    """Log in with a name and a password; the browser gets a new login, whatever cookie it came with."""
    site = state(request)
    site.rates.login(name, client_address(request))
    account = site.store.read(lambda session: accounts.find_account(session, name))
    known = account if account is not None and account.active else None
    if not passwords.matches(known.password_hash if known else "", password) or known is None:
        if wants_page(request):
            return render(request, "login.html", status=401, next=own_path(next), name=name, message=_WRONG)
        return JSONResponse({"error": _WRONG}, 401)
    site.rates.logged_in(name, client_address(request))
    token = give_login(request, known.id)
    response: Response
    if wants_page(request):
        response = RedirectResponse(own_path(next), 303)
    else:
        response = JSONResponse({"name": known.name, "csrf_token": token_of(token)})
    set_cookie(response, site.settings.session_cookie, token, site.settings)
    return response


@router.post("/logout")
def log_out(request: Request) -> Response:
    """End the login of this browser."""
    site = state(request)
    token = request.cookies.get(site.settings.session_cookie, "")
    site.store.write(lambda session: sessions.close_login(session, token))
    response = RedirectResponse("/login", 303)
    response.delete_cookie(
        site.settings.session_cookie, path="/", secure=site.settings.https, httponly=True, samesite="lax"
    )
    return response


def give_login(request: Request, user_id: int) -> str:
    """The token of a new login of a person, which replaces the one that the browser came with."""
    site = state(request)
    old = request.cookies.get(site.settings.session_cookie, "")
    token, now, hours = sessions.new_token(), site.settings.clock(), site.settings.session_hours

    def replace(session: Session) -> None:
        sessions.close_login(session, old)
        sessions.open_login(session, user_id, token, now=now, hours=hours)

    site.store.write(replace)
    return token


def client_address(request: Request) -> str:
    """The address that a request comes from."""
    return request.client.host if request.client is not None else ""


def own_path(wanted: str) -> str:
    r"""The page to go to after the login: `wanted` if it is a path of this server, else the start page.

    Browsers read `//host`, `/\host` and `/<tab>/host` as another server's address.
    """
    ours = wanted.startswith("/") and not wanted.startswith(("//", "/\\"))
    return wanted if ours and wanted.isprintable() else "/"
