"""Engines that answer, and engines that do not: every failure is one clear error in time, and none holds up others."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from gateways import ASK, Fake, events, rows, serving, states, texts
from palate.serving.backends.answers import all_answers
from palate.serving.backends.upstream import Upstream
from palate.serving.problems import ApiError
from palate.serving.settings import ServedModelFields
from palate.store import Store
from sites import running

SEEN: list[tuple[dict[str, str], dict[str, Any]]] = []
PORTS: list[int] = []
CHUNK = {"id": "e", "object": "chat.completion.chunk", "created": 1, "model": "engine-7", "engine_field": {"x": 1}}


def piece(text: str | None, reason: str | None = None) -> str:
    delta = {} if text is None else {"content": text}
    return f"data: {json.dumps({**CHUNK, 'choices': [{'index': 0, 'delta': delta, 'finish_reason': reason}]})}\n\n"


async def chat(request: Request) -> Response:
    body = await request.json()
    SEEN.append((dict(request.headers), body))
    assert request.client is not None
    PORTS.append(request.client.port)
    mode = body["model"]
    if mode == "busy":
        return JSONResponse({"error": {"message": "queue full"}}, 429, {"Retry-After": "7"})
    if mode == "key":
        return JSONResponse({"error": {"message": "bad key SECRET-KEY-1"}}, 401)
    if mode == "fails":
        return JSONResponse({"error": {"message": f"no memory, SECRET-KEY-1, {request.headers['authorization']}"}}, 500)
    if mode == "starts":
        return JSONResponse({"error": {"message": "loading model"}}, 503)
    if mode == "refuses":
        error = {"message": "top_k must be positive", "param": "top_k", "code": "bad"}
        return JSONResponse({"error": error}, 400)
    if mode == "html":
        return HTMLResponse("<html>Sign in</html>")
    if mode == "hangs":
        await asyncio.sleep(20)
    if mode == "single":
        if body.get("n", 1) != 1:
            return JSONResponse({"error": {"message": "Only one completion choice is allowed"}}, 500)
        mode = "ignores_n"
    if mode == "ignores_n":
        return one_answer(body)
    if not body["stream"]:
        choice = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
        return JSONResponse({**CHUNK, "object": "chat.completion", "choices": [choice], "usage": usage})
    return StreamingResponse(stream(mode), media_type="text/event-stream")


def one_answer(body: dict[str, Any]) -> Response:
    """As llama-cpp-python's server: one choice whatever n is, and a stream without usage."""
    said = f"seed {body.get('seed')}"
    if not body["stream"]:
        choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        return JSONResponse({**CHUNK, "object": "chat.completion", "choices": [choice], "usage": usage})
    pieces = [piece(said[:4]), piece(said[4:]), piece(None, "stop"), "data: [DONE]\n\n"]
    return StreamingResponse(iter(pieces), media_type="text/event-stream")


async def stream(mode: str) -> Any:
    yield ": comment\n\n" + piece("H")
    if mode == "stalls":
        await asyncio.sleep(20)
    if mode == "cut":
        return
    if mode == "error":
        yield f"data: {json.dumps({'error': {'message': 'out of memory'}})}\n\n"
        return
    if mode == "garbage":
        yield "data: {not json\n\n"
        return
    if mode == "infinite":
        yield 'data: {"choices": [{"index": 0, "delta": {"content": "x"}, "logprobs": 1e999}]}\n\n'
        return
    yield piece("i")[:20]
    yield piece("i")[20:] + piece(None, "stop")
    yield f"data: {json.dumps({**CHUNK, 'choices': [], 'usage': {'prompt_tokens': 3, 'completion_tokens': 2}})}\n\n"
    yield "data: [DONE]\n\n"
    if mode == "stays":
        await asyncio.sleep(20)


