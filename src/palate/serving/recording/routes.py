"""`POST /v1/feedback`: the signed token of a completion is what allows it; an API key is not needed."""

from __future__ import annotations

import sys
from typing import Annotated, Any

from fastapi import APIRouter, Header
from fastapi.responses import JSONResponse
from pydantic import Field

from palate.errors import StoreError
from palate.serving.recording.feedback import Feedback, FeedbackError
from palate.serving.recording.recorder import Recorder
from palate.store.serving_tables import FeedbackRow

TOKEN_HEADER = "x-palate-feedback-token"  # noqa: S105 - a name
"""Of a completion's reply, and of a request with feedback on it."""
ANSWERS_HEADER = "x-palate-answers"
"""`2` asks for two answers, drawn as any other, which the client shows both; the better one is sent as `chosen`."""


class FeedbackForm(Feedback):
    """The body of a request; the token may also be in its header."""

    token: str | None = Field(None, max_length=500)


def feedback_router(recorder: Recorder) -> APIRouter:
    """The route, for the gateway's app."""
    router = APIRouter()

    @router.post("/v1/feedback")
    def send_feedback(
        form: FeedbackForm,
        token: Annotated[str | None, Header(alias=TOKEN_HEADER)] = None,
        key: Annotated[str | None, Header(alias="idempotency-key")] = None,
    ) -> JSONResponse:
        """Store feedback; the reply is sent after the commit."""
        form = form.model_copy(update={"idempotency_key": form.idempotency_key or key})
        try:
            row = recorder.feedback(form.token or token or "", form)
        except FeedbackError as error:
            return _refusal(error.status, str(error), "invalid_request_error")
        except StoreError as error:
            sys.stderr.write(f"feedback was not stored: {error}\n")
            return _refusal(503, "the feedback was not stored; send it again", "server_error")
        return JSONResponse(_shown(row))

    return router


def _shown(row: FeedbackRow) -> dict[str, Any]:
    """The row as the client gets it: with what was stored of its texts."""
    names = ("answer", "thumbs", "score", "comment", "edit", "chosen")
    values = {name: getattr(row, name) for name in names}
    return {"object": "feedback", "id": row.number, "completion": row.interaction_id, **values}


def _refusal(status: int, message: str, kind: str) -> JSONResponse:
    error = {"message": message, "type": kind, "param": None, "code": None}
    return JSONResponse({"error": error}, status)
