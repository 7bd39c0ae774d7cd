"""An engine that is busy, away, or says something else than was asked for."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from typing import Any

import httpx2 as httpx
import pytest

from palate.errors import EngineError
from palate.models.generation.decoding import Decoding
from palate.models.generation.endpoints.engine import Engine
from palate.records import Answer, Message

PROMPT = (Message("system", "be brief"), Message("user", "hi"))
HOW = Decoding(max_new_tokens=7, temperature=0.5, top_p=0.9)


def reply(text: str, **more: Any) -> httpx.Response:
    choice = {"message": {"content": text}, "finish_reason": "stop"}
    return httpx.Response(200, json={"choices": [choice], "usage": {"completion_tokens": 3}, **more})


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the SDK waited between its requests; nothing is waited for."""
    found: list[float] = []
    monkeypatch.setattr(time, "sleep", found.append)
    return found


def engine(handle: Callable[[httpx.Request], httpx.Response], **how: Any) -> Engine:
    return Engine("http://engine/v1/", "m", http_client=httpx.Client(transport=httpx.MockTransport(handle)), **how)


def test_the_request_says_how_to_decode_and_the_reply_becomes_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALATE_API_KEY", "CANARY-123")
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return reply("hello")

    assert engine(handle).answers([PROMPT], HOW, [2**40 + 5]) == [Answer("hello", "stop", 3)]
    assert str(seen[0].url) == "http://engine/v1/chat/completions"
    assert seen[0].headers["authorization"] == "Bearer CANARY-123"
    assert json.loads(seen[0].content) == {
        "model": "m",
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}],
        "max_tokens": 7,
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 5,
    }


def test_answers_keep_the_order_of_the_prompts() -> None:
    def echo(request: httpx.Request) -> httpx.Response:
        return reply(json.loads(request.content)["messages"][0]["content"])

    prompts = [(Message("user", str(number)),) for number in range(20)]
    texts = [answer.text for answer in engine(echo, in_flight=4).answers(prompts, HOW, list(range(20)))]
    assert texts == [str(number) for number in range(20)]


def test_a_busy_engine_is_asked_again_when_it_says_so(waits: list[float]) -> None:
    soon = formatdate(time.time() + 100, usegmt=True)
    replies = [
        httpx.Response(429, headers={"retry-after": "120"}),
        httpx.Response(503, headers={"retry-after": soon}),
        httpx.Response(503, headers={"retry-after": "soon"}),
        httpx.Response(500),
        reply("at last"),
    ]
    (answer,) = engine(lambda _: replies.pop(0)).answers([PROMPT], HOW, [0])
    assert answer.text == "at last"
    assert waits[0] == 120.0
    assert 95 < waits[1] <= 100
    assert 0 < waits[2] <= waits[3] <= 8


def test_an_engine_that_asks_for_an_hour_is_not_waited_for(waits: list[float]) -> None:
    busy = httpx.Response(429, headers={"retry-after": "3600"})
    with pytest.raises(EngineError, match=r"answered 429 and asks to wait \(Retry-After: 3600\); run again later"):
        engine(lambda _: busy).answers([PROMPT], HOW, [0])
    assert waits == []


def test_an_engine_that_stays_busy_ends_in_one_line(waits: list[float]) -> None:
    with pytest.raises(EngineError, match=r"^http://engine/v1/chat/completions: answered 503, 3 times; run again"):
        engine(lambda _: httpx.Response(503), attempts=3).answers([PROMPT], HOW, [0])
    assert len(waits) == 2


def test_the_key_is_in_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "CANARY-123")

    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.LocalProtocolError(f"Illegal header value {request.headers['authorization']}")

    with pytest.raises(EngineError, match="Illegal header value Bearer <key>"):
        engine(refuse, attempts=1).answers([PROMPT], HOW, [0])


def test_an_engine_that_stays_away_ends_in_one_line() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with pytest.raises(EngineError, match=r"cannot be reached \(ConnectError: refused\), 3 times"):
        engine(refuse, attempts=3).answers([PROMPT], HOW, [0])


