"""The end of every request is right: clients that leave, that do not read, versions that change, servers that stop."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from gateways import ASK, Fake, events, eventually, make_gateway, rows, serving, states, texts
from palate.serving import exchange
from palate.serving.app import Gateway
from palate.serving.backends.base import Backend
from palate.serving.models import LoadedVersion, Models, Named, Served
from palate.serving.problems import ApiError
from palate.serving.settings import ServeFields
from palate.store import Store
from sites import running

STREAM = {**ASK, "stream": True}


async def read(api: httpx2.AsyncClient, chunks: int | None = None, **body: Any) -> list[Any]:
    """The events of a stream; after `chunks` of them the client leaves."""
    found: list[Any] = []
    async with api.stream("POST", "/v1/chat/completions", json={**STREAM, **body}) as response:
        assert response.status_code == 200, await response.aread()
        async for line in response.aiter_lines():
            found += events(line)
            if chunks is not None and len(found) >= chunks:
                break
    return found


def test_clients_that_leave_after_every_chunk_in_turn(sqlite_store: Store) -> None:
    backend = Fake(words=tuple(f" {number}" for number in range(10)), seconds=0.05)

    async def leave(url: str) -> None:
        async with httpx2.AsyncClient(base_url=url, timeout=60) as api:
            await asyncio.gather(*(read(api, chunks) for chunks in range(9)), read(api))

    with serving(sqlite_store, backend) as url:
        asyncio.run(leave(url))
        found = states(sqlite_store, 10)
        assert eventually(lambda: backend.running == 0)
        metrics = httpx2.get(f"{url}/metrics").text
    assert Counter(found) == {"cancelled": 9, "complete": 1}
    assert backend.left == 9
    assert 'palate_requests_total{model="m",state="cancelled"} 9.0' in metrics
    assert 'palate_in_flight{model="m"} 0.0' in metrics
    for row in rows(sqlite_store):
        (text,) = texts(sqlite_store, row.id) or [""]
        whole = "".join(backend.words)
        assert whole.startswith(text or "")
        assert (text == whole) == (row.state == "complete")


def test_a_client_that_leaves_a_whole_reply_ends_its_generation(sqlite_store: Store) -> None:
    backend = Fake(words=("Word",) * 1000, seconds=0.02)
    with serving(sqlite_store, backend) as url:
        with pytest.raises(httpx2.ReadTimeout):
            httpx2.post(f"{url}/v1/chat/completions", json=ASK, timeout=0.3)
        assert states(sqlite_store) == ["cancelled"]
        assert eventually(lambda: backend.running == 0)


def test_200_streams_at_once_are_all_whole(sqlite_store: Store) -> None:
    backend = Fake(words=tuple(f" {number}" for number in range(10)), seconds=0.05)
    whole = "".join(backend.words)

    async def all_of(url: str) -> list[str]:
        limits = httpx2.Limits(max_connections=None)
        async with httpx2.AsyncClient(base_url=url, timeout=60, limits=limits) as api:
            replies = await asyncio.gather(*(read(api) for _ in range(200)))
        assert all(reply[-1] == "[DONE]" for reply in replies)
        return ["".join(c["choices"][0]["delta"].get("content", "") for c in reply[:-1]) for reply in replies]

    with serving(sqlite_store, backend) as url:
        assert set(asyncio.run(all_of(url))) == {whole}
        assert Counter(states(sqlite_store, 200)) == {"complete": 200}
    assert len({row.id for row in rows(sqlite_store)}) == 200


def test_a_client_that_does_not_read_is_taken_for_gone(sqlite_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "_READ_SECONDS", 0.5)
    backend = Fake(words=("x" * 60_000,) * 400)  # 24 MB, far more than sockets buffer
    with (
        serving(sqlite_store, backend) as url,
        socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as slow,
    ):
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        body = httpx2.Request("POST", url, json=STREAM).content
        head = ["POST /v1/chat/completions HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
        slow.sendall("\r\n".join([*head, f"Content-Length: {len(body)}", "", ""]).encode() + body)
        assert states(sqlite_store) == ["cancelled"]
        assert eventually(lambda: backend.running == 0)


def test_a_stream_that_lasts_is_recorded_as_streaming(sqlite_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "_STREAMING_SECONDS", 0.1)
    with (
        serving(sqlite_store, Fake(words=("w",) * 100, seconds=0.05)) as url,
        httpx2.stream("POST", f"{url}/v1/chat/completions", json=STREAM, timeout=60),
    ):
        assert eventually(lambda: [row.state for row in rows(sqlite_store)] == ["streaming"])
    assert states(sqlite_store) == ["cancelled"]


class Shelf:
    """A registry whose alias names another version whenever it is asked; every version is a backend of its own."""

    def __init__(self) -> None:
        self.made: list[Fake] = []
        self.number = 0

    def named(self, alias: str) -> Named:
        return Named(Path(f"/versions/v{self.number}"))

    def load(self, name: str, version: str) -> tuple[Backend, Path]:
        if self.number % 4 == 3:
            raise ApiError(503, "this version cannot be loaded")
        self.made.append(Fake(version=f"v{self.number}", seconds=0.01, words=(f"v{self.number}",) * 5))
        return self.made[-1], self.named(version).folder


def test_switching_versions_loses_no_request(sqlite_store: Store) -> None:
    shelf = Shelf()
    first, folder = shelf.load("m", "production")
    models = Models({"m": Served("m", LoadedVersion(first), "production", folder)}, shelf, smoke_prompts=False)
    fields = ServeFields(models={"m": {"alias": "production"}}, record="full", poll_seconds=0.02)  # type: ignore[dict-item]

    async def load(url: str) -> list[list[Any]]:
        found: list[list[Any]] = []
        async with httpx2.AsyncClient(base_url=url, timeout=60) as api:

            async def client() -> None:
                for _ in range(8):
                    found.append(await read(api))

            async def switch() -> None:
                for _ in range(10):
                    shelf.number += 1
                    await asyncio.sleep(0.06)

            await asyncio.gather(switch(), *(client() for _ in range(10)))
        return found

    with running(Gateway(sqlite_store, fields, models).app) as url:
        replies = asyncio.run(load(url))
        assert Counter(states(sqlite_store, 80)) == {"complete": 80}
        assert eventually(lambda: [one.closed for one in shelf.made] == [True] * (len(shelf.made) - 1) + [False])
        metrics = httpx2.get(f"{url}/metrics").text
        shown = httpx2.get(f"{url}/v1/models/production").json()
    assert shelf.made[-1].closed
    for reply in replies:
        said = [c["choices"][0]["delta"].get("content") for c in reply[:-1] if c["choices"]]
        assert set(said) - {None} == {reply[0]["model"]}  # one version from the first word to the last
        assert (len(said), reply[-1]) == (6, "[DONE]")
    used = {row.model for row in rows(sqlite_store)}
    assert len(used) >= 3
    assert shown["root"] == shelf.made[-1].version
    assert re.search(r'palate_switches_total\{model="m",result="failed"\} [1-9]', metrics)


def test_a_time_limit_ends_a_request(sqlite_store: Store) -> None:
    with serving(sqlite_store, Fake(words=("w",) * 100, seconds=0.05), request_seconds=0.3) as url:
        whole = httpx2.post(f"{url}/v1/chat/completions", json=ASK)
        assert (whole.status_code, whole.json()["error"]["code"]) == (504, "timeout")
        assert events(httpx2.post(f"{url}/v1/chat/completions", json=STREAM).text)[-1]["error"]["code"] == "timeout"
    assert states(sqlite_store, 2) == ["partial"] * 2


def test_the_store_that_is_away_is_503_and_nothing_is_answered(
    sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from palate.errors import StoreError

    backend = Fake()
    gateway = make_gateway(sqlite_store, {"m": backend})

    def away(entry: object) -> str:
        raise StoreError("disk full")

    monkeypatch.setattr(gateway._state.recorder, "reserve", away)
    with TestClient(gateway.app, base_url="http://127.0.0.1") as web:
        reply = web.post("/v1/chat/completions", json=ASK)
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "store_unavailable")
    assert not backend.bodies


PROGRAM = """
import sys
from gateways import Fake, make_gateway
from palate.network.server import serve
from palate.store import open_store
store = open_store(sys.argv[1])
gateway = make_gateway(store, {"m": Fake(words=("Word",) * 2000, seconds=0.05)}, port=0, grace_seconds=1)
settings = gateway.settings
serve(gateway.app, settings.address, lambda url: print(url, flush=True), gateway.stop, grace=6)
print("ended", flush=True)
"""


def test_a_server_that_stops_finishes_what_it_can(sqlite_store: Store) -> None:
    """Of two streams the short one ends in time; the other one is told that it is cut off."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(sqlite_store.engine.url.database)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
    )
    assert process.stdout is not None
    url = f"{process.stdout.readline().strip()}v1/chat/completions"
    with (
        httpx2.stream("POST", url, json={**STREAM, "max_tokens": 12}, timeout=60) as short,
        httpx2.stream("POST", url, json=STREAM, timeout=60) as long,
    ):
        lines = [short.iter_lines(), long.iter_lines()]
        assert all("Word" in next(one) for one in lines)
        process.send_signal(signal.SIGINT)
        begun = time.monotonic()
        first, second = (events("\n".join(one)) for one in lines)
    assert time.monotonic() - begun < 60
    assert first[-1] == "[DONE]"
    assert second[-1]["error"]["code"] == "stopping"
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out.strip(), err) == (0, "ended", "")
    assert [row.state for row in rows(sqlite_store)] == ["complete", "partial"]


def test_a_client_that_leaves_while_its_row_is_written(sqlite_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = make_gateway(sqlite_store, {"m": Fake()})
    reserve = gateway._state.recorder.reserve

    def slow(entry: Any) -> str | None:
        time.sleep(0.6)
        return reserve(entry)

    monkeypatch.setattr(gateway._state.recorder, "reserve", slow)
    with running(gateway.app) as url:
        with pytest.raises(httpx2.ReadTimeout):
            httpx2.post(f"{url}/v1/chat/completions", json=ASK, timeout=0.2)
        assert states(sqlite_store) == ["cancelled"]
