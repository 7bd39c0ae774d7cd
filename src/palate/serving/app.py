"""The app of the gateway: its routes, and what they share."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, Response

from palate.errors import PalateError, UsageError
from palate.network.address import Address
from palate.network.roles import route_roles
from palate.registry.versions import PRODUCTION
from palate.serving.access import ROLES, Access, Caller, NeedsKey, Open
from palate.serving.api.call import Call, read_call, read_json
from palate.serving.api.responses import read_response_call
from palate.serving.backends.base import Endpoint
from palate.serving.exchange import Exchange, GatewayState
from palate.serving.guard import Guard
from palate.serving.keys import KeyTerms, count_keys
from palate.serving.metrics import Metrics
from palate.serving.models import Models
from palate.serving.problems import ApiError, handle_errors, invalid
from palate.serving.recording.entries import Endpoint as RecordedEndpoint
from palate.serving.recording.erasure import maintain
from palate.serving.recording.recorder import Recorder, shared_secret
from palate.serving.recording.routes import ANSWERS_HEADER, TOKEN_HEADER, feedback_router
from palate.serving.rollback import AutomaticRollback
from palate.serving.routes import Router
from palate.serving.settings import ServeFields
from palate.store import Store
from palate.store.tables import utc_now

_LOG = logging.getLogger("palate.serving")

CONSENT_HEADER = "x-palate-consent"
"""`true` or `false`: whether the person consented to training; by default as the key says."""
_BODY_SECONDS = 60.0
_MAINTENANCE_SECONDS = 600.0
_WRITERS = 4
_READY_SECONDS = 5.0
_COMPARE_SECONDS = 60.0


class Gateway:
    """The app with its models; `stop` ends it gently.

    Args:
        store: has keys and interactions.
        settings: as the server was started.
        models: loaded.

    Raises:
        UsageError: others reach the server, and there is no API key.
    """

    def __init__(self, store: Store, settings: ServeFields, models: Models) -> None:
        self.needs_keys = check_exposure(settings.address, store)
        self.settings = settings
        self.metrics = Metrics()
        self._models = models
        self._router = Router(models, settings.routes)
        self._writers = ThreadPoolExecutor(_WRITERS, "palate-recorder")
        recorder = Recorder(store, secret=shared_secret(store))
        access = Access(store, needed=self.needs_keys, anonymous=KeyTerms(recording=settings.record))
        self._state = GatewayState(settings, recorder, access, self.metrics, self._run)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stops = False
        self._checked: dict[str, tuple[float, str | None]] = {}
        self.app = self._make_app(access, recorder)

    def _make_app(self, access: Access, recorder: Recorder) -> FastAPI:
        settings = self.settings
        guard = Middleware(
            Guard,
            hosts=settings.address.hosts(),
            origins=settings.origins,
            most_bytes=settings.max_body_bytes,
            metrics=self.metrics,
        )
        cors = Middleware(
            CORSMiddleware,
            allow_origins=settings.origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=[TOKEN_HEADER],
        )
        app = FastAPI(
            title="palate",
            docs_url=None,
            redoc_url=None,
            openapi_url=None,
            redirect_slashes=False,
            lifespan=self._lifespan,
            middleware=[guard, cors] if settings.origins else [guard],
        )
        app.state.access = access
        handle_errors(app)
        app.include_router(self._routes())
        app.include_router(feedback_router(recorder), dependencies=[Open])  # a completion's signed token allows it
        route_roles(app, ROLES)
        return app

    def _routes(self) -> APIRouter:
        router = APIRouter()
        add = router.add_api_route
        add("/v1/chat/completions", self._chat, methods=["POST"])
        add("/v1/completions", self._completions, methods=["POST"])
        add("/v1/responses", self._responses, methods=["POST"])
        add("/v1/models", self._list_models, methods=["GET"], dependencies=[NeedsKey])
        add("/v1/models/{name:path}", self._show_model, methods=["GET"], dependencies=[NeedsKey])
        add("/metrics", self._show_metrics, methods=["GET"], dependencies=[NeedsKey])
        add("/health", self._live, methods=["GET"], dependencies=[Open])
        add("/health/ready", self._ready, methods=["GET"], dependencies=[Open])
        return router

    def stop(self) -> None:
        """Answer no new requests; those in progress have `grace_seconds`. May be called from a signal handler."""
        self._stops = True
        if self._loop is not None:
            loop = self._loop
            loop.call_soon_threadsafe(lambda: loop.call_later(self.settings.grace_seconds, self._state.stopping.set))

    @asynccontextmanager
    async def _lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        self._loop = asyncio.get_running_loop()
        following = [
            asyncio.create_task(self._models.follow(self.settings.poll_seconds, self.metrics)),
            asyncio.create_task(self._maintain()),
            asyncio.create_task(self._compare_versions()),
        ]
        try:
            yield
        finally:
            for task in following:
                task.cancel()
            await asyncio.gather(*following, return_exceptions=True)
            await self._state.close()
            await self._state.access.save()
            await self._models.close()
            self._writers.shutdown()

    async def _maintain(self) -> None:
        """Rows of dead processes get their end, and rows older than their key's retention go."""
        while True:
            with suppress(Exception):  # the database may be away; requests say so
                for line in await self._run(maintain, self._state.recorder, utc_now()):
                    _LOG.info(line)
            await asyncio.sleep(_MAINTENANCE_SECONDS)

    async def _compare_versions(self) -> None:
        """Compare a promoted version with the one before, if the settings allow a rollback."""
        if self.settings.rollback is None:
            return
        no_answer_reason = partial(self._models.no_answer_reason, PRODUCTION)
        automatic = AutomaticRollback(self._state.recorder, self.settings.rollback, no_answer_reason, run=self._run)
        said = ""
        while True:
            try:
                for line in await automatic.check():
                    _LOG.warning(line)
                said = ""
            except PalateError as error:  # the database may be away, or the version before damaged; once, not each time
                if str(error) != said:
                    _LOG.error("no rollback: %s", error)
                said = str(error)
            except Exception:  # a fault here must not end the comparison for as long as the server runs
                _LOG.exception("no rollback: the comparison failed; it is tried again")
            await asyncio.sleep(_COMPARE_SECONDS)

    async def _run(self, work: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._writers, lambda: work(*arguments, **named))

    async def _chat(self, request: Request, caller: Caller = NeedsKey) -> Response:
        return await self._completion(request, caller, "chat/completions", "chat")

    async def _completions(self, request: Request, caller: Caller = NeedsKey) -> Response:
        return await self._completion(request, caller, "completions", "completions")

    async def _completion(
        self, request: Request, caller: Caller, endpoint: Endpoint, recorded: RecordedEndpoint
    ) -> Response:
        started = time.perf_counter()
        body = await self._read(request, caller)
        answers = request.headers.get(ANSWERS_HEADER)
        if answers is not None:
            if answers != "2" or body.get("n") not in (None, 2):
                raise invalid(f"{ANSWERS_HEADER}: 2 is what it can ask for, with n: 2 or without n", "n")
            body["n"] = 2
        return self._exchange(request, caller, read_call(endpoint, body, max_n=self.settings.max_n), recorded, started)

    async def _responses(self, request: Request, caller: Caller = NeedsKey) -> Response:
        started = time.perf_counter()
        return self._exchange(
            request, caller, read_response_call(await self._read(request, caller)), "responses", started
        )

    async def _read(self, request: Request, caller: Caller) -> dict[str, Any]:
        """The body of a request that is counted, whatever is in it."""
        if self._stops:
            raise ApiError(503, "the server stops; send the request again", code="stopping")
        self._state.access.count(caller)
        return await _read_body(request)

    def _exchange(
        self, request: Request, caller: Caller, call: Call, recorded: RecordedEndpoint, started: float
    ) -> Response:
        person = call.asked.user or f"key:{caller.key_id}"
        choice = self._router.choose(call.asked.model, person)
        consent = {"true": True, "false": False, None: caller.terms.consent}.get(request.headers.get(CONSENT_HEADER))
        if consent is None:
            raise invalid(f"{CONSENT_HEADER}: true or false")
        return Exchange(self._state, call, choice, caller, recorded, consent, started)

    async def _list_models(self) -> Response:
        return JSONResponse({"object": "list", "data": [_model(name) for name in self._router.names()]})

    async def _show_model(self, name: str) -> Response:
        return JSONResponse(_model(name) | {"root": self._router.choose(name, "").served.version.backend.version})

    async def _show_metrics(self) -> Response:
        return Response(self.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    async def _live(self) -> Response:
        return JSONResponse({"status": "live"})

    async def _ready(self) -> Response:
        """Whether every model can answer; engines are asked at most every five seconds."""
        failures = await asyncio.gather(*(self._check(name) for name in self._models.served))
        states = {name: failure or "ready" for name, failure in zip(self._models.served, failures, strict=True)}
        ready = not self._stops and not any(failures)
        status = "ready" if ready else "not ready"
        body = {
            "status": status,
            "models": states,
            "kept": self._models.kept(),
            "failed_smoke_prompts": self._models.failed_smoke_prompts(),
            "canaries": self._models.canaries(),
        }
        return JSONResponse(body, 200 if ready else 503)

    async def _check(self, name: str) -> str | None:
        at, failure = self._checked.get(name, (-_READY_SECONDS, None))
        if time.monotonic() - at >= _READY_SECONDS:
            failure = None
            try:
                async with asyncio.timeout(_READY_SECONDS), self._models.served[name].use() as arm:
                    await arm.backend.check()
            except (ApiError, TimeoutError) as error:
                failure = getattr(error, "code", None) or "no answer"
            self._checked[name] = (time.monotonic(), failure)
        return failure


def check_exposure(address: Address, store: Store) -> bool:
    """Whether requests need a key: as soon as there is one.

    Raises:
        UsageError: others reach the server, and there is no API key.
    """
    keys = store.read(count_keys)
    reached = address.reached
    if reached is not None and not keys:
        raise UsageError(f"{reached}, and there is no API key; make one with palate keys create NAME")
    return keys > 0


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "palate"}


async def _read_body(request: Request) -> dict[str, Any]:
    """The JSON of a request. A web page cannot send this content type to another site without being asked first."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise ApiError(415, "send JSON, with the header Content-Type: application/json", code="content_type")
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            return read_json(await request.body())
    except TimeoutError:
        raise ApiError(408, "the request did not arrive in time", code="timeout") from None
