"""Models follow their aliases independently of each other."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateways import Fake
from palate.errors import StoreError
from palate.serving.backends.base import Backend
from palate.serving.metrics import Metrics
from palate.serving.models import LoadedVersion, Models, Named, Served


@dataclass
class Registry:
    """Names the folder `new`; loads a version once `ready` of its model is set."""

    ready: dict[str, threading.Event] = field(default_factory=dict)

    def named(self, alias: str) -> Named:
        return Named(Path("new"))

    def load(self, name: str, version: str) -> tuple[Backend, Path]:
        assert self.ready[name].wait(60)
        return Fake("v2"), Path("new")


def test_a_model_that_takes_long_to_load_holds_up_no_other() -> None:
    registry = Registry({"slow": threading.Event(), "quick": threading.Event()})
    registry.ready["quick"].set()
    served = {name: Served(name, LoadedVersion(Fake("v1")), "production", Path("old")) for name in ("slow", "quick")}
    models = Models(served, registry)

    async def switched(name: str) -> None:
        async with asyncio.timeout(5):
            while served[name].version.backend.version != "v2":
                await asyncio.sleep(0.01)

    async def follow() -> None:
        following = asyncio.create_task(models.follow(0.01, Metrics()))
        try:
            await switched("quick")
            assert served["slow"].version.backend.version == "v1"
        finally:
            registry.ready["slow"].set()
        await switched("slow")
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following

    asyncio.run(follow())


@dataclass
class Away(Registry):
    """Its database is away when a version is loaded for the first time."""

    loads: int = 0

    def load(self, name: str, version: str) -> tuple[Backend, Path]:
        self.loads += 1
        if self.loads == 1:
            raise StoreError("the database does not answer")
        return Fake("v2"), Path("new")


def test_a_version_is_tried_again_when_the_database_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palate.serving.models._AGAIN_SECONDS", 0.05)
    served = Served("m", LoadedVersion(Fake("v1")), "production", Path("old"))
    models = Models({"m": served}, Away())

    async def follow() -> None:
        following = asyncio.create_task(models.follow(0.01, Metrics()))
        async with asyncio.timeout(5):
            while served.version.backend.version != "v2":
                await asyncio.sleep(0.01)
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following

    asyncio.run(follow())
    assert models.kept() == {}
