"""The gateway under load, in front of a scripted engine: nothing is lost, memory is flat, and what it costs.

    python benchmarks/serve_soak.py soak                    200 streams for two minutes, a new version every 3 seconds
    python benchmarks/serve_soak.py soak --seconds 20 --streams 50
    python benchmarks/serve_soak.py idle                    1,000 connections that send nothing, and one that does
    python benchmarks/serve_soak.py overhead                time that the gateway adds to an engine's, recording on

Of the streams, most read to the end, some leave after a few chunks, and some read slowly. Each interaction's recorded
state is held against what its client saw. Engine, gateway and clients share the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import psutil
from _measure import MEBIBYTE, located, positive, results_option, say, write_result

SETTINGS = ("mode", "seconds", "streams", "clients", "requests", "record")
_WORDS = 24
_SWITCH_SECONDS = 3.0
_BODY = {"model": "m", "messages": [{"role": "user", "content": "Say something of some length. " * 20}]}


def main() -> int:
    options = parse()
    if options.mode in ("engine", "gateway"):
        (run_engine if options.mode == "engine" else run_gateway)(options)
        return 0
    with (
        tempfile.TemporaryDirectory(prefix="palate-soak-") as folder,
        servers(options, Path(folder)) as (url, engine, process),
    ):
        measure = {"soak": soak, "idle": idle, "overhead": overhead}[options.mode]
        result = asyncio.run(measure(options, url, engine, process))
        if options.mode == "soak":
            result |= check_states(Path(folder) / "palate.db", result.pop("seen"))
    say(json.dumps(result, indent=2))
    settings = {name: getattr(options, name) for name in SETTINGS}
    say(f"written: {write_result(f'serve_{options.mode}', located({'settings': settings, **result}), options.results)}")
    return 1 if result.get("failed") or result.get("wrong") else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The gateway under load.")
    parser.add_argument("mode", choices=("soak", "idle", "overhead", "engine", "gateway"))
    parser.add_argument("--seconds", type=positive, default=120)
    parser.add_argument("--streams", type=positive, default=200)
    parser.add_argument("--clients", type=positive, default=1000)
    parser.add_argument("--requests", type=positive, default=400)
    parser.add_argument("--record", default="full", choices=("none", "metadata", "redacted", "full"))
    parser.add_argument("--engine", default="", help=argparse.SUPPRESS)
    parser.add_argument("--database", default="", help=argparse.SUPPRESS)
    results_option(parser)
    return parser.parse_args()


async def engine_app(scope: Any, receive: Any, send: Any) -> None:
    """Streams words; the request says with `pause` how many seconds apart."""
    if scope["type"] != "http":
        return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    asked = json.loads(body or b"{}")
    head = {"id": "e", "object": "chat.completion.chunk", "created": 1, "model": asked.get("model")}
    usage = {"prompt_tokens": 100, "completion_tokens": _WORDS, "total_tokens": 100 + _WORDS}
    kind = b"text/event-stream" if asked.get("stream") else b"application/json"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})

    async def say_piece(value: dict[str, Any], reason: str | None = None) -> None:
        chunk = {**head, "choices": [{"index": 0, "delta": value, "finish_reason": reason}]}
        await send({"type": "http.response.body", "body": f"data: {json.dumps(chunk)}\n\n".encode(), "more_body": True})

    if asked.get("stream"):
        for number in range(_WORDS):
            await asyncio.sleep(asked.get("pause", 0))
            await say_piece({"content": f" word{number}"})
        await say_piece({}, "stop")
        last = f"data: {json.dumps({**head, 'choices': [], 'usage': usage})}\n\ndata: [DONE]\n\n"
    else:
        message = {"role": "assistant", "content": " word" * _WORDS}
        last = json.dumps(
            {**head, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}
        )
    await send({"type": "http.response.body", "body": last.encode(), "more_body": False})


def run_engine(_: argparse.Namespace) -> None:
    from palate.network.address import Address
    from palate.network.server import serve

    serve(engine_app, Address(port=0), lambda url: print(url, flush=True), grace=1)


def run_gateway(options: argparse.Namespace) -> None:
    """The gateway with an alias that moves to a new version, another connection pool to the engine, again and again."""
    from palate.network.server import serve
    from palate.serving.app import Gateway
    from palate.serving.backends.base import Backend
    from palate.serving.backends.upstream import Upstream
    from palate.serving.models import LoadedVersion, Models, Named, Served
    from palate.serving.settings import ServedModelFields, ServeFields
    from palate.store import open_store

    class Moving:
        def named(self, alias: str) -> Named:
            del alias
            return Named(Path(f"v{int(time.monotonic() / _SWITCH_SECONDS)}"))

        def load(self, name: str, version: str) -> tuple[Backend, Path]:
            del name
            folder = self.named(version).folder
            return Upstream(str(folder), ServedModelFields(upstream=options.engine, max_in_flight=2000)), folder

        def refuse(self, alias: str, version: str, kept: str, reason: str) -> None:
            sys.exit(f"{alias}: {version} was refused, {kept} continues: {reason}")

    registry = Moving()
    backend, folder = registry.load("m", "moving")
    settings = ServeFields(models={"m": {"alias": "moving"}}, port=0, record=options.record, poll_seconds=0.5)  # type: ignore[dict-item]
    store = open_store(options.database)
    gateway = Gateway(store, settings, Models({"m": Served("m", LoadedVersion(backend), "moving", folder)}, registry))
    serve(gateway.app, settings.address, lambda url: print(url, flush=True), gateway.stop, grace=10)


@contextmanager
def servers(options: argparse.Namespace, folder: Path) -> Iterator[tuple[str, str, psutil.Process]]:
    """Addresses of gateway and engine, and the gateway's process."""
    script = [sys.executable, str(Path(__file__).resolve())]
    engine = subprocess.Popen([*script, "engine"], stdout=subprocess.PIPE, text=True)
    at = str(engine.stdout.readline().strip()) + "v1"  # type: ignore[union-attr]
    database = str(folder / "palate.db")
    gateway = subprocess.Popen(
        [*script, "gateway", "--engine", at, "--database", database, "--record", options.record],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield str(gateway.stdout.readline().strip()) + "v1", at, psutil.Process(gateway.pid)  # type: ignore[union-attr]
    finally:
        for process in (gateway, engine):
            process.terminate()
            process.wait(30)


async def lines(response: httpx2.Response) -> AsyncIterator[Any]:
    async for line in response.aiter_lines():
        if line.startswith("data: ") and line != "data: [DONE]":
            yield json.loads(line[6:])
        elif line == "data: [DONE]":
            yield None


async def soak(options: argparse.Namespace, url: str, engine: str, process: psutil.Process) -> dict[str, Any]:
    """Streams for some seconds; `seen` has what each client saw by the id of its interaction."""
    del engine
    seen: dict[str, str] = {}
    failed: list[str] = []
    firsts: list[float] = []
    versions: set[str] = set()
    memory: list[float] = []
    end = time.monotonic() + options.seconds

    async def client(number: int, api: httpx2.AsyncClient) -> None:
        chance = random.Random(number)
        while time.monotonic() < end:
            kind = chance.choices(("whole", "leaves", "slow"), (70, 20, 10))[0]
            after = chance.randrange(_WORDS) if kind == "leaves" else None
            body = {**_BODY, "stream": True, "pause": chance.choice((0.01, 0.05, 0.1))}
            begun, count, whole, identifier = time.monotonic(), 0, False, ""
            try:
                async with api.stream("POST", f"{url}/chat/completions", json=body) as response:
                    if response.status_code != 200:
                        failed.append(f"status {response.status_code}")
                        continue
                    async for chunk in lines(response):
                        if chunk is None:
                            whole = True
                            break
                        if "error" in chunk:
                            failed.append(str(chunk["error"]["message"]))
                            break
                        if not count:
                            firsts.append(time.monotonic() - begun)
                        identifier, count = chunk["id"], count + 1
                        versions.add(chunk["model"])
                        if after is not None and count > after:
                            break
                        if kind == "slow":
                            await asyncio.sleep(0.2)
            except httpx2.HTTPError as error:
                failed.append(type(error).__name__)
            if identifier:
                seen[identifier] = "whole" if whole else "left" if after is not None else "broken"

    async def watch() -> None:
        while time.monotonic() < end:
            memory.append(process.memory_info().rss / MEBIBYTE)
            await asyncio.sleep(1)

    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx2.AsyncClient(timeout=60, limits=limits) as api:
        await asyncio.gather(watch(), *(client(number, api) for number in range(options.streams)))
    quarter = max(1, len(memory) // 4)
    return {
        "requests": len(seen),
        "failed": Counter(failed),
        "versions": len(versions),
        "first_token_ms": milliseconds(firsts),
        "mebibytes": {"first_quarter": max(memory[:quarter]), "last_quarter": max(memory[-quarter:])},
        "seen": seen,
    }


def check_states(database: Path, seen: dict[str, str]) -> dict[str, Any]:
    """Recorded states against what clients saw; the gateway has stopped or has no request in progress."""
    import sqlite3

    time.sleep(2)
    with sqlite3.connect(database) as connection:
        states = dict(connection.execute("SELECT id, state FROM interactions"))
    allowed = {"whole": {"complete"}, "left": {"cancelled", "complete"}, "broken": set()}
    wrong = Counter(
        f"{what}: {states.get(name)}" for name, what in seen.items() if states.get(name) not in allowed[what]
    )
    return {"states": Counter(states.values()), "wrong": wrong, "clients_saw": Counter(seen.values())}


async def idle(options: argparse.Namespace, url: str, engine: str, process: psutil.Process) -> dict[str, Any]:
    """Connections that send nothing, or half a request, while others are answered."""
    del engine
    port = int(url.split(":")[2].partition("/")[0])
    before = process.memory_info().rss / MEBIBYTE
    writers = []
    for number in range(options.clients):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        if number % 2:
            writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Le")
        writers.append(writer)
    times, failed = [], 0
    async with httpx2.AsyncClient(timeout=30) as api:
        for _ in range(100):
            begun = time.monotonic()
            failed += (await api.post(f"{url}/chat/completions", json=_BODY)).status_code != 200
            times.append(time.monotonic() - begun)
    after = process.memory_info().rss / MEBIBYTE
    for writer in writers:
        writer.close()
    return {"idle": len(writers), "failed": failed, "request_ms": milliseconds(times), "mebibytes": [before, after]}


async def overhead(options: argparse.Namespace, url: str, engine: str, process: psutil.Process) -> dict[str, Any]:
    """The same requests to the engine and through the gateway, one at a time and 16 at a time."""
    result: dict[str, Any] = {}
    async with httpx2.AsyncClient(timeout=30) as api:
        for at_once in (1, 16):
            for stream in (False, True):
                for place, base in (("engine", engine), ("gateway", url)):
                    times: list[float] = []

                    async def ask(base: str, stream: bool, times: list[float]) -> None:
                        begun = time.perf_counter()
                        reply = await api.post(f"{base}/chat/completions", json={**_BODY, "stream": stream})
                        reply.raise_for_status()
                        times.append(time.perf_counter() - begun)

                    await asyncio.gather(*(ask(base, stream, []) for _ in range(at_once)))
                    used = sum(process.cpu_times()[:2])
                    for _ in range(options.requests // at_once):
                        await asyncio.gather(*(ask(base, stream, times) for _ in range(at_once)))
                    row = result.setdefault(f"{'streamed' if stream else 'whole'}, {at_once} at a time", {})
                    row[place] = milliseconds(times)
                    if place == "gateway":
                        row["gateway_cpu_ms"] = 1000 * (sum(process.cpu_times()[:2]) - used) / len(times)
        result["histogram"] = overhead_of((await api.get(url.removesuffix("/v1") + "/metrics")).text)
    return result


def overhead_of(metrics: str) -> dict[str, float]:
    """Share of requests with at most so many seconds, from the gateway's own histogram."""
    prefix = 'palate_overhead_seconds_bucket{le="'
    found = {
        line[len(prefix) :].partition('"')[0]: float(line.split()[-1])
        for line in metrics.splitlines()
        if line.startswith(prefix)
    }
    return {bound: count / max(found["+Inf"], 1) for bound, count in found.items()}


def milliseconds(times: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(times, n=100) if len(times) > 1 else [0.0] * 99
    return {"n": len(times), "p50": 1000 * cuts[49], "p95": 1000 * cuts[94], "p99": 1000 * cuts[98]}


if __name__ == "__main__":
    sys.exit(main())
