"""Versions as adapters at an engine: new names only, compared before a switch, loaded again after a restart."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from safetensors.numpy import load_file
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from gateways import ASK, events, eventually, rows, states
from model_folders import fake_adapter, fake_model
from palate.errors import ConfigError, EngineError
from palate.registry import Version, add, find, promote, set_canary
from palate.registry.versions import set_probes
from palate.serving import models
from palate.serving.app import Gateway
from palate.serving.loading import open_models
from palate.serving.settings import read_settings
from palate.store import Store
from sites import running

IDS = ([5, 7, 11, 13], [2, 3, 4])


def logps(weight: float, ids: list[int], noise: float = 0.0) -> list[float]:
    """What a model whose adapter has this weight gives to all tokens but the first."""
    return [-2 - 0.1 * token - weight * (token % 3) + noise * (-1) ** token for token in ids[1:]]


@dataclass
class Engine:
    """An engine with vLLM's interface for adapters, whose log-probabilities follow from the weights in lora_path.

    Attributes:
        adapters: name → weight.
        loads, unloads: names, in order.
        asked: names in requests of chats.
        compared: texts whose log-probabilities were asked for.
        serves: given a name and its weight, the weight that it really uses.
        lora: whether it loads adapters.
        form: echo, prompt_logprobs or none: how it gives log-probabilities of a prompt.
        noise: of its log-probabilities.
        wait: for this event before a chat is answered.
    """

    root: Path
    adapters: dict[str, float] = field(default_factory=dict)
    loads: list[str] = field(default_factory=list)
    unloads: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    compared: list[list[int]] = field(default_factory=list)
    serves: Callable[[str, float], float] = lambda _, weight: weight
    lora: bool = True
    form: str = "echo"
    noise: float = 0.0
    wait: threading.Event | None = None

    def app(self) -> Starlette:
        posts = {"load_lora_adapter": self.load, "unload_lora_adapter": self.unload}
        posts |= {"completions": self.complete, "chat/completions": self.chat}
        routes = [Route(f"/v1/{path}", call, methods=["POST"]) for path, call in posts.items()]
        return Starlette(routes=[*routes, Route("/v1/models", self.models)])

    async def models(self, _: Request) -> Response:
        return JSONResponse({"data": [{"id": "base"}, *({"id": name} for name in self.adapters)]})

    async def load(self, request: Request) -> Response:
        body = await request.json()
        name, path = body["lora_name"], body["lora_path"]
        if not self.lora:
            return JSONResponse({"detail": "Not Found"}, 404)
        if name in self.adapters:
            return JSONResponse({"error": {"message": f"{name} has already been loaded"}}, 400)
        assert path.startswith("/engine/")
        weights = load_file(self.root / path.removeprefix("/engine/") / "adapter_model.safetensors")
        self.adapters[name] = float(weights["lora_A"][0])
        self.loads.append(name)
        return PlainTextResponse(f"Success: LoRA adapter '{name}' added successfully.")

    async def unload(self, request: Request) -> Response:
        name = (await request.json())["lora_name"]
        self.unloads.append(name)
        del self.adapters[name]
        return PlainTextResponse("Success")

    async def complete(self, request: Request) -> Response:
        body = await request.json()
        self.compared.append(body["prompt"])
        found = logps(self.serves(body["model"], self.adapters[body["model"]]), body["prompt"], self.noise)
        choice: dict[str, Any] = {"index": 0, "text": "x", "finish_reason": "length", "logprobs": None}
        if self.form == "prompt_logprobs" and body.get("echo"):
            return JSONResponse({"error": {"message": "echo is not supported"}}, 400)
        if self.form == "echo" and body.get("echo"):
            choice["logprobs"] = {"token_logprobs": [None, *found, -0.5]}
        elif body.get("prompt_logprobs"):
            entries = [{str(t): {"logprob": p}, "0": {"logprob": -0.1}} for t, p in zip(body["prompt"][1:], found)]
            choice["prompt_logprobs"] = [None, *entries] if self.form == "prompt_logprobs" else None
        return JSONResponse({"choices": [choice]})

    async def chat(self, request: Request) -> Response:
        body = await request.json()
        wait = self.wait  # before it is seen to be asked, after which a test may set another
        self.asked.append(body["model"])
        if body["model"] not in self.adapters:
            missing = f"The model `{body['model']}` does not exist."
            return JSONResponse({"error": {"message": missing, "type": "NotFoundError"}}, 404)
        while wait is not None and not wait.is_set():
            await asyncio.sleep(0.01)
        head = {"id": "e", "object": "chat.completion", "created": 1, "model": body["model"]}
        if not body["stream"]:
            message = {"role": "assistant", "content": "Hi"}
            return JSONResponse({**head, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})
        chunk = {**head, "choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}]}
        return StreamingResponse(
            iter([f"data: {json.dumps(chunk)}\n\n", "data: [DONE]\n\n"]), media_type="text/event-stream"
        )


@dataclass
class Site:
    """An engine, a gateway in front of it, and the registry."""

    engine: Engine
    store: Store
    folder: Path
    url: str = ""

    def version(self, weight: float, *, probes: bool = True) -> Version:
        source = fake_adapter(self.folder / f"a{weight}", fake_model(self.folder / "base"), weight)
        made = add(self.store, source, models_dir=self.engine.root, who="t").version
        if probes:
            self.probe(made, weight)
        return made

    def probe(self, version: Version, weight: float) -> None:
        given = [{"ids": ids, "logps": logps(weight, ids), "base": logps(0.0, ids)} for ids in IDS]
        set_probes(self.store, version.name, given)

    def promote(self, version: Version) -> None:
        promote(self.store, version.name, reason="r", who="t")

    def gateway(self, engine: str) -> Gateway:
        file = self.folder / "serve.yaml"
        chat = f"{{alias: production, upstream: '{engine}/v1', adapter_root: /engine/}}"
        file.write_text(f"models: {{chat: {chat}}}\npoll_seconds: 0.05\nrecord: metadata\n")
        settings = read_settings(file, {})
        return Gateway(self.store, settings, open_models(settings, self.store, lambda _: None))

    def ask(self, **body: Any) -> httpx2.Response:
        return httpx2.post(f"{self.url}/v1/chat/completions", json={**ASK, "model": "chat", **body}, timeout=60)

    def answers(self, version: Version) -> bool:
        reply = self.ask()
        assert reply.status_code == 200, reply.text
        return bool(reply.json()["model"] == version.name)

    def kept(self) -> dict[str, str]:
        return dict(httpx2.get(f"{self.url}/health/ready").json()["kept"])


def name_of(version: Version) -> str:
    return f"palate-{version.content_hash[:16]}"


@pytest.fixture
def site(tmp_path: Path, sqlite_store: Store) -> Site:
    return Site(Engine(tmp_path / "models"), sqlite_store, tmp_path)


@pytest.fixture
def served(site: Site) -> Iterator[tuple[Site, Version]]:
    """A running gateway whose production is the first version."""
    first = site.version(0.5)
    site.promote(first)
    with running(site.engine.app()) as engine, running(site.gateway(engine).app) as site.url:
        yield site, first


def test_a_canary_is_an_adapter_beside_the_first_and_stays_loaded_when_it_is_promoted(
    served: tuple[Site, Version],
) -> None:
    site, first = served
    second, third = site.version(0.7), site.version(0.9, probes=False)
    set_canary(site.store, second.name, 0.5, reason="try", who="t")
    people = [f"user-{number}" for number in range(20)]

    def given() -> list[str]:
        return [str(site.ask(user=person).json()["model"]) for person in people]

    eventually(lambda: {first.name, second.name} == set(given()))
    assert set(site.engine.adapters) == {name_of(first), name_of(second)}
    assert given() == given()
    promote(site.store, second.name, reason="better", who="t")
    eventually(lambda: set(given()) == {second.name})
    assert eventually(lambda: site.engine.unloads == [name_of(first)])
    assert site.engine.loads == [name_of(first), name_of(second)]
    set_canary(site.store, third.name, 0.5, reason="try", who="t")  # has no probes, so the engine is not asked
    ready = f"{site.url}/health/ready"
    missing = {"version": third.name, "share": 0.5, "loaded": False}
    eventually(lambda: httpx2.get(ready).json()["canaries"] == {"chat": missing})
    assert set(given()) == {second.name}


def test_a_new_version_is_loaded_compared_and_served_and_the_old_one_unloaded(served: tuple[Site, Version]) -> None:
    site, first = served
    second = site.version(0.7)
    site.engine.wait = answer = threading.Event()
    with ThreadPoolExecutor() as threads:
        old = threads.submit(site.ask, stream=True)
        assert eventually(lambda: site.engine.asked)
        site.engine.wait = None
        site.promote(second)
        assert eventually(lambda: site.answers(second))
        assert site.engine.unloads == []  # the old version still answers
        answer.set()
        assert {chunk["model"] for chunk in events(old.result().text)[:-1]} == {first.name}
    assert eventually(lambda: site.engine.unloads == [name_of(first)])
    assert site.engine.loads == [name_of(first), name_of(second)]
    assert site.engine.asked[0] == name_of(first)
    assert site.engine.asked[-1] == name_of(second)
    states(site.store, 2)
    last = rows(site.store)[-1]
    assert (last.model, last.identity) == (second.name, second.content_hash)
    assert site.kept() == {}


@pytest.mark.parametrize(("other", "words"), [("the one before", "v1.0"), ("the base", "v1.1 without its adapter")])
def test_an_engine_that_serves_something_else_gets_no_traffic(
    served: tuple[Site, Version], other: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    site, first = served
    weight = {"the one before": 0.5, "the base": 0.0}[other]
    site.engine.serves = lambda name, own: own if name == name_of(first) else weight
    with caplog.at_level(logging.ERROR, "palate.serving"):
        site.promote(site.version(0.9))
        assert eventually(lambda: site.kept() == {"chat": first.name})
    assert f"chat stays at {first.name}" in caplog.text
    assert f"they are those of {words}" in caplog.text
    assert site.answers(first)
    assert set(site.engine.adapters) == {name_of(first)}  # the refused one is unloaded
    assert 'palate_switches_total{model="chat",result="failed"} 1.0' in httpx2.get(f"{site.url}/metrics").text
    site.promote(first)  # back where it was: nothing is kept any more
    assert eventually(lambda: site.kept() == {})


def test_versions_that_differ_by_less_than_the_bounds_are_told_apart(
    served: tuple[Site, Version], caplog: pytest.LogCaptureFixture
) -> None:
    site, first = served
    near = site.version(0.51)  # 0.012 nats per token from the first
    site.engine.serves = lambda name, own: 0.5
    with caplog.at_level(logging.ERROR, "palate.serving"):
        site.promote(near)
        assert eventually(lambda: site.kept() == {"chat": first.name})
    assert f"they are those of {first.name}" in caplog.text


def test_rounding_is_allowed_up_to_the_bounds(served: tuple[Site, Version], caplog: pytest.LogCaptureFixture) -> None:
    site, _ = served
    site.engine.noise = 0.04
    second, third = site.version(0.9), site.version(1.5)
    site.promote(second)
    assert eventually(lambda: site.answers(second))
    site.engine.noise = 0.06
    with caplog.at_level(logging.ERROR, "palate.serving"):
        site.promote(third)
        assert eventually(lambda: site.kept() == {"chat": second.name})
    assert "differ by 0.06 nats per token (bound 0.05), at most 0.06 (bound 0.5)" in caplog.text


def test_an_engine_with_vllms_own_parameter(served: tuple[Site, Version]) -> None:
    site, _ = served
    site.engine.form = "prompt_logprobs"
    second = site.version(0.9)
    site.promote(second)
    assert eventually(lambda: site.answers(second))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"lora": False}, "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"),
        ({"form": "none"}, "no log-probabilities of a prompt"),
        ({"probes": False}, "palate model probe v1.0 makes them"),
    ],
)
def test_what_cannot_be_compared_does_not_start(site: Site, change: dict[str, Any], words: str) -> None:
    site.promote(site.version(0.5, probes=change.pop("probes", True)))
    for key, value in change.items():
        setattr(site.engine, key, value)
    with running(site.engine.app()) as engine, pytest.raises(EngineError, match=words):
        site.gateway(engine)
    assert site.engine.adapters == {}


def test_a_missing_probe_keeps_the_old_version_until_it_is_made(
    served: tuple[Site, Version], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    site, first = served
    monkeypatch.setattr(models, "_AGAIN_SECONDS", 0.2)
    second = site.version(0.9, probes=False)
    with caplog.at_level(logging.ERROR, "palate.serving"):
        site.promote(second)
        assert eventually(lambda: site.kept() == {"chat": first.name})
    assert f"palate model probe {second.name}" in caplog.text
    assert site.answers(first)
    site.probe(second, 0.9)
    assert eventually(lambda: site.answers(second))
    assert site.kept() == {}


def test_an_engine_that_was_restarted_gets_the_adapter_again(served: tuple[Site, Version]) -> None:
    site, first = served
    site.engine.adapters.clear()

    async def several() -> list[httpx2.Response]:
        async with httpx2.AsyncClient(base_url=site.url, timeout=60) as api:
            bodies = [{**ASK, "model": "chat", "stream": bool(number % 2)} for number in range(6)]
            return await asyncio.gather(*(api.post("/v1/chat/completions", json=body) for body in bodies))

    assert [reply.status_code for reply in asyncio.run(several())] == [200] * 6
    assert site.engine.loads == [name_of(first)] * 2
    assert site.engine.compared == [*IDS] * 2  # once at the start and once again, not for each request
    # If it comes back with other weights under the name, nobody is answered with them.
    site.engine.adapters.clear()
    site.engine.serves = lambda *_: 3.0
    reply = site.ask()
    assert (reply.status_code, reply.json()["error"]["code"]) == (502, "upstream_error")
    assert site.engine.adapters == {}


def test_an_alias_that_moves_there_and_back_keeps_what_is_in_use(served: tuple[Site, Version]) -> None:
    site, first = served
    second = site.version(0.9)
    site.engine.wait = answer = threading.Event()
    with ThreadPoolExecutor() as threads:
        old = threads.submit(site.ask)
        assert eventually(lambda: site.engine.asked)
        site.engine.wait = None
        site.promote(second)
        assert eventually(lambda: site.answers(second))
        for version in (first, second, first):
            site.promote(version)
            time.sleep(0.03)
        assert eventually(lambda: site.answers(first))
        answer.set()
        assert old.result().json()["model"] == first.name
    time.sleep(0.3)  # what would be unloaded wrongly is unloaded now
    assert name_of(first) in site.engine.adapters
    assert eventually(lambda: site.engine.adapters.keys() == {name_of(first)})
    assert site.answers(first)


def test_settings_that_do_not_go_together(tmp_path: Path) -> None:
    for text, words in {
        "alias: a, model: m": "or alias and upstream for adapters",
        "alias: a, upstream: 'http://h/v1', upstream_model: x": "upstream_model: goes without alias",
    }.items():
        (tmp_path / "serve.yaml").write_text(f"models: {{chat: {{{text}}}}}\n")
        with pytest.raises(ConfigError, match=words):
            read_settings(tmp_path / "serve.yaml", {})


def test_probes_stay_with_the_version(site: Site) -> None:
    made = find(site.store, site.version(0.5).name)
    assert made.lineage["probes"][0]["ids"] == IDS[0]
    assert all(math.isfinite(value) for value in made.lineage["probes"][0]["logps"])
    assert made.lineage["base"]["model"].endswith("base")  # what was there is still there
