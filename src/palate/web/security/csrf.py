"""Requests that change something come from our own pages: checked by header, then by token, as pure ASGI middleware."""

from __future__ import annotations

import hmac
from urllib.parse import parse_qs

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from palate.web.problems import problem
from palate.web.security.tokens import cookie_of, token_of
from palate.web.settings import Settings

FIELD = "csrf_token"
HEADER = "x-csrf-token"

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_MOST_FIELDS = 500
_FORM = "application/x-www-form-urlencoded"

_ELSEWHERE = "This request came from another site, so nothing was changed."
_STALE = "This page is no longer valid, so nothing was changed. Reload it and try again."


class CsrfGuard:
    """Refuses, with 403, requests that change something and do not come from a page of this server."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in _SAFE_METHODS:
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        refusal = None
        if self._is_from_elsewhere(request):
            refusal = _ELSEWHERE
        else:
            sent = request.headers.get(HEADER)
            if sent is None and request.headers.get("content-type", "").startswith(_FORM):
                try:
                    body = await request.body()
                except ClientDisconnect:
                    return
                sent, receive = _field(body), _again(body, receive)
            if not self._is_ours(request, sent or ""):
                refusal = _STALE
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            await problem(request, 403, refusal)(scope, receive, send)

    def _is_from_elsewhere(self, request: Request) -> bool:
        site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
        if site is not None and site not in ("same-origin", "none"):
            return True
        if origin is None:
            return False
        scheme = "https" if self._settings.https else request.url.scheme
        return origin != f"{scheme}://{request.headers.get('host', '')}"

    def _is_ours(self, request: Request, sent: str) -> bool:
        cookie = cookie_of(request, self._settings)
        return cookie is not None and hmac.compare_digest(sent.encode(), token_of(cookie).encode())


def _again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives a body that was read already, and then what comes after it."""
    given = False

    async def receive_again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again


def _field(body: bytes) -> str:
    try:
        fields = parse_qs(body.decode("utf-8", "replace"), max_num_fields=_MOST_FIELDS)
    except ValueError:  # too many fields
        return ""
    return fields.get(FIELD, [""])[0]
