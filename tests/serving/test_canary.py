"""A canary answers its share of people, always the same ones; no change of shares loses a request."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateways import ASK, Fake, events, eventually, rows, states
from model_folders import fake_model
from palate.errors import ArtifactError
from palate.registry import add, find, promote, resolve, rollback, set_canary
from palate.serving.app import Gateway
from palate.serving.backends.base import Backend
from palate.serving.loading import StoreRegistry
from palate.serving.models import LoadedVersion, Models, Served
from palate.serving.settings import ServeFields
from palate.store import Store
from sites import running

PEOPLE = [f"user-{number}" for number in range(40)]


class Shelf(StoreRegistry):
    """The real registry, whose versions answer as fakes.

    Attributes:
        made: the backends, in the order in which they were loaded.
        error: raised when a version is loaded.
    """

    made: list[Fake]
    error: Exception | None = None

    def load(self, name: str, version: str) -> tuple[Backend, Path]:
        found = resolve(self._store, version)
        if self.error is not None:
            raise self.error
        words = (found.name,) * 5
        self.made.append(Fake(found.name, words=words, seconds=0.01, content_hash=found.content_hash))
        return self.made[-1], found.folder


class Site:
    """A gateway of `m`, which follows production; v1.0 is served, v1.1 and v1.2 are there.

    Attributes:
        url: where it listens.
        shelf: what it loads.
    """

    def __init__(self, store: Store, folder: Path) -> None:
        for number in range(3):
            add(store, fake_model(folder / f"m{number}", number), models_dir=folder / "models", who="t")
        promote(store, "v1.0", reason="first", who="t")
        models = {"m": {"alias": "production"}, "other": {"model": "x"}}
        routes = {"chat": {"models": {"m": 0.5, "other": 0.5}}}
        fields = ServeFields(models=models, routes=routes, record="full", poll_seconds=0.02)  # type: ignore[arg-type]
        self.store, self.url = store, ""
        self.shelf = Shelf(store, fields)
        self.shelf.made = []
        first, at = self.shelf.load("m", "production")
        served = {
            "m": Served("m", LoadedVersion(first), "production", at),
            "other": Served("other", LoadedVersion(Fake("x"))),
        }
        self.gateway = Gateway(store, fields, Models(served, self.shelf))

    def share(self, version: str, share: float) -> None:
        set_canary(self.store, version, share, who="t", reason="r")

    def health(self) -> Any:
        reply = httpx2.get(f"{self.url}/health/ready")
        assert reply.status_code == 200
        return reply.json()["canaries"].get("m")

    def shows(self, version: str, share: float) -> bool:
        return bool(self.health() == {"version": version, "share": share, "loaded": True})

    def metrics(self) -> str:
        return httpx2.get(f"{self.url}/metrics").text

    def answers(self, model: str = "m") -> dict[str, str]:
        """The version that each person gets."""

        async def ask() -> dict[str, str]:
            async with httpx2.AsyncClient(base_url=self.url, timeout=60) as api:
                asked = [api.post("/v1/chat/completions", json={**ASK, "model": model, "user": one}) for one in PEOPLE]
                replies = await asyncio.gather(*asked)
            assert {reply.status_code for reply in replies} == {200}
            return {one: reply.json()["model"] for one, reply in zip(PEOPLE, replies, strict=True)}

        return asyncio.run(ask())


@pytest.fixture
def site(sqlite_store: Store, tmp_path: Path) -> Site:
    return Site(sqlite_store, tmp_path)


def test_people_of_the_share_get_the_canary_and_keep_it_while_it_grows(site: Site) -> None:
    with running(site.gateway.app) as site.url:
        assert (set(site.answers().values()), site.health()) == ({"v1.0"}, None)
        site.share("v1.1", 0.3)
        eventually(lambda: site.shows("v1.1", 0.3))
        small = site.answers()
        assert small == site.answers()
        assert 3 <= Counter(small.values())["v1.1"] <= 22  # 0.3 of 40, ± 3 standard errors
        assert 'palate_canary_share{model="m"} 0.3' in site.metrics()
        nested = {one: version for one, version in site.answers("chat").items() if version != "x"}
        assert set(nested.values()) == {"v1.0", "v1.1"}, "a route's people are divided independently"
        assert all(small[one] == version for one, version in nested.items())
        site.share("v1.1", 0.6)
        eventually(lambda: site.shows("v1.1", 0.6))
        grown = site.answers()
        assert {one for one in PEOPLE if small[one] == "v1.1"} < {one for one in PEOPLE if grown[one] == "v1.1"}
        assert set(site.answers("v1.0").values()) == {"v1.0"}, "who names a version gets it"
        site.share("v1.1", 0.0)
        eventually(lambda: site.health() is None)
        assert set(site.answers().values()) == {"v1.0"}
        assert eventually(lambda: [one.closed for one in site.shelf.made] == [False, True])
        found = site.metrics()
    assert 'palate_canary_share{model="m"} 0.0' in found
    assert 'palate_requests_total{model="m (canary)",state="complete"}' in found
    recorded = {(row.model, row.identity, row.route, row.probability) for row in rows(site.store)}
    hashes = {version: find(site.store, version).content_hash for version in ("v1.0", "v1.1")}
    assert recorded == {
        ("v1.0", hashes["v1.0"], "", 1.0),
        ("v1.0", hashes["v1.0"], "canary:production", 0.7),
        ("v1.1", hashes["v1.1"], "canary:production", 0.3),
        ("v1.0", hashes["v1.0"], "canary:production", 0.4),
        ("v1.1", hashes["v1.1"], "canary:production", 0.6),
        ("v1.0", hashes["v1.0"], "canary:production", 0.35),
        ("v1.1", hashes["v1.1"], "canary:production", 0.15),
        ("x", "hash-of-v1", "chat", 0.5),
    }


def test_no_request_fails_while_shares_change(site: Site) -> None:
    async def load(url: str) -> list[list[Any]]:
        found: list[list[Any]] = []

        async def client(user: str) -> None:
            async with httpx2.AsyncClient(base_url=url, timeout=60) as api:
                for _ in range(8):
                    asked = {**ASK, "stream": True, "user": user}
                    found.append(events((await api.post("/v1/chat/completions", json=asked)).text))

        async def change() -> None:
            moves = [("v1.1", 0.5), ("v1.1", 1.0), ("v1.1", 0.0), ("v1.2", 0.5), ("v1.1", 0.5), ("v1.1", 0.1)]
            for version, share in moves:
                await asyncio.to_thread(site.share, version, share)
                await asyncio.sleep(0.08)
            await asyncio.to_thread(promote, site.store, "v1.1", reason="r", who="t")
            await asyncio.sleep(0.08)
            await asyncio.to_thread(site.share, "v1.2", 0.5)
            await asyncio.sleep(0.08)
            await asyncio.to_thread(rollback, site.store, reason="r", who="t")

        await asyncio.gather(change(), *(client(user) for user in PEOPLE[:12]))
        return found

    with running(site.gateway.app) as site.url:
        replies = asyncio.run(load(site.url))
        eventually(lambda: site.health() is None)
        eventually(lambda: set(site.answers().values()) == {"v1.0"})
        assert set(states(site.store, 96)) == {"complete"}
        assert eventually(lambda: [one.closed for one in site.shelf.made].count(False) == 1)
    for reply in replies:
        said = [chunk["choices"][0]["delta"].get("content") for chunk in reply[:-1] if chunk["choices"]]
        assert set(said) - {None} == {reply[0]["model"]}  # one version from the first word to the last
        assert (len(said), reply[-1]) == (6, "[DONE]")


def test_a_promoted_canary_is_not_loaded_again(site: Site) -> None:
    with running(site.gateway.app) as site.url:
        site.share("v1.1", 0.1)
        eventually(lambda: site.shows("v1.1", 0.1))
        promote(site.store, "v1.1", reason="better", who="t")
        eventually(lambda: site.health() is None)
        assert set(site.answers().values()) == {"v1.1"}
        assert [one.version for one in site.shelf.made] == ["v1.0", "v1.1"]
        assert eventually(lambda: site.shelf.made[0].closed)


@pytest.mark.parametrize("error", [ArtifactError("damaged"), MemoryError("none left"), RuntimeError("CUDA: none left")])
def test_a_canary_that_cannot_be_loaded_leaves_the_alias_serving(
    site: Site, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "palate.serving")
    site.shelf.error = error
    with running(site.gateway.app) as site.url:
        site.share("v1.1", 0.5)
        assert eventually(site.health) == {"version": "v1.1", "share": 0.5, "loaded": False}
        assert set(site.answers().values()) == {"v1.0"}
        assert 'palate_switches_total{model="m",result="canary_failed"} 1.0' in site.metrics()
        assert f"m: the canary v1.1 is not loaded: {error}" in caplog.text
        assert {(row.route, row.probability) for row in rows(site.store)} == {("", 1.0)}
        site.shelf.error = None
        site.share("v1.1", 0.6)  # is tried again when its share is set
        eventually(lambda: site.shows("v1.1", 0.6))
