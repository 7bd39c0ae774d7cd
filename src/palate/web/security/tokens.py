"""CSRF tokens and the cookies that they are bound to.

A token is an HMAC whose key is the random value of a cookie that scripts cannot read: that of the login, else that of
the visitor. So it is bound to the login, and the server stores nothing.
"""

from __future__ import annotations

import hashlib
import hmac

from starlette.requests import Request
from starlette.responses import Response

from palate.web.security.sessions import new_token
from palate.web.settings import Settings


def token_of(cookie: str) -> str:
    """The token that belongs to a cookie's value."""
    return hmac.new(cookie.encode("utf-8", "surrogateescape"), b"palate csrf", hashlib.sha256).hexdigest()


def page_token(request: Request, settings: Settings) -> str:
    """The token for the forms of a page. For a browser without a cookie, `give_cookie` must follow."""
    cookie = cookie_of(request, settings)
    if cookie is None:
        if not hasattr(request.state, "new_visitor"):
            request.state.new_visitor = new_token()
        cookie = request.state.new_visitor
    return token_of(cookie)


def give_cookie(request: Request, response: Response, settings: Settings) -> None:
    """Set the visitor's cookie that `page_token` has made up, if it has."""
    made_up: str | None = getattr(request.state, "new_visitor", None)
    if made_up is not None:
        set_cookie(response, settings.visitor_cookie, made_up, settings)


def set_cookie(response: Response, name: str, value: str, settings: Settings) -> None:
    """A cookie for this server only, until the browser is closed, that no script can read."""
    response.set_cookie(name, value, path="/", secure=settings.https, httponly=True, samesite="lax")


def cookie_of(request: Request, settings: Settings) -> str | None:
    """The value that the token of a request is bound to: of the login's cookie, else of the visitor's."""
    return request.cookies.get(settings.session_cookie) or request.cookies.get(settings.visitor_cookie) or None