@pytest.mark.parametrize(
    ("answered", "said"),
    [
        (httpx.Response(401), "refused the key"),
        (httpx.Response(404, text="nothing here"), r"refused the request \(404\).*end in /v1"),
        (httpx.Response(400, json={"error": {"message": "too\nlong"}}), "too long"),
        (httpx.Response(302, headers={"location": "http://other/v1"}), r"refused the request \(302\)"),
        (httpx.Response(200, json={"choices": []}), "has no choices"),
        (httpx.Response(200, text="<html>"), "has no choices"),
        (httpx.Response(200, text="<html>", headers={"content-type": "application/json"}), "that is not JSON"),
        (httpx.Response(200, json={"choices": [{"message": {"content": 3}}]}), "is a int, not text"),
    ],
)
def test_a_refusal_is_not_repeated(answered: httpx.Response, said: str) -> None:
    replies = [answered]
    with pytest.raises(EngineError, match=said):
        engine(lambda _: replies.pop(0)).answers([PROMPT], HOW, [0])


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host/v1", "http:///v1", "http://h:99999/v1", "http://h:x/v1"])
def test_a_base_url_must_be_one(url: str) -> None:
    with pytest.raises(EngineError, match=re.escape(f"{url}: the engine's base URL")):
        Engine(url, "m")


def test_a_reply_that_cannot_be_decoded_ends_in_one_line() -> None:
    garbled = httpx.Response(200, headers={"content-encoding": "gzip"}, stream=httpx.ByteStream(b"no gzip"))
    with pytest.raises(EngineError, match=r"cannot be reached \(DecodingError"):
        engine(lambda _: garbled, attempts=1).answers([PROMPT], HOW, [0])


class Cut(httpx.SyncByteStream):
    """The body of a reply whose connection breaks after these parts."""

    def __init__(self, *parts: bytes) -> None:
        self.parts = parts
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        yield from self.parts
        raise httpx.ReadError("CANARY-123 connection reset")

    def close(self) -> None:
        self.closed = True


def chunk(text: str | None = None, reason: str | None = None, **more: Any) -> bytes:
    choices = [{"delta": {"content": text}, "finish_reason": reason}]
    return f"data: {json.dumps({'choices': choices, **more})}\n\n".encode()


def streamed(*parts: bytes, end: bytes = b"data: [DONE]\n\n") -> httpx.Response:
    return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=b"".join([*parts, end]))


def test_a_streamed_answer_arrives_in_pieces() -> None:
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        usage = b'data: {"choices": [], "usage": {"completion_tokens": 3}}\n\n'
        return streamed(chunk(), chunk("the "), chunk("sky\u00e9"), b": ping\n\n", chunk(None, "length"), usage)

    pieces: list[str] = []
    assert engine(handle).stream(PROMPT, HOW, 5, pieces.append) == Answer("the sky\u00e9", "length", 3)
    assert [piece for piece in pieces if piece] == ["the ", "sky\u00e9"]
    body = json.loads(seen[0].content)
    assert (body.pop("stream"), body["seed"], body["model"], body["max_tokens"]) == (True, 5, "m", 7)