@pytest.fixture(scope="module")
def engine() -> Iterator[str]:
    listed = Route("/v1/models", lambda _: JSONResponse({"data": [{"id": "fine"}]}))
    with running(Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"]), listed])) as url:  # type: ignore[arg-type]
        yield f"{url}/v1"


def upstream(url: str, mode: str, **fields: Any) -> Upstream:
    quick = {"connect_seconds": 1, "first_byte_seconds": 0.5, "idle_seconds": 0.5}
    return Upstream(mode, ServedModelFields(upstream=url, **{**quick, **fields}))


@pytest.fixture
def asked(engine: str, sqlite_store: Store, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Asks the gateway in front of the engine in some mode; gives the response, and the states afterwards."""
    monkeypatch.setenv("PALATE_API_KEY", "SECRET-KEY-1")
    SEEN.clear()

    def ask(mode: str, streamed: bool = False, url: str = engine, **body: Any) -> tuple[httpx2.Response, list[str]]:
        with serving(sqlite_store, upstream(url, mode)) as gateway:
            reply = httpx2.post(
                f"{gateway}/v1/chat/completions",
                json={**ASK, "stream": streamed, **body},
                headers={"Authorization": "Bearer of-the-client"},
                timeout=10,
            )
            return reply, states(sqlite_store)

    return ask


def test_what_neither_side_knows_passes_through(asked: Any, sqlite_store: Store) -> None:
    reply, found = asked("fine", top_k=5, mirostat={"tau": 2})
    assert reply.json()["choices"][0]["message"]["content"] == "Hi"
    assert (reply.json()["engine_field"], reply.json()["model"]) == ({"x": 1}, "engine-7")
    headers, body = SEEN[-1]
    assert (body["top_k"], body["mirostat"], body["model"]) == (5, {"tau": 2}, "fine")
    assert headers["authorization"] == "Bearer SECRET-KEY-1"
    assert found == ["complete"]
    assert rows(sqlite_store)[0].prompt_tokens == 3


def test_a_stream_passes_through_with_its_usage_counted(asked: Any, sqlite_store: Store) -> None:
    reply, found = asked("fine", True)
    chunks = events(reply.text)
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks[:-1]) == "Hi"
    assert chunks[0]["engine_field"] == {"x": 1}
    assert chunks[-1] == "[DONE]"
    assert not any("usage" in chunk for chunk in chunks[:-1])  # the client has not asked for it
    assert (found, rows(sqlite_store)[0].completion_tokens) == (["complete"], 2)


@pytest.mark.parametrize("mode", ["ignores_n", "single"])
@pytest.mark.parametrize("streamed", [False, True])
def test_n_answers_of_an_engine_that_gives_one(asked: Any, sqlite_store: Store, mode: str, streamed: bool) -> None:
    reply, found = asked(mode, streamed, n=3, seed=5)
    said: dict[int, str] = {}
    for part in events(reply.text)[:-1] if streamed else [reply.json()]:
        for choice in part["choices"]:
            text = choice["delta" if streamed else "message"].get("content", "")
            said[choice["index"]] = said.get(choice["index"], "") + text
    assert said == {0: "seed 5", 1: "seed 6", 2: "seed 7"}
    assert [body.get("n") for _, body in SEEN] == ([3, 1, 1] if mode == "ignores_n" else [3, 1, 1, 1])
    assert found == ["complete"]
    kept = rows(sqlite_store)[0]
    assert texts(sqlite_store, kept.id) == ["seed 5", "seed 6", "seed 7"]
    assert (kept.prompt_tokens, kept.completion_tokens) == ((None, 6) if streamed else (9, 6))
    if not streamed:
        assert reply.json()["usage"] == {"prompt_tokens": 9, "completion_tokens": 6, "total_tokens": 15}


def test_answers_without_a_seed_differ(asked: Any) -> None:
    reply, _ = asked("ignores_n", n=2)
    seeds = [body.get("seed") for _, body in SEEN]
    assert seeds[0] is None
    assert isinstance(seeds[1], int)
    assert len(reply.json()["choices"]) == 2


def test_several_prompts_of_an_engine_that_answers_one_are_refused() -> None:
    async def ask(body: dict[str, Any]) -> Any:
        yield {"choices": [{"index": 0, "text": "x", "finish_reason": "stop"}]}

    async def take(body: dict[str, Any]) -> list[int]:
        return [choice["index"] async for part in all_answers(ask, body) for choice in part["choices"]]

    with pytest.raises(ApiError, match="each prompt in a request of its own") as refused:
        asyncio.run(take({"prompt": ["a", "b"], "n": 2}))
    assert refused.value.status == 400
    assert asyncio.run(take({"prompt": ["a"], "n": 2})) == [0, 1]
    assert asyncio.run(take({"prompt": [1, 2, 3], "n": 2})) == [0, 1]


def test_a_stream_without_usage_is_counted_by_its_pieces(asked: Any, sqlite_store: Store) -> None:
    reply, found = asked("ignores_n", True, stream_options={"include_usage": True})
    last = events(reply.text)[-2]
    assert last["choices"] == []
    assert last["usage"] == {
        "prompt_tokens": None, "completion_tokens": 2, "total_tokens": None, "estimated": True,
    }  # fmt: skip
    assert found == ["complete"]
    assert (rows(sqlite_store)[0].prompt_tokens, rows(sqlite_store)[0].completion_tokens) == (None, 2)


@pytest.mark.parametrize(
    ("mode", "status", "code", "words", "state"),
    [
        ("busy", 429, "busy", "queue full", "refused"),
        ("key", 502, "upstream_error", "bad key <key>", "upstream_error"),
        ("fails", 502, "upstream_error", "no memory, <key>", "upstream_error"),
        ("starts", 502, "upstream_unreachable", "status 503: loading model", "unreachable"),
        ("refuses", 400, "bad", "top_k must be positive", "refused"),
        ("html", 502, "upstream_error", "not JSON", "upstream_error"),
        ("hangs", 504, "upstream_timeout", "does not answer in time", "upstream_error"),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_a_failing_engine_is_one_clear_error(
    asked: Any, mode: str, status: int, code: str, words: str, state: str, streamed: bool
) -> None:
    reply, found = asked(mode, streamed)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"]) == (status, code)
    assert words in error["message"] or (mode, streamed) == ("html", True)
    assert "SECRET" not in reply.text
    assert found == [state]
    if mode == "busy":
        assert reply.headers["retry-after"] == "7"
    if mode == "refuses":
        assert error["param"] == "top_k"


@pytest.mark.parametrize("mode", ["cut", "error", "garbage", "stalls", "infinite"])
def test_a_stream_that_breaks_ends_with_an_error_and_without_done(asked: Any, mode: str) -> None:
    reply, found = asked(mode, True)
    chunks = events(reply.text)
    assert chunks[0]["choices"][0]["delta"]["content"] == "H"
    assert chunks[-1]["error"]["type"] == "server_error"
    assert found == ["upstream_error"]


def test_an_engine_that_is_not_there(asked: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    reply, found = asked("gone", False, f"http://127.0.0.1:{port}/v1")
    assert (reply.status_code, reply.json()["error"]["code"], found) == (
        502,
        "upstream_unreachable",
        ["unreachable"],
    )


def test_one_dead_engine_holds_up_nobody(engine: str, sqlite_store: Store) -> None:
    dead = upstream(engine, "hangs", first_byte_seconds=1.2, max_in_flight=2)
    with serving(sqlite_store, dead, Fake()) as url, httpx2.Client(base_url=f"{url}/v1", timeout=60) as web:

        async def both() -> tuple[list[int], list[float], str]:
            async with httpx2.AsyncClient(base_url=f"{url}/v1", timeout=60) as api:
                stuck = [asyncio.create_task(api.post("/chat/completions", json=ASK)) for _ in range(2)]
                await asyncio.sleep(0.3)
                full = await api.post("/chat/completions", json=ASK)
                times = []
                for _ in range(10):
                    begun = time.monotonic()
                    assert (await api.post("/chat/completions", json={**ASK, "model": "m1"})).status_code == 200
                    times.append(time.monotonic() - begun)
                statuses = [(await task).status_code for task in stuck]
                return [full.status_code, *statuses], times, full.headers["retry-after"]

        statuses, times, wait = asyncio.run(both())
        assert statuses == [429, 504, 504]
        assert int(wait) >= 1
        assert max(times) < 2
        ready = web.get(f"{url}/health/ready")
        assert (ready.status_code, ready.json()["models"]["m1"]) == (200, "ready")


@pytest.mark.parametrize(("mode", "connections"), [("fine", 1), ("stays", 2)])
def test_a_connection_is_used_again_after_a_stream_that_ended(engine: str, mode: str, connections: int) -> None:
    """An engine that keeps a reply open after its last event is not waited for."""

    async def ask_twice() -> list[int]:
        backend = upstream(engine, mode)
        counts = [len([chunk async for chunk in backend.events("chat/completions", ASK)]) for _ in range(2)]
        await backend.close()
        return counts

    PORTS.clear()
    begun = time.monotonic()
    assert asyncio.run(ask_twice()) == [4, 4]
    assert len(set(PORTS)) == connections
    assert time.monotonic() - begun < 15
