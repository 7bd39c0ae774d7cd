"""Several endpoints of one model: who gets a request, and what happens if an endpoint fails."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Response

from chat_server import ChatServer, prompt_text, three_endpoints, three_servers
from palate.errors import EngineError, EngineRefused
from palate.models.generation.decoding import Decoding
from palate.models.generation.endpoints import pool
from palate.models.generation.endpoints.engine import Engine
from palate.models.generation.endpoints.pool import read_endpoints
from palate.records import Message

__all__ = ["three_endpoints", "three_servers"]

HOW = Decoding(max_new_tokens=7, temperature=1.0)


def urls(servers: list[ChatServer], *weights: str) -> str:
    return ",".join(one.url + weight for one, weight in zip(servers, weights or [""] * len(servers), strict=True))


def ask(engine: Engine, count: int) -> list[str]:
    prompts = [(Message("user", f"p{number}"),) for number in range(count)]
    return [answer.text for answer in engine.answers(prompts, HOW, list(range(count)))]


def expected(count: int) -> list[str]:
    return [f"p{number} {number}" for number in range(count)]


def after(seconds: float, answer: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
    def late(body: dict[str, Any]) -> Any:
        time.sleep(seconds)
        return answer(body)

    return late


def test_urls_and_weights_are_read() -> None:
    assert read_endpoints("http://a:1/v1/, https://b/v1=2.5") == [("http://a:1/v1", 1.0), ("https://b/v1", 2.5)]
    for wrong in (
        "http://a/v1,",
        "http://a/v1,http://a/v1/=2",
        "http://a/v1=0",
        "http://a/v1=1.2.3",
        "http://a/v1=x",
        "http://a/v1=-2",
        "http://a/v1=inf",
    ):
        with pytest.raises(EngineError, match=r"^base URL \d of \d: write each URL once"):
            read_endpoints(wrong)
    for secret in ("http://u:CANARY@a/v1,http://b/v1", "http://a/v1?key=CANARY,http://b/v1=2"):
        with pytest.raises(EngineError, match="a base URL has no user, password or query") as raised:
            Engine(secret, "m")
        assert "CANARY" not in str(raised.value)


def test_requests_are_shared_out_by_weight(three_endpoints: list[ChatServer]) -> None:
    engine = Engine(urls(three_endpoints, "=3", "", "=2"), "m")
    request = {"messages": [{"role": "user", "content": "p"}], "seed": 1}
    for _ in range(12):
        assert engine.complete(request).text == "p 1"
    assert [len(one.requests) for one in three_endpoints] == [6, 2, 4]
    assert engine.answered == {one.url: count for one, count in zip(three_endpoints, (6, 2, 4))}
    # At once: 3 · 4 in flight are 6, 2 and 4 as well.
    open_now, most = Counter[str](), Counter[str]()
    lock = threading.Lock()

    def counted(one: ChatServer, answer: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
        def count(body: dict[str, Any]) -> Any:
            with lock:
                open_now[one.url] += 1
                most[one.url] = max(most[one.url], open_now[one.url])
            time.sleep(0.05)
            with lock:
                open_now[one.url] -= 1
            return answer(body)

        return count

    for one in three_endpoints:
        one.answer = counted(one, one.answer)
    assert ask(Engine(urls(three_endpoints, "=3", "", "=2"), "m", in_flight=4), 48) == expected(48)
    assert [most[one.url] <= limit for one, limit in zip(three_endpoints, (6, 2, 4))] == [True] * 3
    assert most[three_endpoints[0].url] > 2


def test_a_slow_endpoint_gets_less(three_endpoints: list[ChatServer]) -> None:
    slow = three_endpoints[1]
    for one in three_endpoints:
        one.answer = after(0.4 if one is slow else 0.02, one.answer)
    assert ask(Engine(urls(three_endpoints), "m", in_flight=2), 60) == expected(60)
    shares = [len(one.requests) for one in three_endpoints]
    assert sum(shares) == 60
    assert shares[1] < min(shares[0], shares[2]) / 2


def test_when_an_endpoint_dies_nothing_is_lost_or_asked_twice(three_endpoints: list[ChatServer]) -> None:
    dying = three_endpoints[2]
    whole = dying.answer

    def last(body: dict[str, Any]) -> Any:
        if len(dying.requests) == 5:
            threading.Thread(target=dying.server.stop).start()
        while len(dying.requests) >= 5 and dying.server.is_running():
            time.sleep(0.01)
        return whole(body)

    dying.answer = last
    for one in three_endpoints[:2]:
        one.answer = after(0.01, one.answer)
    engine = Engine(urls(three_endpoints), "m", in_flight=3)
    assert ask(engine, 80) == expected(80)
    answered = Counter(prompt_text(body) for one in three_endpoints for body in one.requests)
    assert set(answered.values()) == {1}
    assert sum(engine.answered.values()) == 80
    assert 5 <= engine.answered[dying.url] <= 8


def test_requests_to_an_endpoint_that_hangs_go_to_others(three_endpoints: list[ChatServer]) -> None:
    hanging, ended = three_endpoints[1], threading.Event()
    hanging.answer = lambda _: str(ended.wait(30))
    try:
        engine = Engine(urls(three_endpoints[:2]), "m", in_flight=2, timeout=0.5)
        assert ask(engine, 12) == expected(12)
    finally:
        ended.set()
    assert engine.answered == {three_endpoints[0].url: 12, hanging.url: 0}
    assert 2 <= len(hanging.requests) <= 4  # those in flight, then one at a time


def test_an_endpoint_that_asks_to_wait_is_left_alone(three_endpoints: list[ChatServer]) -> None:
    busy, times = three_endpoints[0], list[float]()
    usual = busy.answer

    def answer(body: dict[str, Any]) -> Any:
        times.append(time.monotonic())
        return Response(status=429, headers={"Retry-After": "0.7"}) if len(times) == 1 else usual(body)

    busy.answer = answer
    for one in three_endpoints[1:]:
        one.answer = after(0.05, one.answer)
    assert ask(Engine(urls(three_endpoints), "m", in_flight=1), 50) == expected(50)
    assert times[1] - times[0] >= 0.7
    assert len(times) > 2
    assert sum(len(one.requests) for one in three_endpoints) == 51


def test_an_endpoint_that_is_overrun_gets_fewer_at_once(three_endpoints: list[ChatServer]) -> None:
    """It answers 429 to the third request at once; its limit settles there, instead of at 8."""
    small, open_now, refused, lock = three_endpoints[0], [0], [0], threading.Lock()
    usual = small.answer

    def answer(body: dict[str, Any]) -> Any:
        with lock:
            open_now[0] += 1
            many = open_now[0] > 2
            refused[0] += many
        time.sleep(0.005 if many else 0.02)
        with lock:
            open_now[0] -= 1
        return Response(status=429, headers={"Retry-After": "0"}) if many else usual(body)

    small.answer = answer
    three_endpoints[1].answer = after(0.2, three_endpoints[1].answer)
    assert ask(Engine(urls(three_endpoints[:2]), "m"), 100) == expected(100)
    assert 0 < refused[0] < 18


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ({"id": "other"}, r"{1}: serves other, not m, which {0} serves; name endpoints of one model"),
        ({"root": "weights-2"}, r"{0} serves m with root weights-1, and {1} with root weights-2; name endpoints"),
    ],
)
def test_endpoints_of_different_models_are_refused(
    three_endpoints: list[ChatServer], field: dict[str, str], said: str
) -> None:
    three_endpoints[1].listed |= field
    with pytest.raises(EngineRefused, match=said.format(*(one.url for one in three_endpoints))):
        ask(Engine(urls(three_endpoints), "m"), 3)
    assert not any(one.requests for one in three_endpoints)


def test_when_all_are_down_each_is_named(monkeypatch: pytest.MonkeyPatch, three_endpoints: list[ChatServer]) -> None:
    monkeypatch.setattr(pool, "PATIENCE", 0.6)
    first, second, _ = three_endpoints
    first.server.stop()
    second.answer = lambda _: Response(status=503)
    with pytest.raises(EngineError) as raised:
        ask(Engine(urls([first, second]), "m"), 20)
    line = str(raised.value)
    assert line.startswith("no endpoint answered within 0.6 s: ")
    assert f"{first.url}/models: cannot be reached (ConnectError: " in line
    assert f"{second.url}/chat/completions: answered 503; run again later" in line
    assert len(second.requests) <= 8 + 2  # those in flight at the first failure, then one at a time


def test_an_endpoint_that_starts_late_is_used_and_checked(three_endpoints: list[ChatServer]) -> None:
    late = HTTPServer(host="127.0.0.1", port=0, threaded=True)
    late.start()
    late.stop()  # its port is free now
    other = three_endpoints[0]
    other.answer = after(0.03, other.answer)
    starting = threading.Timer(0.2, late.start)
    starting.start()
    try:
        ChatServer(late).answer = other.answer
        engine = Engine(f"{other.url},{late.url_for('/v1')}", "m", in_flight=1)
        assert ask(engine, 50) == expected(50)
        assert engine.answered[late.url_for("/v1")] > 5
    finally:
        starting.join()
        late.stop()


def test_a_request_that_breaks_every_endpoint_ends(
    monkeypatch: pytest.MonkeyPatch, three_endpoints: list[ChatServer]
) -> None:
    monkeypatch.setattr(pool, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(pool, "_LONGEST_PAUSE", 0.01)
    for one in three_endpoints:
        usual = one.answer
        one.answer = lambda body, usual=usual: (
            Response(status=500) if prompt_text(body) == "p3" else after(0.02, usual)(body)
        )
    with pytest.raises(EngineError, match="answered 500"):
        ask(Engine(urls(three_endpoints), "m", attempts=4), 40)
    assert sum(prompt_text(body) == "p3" for one in three_endpoints for body in one.requests) == 4