@pytest.mark.parametrize(
    ("reply_of", "said"),
    [
        (lambda: streamed(chunk("half"), end=b""), r"broke off after 4 characters \(no finish_reason\); ask again"),
        (lambda: streamed(chunk("half")), r"broke off after 4 characters \(no finish_reason\)"),
        (
            lambda: httpx.Response(200, stream=Cut(chunk("half"))),
            r"broke off after 4 characters \(ReadError: <key> connection reset\); ask again",
        ),
        (
            lambda: streamed(chunk("half"), b'data: {"error": {"message": "out of memory"}}\n\n'),
            r"broke off after 4 characters \(APIError: out of memory\)",
        ),
        (lambda: streamed(chunk("half"), b"data: {nonsense\n\n"), r"broke off after 4 characters \(JSONDecodeError"),
        (lambda: httpx.Response(200, text="<html>\n<p>busy: later</p>"), "is no stream of chat completion chunks"),
        (lambda: reply("hello"), "is no stream of chat completion chunks"),
        (lambda: streamed(b'data: "text"\n\n'), "is no stream of chat completion chunks"),
        (lambda: streamed(b"data: 3\n\n", b"data: null\n\n"), "is no stream of chat completion chunks"),
        (lambda: streamed(chunk("x" * 500), chunk("x" * 500)), "does not end its answer at max_tokens"),
        (lambda: streamed(chunk(["a"])), "a streamed content is a list, not text"),  # type: ignore[arg-type]
        (lambda: httpx.Response(401), "refused the key"),
        (lambda: httpx.Response(404, text="<html>"), r"refused the request \(404\)"),
    ],
)
def test_a_stream_that_is_no_whole_answer_is_one_line(
    reply_of: Callable[[], httpx.Response], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PALATE_API_KEY", "CANARY-123")
    with pytest.raises(EngineError, match=said) as raised:
        engine(lambda _: reply_of()).stream(PROMPT, HOW, 0, lambda _: None)
    assert "CANARY" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_busy_engine_is_asked_again_before_it_streams(waits: list[float]) -> None:
    replies = [httpx.Response(429, headers={"retry-after": "3"}), streamed(chunk("at last", "stop"))]
    answer = engine(lambda _: replies.pop(0)).stream(PROMPT, HOW, 0, lambda _: None)
    assert answer.text == "at last"
    assert waits == [3.0]


def test_what_the_reader_raises_closes_the_connection() -> None:
    body = Cut(*[chunk("on ") for _ in range(50)])

    class GoneError(Exception):
        pass

    def on_text(text: str) -> None:
        if text:
            raise GoneError

    with pytest.raises(GoneError):
        engine(lambda _: httpx.Response(200, stream=body)).stream(PROMPT, HOW, 0, on_text)
    assert body.closed


def test_a_short_key_is_a_placeholder_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """`none` and `EMPTY` are words too: they stay in answers."""
    monkeypatch.setenv("PALATE_API_KEY", "EMPTY")
    (answer,) = engine(lambda _: reply("The list is EMPTY.")).answers([PROMPT], HOW, [0])
    assert answer.text == "The list is EMPTY."
    monkeypatch.setenv("PALATE_API_KEY", "CANARY-123")
    (answer,) = engine(lambda _: reply("The key is CANARY-123.")).answers([PROMPT], HOW, [0])
    assert answer.text == "The key is <key>."


def test_what_the_list_of_models_says() -> None:
    listed = {"data": [{"id": "other"}, {"id": "m", "root": "weights"}]}
    assert engine(lambda _: httpx.Response(200, json=listed)).model_facts() == {"id": "m", "root": "weights"}
    for response in (
        httpx.Response(404),
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json={"data": [{"id": "other"}]}),
        httpx.Response(200, json={"data": 3}),
    ):
        assert engine(lambda _, found=response: found).model_facts() == {}


@pytest.mark.parametrize(
    "listed",
    [
        httpx.Response(200, json={"data": [{"id": "other"}, {"id": "m"}]}),
        httpx.Response(200, json={"data": []}),
        httpx.Response(200, json=["m"]),
        httpx.Response(404),
    ],
)
def test_an_engine_that_serves_the_model_or_has_no_list_passes(listed: httpx.Response) -> None:
    engine(lambda _: listed).check_model()


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        (httpx.Response(200, json={"data": [{"id": "a"}, {"id": "b"}]}), "serves a, b, not m; name one of them"),
        (httpx.Response(401), "refused the key"),
        (httpx.Response(503), "answered 503; run again"),
    ],
)
def test_an_engine_that_does_not_serve_the_model_is_asked_once(
    listed: httpx.Response, said: str, waits: list[float]
) -> None:
    with pytest.raises(EngineError, match=said):
        engine(lambda _: listed).check_model()
    assert waits == []
