"""Who makes a request, and the role that a route asks for.

Every route declares its role by a dependency, `Annotator`, `Reviewer`, `Admin` or `Anyone`; `create_app` refuses a
route that does not. Nothing is decided by the path.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from fastapi import Depends
from starlette.exceptions import HTTPException
from starlette.requests import Request

from palate.network.roles import NeedsRole
from palate.web.security import sessions
from palate.web.security.accounts import ROLES, Person
from palate.web.state import state

Access: TypeAlias = Literal["anonymous", "annotator", "reviewer", "admin"]
ACCESS: tuple[Access, ...] = ("anonymous", *ROLES)

__all__ = ["ACCESS", "Access", "Admin", "Annotator", "Anyone", "NeedsLogin", "Person", "Reviewer", "person"]


def person(request: Request) -> Person | None:
    """The person of a request, None for somebody who is not logged in. Looked up once per request."""
    if not hasattr(request.state, "person"):
        request.state.person = _find(request)
    found: Person | None = request.state.person
    return found


def _find(request: Request) -> Person | None:
    site = state(request)
    if site.local is not None:
        return site.local
    token = request.cookies.get(site.settings.session_cookie)
    if not token:
        return None
    now = site.settings.clock()
    return site.store.read(lambda session: sessions.find_login(session, token, now))


class NeedsLogin(NeedsRole):
    """A dependency that lets nobody through who has fewer rights than `role`."""

    def __init__(self, role: Access) -> None:
        self.role: Access = role

    def __call__(self, request: Request) -> Person | None:
        if self.role == "anonymous":
            return None
        found = person(request)
        if found is None:
            raise HTTPException(401, "Log in to go on.")
        if not found.may(self.role):
            raise HTTPException(
                403, f"This page is for {_PLURALS[self.role]}; your account is {_ARTICLES[found.role]}."
            )
        return found


_PLURALS = {"annotator": "annotators", "reviewer": "reviewers and admins", "admin": "admins"}
_ARTICLES = {"annotator": "an annotator's", "reviewer": "a reviewer's", "admin": "an admin's"}


Annotator = Annotated[Person, Depends(NeedsLogin("annotator"))]
Reviewer = Annotated[Person, Depends(NeedsLogin("reviewer"))]
Admin = Annotated[Person, Depends(NeedsLogin("admin"))]
Anyone = Depends(NeedsLogin("anonymous"))
"""For `dependencies=[Anyone]` of a route that everybody may call."""
