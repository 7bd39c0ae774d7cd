"""`/v1/chat/completions` and `/v1/completions`: backends speak them, so replies pass through with names of ours."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from palate.serving.api.call import Call, ChatParameters, Parameters, TextParameters, read_parameters
from palate.serving.backends.base import Endpoint
from palate.serving.problems import ApiError, invalid
from palate.serving.wire import event

_KINDS: dict[Endpoint, type[Parameters]] = {"chat/completions": ChatParameters, "completions": TextParameters}


def read_call(endpoint: Endpoint, body: dict[str, Any], *, max_n: int) -> Call:
    """The request in a body; raises ApiError that names the wrong parameter."""
    asked = read_parameters(_KINDS[endpoint], body)
    if isinstance(asked, ChatParameters):
        asked.turns()
    if asked.n > max_n:
        raise invalid(f"n: at most {max_n} answers to one request", "n")
    passed = {key: value for key, value in body.items() if value is not None and key not in ("model", "stream")}
    return Call(endpoint, passed, asked, CompletionForm(include_usage=asked.stream_options.include_usage))


class CompletionForm:
    """Chunks as they are; the usage only for a client that asked for it."""

    def __init__(self, *, include_usage: bool) -> None:
        self._include_usage = include_usage

    def whole(self, reply: dict[str, Any]) -> dict[str, Any]:
        """See Form."""
        return reply

    def pieces(self, chunk: dict[str, Any]) -> Iterable[bytes]:
        """See Form."""
        if not self._include_usage and "usage" in chunk:
            if not chunk.get("choices"):
                return ()
            chunk = {key: value for key, value in chunk.items() if key != "usage"}
        return (event(chunk),)

    def last(self) -> Iterable[bytes]:
        """See Form."""
        return (b"data: [DONE]\n\n",)

    def failed(self, error: ApiError) -> Iterable[bytes]:
        """See Form."""
        return (event(error.body()),)
