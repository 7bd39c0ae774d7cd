"""Errors as the OpenAI API writes them: one JSON object with message, type, parameter and code."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from palate.errors import DataError, PalateError, StoreError

_LOG = logging.getLogger("palate.serving")

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class ApiError(Exception):
    """A request that is not answered.

    Attributes:
        status: HTTP status.
        message: one line for the person; says what to do.
        param: the parameter that is wrong.
        code: a word for programs.
        headers: of the response.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        # It may quote a key of the request, and a client's key may have line ends.
        message = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in message)
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """The JSON of the response."""
        kind = _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> Response:
        return JSONResponse(self.body(), self.status, self.headers)


class Busy(ApiError):  # noqa: N818 - says how it is
    """Nothing more is accepted at the moment; a client may send the same request again."""

    def __init__(self, message: str, seconds: int = 1, *, code: str = "busy") -> None:
        super().__init__(429, message, code=code, headers={"Retry-After": str(seconds)})


def invalid(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """A request that is wrong as it is."""
    return ApiError(400, message, param=param, code=code)


def as_api_error(error: BaseException) -> ApiError:
    """What a client is told about an error; the server's log gets the rest. Prompts are in neither."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, HTTPException):
        return ApiError(error.status_code, error.detail, headers=error.headers)
    if isinstance(error, RequestValidationError):
        # Not what was sent: it is a person's text.
        found = [(".".join(map(str, part["loc"][1:])), part["msg"]) for part in error.errors()]
        return invalid("; ".join(f"{where}: {words}" for where, words in found), found[0][0] or None)
    if isinstance(error, DataError):
        return invalid(str(error))
    if isinstance(error, StoreError):
        _LOG.error("%s", error)
        return ApiError(503, "the database does not answer; try again in a moment", code="store_unavailable")
    if isinstance(error, PalateError):
        _LOG.error("%s", error)  # may name files and addresses of this machine
    else:
        # Without the error's own text and locals, which may hold a prompt.
        frame = error.__traceback__
        while frame is not None and frame.tb_next is not None:
            frame = frame.tb_next
        where = f"{frame.tb_frame.f_code.co_filename}:{frame.tb_lineno}" if frame is not None else "unknown place"
        _LOG.error("%s at %s", type(error).__name__, where)
    return ApiError(500, "palate made a mistake; the server's terminal shows where", code="internal_error")


def handle_errors(app: FastAPI) -> None:
    """Make every exception of a route one of these responses."""

    async def respond(request: Request, error: Exception) -> Response:
        del request
        return as_api_error(error).response()

    for kind in (ApiError, HTTPException, RequestValidationError, PalateError, Exception):
        app.add_exception_handler(kind, respond)
