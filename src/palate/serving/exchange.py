"""One request from its acceptance to its recorded end, as an ASGI response.

The end is recorded whatever happens: the client leaves, the engine fails, time is over, or the server stops.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from palate.errors import StoreError
from palate.serving.access import Access, Caller
from palate.serving.api.call import Call
from palate.serving.backends.base import Backend
from palate.serving.gather import Gathered
from palate.serving.metrics import Metrics
from palate.serving.models import Arm, Served
from palate.serving.problems import ApiError, as_api_error
from palate.serving.recording.entries import Endpoint, NewInteraction, State, Usage
from palate.serving.recording.recorder import Recorder
from palate.serving.recording.routes import TOKEN_HEADER
from palate.serving.routes import Choice
from palate.serving.settings import ServeFields
from palate.serving.wire import to_json

_LOG = logging.getLogger("palate.serving")
T = TypeVar("T")

_READ_SECONDS = 60.0
"""A client that reads nothing of its stream for so long is taken for gone."""
_STREAMING_SECONDS = 1.0
"""A stream that lasts so long is recorded as streaming; a shorter one goes from reserved to its end."""
_SETTINGS = (
    *("temperature", "top_p", "seed", "n", "max_tokens", "max_completion_tokens", "stop"),
    *("frequency_penalty", "presence_penalty", "top_k", "min_p"),
)
_BYTES_PER_TOKEN = 4
_STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


@dataclass(eq=False)
class GatewayState:
    """What all exchanges of a gateway share.

    Attributes:
        settings: of the gateway.
        recorder: writes interactions.
        access: counts tokens.
        metrics: of the gateway.
        run: runs a function of the recorder in a thread.
        stopping: set when requests in progress must end.
        tasks, shadows: in progress; the shadows are among the tasks.
    """

    settings: ServeFields
    recorder: Recorder
    access: Access
    metrics: Metrics
    run: Callable[..., Coroutine[Any, Any, Any]]
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    shadows: set[asyncio.Task[Any]] = field(default_factory=set)

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """A task that is held until it ends; the server waits for it before it stops."""
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def close(self) -> None:
        """End what is in progress, and wait until all ends are written."""
        self.stopping.set()
        for shadow in self.shadows:
            shadow.cancel()
        while self.tasks:
            await asyncio.wait(set(self.tasks))


@dataclass(eq=False)
class Exchange(Response):
    """The reply to a call.

    Attributes:
        gateway: what its exchanges share.
        call: the request.
        choice: the model that answers.
        caller: who asks.
        endpoint: as it is recorded.
        consent: whether the person consented to training.
        started: when the request arrived (`time.perf_counter`).
    """

    gateway: GatewayState
    call: Call
    choice: Choice
    caller: Caller
    endpoint: Endpoint
    consent: bool
    started: float

    def __post_init__(self) -> None:
        self.background = None  # FastAPI asks for it
        self._label = self.choice.served.name
        self._waited = 0.0
        self._reason: State | None = None
        self._begun = False
        self._reserving: asyncio.Task[str | None] | None = None
        self._id: str | None = None
        self._more: dict[str, Any] = {}
        self._gathered = Gathered(texts=self.caller.terms.recording != "none", streamed=self.call.asked.stream)
        self._streaming: asyncio.Task[None] | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self._sending: float | None = None
        self._main: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, until the client leaves or the server stops."""
        del scope
        main = self._main = self.gateway.start(self._answer(send))
        gone = asyncio.create_task(_left(receive))
        stopping = asyncio.create_task(self.gateway.stopping.wait())
        try:
            await asyncio.wait({main, gone, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not main.done():
                self._reason = "cancelled" if gone.done() else "partial"
                main.cancel()
            await asyncio.wait({main})
        except asyncio.CancelledError:
            self._reason = self._reason or "partial"
            main.cancel()
            raise
        finally:
            gone.cancel()
            stopping.cancel()
        if not main.cancelled():
            main.result()

    async def _answer(self, send: Send) -> None:
        served, metrics = self.choice.served, self.gateway.metrics
        in_flight = metrics.in_flight.labels(served.name)
        state: State = "partial"
        error: ApiError | None = None
        in_flight.inc()
        try:
            async with asyncio.timeout(self.gateway.settings.request_seconds), served.use(self.choice.person) as arm:
                self._label = arm.label
                await self._reserve(arm)
                await (self._stream(arm.backend, send) if self.call.asked.stream else self._whole(arm.backend, send))
            state = "complete"
        except asyncio.CancelledError:
            state = self._reason or "partial"
            if state == "partial":
                error = ApiError(503, "the server stops; send the request again", code="stopping")
        except TimeoutError:
            error = ApiError(504, "the request took longer than this server allows", code="timeout")
        except Exception as raised:  # every failure of a backend, so that the end is recorded and the client told
            error = as_api_error(raised)
            state = _end_of(error)
        finally:
            in_flight.dec()
            end = self.gateway.start(self._end(state, error))
        if error is not None:
            with suppress(Exception):  # the client may have gone as well
                async with asyncio.timeout(_READ_SECONDS):
                    await self._tell(error, send)
        await asyncio.shield(end)

    async def _reserve(self, arm: Arm) -> None:
        """Record the request before anything is answered. A row is committed even if the client leaves meanwhile."""
        self._reserving = self.gateway.start(self.gateway.run(self.gateway.recorder.reserve, self._entry(arm)))
        self._id = await asyncio.shield(self._reserving)
        if self._id is None:
            return
        token = self.gateway.recorder.feedback_token(self._id)
        self._more = {"palate": {"feedback_token": token, "route": arm.route or self.choice.route}}
        for shadow in self.choice.shadows:
            if len(self.gateway.shadows) >= self.gateway.settings.shadow_in_flight:
                self.gateway.metrics.shadows_left_out.labels(shadow.name).inc()
                continue
            task = self.gateway.start(self._shadow(shadow))
            self.gateway.shadows.add(task)
            task.add_done_callback(self.gateway.shadows.discard)

    def _entry(self, arm: Arm, shadow: str | None = None) -> NewInteraction:
        call, choice, backend = self.call, self.choice, arm.backend
        return NewInteraction(
            endpoint=self.endpoint,
            prompt=call.body["messages"] if "messages" in call.body else _text(call.body["prompt"]),
            model=backend.version,
            policy=self.caller.terms.recording,
            consent=self.consent,
            store=call.asked.store is not False,
            key_id=self.caller.key_id,
            user=call.asked.user,
            identity=backend.content_hash,
            template=backend.template_hash,
            decoding={key: call.body[key] for key in _SETTINGS if key in call.body},
            route=shadow or arm.route or choice.route,
            probability=choice.probability * arm.probability if shadow is None else 1.0,
            tools=call.body.get("tools"),
        )

    async def _whole(self, backend: Backend, send: Send) -> None:
        reply = await self._wait(backend.reply(self.call.endpoint, self.call.body))
        self._gathered.add(reply)
        self._note_first()
        body = to_json(self.call.form.whole(self._named(reply)))
        response = Response(body, headers=self._reply_headers(), media_type="application/json")
        self._begun = True
        await response({"type": "http"}, _never, send)

    async def _stream(self, backend: Backend, send: Send) -> None:
        form = self.call.form
        async with aclosing(backend.events(self.call.endpoint, self.call.body)) as chunks:
            spoken = False
            while (chunk := await self._wait(anext(chunks, None))) is not None:
                self._gathered.add(chunk)
                if not self._begun:
                    await self._begin(send)
                if not spoken and chunk["choices"]:
                    self._note_first()
                    spoken = True
                await self._send(form.pieces(self._named(chunk)), send)
        if not self._gathered.ended:
            raise ApiError(502, "the engine broke off: an answer has no finish_reason", code="upstream_error")
        if (usage := self._gathered.estimate()) is not None:
            await self._send(form.pieces(self._named(usage)), send)
        await self._send(form.last(), send, last=True)

    def _note_first(self) -> None:
        self.gateway.metrics.first.labels(self._label).observe(time.perf_counter() - self.started)

    async def _begin(self, send: Send) -> None:
        """Headers of a stream; only now, so that a request that is refused gets its own status."""
        self._begun = True
        self._check_reading()
        if self._id is not None:
            self._call_later(_STREAMING_SECONDS, self._note_streaming)
        head = Response(headers={**_STREAM_HEADERS, **self._reply_headers()}, media_type="text/event-stream")
        headers = [pair for pair in head.raw_headers if pair[0] != b"content-length"]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

    def _note_streaming(self) -> None:
        self._streaming = self.gateway.start(self.gateway.run(self.gateway.recorder.update, self._id, "streaming"))

    async def _send(self, pieces: Iterable[bytes], send: Send, *, last: bool = False) -> None:
        body = b"".join(pieces)
        if not body and not last:
            return
        begun = self._sending = time.perf_counter()
        try:
            await send({"type": "http.response.body", "body": body, "more_body": not last})
        finally:
            self._sending = None
            self._waited += time.perf_counter() - begun

    def _check_reading(self) -> None:
        """Give up a client that does not read what it is sent; one timer for a stream costs less than one per piece."""
        waited = 0.0 if self._sending is None else time.perf_counter() - self._sending
        if waited < _READ_SECONDS:
            self._call_later(_READ_SECONDS - waited, self._check_reading)
        elif self._main is not None:
            self._reason = "cancelled"
            self._main.cancel()

    def _call_later(self, seconds: float, work: Callable[[], None]) -> None:
        """Call something in a while, unless the exchange ends before."""
        self._timers.append(asyncio.get_running_loop().call_later(seconds, work))

    async def _tell(self, error: ApiError, send: Send) -> None:
        """The error as a response, or as the last event of a stream that has begun."""
        if not self._begun:
            self._begun = True
            await error.response()({"type": "http"}, _never, send)
        elif self.call.asked.stream:
            await self._send(self.call.form.failed(error), send, last=True)

    async def _wait(self, awaited: Any) -> Any:
        """What the backend gives; the time is not ours."""
        begun = time.perf_counter()
        try:
            return await awaited
        finally:
            self._waited += time.perf_counter() - begun

    async def _end(self, state: State, error: ApiError | None) -> None:
        """Count and record the end; it runs as a task of its own, which nothing cancels."""
        name, metrics = self._label, self.gateway.metrics
        total, usage = time.perf_counter() - self.started, self._gathered.usage
        metrics.requests.labels(name, state).inc()
        metrics.seconds.labels(name).observe(total)
        metrics.overhead.labels(name).observe(max(0.0, total - self._waited))
        metrics.tokens.labels(name, "prompt").inc(usage.prompt_tokens or 0)
        metrics.tokens.labels(name, "completion").inc(usage.completion_tokens or 0)
        self.gateway.start(self.gateway.access.add_tokens(self.caller, _tokens_used(usage, self.call.body)))
        for timer in self._timers:
            timer.cancel()
        before = [task for task in (self._reserving, self._streaming) if task is not None]
        found = await asyncio.gather(*before, return_exceptions=True)
        if found and isinstance(found[0], str):
            await self._record_end(found[0], state, self._gathered, error)

    async def _record_end(self, identifier: str, state: State, gathered: Gathered, error: ApiError | None) -> None:
        message = error.message if error is not None else None
        update = self.gateway.recorder.update
        try:
            await self.gateway.run(update, identifier, state, gathered.answers(), usage=gathered.usage, error=message)
        except StoreError as failed:  # the row stays open, and the next start makes it partial
            _LOG.error("the end of %s is not recorded: %s", identifier, failed)

    async def _shadow(self, served: Served) -> None:
        """The same request to another model, whose answer is recorded and not sent."""
        gateway, gathered = self.gateway, Gathered()
        state: State = "partial"
        error: ApiError | None = None
        identifier: str | None = None
        try:
            async with asyncio.timeout(gateway.settings.request_seconds), served.use() as arm:
                entry = self._entry(arm, f"shadow:{served.name}")
                identifier = await gateway.run(gateway.recorder.reserve, entry)
                gathered.add(await arm.backend.reply(self.call.endpoint, self.call.body))
            state = "complete"
        except Exception as raised:  # the client's own answer does not depend on it
            error = as_api_error(raised)
            state = _end_of(error)
        finally:
            gateway.metrics.requests.labels(served.name, f"shadow_{state}").inc()
            if identifier is not None:
                gateway.start(self._record_end(identifier, state, gathered, error))

    def _named(self, reply: dict[str, Any]) -> dict[str, Any]:
        """A reply under the id of its interaction."""
        return {**reply, "id": self._id, **self._more} if self._id is not None else reply

    def _reply_headers(self) -> dict[str, str]:
        return {TOKEN_HEADER: self._more["palate"]["feedback_token"]} if self._more else {}


def _end_of(error: ApiError) -> State:
    """What an error says of the version that should have answered: nothing, unless it is `upstream_error`."""
    if error.status < 500:  # the request is wrong, or there are too many of them
        return "refused"
    return "unreachable" if error.code == "upstream_unreachable" else "upstream_error"


def _tokens_used(usage: Usage, body: dict[str, Any]) -> int:
    """Tokens that count for a key's limit; of a prompt that the engine has answered and not counted, an estimate."""
    asked = usage.prompt_tokens
    if asked is None and usage.completion_tokens:
        asked = len(to_json(body.get("messages", body.get("prompt")))) // _BYTES_PER_TOKEN
    return (asked or 0) + (usage.completion_tokens or 0)


async def _left(receive: Receive) -> None:
    """Return when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _never() -> Any:
    raise RuntimeError("a response reads nothing")


def _text(prompt: Any) -> str:
    return prompt if isinstance(prompt, str) else "\n".join(map(str, prompt))
