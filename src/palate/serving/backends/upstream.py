"""An engine over the network, with a connection pool of its own and limits of every wait."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from typing import Any, get_args

import httpx2

from palate.serving.backends.answers import all_answers, answer_count
from palate.serving.backends.base import Endpoint
from palate.serving.problems import ApiError, Busy
from palate.serving.settings import ServedModelFields
from palate.serving.wire import parse_json, to_json

_SHORTEST_KEY = 8
"""Keys from this length on are removed from messages; shorter ones are placeholders, also words."""
_MOST_BYTES = 64 << 20
_LONGEST_LINE = 8 << 20
_SHOWN = 300
_END_SECONDS = 0.05
"""How long the end of a stream is waited for after its last event."""
_PASSED = frozenset({400, 404, 409, 413, 415, 422})
"""Statuses about the client's own request."""
_AWAY = (502, 503)
"""Statuses with which a proxy, or an engine that starts, says that nothing answers behind it."""


class Upstream:
    """An engine at a base URL.

    Args:
        name: the engine's name for the model, if `fields` has none.
        fields: with `upstream`.
    """

    content_hash: str | None = None
    template_hash: str | None = None

    def __init__(self, name: str, fields: ServedModelFields) -> None:
        assert fields.upstream is not None
        self._url = fields.upstream.rstrip("/")
        self._urls = {endpoint: httpx2.URL(f"{self._url}/{endpoint}") for endpoint in get_args(Endpoint)}
        self.version = fields.upstream_model or name
        self._fields = fields
        self._model = self.version
        self._key = os.environ.get(fields.key_variable, "").strip()
        self._free = fields.max_in_flight
        # The limits of the pool are above ours, so that a request never waits for a connection.
        self._client = httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            limits=httpx2.Limits(max_connections=fields.max_in_flight + 4, max_keepalive_connections=32),
            follow_redirects=False,
        )

    async def events(self, endpoint: Endpoint, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """See Backend."""
        chunks = self._events(endpoint, body)
        if answer_count(body) > 1:
            chunks = all_answers(lambda one: self._events(endpoint, one), body)
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk

    async def _events(self, endpoint: Endpoint, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        body = {**body, "stream": True, "stream_options": {**(body.get("stream_options") or {}), "include_usage": True}}
        async with self._response(endpoint, body) as response, aclosing(self._data_lines(response)) as lines:
            async for data in lines:
                if data == b"[DONE]":
                    # A connection can be used again only after its reply was read to the end.
                    with suppress(TimeoutError, httpx2.HTTPError, httpx2.StreamError, ApiError):
                        async with asyncio.timeout(_END_SECONDS):
                            await anext(lines, None)
                    return
                chunk = self._json(data)
                if "error" in chunk:
                    raise self._failed(502, chunk)
                yield self._checked(chunk)
        # Without [DONE] the finish reasons tell whether it is whole.

    async def reply(self, endpoint: Endpoint, body: dict[str, Any]) -> dict[str, Any]:
        """See Backend."""
        if answer_count(body) == 1:
            return await self._reply(endpoint, body)

        async def ask(one: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
            yield await self._reply(endpoint, one)

        found: dict[str, Any] = {}
        async for part in all_answers(ask, body):
            found = {**found, **part, "choices": [*found.get("choices", ()), *part["choices"]]}
        return found

    async def _reply(self, endpoint: Endpoint, body: dict[str, Any]) -> dict[str, Any]:
        async with self._response(endpoint, {**body, "stream": False}) as response:
            reply = self._checked(self._json(await self._whole(response)))
            if not reply["choices"]:
                raise self._broken("its reply has no choices")
            return reply

    async def check(self) -> None:
        """See Backend."""
        with self._waiting():
            response = await self._client.get(f"{self._url}/models", timeout=self._fields.connect_seconds)
        if response.status_code >= 400:
            raise self._broken(f"status {response.status_code}")

    async def close(self) -> None:
        """See Backend."""
        await self._client.aclose()

    @asynccontextmanager
    async def _response(self, endpoint: Endpoint, body: dict[str, Any]) -> AsyncIterator[httpx2.Response]:
        """The engine's response after its headers; every failure becomes an ApiError."""
        if self._free <= 0:
            raise Busy(f"{self.version} has {self._fields.max_in_flight} requests in progress; try again")
        content = to_json({**body, "model": self._model})
        # Reads have a limit for the reply's beginning, below, and another one between two pieces, from then on.
        limits = httpx2.Timeout(self._fields.connect_seconds, read=None, write=self._fields.idle_seconds).as_dict()
        request = self._client.build_request(
            "POST",
            self._urls[endpoint],
            content=content,
            headers={"Content-Type": "application/json"},
            extensions={"timeout": limits},
        )
        self._free -= 1
        response: httpx2.Response | None = None
        try:
            with self._waiting():
                async with asyncio.timeout(self._fields.connect_seconds + self._fields.first_byte_seconds):
                    response = await self._client.send(request, stream=True)
                limits["read"] = self._fields.idle_seconds
                if response.status_code >= 300:
                    text = (await self._whole(response)).decode("utf-8", "replace")
                    raise self._refused(response, text)
                yield response
        finally:
            self._free += 1
            if response is not None:
                await response.aclose()

    async def _whole(self, response: httpx2.Response) -> bytes:
        found = bytearray()
        async with aclosing(response.aiter_bytes()) as pieces:
            async for piece in pieces:
                found += piece
                if len(found) > _MOST_BYTES:
                    raise self._broken(f"its reply is longer than {_MOST_BYTES:,} bytes")
        return bytes(found)

    async def _data_lines(self, response: httpx2.Response) -> AsyncGenerator[bytes, None]:
        """The data of server-sent events; other fields and comments are left out."""
        if "event-stream" not in response.headers.get("content-type", ""):
            raise self._broken("its reply is not a stream of events")
        rest = b""
        async with aclosing(response.aiter_bytes()) as pieces:
            async for piece in pieces:
                *lines, rest = (rest + piece).split(b"\n")
                if len(rest) > _LONGEST_LINE:
                    raise self._broken("a line of its stream is too long")
                for line in lines:
                    if line.startswith(b"data:") and (data := line[5:].strip()):
                        yield data
        if rest.startswith(b"data:") and (data := rest[5:].strip()):
            yield data

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        """A context in which the failures of the connection become errors of the API."""
        try:
            yield
        except (httpx2.ConnectTimeout, httpx2.ConnectError, httpx2.PoolTimeout) as error:
            raise self._broken("it cannot be reached", code="upstream_unreachable") from error
        except (TimeoutError, httpx2.TimeoutException) as error:
            raise self._broken("it does not answer in time", 504, code="upstream_timeout") from error
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            raise self._broken(f"it broke off: {str(error) or type(error).__name__}"[:_SHOWN]) from error

    def _refused(self, response: httpx2.Response, text: str) -> ApiError:
        status = response.status_code
        try:
            given = self._json(text)
        except ApiError:
            given = {}
        if status == 429:
            wait = response.headers.get("retry-after", "")
            return Busy(
                f"{self.version} is busy: {self._words(given, text)}",
                int(wait) if re.fullmatch("[0-9]{1,5}", wait) else 1,
            )
        words = f"status {status}: {self._words(given, text)}"
        if status in _AWAY:
            return self._broken(words, code="upstream_unreachable")
        return self._failed(status if status in _PASSED else 502, given, words)

    def _failed(self, status: int, given: dict[str, Any], words: str = "") -> ApiError:
        error = given.get("error")
        error = error if isinstance(error, dict) else {}
        param, code = (found if isinstance(found := error.get(key), str) else None for key in ("param", "code"))
        if status >= 500:
            return self._broken(words or self._words(given, ""))
        return ApiError(status, self._words(given, words), param=param, code=code)

    def _words(self, given: dict[str, Any], text: str) -> str:
        """The engine's own message, as one line without our key."""
        error = given.get("error", given.get("message", given.get("detail")))
        message = error.get("message") if isinstance(error, dict) else error
        line = " ".join(str(message or ("not JSON" if text.lstrip().startswith("<") else text)).split())[:_SHOWN]
        return self._hide(line)

    def _hide(self, text: str) -> str:
        """A text without the engine's key."""
        return text.replace(self._key, "<key>") if len(self._key) >= _SHORTEST_KEY else text

    def _broken(self, cause: str, status: int = 502, *, code: str = "upstream_error") -> ApiError:
        return ApiError(status, self._hide(f"the engine behind {self.version} failed: {cause}"), code=code)

    def _checked(self, reply: dict[str, Any]) -> dict[str, Any]:
        """A reply or chunk whose choices have the form that the rest of the gateway relies on."""
        choices = reply.get("choices") or []
        if not isinstance(choices, list) or not all(map(_is_choice, choices)):
            raise self._broken("its reply is not a completion")
        return {**reply, "choices": choices}

    def _json(self, data: str | bytes) -> dict[str, Any]:
        try:
            value = parse_json(data)
        except ValueError as error:
            raise self._broken("its reply is not JSON") from error
        if not isinstance(value, dict):
            raise self._broken("its reply is not a JSON object")
        return value


def _is_choice(choice: Any) -> bool:
    if not isinstance(choice, dict) or not isinstance(choice.get("index", 0), int):
        return False
    said = choice.get("delta") or choice.get("message") or {"content": choice.get("text")}
    return isinstance(said, dict) and isinstance(said.get("content") or "", str)
