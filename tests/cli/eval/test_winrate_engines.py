"""`palate eval winrate` with models and a judge over an API."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chat_server import (
    ChatServer,
    endpoint,
    longer_wins,
    make_httpserver,
    shown,
    three_endpoints,
    three_servers,
    waits,
)
from engines import serving
from palate.cli.main import main
from runs import write_rows

__all__ = ["endpoint", "make_httpserver", "three_endpoints", "three_servers", "waits"]


def test_two_engines_answer_and_are_not_asked_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = write_rows(tmp_path / "p.jsonl", [{"prompt": f"question {n}"} for n in range(4)])
    with serving() as one, serving() as two:
        sides = [f"openai:a@{one.url}", f"openai:b@{two.url}"]
        words = ["eval", "winrate", *sides, "--prompts", str(prompts), "--judge", "length", "--json"]
        words += ["--output", str(tmp_path / "out"), "--temperatures", "0.5"]
        assert main(words) == 0
        first = json.loads(capsys.readouterr().out)
        assert (len(one.chats), len(two.chats)) == (4, 4)
        assert {chat["temperature"] for chat in one.chats} == {0.5}
        assert main(words) == 0
        assert json.loads(capsys.readouterr().out) == first
        assert (len(one.chats), len(two.chats)) == (4, 4)


def test_sides_and_judge_may_have_several_endpoints(
    three_endpoints: list[ChatServer],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PALATE_STORE", f"sqlite:///{tmp_path / 'palate.db'}")
    prompts = write_rows(tmp_path / "p.jsonl", [{"prompt": f"question {n}"} for n in range(4)])
    b = write_rows(tmp_path / "b.jsonl", [{"prompt": f"question {n}", "completions": ["no"]} for n in range(4)])
    urls = [one.url for one in three_endpoints]
    for one in three_endpoints:
        one.answer = lambda body: longer_wins(body) if "<<<answer A" in str(body) else "a long answer"
    words = ["eval", "winrate", f"openai:m@{urls[0]},{urls[1]}", str(b), "--prompts", str(prompts), "--json"]
    assert main([*words, "--judge", f"openai:m@{urls[1]}=2,{urls[2]}", "--output", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr()
    assert f"answered by {urls[0]} 2, {urls[1]} 2" in printed.err
    assert f"judged by {urls[1]} " in printed.err
    assert json.loads(printed.out)["win_rate"]["estimate"] == 1.0
    before = [len(one.requests) for one in three_endpoints]
    assert sum(before) == 4 + 8
    # The same folder with other endpoints: everything is there.
    words[2] = f"openai:m@{urls[2]}"
    assert main([*words, "--judge", f"openai:m@{urls[0]}", "--output", str(tmp_path / "out")]) == 0
    assert [len(one.requests) for one in three_endpoints] == before


@pytest.mark.usefixtures("waits")
def test_verdicts_that_fail_are_listed_and_asked_for_again(
    endpoint: ChatServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"id": f"p:{n}", "prompt": f"Question {n}?", "completions": ["a longer answer"]} for n in range(4)]
    a = write_rows(tmp_path / "a.jsonl", rows)
    b = write_rows(tmp_path / "b.jsonl", [{**row, "completions": ["short"]} for row in rows])
    words = ["eval", "winrate", str(a), str(b), "--judge", "openai:m", "--output", str(tmp_path / "out"), "--json"]

    def answer(body: dict[str, Any]) -> Any:
        return {"choices": []} if shown(body, "prompt") == "Question 2?" else "A"

    endpoint.answer = answer
    assert main(words) == 1
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert "1 item without a verdict; run the same command again" in " ".join(said.err.split())
    assert "was not measured against people's votes" in said.err
    assert found["counts"] == {"judged": 3, "same_answer": 0, "unparsed": 0, "missing": 1}
    assert [one["id"] for one in found["items"] if one["status"] == "missing"] == ["p:2"]
    assert found["inconsistent"] == 3
    assert found["win_rate"]["estimate"] == 0.5
    endpoint.answer = lambda _: "A"
    before = len(endpoint.requests)
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["inconsistent"] == 4
    assert len(endpoint.requests) == before + 2
