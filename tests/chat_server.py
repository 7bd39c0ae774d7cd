"""An OpenAI-compatible endpoint on pytest-httpserver, whose replies a test chooses. Its probe requests are apart."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

Reply: TypeAlias = str | dict[str, Any] | Response
"""A text, a whole reply, or a response of any kind."""

PROBES = ("Answer with the single letter A.", "Write one sentence about rain.", "Reply with a JSON object with the key")
ABILITIES = frozenset({"schema", "json", "logprobs", "n", "seed", "max_tokens", "max_completion_tokens", "temperature"})


def completion(text: str | None, finish_reason: str = "stop", **more: Any) -> dict[str, Any]:
    """A reply of the API with one choice."""
    message = {"role": "assistant", "content": text, **more.pop("message", {})}
    usage = more.pop("usage", {"prompt_tokens": 100, "completion_tokens": 5})
    choice = {"index": 0, "message": message, "finish_reason": finish_reason, "logprobs": more.pop("logprobs", None)}
    return {"id": "1", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage, **more}


def token_logprobs(*places: Mapping[str, float]) -> dict[str, Any]:
    """The field `logprobs` of a choice; the first of each place's tokens was sampled."""
    return {
        "content": [
            {
                "token": next(iter(place)),
                "logprob": next(iter(place.values())),
                "top_logprobs": [{"token": token, "logprob": value} for token, value in place.items()],
            }
            for place in places
        ]
    }


def prompt_text(body: Mapping[str, Any]) -> str:
    """The text of a request's only message."""
    (message,) = body["messages"]
    return str(message["content"])


def shown(body: Mapping[str, Any], name: str) -> str:
    """What stands in a block of the request: `answer A`, `answer B`, `prompt`."""
    found = re.search(rf"<<<{name} ([0-9a-f]+)>>>\n(.*)\n<<<end of {name} \1>>>", prompt_text(body), re.DOTALL)
    assert found is not None, f"{name} is not in the request"
    return found[2]


def longer_wins(body: Mapping[str, Any]) -> str:
    """A judge that prefers the longer answer and does not care where it stands."""
    return "A" if len(shown(body, "answer A")) > len(shown(body, "answer B")) else "B"


class ChatServer:
    """The endpoint.

    Attributes:
        answer: makes the reply to a request.
        abilities: parameters that it knows and obeys; it refuses `max_tokens`, `temperature` and log-probabilities that
            are not in it, and ignores the rest.
        listed, others: the model that it lists first, and names of others.
        requests, probes: the requests that arrived.
        keys: their authorization headers.
    """

    def __init__(self, server: HTTPServer) -> None:
        self.answer: Callable[[dict[str, Any]], Reply] = longer_wins
        self.abilities = ABILITIES
        self.requests: list[dict[str, Any]] = []
        self.probes: list[dict[str, Any]] = []
        self.keys: set[str] = set()
        self.listed: dict[str, Any] = {"id": "m", "root": "weights-1", "created": 0}
        self.others: tuple[str, ...] = ()
        self.url = server.url_for("/v1")
        self.server = server
        self._lock = threading.Lock()
        server.expect_request("/v1/chat/completions", method="POST").respond_with_handler(self._chat)
        server.expect_request("/v1/models", method="GET").respond_with_handler(self._models)

    @property
    def texts(self) -> list[str]:
        return [prompt_text(body) for body in self.requests]

    def _models(self, request: Request) -> Response:
        self.listed["created"] += 1  # as vLLM: the time of the request
        return _response({"object": "list", "data": [self.listed, *({"id": name} for name in self.others)]})

    def _chat(self, request: Request) -> Response:
        body = json.loads(request.get_data())
        probe = str(body["messages"][0]["content"]).startswith(PROBES)
        with self._lock:
            self.keys.add(request.headers.get("Authorization", ""))
            (self.probes if probe else self.requests).append(body)
        refused = [name for name in ("max_tokens", "max_completion_tokens", "temperature", "logprobs") if name in body]
        unknown = next((name for name in refused if name not in self.abilities), None)
        if unknown is not None:
            return _response({"error": {"message": f"Unsupported parameter: {unknown}"}}, 400)
        reply = self._probe(body) if probe else self.answer(body)
        if isinstance(reply, Response):
            return reply
        return _response(completion(reply) if isinstance(reply, str) else reply)

    def _probe(self, body: Mapping[str, Any]) -> Reply:
        asked = body.get("response_format", {}).get("type")
        if asked == "json_schema":
            return '{"verdict": "B"}' if "schema" in self.abilities else "It rains."
        if asked == "json_object":
            return '{"verdict": "A"}' if "json" in self.abilities else "The verdict is A."
        if body.get("logprobs"):
            return completion("A", logprobs=token_logprobs({"A": -0.1, "B": -2.5}))
        reply = completion("A")
        if body.get("n") == 2 and "n" in self.abilities:
            reply["choices"] = reply["choices"] * 2
        return reply


def _response(value: Any, status: int = 200) -> Response:
    return Response(json.dumps(value), status=status, content_type="application/json")


@pytest.fixture(scope="session")
def make_httpserver() -> Iterator[HTTPServer]:
    """The server of the fixture `httpserver`, with a thread for each request."""
    with HTTPServer(host="127.0.0.1", port=0, threaded=True) as server:
        yield server


@pytest.fixture
def endpoint(httpserver: HTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ChatServer:
    """An endpoint that judges over the API use by default, and a store of the test's own."""
    server = ChatServer(httpserver)
    monkeypatch.setenv("PALATE_BASE_URL", server.url)
    monkeypatch.setenv("PALATE_STORE", f"sqlite:///{tmp_path / 'palate.db'}")
    monkeypatch.setenv("PALATE_API_KEY", "CANARY-123")
    return server


@pytest.fixture(scope="session")
def three_servers() -> Iterator[list[HTTPServer]]:
    """The servers of the fixture `three_endpoints`."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(HTTPServer(host="127.0.0.1", port=0, threaded=True)) for _ in range(3)]


@pytest.fixture
def three_endpoints(three_servers: list[HTTPServer]) -> list[ChatServer]:
    """Three endpoints of one model, which repeat the prompt with the seed; a test may stop a `server` of them."""
    found = []
    for server in three_servers:
        server.clear()
        if not server.is_running():
            server.start()
        found.append(ChatServer(server))
        found[-1].answer = lambda body: f"{prompt_text(body)} {body['seed']}"
    return found


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited for before requests were sent again; nothing is waited for."""
    found: list[float] = []
    monkeypatch.setattr(time, "sleep", found.append)
    return found
