"""An endpoint that fails in every way: nothing is lost, nothing is made up, and n never shrinks unsaid."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from werkzeug import Response

from chat_server import ChatServer, completion, longer_wins, prompt_text, shown
from palate.cli.main import main
from palate.feedback.candidates import Candidates
from palate.feedback.judges.api import ApiJudge
from palate.feedback.judges.settings import ApiSettings
from palate.feedback.judging import collect_votes, questions
from palate.feedback.votes import read_votes
from palate.records import Answer, Message
from runs import write_rows

pytestmark = pytest.mark.usefixtures("waits")


def rows(count: int) -> list[Candidates]:
    answers = (Answer("short", "stop"), Answer("a longer answer", "stop"))
    return [Candidates(f"p:{n}", (Message("user", f"Question {n}?"),), answers) for n in range(count)]


def judge(**settings: Any) -> ApiJudge:
    return ApiJudge("m", ApiSettings(**{"attempts": 3, "timeout": 20, **settings}))


def endless() -> Iterator[bytes]:
    while True:
        yield b" " * 65536


def dripping() -> Iterator[bytes]:
    pause = threading.Event()
    while not pause.wait(0.05):
        yield b" "


JSON = "application/json"
ONCE: dict[str, Callable[[], Response]] = {
    "429": lambda: Response("", 429, headers={"Retry-After": "3"}),
    "503 with a date": lambda: Response("", 503, headers={"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}),
    "500": lambda: Response("oh", 500),
    "cut": lambda: Response(iter([b'{"choices": [']), 200, headers={"Content-Length": "5000"}, content_type=JSON),
}
ALWAYS: dict[str, tuple[Callable[[], Response], str]] = {
    "bad JSON": (lambda: Response('{"choices": [', 200, content_type=JSON), "not JSON"),
    "deep JSON": (lambda: Response("[" * 100_000, 200, content_type=JSON), "not JSON"),
    "HTML page": (lambda: Response("<html>Bad gateway</html>", 200), "no choices[0]"),
    "HTML error": (lambda: Response("<html>502</html>", 502), "answered 502, 3 times"),
    "endless": (lambda: Response(endless(), 200, content_type=JSON), "longer than 4,194,304 bytes"),
    "no choice": (lambda: Response('{"choices": null}', 200, content_type=JSON), "no choices[0]"),
    "a number": (lambda: Response("7", 200, content_type=JSON), "no choices[0]"),
    "content of a wrong type": (
        lambda: Response(json.dumps({"choices": [{"message": {"content": [1]}}]}), 200, content_type=JSON),
        "is a list, not text",
    ),
    "400": (lambda: Response('{"error": {"message": "too long"}}', 400, content_type=JSON), "(400): too long"),
    "429 for an hour": (lambda: Response("", 429, headers={"Retry-After": "3600"}), "Retry-After: 3600"),
}


@pytest.mark.parametrize("name", ONCE)
def test_what_passes_is_waited_for(endpoint: ChatServer, tmp_path: Path, waits: list[float], name: str) -> None:
    failed: set[str] = set()
    lock = threading.Lock()

    def answer(body: dict[str, Any]) -> Any:
        with lock:
            first = prompt_text(body) not in failed
            failed.add(prompt_text(body))
        return ONCE[name]() if first else longer_wins(body)

    endpoint.answer = answer
    asked = judge()
    collected = collect_votes(questions(rows(4)), asked, tmp_path / "v.jsonl")
    assert [vote.outcome for vote in collected.votes] == ["right"] * 8
    assert (len(endpoint.requests), asked.meter.requests, asked.meter.retries) == (16, 8, 8)
    assert len(waits) == 8
    if name == "429":
        assert set(waits) == {3.0}
    else:
        assert all(0 < wait <= 8 for wait in waits)


@pytest.mark.parametrize("name", ALWAYS)
def test_what_stays_is_missing_and_is_asked_again_later(endpoint: ChatServer, tmp_path: Path, name: str) -> None:
    """One question of six fails; the five others are kept."""
    make, said = ALWAYS[name]

    def answer(body: dict[str, Any]) -> Any:
        bad = shown(body, "prompt") == "Question 1?" and shown(body, "answer A") == "short"
        return make() if bad else longer_wins(body)

    endpoint.answer = answer
    path = tmp_path / "v.jsonl"
    collected = collect_votes(questions(rows(3)), judge(), path)
    ((question, why),) = collected.missing
    assert (question.row.id, question.shown) == ("p:1", "left_first")
    assert said in why
    assert (collected.asked, len(collected.votes), len(read_votes(path))) == (6, 5, 5)
    assert collected.missing_lines() == [f"missing              p:1 answers 0 and 1, left_first: {why}"]
    sent = len(endpoint.requests)
    endpoint.answer = longer_wins
    assert collect_votes(questions(rows(3)), judge(), path).missing == []
    assert len(endpoint.requests) == sent + 1


def test_a_reply_that_takes_too_long(endpoint: ChatServer, tmp_path: Path) -> None:
    release = threading.Event()

    def answer(body: dict[str, Any]) -> Any:
        release.wait(20)
        return "A"

    judge().endpoint()  # in the store, so that the short time is for verdicts only
    endpoint.answer = answer
    collected = collect_votes(questions(rows(1)), judge(timeout=0.3, attempts=2), tmp_path / "v.jsonl")
    release.set()
    assert [("Timeout" in why, "2 times" in why) for _, why in collected.missing] == [(True, True)] * 2


def test_a_reply_that_never_ends(endpoint: ChatServer, tmp_path: Path) -> None:
    judge().endpoint()
    endpoint.answer = lambda _: Response(dripping(), 200, content_type=JSON)
    collected = collect_votes(questions(rows(1)), judge(timeout=0.4), tmp_path / "v.jsonl")
    assert all("did not end within 0.4 seconds" in why for _, why in collected.missing)
    assert len(endpoint.requests) == 2  # it is not asked for again at once


@pytest.fixture
def candidates(tmp_path: Path) -> Path:
    answers = ["short", "a longer answer"]
    return write_rows(
        tmp_path / "c.jsonl", [{"id": f"p:{n}", "prompt": f"Question {n}?", "completions": answers} for n in range(3)]
    )


def test_a_wrong_model_name_is_one_line(
    endpoint: ChatServer, candidates: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = Response('{"error": {"message": "The model `m` does not exist"}}', 404, content_type=JSON)
    endpoint._probe = lambda _: wrong  # type: ignore[method-assign]
    assert main(["judge", str(candidates), "--judge", "openai:m"]) == 1
    error = capsys.readouterr().err
    assert "The model `m` does not exist" in error
    assert error.count("\n") == 1
    assert endpoint.requests == []


def test_a_refused_key_is_one_line(endpoint: ChatServer, candidates: Path, capsys: pytest.CaptureFixture[str]) -> None:
    endpoint._probe = lambda _: Response("", 401)  # type: ignore[method-assign]
    assert main(["judge", str(candidates), "--judge", "openai:m"]) == 1
    assert "set PALATE_API_KEY or OPENAI_API_KEY" in capsys.readouterr().err


def test_the_key_is_nowhere(endpoint: ChatServer, candidates: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also if the endpoint repeats it: in a reply, in a header, in an error, in the model's name."""
    echo = "Bearer CANARY-123"

    def answer(body: dict[str, Any]) -> Any:
        which = shown(body, "prompt")
        if which == "Question 0?":
            return completion(f"I saw {echo}", echo, model=echo)
        if which == "Question 1?":
            return Response(json.dumps({"error": {"message": echo}}), 400, content_type=JSON)
        return Response("", 429, headers={"Retry-After": echo})

    endpoint.answer = answer
    judge(attempts=1).endpoint()
    assert main(["judge", str(candidates), "--judge", "openai:m", "--json"]) == 1
    assert endpoint.keys == {echo}
    printed = capsys.readouterr()
    assert "I saw Bearer <key>" in candidates.with_suffix(".votes.jsonl").read_text()
    assert "CANARY-123" not in printed.out + printed.err
    assert "Bearer <key>" in printed.out
    files = [path for path in candidates.parent.rglob("*") if path.is_file()]
    assert any(path.name == "palate.db" for path in files)
    assert [path.name for path in files if b"CANARY-123" in path.read_bytes()] == []
