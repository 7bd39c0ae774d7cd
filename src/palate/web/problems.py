"""Responses to requests that fail: a page for a browser that opens one, one line of JSON for a script."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import quote

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from palate.errors import PalateError, StoreError, UsageError
from palate.web.pages import render
from palate.web.security.headers import HEADERS

_LOG = logging.getLogger("palate.web")

_TITLES = {
    400: "This request is not valid",
    401: "Log in to go on",
    403: "Not allowed",
    404: "There is no such page",
    405: "Not possible here",
    413: "Too long",
    422: "This form is incomplete",
    429: "Too many requests",
    500: "Internal error",
    503: "The database does not answer",
}
_MESSAGES = {
    404: "The address is wrong, or what was there has been removed.",
    405: "This address takes other kinds of requests only.",
    500: "The server's terminal shows what went wrong. Nothing that was recorded before is lost.",
    503: "Nothing that was recorded before is lost. Try again in a moment.",
}


def wants_page(request: Request) -> bool:
    """Whether a browser opens a page or sends a form; not a script or htmx."""
    mode = request.headers.get("sec-fetch-mode")
    if mode is not None:
        return mode == "navigate"
    return "hx-request" not in request.headers and "text/html" in request.headers.get("accept", "")


def problem(request: Request, status: int, message: str = "", headers: Mapping[str, str] | None = None) -> Response:
    """The response to a request that fails.

    Args:
        message: one line for the person; by default that of the status.
    """
    message = message or _MESSAGES.get(status, "")
    if wants_page(request):
        title = _TITLES.get(status) or HTTPStatus(status).phrase
        return render(request, "problem.html", status=status, headers=headers, title=title, message=message)
    return JSONResponse({"error": message or HTTPStatus(status).phrase}, status, {**HEADERS, **(headers or {})})


def handle_errors(app: FastAPI) -> None:
    """Make every exception of a route one of these responses; none shows a traceback."""
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(PalateError, _expected)
    app.add_exception_handler(Exception, _unexpected)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 401 and request.method == "GET" and wants_page(request):
        place = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(f"/login?next={quote(place, safe='')}", 303)
    default = error.detail == HTTPStatus(error.status_code).phrase
    return problem(request, error.status_code, "" if default else error.detail, error.headers)


async def _validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    if any(part["loc"][0] == "path" for part in error.errors()):
        return problem(request, 404)
    # Not what was sent: it may be a password.
    found = [f"{'.'.join(map(str, part['loc'][1:]))}: {part['msg']}" for part in error.errors()]
    return problem(request, 422, "; ".join(found))


async def _expected(request: Request, error: Exception) -> Response:
    assert isinstance(error, PalateError)
    if isinstance(error, UsageError):
        return problem(request, 400, str(error))
    # The line may name files and addresses of this machine, which are no business of the people who label.
    _LOG.error("%s %s: %s", request.method, request.url.path, error)
    return problem(request, 503 if isinstance(error, StoreError) else 500)


async def _unexpected(request: Request, error: Exception) -> Response:
    del error  # the server prints its traceback
    return problem(request, 500)
