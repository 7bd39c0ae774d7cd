"""The models that a gateway serves: versions in use, and the switch from one to the next that loses no request."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from palate.errors import EngineError, PalateError
from palate.serving.backends.base import Backend
from palate.serving.metrics import Metrics
from palate.serving.problems import ApiError

_LOG = logging.getLogger("palate.serving")

_AGAIN_SECONDS = 60.0
"""After so long a version that an engine did not take is tried again."""


class Registry(Protocol):
    """The model registry, as far as a gateway needs it."""

    def folder(self, alias: str) -> Path:
        """The folder of the version that an alias names now. Quick: it is asked for again and again."""
        ...

    def load(self, name: str, alias: str) -> tuple[Backend, Path]:
        """The version that an alias names now, checked and loaded for the model `name`, and its folder."""
        ...


@dataclass(eq=False, slots=True)
class Version:
    """A loaded version and its requests in progress.

    Attributes:
        backend: answers.
        requests: in progress.
        retired: no new request comes; it is closed after the last one.
    """

    backend: Backend
    requests: int = 0
    retired: bool = False


@dataclass(eq=False, slots=True)
class Served:
    """A name with the version that answers for it.

    Attributes:
        name: as configured.
        version: the current one.
        alias: followed in the registry; None for a fixed model.
        folder: of the current version.
    """

    name: str
    version: Version
    alias: str | None = None
    folder: Path | None = None
    _closing: set[asyncio.Task[None]] = field(default_factory=set)

    @asynccontextmanager
    async def use(self) -> AsyncIterator[Backend]:
        """The current version, which stays open until the context ends."""
        version = self.version
        version.requests += 1
        try:
            yield version.backend
        finally:
            version.requests -= 1
            self._close_unused(version)

    def switch(self, backend: Backend, folder: Path) -> None:
        """Give new requests to another version; the one before is closed after its last request."""
        before, self.version, self.folder = self.version, Version(backend), folder
        before.retired = True
        self._close_unused(before)

    def _close_unused(self, version: Version) -> None:
        if version.retired and not version.requests:
            task = asyncio.ensure_future(version.backend.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Close the current version and wait for those that are being closed."""
        await asyncio.gather(self.version.backend.close(), *self._closing, return_exceptions=True)


class Models:
    """All models of a gateway.

    Args:
        served: by name.
        registry: for models with an alias.
    """

    def __init__(self, served: Mapping[str, Served], registry: Registry | None = None) -> None:
        self.served = dict(served)
        self._registry = registry
        self._refused: dict[str, tuple[Path, float]] = {}

    def find(self, name: str) -> Served | None:
        """The model with a configured name, else the one whose current version has the name."""
        if name in self.served:
            return self.served[name]
        return next((one for one in self.served.values() if name in (one.version.backend.version, one.alias)), None)

    def kept(self) -> dict[str, str]:
        """The versions that go on because the one that their alias names cannot be loaded, by model."""
        return {name: self.served[name].version.backend.version for name in self._refused}

    async def follow(self, seconds: float, metrics: Metrics) -> None:
        """Look up the aliases again and again, and switch to new versions, until this is cancelled."""
        # Each on its own: an engine that hangs holds up no other model.
        followed = [served for served in self.served.values() if served.alias is not None]
        await asyncio.gather(*(self._follow(served, seconds, metrics) for served in followed))

    async def _follow(self, served: Served, seconds: float, metrics: Metrics) -> None:
        while True:
            await asyncio.sleep(seconds)
            await self._look_up(served, metrics)

    async def _look_up(self, served: Served, metrics: Metrics) -> None:
        assert served.alias is not None
        assert self._registry is not None
        named: Path | None = None
        try:
            named = await asyncio.to_thread(self._registry.folder, served.alias)
            refused, again = self._refused.get(served.name, (None, math.inf))
            if named == served.folder:
                self._refused.pop(served.name, None)
                return
            if named == refused and time.monotonic() < again:
                return
            backend, folder = await asyncio.to_thread(self._registry.load, served.name, served.alias)
        except (PalateError, ApiError, OSError) as error:
            # The version before goes on; a folder that cannot be loaded is tried again when the alias moves. What an
            # engine misses may come without that.
            _LOG.error("%s stays at %s: %s", served.name, served.version.backend.version, error)
            if named is not None:
                again = time.monotonic() + _AGAIN_SECONDS if isinstance(error, EngineError) else math.inf
                self._refused[served.name] = (named, again)
            metrics.switches.labels(served.name, "failed").inc()
            return
        _LOG.warning("%s: %s after %s", served.name, backend.version, served.version.backend.version)
        self._refused.pop(served.name, None)
        served.switch(backend, folder)
        metrics.switches.labels(served.name, "done").inc()

    async def close(self) -> None:
        """Close all versions."""
        await asyncio.gather(*(served.close() for served in self.served.values()))
