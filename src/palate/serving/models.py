"""The models that a gateway serves: versions, canaries, and switches between versions that lose no request."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from palate.errors import EngineError, StoreError
from palate.registry.canary import CanaryState, route_of
from palate.serving.backends.base import Backend
from palate.serving.metrics import Metrics
from palate.serving.smoke_prompts import DegenerateError, bad_answers, check_answers

_LOG = logging.getLogger("palate.serving")

_AGAIN_SECONDS = 60.0
"""After so long a version is tried again that could not be loaded because an engine or the database was away."""


@dataclass(frozen=True, slots=True)
class Named:
    """What an alias means now: the folder of its version, and its running canary."""

    folder: Path
    canary: CanaryState | None = None


class Registry(Protocol):
    """The model registry, as far as a gateway needs it."""

    def named(self, alias: str) -> Named:
        """What an alias means now. Called every few seconds, so it must be quick."""
        ...

    def load(self, name: str, version: str) -> tuple[Backend, Path]:
        """A version, by its name or an alias, checked and loaded for the model `name`, and its folder."""
        ...

    def refuse(self, alias: str, version: str, kept: str, reason: str) -> None:
        """Record that a version is not taken over for an alias or as its canary, and that another one continues."""
        ...


@dataclass(eq=False, slots=True)
class LoadedVersion:
    """A loaded version and its requests in progress.

    Attributes:
        backend: answers.
        requests: in progress.
        retired: no new request comes; it is closed after the last one.
    """

    backend: Backend
    requests: int = 0
    retired: bool = False


@dataclass(frozen=True, slots=True)
class Arm:
    """What answers a request.

    Attributes:
        backend: the version.
        label: of its metrics.
        route: `canary:ALIAS` while the alias has a canary, for both versions; else "".
        probability: with which a person is given this version.
    """

    backend: Backend
    label: str
    route: str = ""
    probability: float = 1.0


@dataclass(eq=False, slots=True)
class LoadedCanary:
    """A loaded canary, and its share."""

    state: CanaryState
    version: LoadedVersion

    def takes(self, person: str) -> bool:
        """Whether it answers a person: always the same ones, and more of them when its share grows."""
        # Each canary has a salt of its own, so that it is neither always the same people who try new versions, nor
        # those whom a route gives another model.
        salt = f"{route_of(self.state.alias)}:{self.state.content_hash}"
        return hash_position(salt, person) >= 1 - self.state.share


def hash_position(salt: str, person: str) -> float:
    """The position of a person in [0, 1), which shares divide."""
    digest = hashlib.sha256(f"{salt}\0{person}".encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


@dataclass(eq=False, slots=True)
class Served:
    """A name with the version that answers for it.

    Attributes:
        name: as configured.
        version: the current one.
        alias: followed in the registry; None for a fixed model.
        folder: of the current version.
        canary: answers a share of people in its place.
    """

    name: str
    version: LoadedVersion
    alias: str | None = None
    folder: Path | None = None
    canary: LoadedCanary | None = None
    _closing: set[asyncio.Task[None]] = field(default_factory=set)

    @asynccontextmanager
    async def use(self, person: str | None = None) -> AsyncIterator[Arm]:
        """The version for a person, which stays open until the context ends.

        Args:
            person: as for a route; None always gets the current version.
        """
        # Nothing is awaited between the choice and the count, so the chosen version is not closed meanwhile.
        version, arm = self.version, Arm(self.version.backend, self.name)
        canary = self.canary
        if canary is not None and person is not None:
            share, route = canary.state.share, route_of(canary.state.alias)
            if canary.takes(person):
                version, arm = canary.version, Arm(canary.version.backend, f"{self.name} (canary)", route, share)
            else:
                arm = Arm(version.backend, self.name, route, 1 - share)
        version.requests += 1
        try:
            yield arm
        finally:
            version.requests -= 1
            self._close_unused(version)

    def switch(self, version: LoadedVersion, folder: Path) -> None:
        """Give new requests to another version; the one before is closed after its last request."""
        before, self.version, self.folder = self.version, version, folder
        self._retire(before)

    def end_canary(self) -> None:
        """Give new requests of all people to the current version; the canary is closed after its last request."""
        canary, self.canary = self.canary, None
        if canary is not None:
            self._retire(canary.version)

    def promote_canary(self) -> None:
        """Let the canary, which is loaded already, be the current version."""
        canary, self.canary = self.canary, None
        assert canary is not None
        self.switch(canary.version, canary.state.folder)

    def _retire(self, version: LoadedVersion) -> None:
        version.retired = True
        self._close_unused(version)

    def _close_unused(self, version: LoadedVersion) -> None:
        if version.retired and not version.requests:
            task = asyncio.ensure_future(version.backend.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Close the current version and the canary, and wait for those that are being closed."""
        self.end_canary()
        await asyncio.gather(self.version.backend.close(), *self._closing, return_exceptions=True)


