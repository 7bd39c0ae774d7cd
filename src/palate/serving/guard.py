"""ASGI middleware before every route: checks host, origin and size of requests, adds headers, counts responses."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from palate.serving.metrics import Metrics
from palate.serving.problems import ApiError

_TOO_LARGE = "the request has more than {:,} bytes"


class Guard:
    """Refuses requests to a foreign host name, from a foreign web page, or with a body that is too large.

    Args:
        hosts: names by which requests may address the server.
        origins: of web pages that may call it.
        most_bytes: of a body.
    """

    def __init__(
        self, app: ASGIApp, *, hosts: Sequence[str], origins: Sequence[str], most_bytes: int, metrics: Metrics
    ) -> None:
        self._app = app
        self._hosts = frozenset(hosts)
        self._origins = frozenset(origins)
        self._most_bytes = most_bytes
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "other")
                self._metrics.responses.labels(route, message["status"]).inc()
                headers = MutableHeaders(scope=message)
                headers.setdefault("X-Content-Type-Options", "nosniff")
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refusal = self._refusal(Headers(scope=scope), scope["scheme"])
        if refusal is not None:
            await refusal.response()(scope, receive, counted)
            return
        size = 0

        async def limited() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._most_bytes:
                raise ApiError(413, _TOO_LARGE.format(self._most_bytes), code="too_large")
            return message

        await self._app(scope, limited, counted)

    def _refusal(self, headers: Headers, scheme: str) -> ApiError | None:
        host = headers.get("host", "")
        name = host.rpartition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
        if name.lower() not in self._hosts:
            return ApiError(403, "this server is not called that; name it with --name", code="unknown_host")
        origin = headers.get("origin")
        own = origin is None or origin in (f"{scheme}://{host}", f"https://{host}")
        if not own and origin not in self._origins:
            return ApiError(403, "web pages of that origin may not call this server; see origins", code="origin")
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length[:20]) > self._most_bytes:
            return ApiError(413, _TOO_LARGE.format(self._most_bytes), code="too_large")
        return None
