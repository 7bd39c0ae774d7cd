"""Many requests at once: in order, bounded, within limits, and nothing lost when it is interrupted."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from chat_server import ChatServer, completion, prompt_text
from palate.errors import EngineError, EngineRefused
from palate.feedback.judges import chat
from palate.feedback.judges.chat import MOST_FAILURES, ChatClient, ChatReply, ChatRequest, without_thinking
from palate.feedback.judges.usage import Estimate, Limits, Prices, UsageMeter
from palate.models.generation.endpoints.engine import Engine
from palate.records import Message

pytestmark = pytest.mark.usefixtures("waits")


def requests(count: int, **fields: Any) -> list[ChatRequest]:
    return [ChatRequest((Message("user", f"number {n}"),), 8, **fields) for n in range(count)]


def client(endpoint: ChatServer, *, attempts: int = 2, **how: Any) -> ChatClient:
    return ChatClient(Engine(endpoint.url, "m", attempts=attempts, timeout=60), **how)


def test_replies_are_in_the_order_of_the_requests(endpoint: ChatServer) -> None:
    endpoint.answer = prompt_text
    seen: list[int] = []
    replies = client(endpoint, in_flight=5).ask(requests(30), lambda index, _: seen.append(index))
    assert [reply.text for reply in replies] == [f"number {n}" for n in range(30)]
    assert sorted(seen) == list(range(30))
    assert endpoint.requests[0]["max_tokens"] == 8
    assert endpoint.requests[0]["temperature"] == 0.0


def test_no_more_than_the_bound_are_on_their_way(endpoint: ChatServer) -> None:
    open_now, most = 0, 0
    lock, full = threading.Lock(), threading.Barrier(3)

    def answer(_: dict[str, Any]) -> str:
        nonlocal open_now, most
        with lock:
            open_now += 1
            most = max(most, open_now)
        full.wait(60)  # three have to be there at once, or none is answered
        with lock:
            open_now -= 1
        return "A"

    endpoint.answer = answer
    client(endpoint, in_flight=3).ask(requests(12))
    assert most == 3


def test_a_failure_is_one_requests_own(endpoint: ChatServer) -> None:
    def answer(body: dict[str, Any]) -> Any:
        return {"choices": []} if prompt_text(body) == "number 3" else "A"

    endpoint.answer = answer
    asked = client(endpoint)
    replies = asked.ask(requests(6))
    assert [bool(reply.error) for reply in replies] == [False, False, False, True, False, False]
    assert replies[3].asked
    assert (asked.meter.requests, asked.meter.replies, asked.meter.failed) == (6, 5, 1)


def test_an_endpoint_that_fails_every_time_ends_the_run(endpoint: ChatServer) -> None:
    endpoint.answer = lambda _: {"choices": []}
    with pytest.raises(EngineError, match=rf"{MOST_FAILURES} requests in a row failed; the first: http"):
        client(endpoint, in_flight=2).ask(requests(100))
    assert MOST_FAILURES <= len(endpoint.requests) <= MOST_FAILURES + 2


def test_a_limit_of_requests_keeps_what_is_done(endpoint: ChatServer) -> None:
    endpoint.answer = lambda _: "A"
    replies = client(endpoint, meter=UsageMeter(limits=Limits(requests=4))).ask(requests(9))
    assert [reply.text for reply in replies[:4]] == ["A"] * 4
    assert {reply.error for reply in replies[4:]} == {"not asked: the limit of 4 requests is reached (--max-requests)"}
    assert not any(reply.asked for reply in replies[4:])
    assert len(endpoint.requests) == 4


def test_a_limit_of_cost_is_not_passed(endpoint: ChatServer) -> None:
    """Each reply costs 0.01 USD of output, and may cost 0.08: the tenth might pass 0.16 USD."""
    endpoint.answer = lambda _: completion("A", usage={"prompt_tokens": 100, "completion_tokens": 1})
    meter = UsageMeter(Prices(output=10_000), Limits(usd=0.16))
    replies = client(endpoint, in_flight=8, meter=meter).ask(requests(50))
    assert meter.usd <= 0.16
    assert sum(reply.asked for reply in replies) == len(endpoint.requests) == meter.replies == 9
    assert "--max-usd" in replies[-1].error


def test_estimates_come_before_the_first_request_and_after_some_replies(endpoint: ChatServer) -> None:
    told: list[tuple[Estimate, int]] = []
    client(endpoint, in_flight=1, announce=lambda estimate: told.append((estimate, len(endpoint.requests)))).ask(
        requests(0)
    )
    assert told == []
    endpoint.answer = lambda _: "A"
    client(endpoint, in_flight=1, announce=lambda estimate: told.append((estimate, len(endpoint.requests)))).ask(
        requests(20)
    )
    (before, sent_before), (after, sent_after) = told
    assert (before.measured, sent_before) == (0, 0)
    assert before.output_tokens == 20 * 8
    assert (after.measured, sent_after) == (8, 8)
    assert after.output_tokens == 20 * 5


def test_thinking_that_leaves_nothing_is_asked_again_once_with_more_tokens(endpoint: ChatServer) -> None:
    def answer(body: dict[str, Any]) -> Any:
        if body["max_tokens"] < 50:
            return completion("", "length")
        return completion("<think>" + "hm " * 9 + "</think>\n B")

    endpoint.answer = answer
    (reply,) = client(endpoint).ask(requests(1, raised=100))
    assert (reply.text, reply.thinking, reply.max_tokens) == ("B", True, 100)
    assert [body["max_tokens"] for body in endpoint.requests] == [8, 100]
    (reply,) = client(endpoint).ask(requests(1, raised=40))
    assert reply.spent_on_thinking
    assert [body["max_tokens"] for body in endpoint.requests[2:]] == [8, 40]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A", ("A", False)),
        ("<think>A or B</think> B", ("B", True)),
        ("A or B</think>\nB", ("B", True)),  # a template that opens the thinking itself
        ("<think>A or", ("", True)),
    ],
)
def test_thinking_is_taken_off(text: str, expected: tuple[str, bool]) -> None:
    assert without_thinking(text) == expected


def test_a_refusal_of_everything_ends_the_run_at_once(endpoint: ChatServer) -> None:
    from werkzeug import Response

    endpoint.answer = lambda _: Response(
        '{"error": {"message": "The model `m` does not exist"}}', 404, content_type="application/json"
    )
    with pytest.raises(EngineRefused, match=r"\(404\): The model `m` does not exist"):
        client(endpoint, in_flight=2).ask(requests(50))
    assert len(endpoint.requests) <= 4


def interrupting(endpoint: ChatServer, at: int) -> Callable[[dict[str, Any]], str]:
    """Sends this process a Ctrl-C while the request with this number is on its way."""

    def answer(body: dict[str, Any]) -> str:
        if prompt_text(body) == f"number {at}":
            os.kill(os.getpid(), signal.SIGINT)
        return "A"

    return answer


def test_an_interruption_keeps_every_reply_that_was_asked_for(endpoint: ChatServer) -> None:
    endpoint.answer = interrupting(endpoint, 5)
    kept: list[int] = []
    usual = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        client(endpoint, in_flight=4).ask(requests(200), lambda index, _: kept.append(index))
    assert len(kept) == len(endpoint.requests) < 40
    assert signal.getsignal(signal.SIGINT) is usual


def test_a_second_interruption_does_not_wait(endpoint: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "_GRACE", 60.0)
    release, pause = threading.Event(), threading.Event()

    def answer(body: dict[str, Any]) -> str:
        os.kill(os.getpid(), signal.SIGINT)
        while signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # until it was noticed
            pause.wait(0.01)
        pause.wait(0.5)
        os.kill(os.getpid(), signal.SIGINT)
        release.wait(60)
        return "A"

    endpoint.answer = answer
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        client(endpoint, in_flight=1).ask(requests(2))
    assert time.monotonic() - started < 50
    release.set()


def test_a_reply_says_how_often_it_was_asked_for(endpoint: ChatServer, waits: list[float]) -> None:
    from werkzeug import Response

    first = iter([Response("", 429, headers={"Retry-After": "7"}), Response("", 500)])
    endpoint.answer = lambda _: next(first, "A")
    (reply,) = client(endpoint, attempts=5).ask(requests(1))
    assert reply == ChatReply(
        text="A",
        finish_reason="stop",
        max_tokens=8,
        prompt_tokens=100,
        completion_tokens=5,
        attempts=3,
        model="m",
        url=f"{endpoint.url}/chat/completions",
    )
    assert waits[0] == 7.0