class Models:
    """All models of a gateway.

    Args:
        served: by name.
        registry: for models with an alias.
        smoke_prompts: whether a version must answer them before it gets requests, and is asked when the server starts.
    """

    def __init__(
        self, served: Mapping[str, Served], registry: Registry | None = None, *, smoke_prompts: bool = True
    ) -> None:
        self.served = dict(served)
        self._registry = registry
        self._smoke_prompts = smoke_prompts
        self._used = {one.folder for one in self.served.values()}
        self._failed: dict[str, Backend] = {}
        self._refused: dict[str, tuple[Path, float]] = {}
        self._no_canary: dict[str, tuple[CanaryState, float]] = {}

    def find(self, name: str) -> Served | None:
        """The model with a configured name, else the one whose current version has the name."""
        if name in self.served:
            return self.served[name]
        return next((one for one in self.served.values() if name in (one.version.backend.version, one.alias)), None)

    def kept(self) -> dict[str, str]:
        """The versions that go on because the one that their alias names cannot be loaded, by model."""
        return {name: self.served[name].version.backend.version for name in self._refused}

    def failed_smoke_prompts(self) -> dict[str, str]:
        """The versions with which the server started and that failed, by model; they serve all the same."""
        return {name: one.version for name, one in self._failed.items() if one is self.served[name].version.backend}

    def canaries(self) -> dict[str, dict[str, Any]]:
        """Canaries by model: their version, their share, and whether they are loaded."""
        loaded = {name: (one.canary.state, True) for name, one in self.served.items() if one.canary is not None}
        missing = {name: (state, False) for name, (state, _) in self._no_canary.items()}
        return {
            name: {"version": state.version, "share": state.share, "loaded": is_loaded}
            for name, (state, is_loaded) in {**missing, **loaded}.items()
        }

    async def follow(self, seconds: float, metrics: Metrics) -> None:
        """Look up the aliases at this interval, and switch to new versions, until this is cancelled."""
        # Each on its own: an engine that hangs holds up no other model.
        followed = (self._follow(served, seconds, metrics) for served in self.served.values() if served.alias)
        await asyncio.gather(*map(self._check_first, self.served.values()), *followed)

    async def _check_first(self, served: Served) -> None:
        """Ask the version with which the server starts the smoke prompts. It serves all the same: there is no other.

        An engine without versions is not asked: it is not ours, and may cost money.
        """
        if not self._smoke_prompts or served.version.backend.content_hash is None:
            return
        async with served.use() as arm:
            try:
                await check_answers(arm.backend)
            except Exception as error:  # whatever a model raises; requests of people get their own errors
                self._failed[served.name] = arm.backend
                _LOG.error("%s: %s is served although it fails: %s", served.name, arm.backend.version, error)

    async def _follow(self, served: Served, seconds: float, metrics: Metrics) -> None:
        while True:
            await asyncio.sleep(seconds)
            await self._look_up(served, metrics)

    async def _look_up(self, served: Served, metrics: Metrics) -> None:
        try:
            named = await self._named(served)
        except Exception as error:  # the database may be away; what is served goes on
            _LOG.error("%s stays at %s: %s", served.name, served.version.backend.version, error)
            metrics.switches.labels(served.name, "failed").inc()
            return
        # First who gets which loaded version; what takes long to load comes after it.
        self._divide(served, named, metrics)
        if named.folder == served.folder:
            self._refused.pop(served.name, None)
        elif _may_load(named.folder, self._refused.get(served.name)):
            await self._switch(served, named.folder, metrics)
        if named.canary is None:
            self._no_canary.pop(served.name, None)
        elif (
            served.canary is None
            and named.canary.folder != served.folder
            and _may_load(named.canary, self._no_canary.get(served.name))
        ):
            await self._begin_canary(served, named.canary, metrics)
        self._show_share(served, metrics)

    def _divide(self, served: Served, named: Named, metrics: Metrics) -> None:
        """Promote, change or end the loaded canary, as the registry says."""
        canary = served.canary
        if canary is None:
            return
        before = served.version.backend.version
        if named.folder == canary.state.folder:
            served.promote_canary()
            _LOG.warning("%s: %s after %s", served.name, served.version.backend.version, before)
            metrics.switches.labels(served.name, "done").inc()
        elif named.canary is None or named.canary.content_hash != canary.state.content_hash:
            served.end_canary()
            _LOG.warning("%s: the canary %s ended; all people get %s", served.name, canary.state.version, before)
        elif named.canary.share != canary.state.share:
            served.canary = LoadedCanary(named.canary, canary.version)
            _log_share(served.name, named.canary)
        self._show_share(served, metrics)

    async def _switch(self, served: Served, named: Path, metrics: Metrics) -> None:
        """Load the version that the alias names."""
        assert served.alias is not None
        try:
            backend, folder = await self._load(served, served.alias)
        except Exception as error:  # whatever loading raises, no memory too: the version before goes on
            _LOG.error("%s stays at %s: %s", served.name, served.version.backend.version, error)
            self._refused[served.name] = (named, _next_try(error))
            metrics.switches.labels(served.name, "failed").inc()
            return
        _LOG.warning("%s: %s after %s", served.name, backend.version, served.version.backend.version)
        self._refused.pop(served.name, None)
        served.switch(LoadedVersion(backend), folder)
        metrics.switches.labels(served.name, "done").inc()

    async def _begin_canary(self, served: Served, wanted: CanaryState, metrics: Metrics) -> None:
        """Load a canary beside the current version."""
        try:
            backend, _ = await self._load(served, wanted.version)
        except Exception as error:  # whatever loading raises, no memory too: everybody gets the current version
            _LOG.error("%s: the canary %s is not loaded: %s", served.name, wanted.version, error)
            self._no_canary[served.name] = (wanted, _next_try(error))
            metrics.switches.labels(served.name, "canary_failed").inc()
            return
        self._no_canary.pop(served.name, None)
        try:
            named = await self._named(served)  # loading took long: it may have been ended or promoted meanwhile
        except Exception as error:  # the database may be away
            _LOG.error("%s: the canary %s is not loaded: %s", served.name, wanted.version, error)
            await backend.close()
            return
        served.canary = LoadedCanary(wanted, LoadedVersion(backend))
        metrics.switches.labels(served.name, "canary").inc()
        self._divide(served, named, metrics)
        if served.canary is not None and served.canary.state == wanted:
            _log_share(served.name, wanted)

    async def _load(self, served: Served, version: str) -> tuple[Backend, Path]:
        """Load a version, and let it answer the smoke prompts unless it has answered people before."""
        assert self._registry is not None
        backend, folder = await asyncio.to_thread(self._registry.load, served.name, version)
        current = served.version.backend
        try:
            if self._smoke_prompts and folder not in self._used:
                await check_answers(backend, current)
        except BaseException as error:  # whatever it raises, a cancellation too, it is not used
            await backend.close()
            if isinstance(error, DegenerateError):
                await self._record_refusal(served, backend.version, str(error))
            raise
        self._used.add(folder)
        return backend, folder

    async def _record_refusal(self, served: Served, version: str, reason: str) -> None:
        assert self._registry is not None
        kept = served.version.backend.version
        try:
            await asyncio.to_thread(self._registry.refuse, served.alias or "", version, kept, reason)
        except Exception as error:  # the database may be away, or somebody has moved the alias
            _LOG.error("%s: the registry does not say that %s was refused: %s", served.name, version, error)

    async def no_answer_reason(self, alias: str, version: str) -> str:
        """Why a version, loaded beside the alias's one, does not answer now; "" if it does."""
        assert self._registry is not None
        served = next(one for one in self.served.values() if one.alias == alias)
        try:
            backend, _ = await asyncio.to_thread(self._registry.load, served.name, version)
            try:
                await (bad_answers(backend) if self._smoke_prompts else backend.check())
            finally:
                await backend.close()
        except Exception as error:  # whatever loading raises, no memory too
            return str(error) or type(error).__name__
        return ""

    async def _named(self, served: Served) -> Named:
        assert served.alias is not None
        assert self._registry is not None
        return await asyncio.to_thread(self._registry.named, served.alias)

    def _show_share(self, served: Served, metrics: Metrics) -> None:
        metrics.canary_share.labels(served.name).set(0 if served.canary is None else served.canary.state.share)

    async def close(self) -> None:
        """Close all versions."""
        await asyncio.gather(*(served.close() for served in self.served.values()))


def _log_share(name: str, state: CanaryState) -> None:
    _LOG.warning("%s: %g %% of people get %s", name, 100 * state.share, state.version)


def _may_load(wanted: Path | CanaryState, refused: tuple[Path | CanaryState, float] | None) -> bool:
    """Whether it was not refused, or its time to be tried again has come."""
    return refused is None or wanted != refused[0] or time.monotonic() >= refused[1]


def _next_try(error: Exception) -> float:
    """When to load again: an engine or database may come back; a folder waits until the registry names another one."""
    return time.monotonic() + _AGAIN_SECONDS if isinstance(error, EngineError | StoreError) else math.inf
