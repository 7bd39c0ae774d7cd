"""`palate judge` with a judge over an API: what it prints, and how it ends."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from chat_server import ChatServer, longer_wins, shown
from palate.artifacts import read_jsonl
from palate.cli.main import main
from palate.feedback.judges.load import members_of
from palate.feedback.votes import read_votes
from palate.store import open_store
from palate.store.tables import Judgement
from runs import write_rows

pytestmark = pytest.mark.usefixtures("waits")


@pytest.fixture
def candidates(tmp_path: Path) -> Path:
    answers = ["short", "a longer answer"]
    return write_rows(
        tmp_path / "c.jsonl", [{"id": f"p:{n}", "prompt": f"Question {n}?", "completions": answers} for n in range(4)]
    )


def test_counts_costs_and_pairs(
    endpoint: ChatServer, candidates: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prices = ["--price-in", "1", "--price-out", "10"]
    arguments = ["judge", str(candidates), "--judge", "openai:m", *prices, "--pairs", str(tmp_path / "pairs.jsonl")]
    assert main(arguments) == 0
    printed = capsys.readouterr()
    assert "to ask: 8 requests, about" in printed.err
    assert "(characters / 4), at most 128 output tokens, at most $0.00" in printed.err
    assert "was not measured against people's votes; palate judge calibrate measures it" in printed.err
    assert "questions            8 (8 parsed, 0 unparsed, 0 missing)" in printed.out
    assert "same in both orders  100.0% of 4 comparisons" in printed.out
    # Six probes and eight requests of 100 and 5 tokens.
    assert "8 requests (and 6 to probe the endpoint), 1,400 input and 70 output tokens, $0.0021" in printed.out
    assert len(read_jsonl(tmp_path / "pairs.jsonl")) == 4
    assert main([*arguments, "--json"]) == 0
    printed = capsys.readouterr()
    assert "to ask" not in printed.err
    assert json.loads(printed.out)["usage"]["requests"] == 0
    assert len(endpoint.requests) == 8


def test_replies_are_kept_whichever_endpoint_gave_them(
    endpoint: ChatServer,
    three_endpoints: list[ChatServer],
    candidates: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for one in three_endpoints:
        one.answer = longer_wins
    urls = [one.url for one in three_endpoints]
    words = ["judge", str(candidates), "--json", "--output"]
    spec = f"openai:m@{urls[0]},{urls[1]}=2,{urls[2]}"
    assert main([*words, str(tmp_path / "1.jsonl"), "--judge", spec]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["count"], found["consistent"], found["usage"]["requests"]) == (8, 4, 8)
    assert list(found["usage"]["endpoints"]) == urls
    assert sum(found["usage"]["endpoints"].values()) == 8 + found["usage"]["probes"]
    stored = open_store().read(lambda session: [row.request["base_url"] for row in session.scalars(select(Judgement))])
    assert Counter(stored) == {one.url: len(one.requests) for one in three_endpoints}
    assert set(stored) == set(urls)
    # One endpoint later, or others in another order: the same questions, which are in the store.
    for number, given in enumerate((urls[1], f"{urls[2]},{urls[0]}"), 2):
        assert main([*words, str(tmp_path / f"{number}.jsonl"), "--judge", "openai:m", "--base-url", given]) == 0
        assert json.loads(capsys.readouterr().out)["usage"]["requests"] == 0
    votes = [[replace(vote, when="") for vote in read_votes(tmp_path / f"{number}.jsonl")] for number in (1, 2, 3)]
    assert sorted(votes[0], key=str) == sorted(votes[1], key=str) == sorted(votes[2], key=str)
    assert members_of(f"jury:{spec},length:shorter") == [spec, "length:shorter"]
    assert main([*words, str(tmp_path / "4.jsonl"), "--judge", f"jury:{spec},length:shorter", "--shard", "2/3"]) == 0
    assert {vote.item for vote in read_votes(tmp_path / "4.jsonl")} == {"p:1"}
    assert sum(len(one.requests) for one in three_endpoints) == 8
    assert not endpoint.requests


def test_missing_verdicts_are_listed_and_the_exit_status_says_so(
    endpoint: ChatServer, candidates: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(body: dict[str, Any]) -> Any:
        return {"choices": []} if shown(body, "prompt") == "Question 2?" else "A"

    endpoint.answer = answer
    assert main(["judge", str(candidates), "--judge", "openai:m"]) == 1
    printed = capsys.readouterr()
    assert "questions            8 (6 parsed, 0 unparsed, 2 missing)" in printed.out
    assert "missing              p:2 answers 0 and 1, left_first: http" in printed.out
    assert "2 of 8 verdicts are missing; run the same command again" in printed.err
    assert "no choices[0]" in printed.err
    assert main(["judge", str(candidates), "--judge", "openai:m", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [(one["item"], one["shown"]) for one in found["missing"]] == [("p:2", "left_first"), ("p:2", "right_first")]
    assert (found["asked"], found["count"], found["failed"]) == (8, 6, 2)


@pytest.mark.parametrize(
    ("limit", "done"), [(["--max-requests", "3"], 3), (["--max-usd", "0.0005", "--price-out", "10"], 1)]
)
def test_a_limit_stops_and_keeps_what_is_done(
    endpoint: ChatServer, candidates: Path, capsys: pytest.CaptureFixture[str], limit: list[str], done: int
) -> None:
    """At $10 per million, a reply of 5 tokens costs $0.00005. The probe has cost $0.0003, one reply makes it $0.00035,
    and a second, which may have 16 tokens, could make it $0.00051.
    """
    assert main(["judge", str(candidates), "--judge", "openai:m", "--in-flight", "1", *limit]) == 1
    assert limit[0] in capsys.readouterr().err
    votes = candidates.with_suffix(".votes.jsonl")
    assert len(read_votes(votes)) == len(endpoint.requests) == done
    assert main(["judge", str(candidates), "--judge", "openai:m"]) == 0
    assert len(read_votes(votes)) == len(endpoint.requests) == 8


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--judge", "length", "--prompt", "score"], "--judge length is asked without an API"),
        (["--judge", "openai:m", "--prompt", "no.txt"], "--prompt no.txt: no such file"),
        (["--judge", "openai:m", "--max-usd", "1"], "--max-usd needs the prices"),
        (["--judge", "openai:m", "--base-url", "here"], "the engine's base URL must be"),
        (["--judge", "openai:"], "names no model"),
    ],
)
def test_what_cannot_work_is_one_line(
    endpoint: ChatServer, candidates: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(["judge", str(candidates), *arguments]) in (1, 2)
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert endpoint.requests == []


def test_a_jury_of_two_models(endpoint: ChatServer, candidates: Path, capsys: pytest.CaptureFixture[str]) -> None:
    endpoint.answer = lambda body: "A" if body["model"] == "n" else "B"
    assert main(["judge", str(candidates), "--judge", "jury:openai:m,openai:n,length:longer", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    # m and n contradict each other, so the rule decides.
    assert (found["count"], found["consistent"], found["usage"]["requests"]) == (8, 4, 16)
    assert {vote.outcome for vote in read_votes(found["votes"])} == {"right"}
    assert len(read_votes(candidates.with_name("c.votes.members.jsonl"))) == 24


def test_ctrl_c_keeps_what_was_answered(
    endpoint: ChatServer, candidates: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(body: dict[str, Any]) -> str:
        if len(endpoint.requests) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return "A"

    endpoint.answer = answer
    arguments = ["judge", str(candidates), "--judge", "openai:m", "--in-flight", "2"]
    assert main(arguments) == 130
    assert capsys.readouterr().err.endswith("palate: error: interrupted\n")
    assert len(read_votes(candidates.with_suffix(".votes.jsonl"))) == len(endpoint.requests) < 6
    endpoint.answer = lambda _: "A"
    assert main(arguments) == 0
    assert len(endpoint.texts) == len(set(endpoint.texts)) == 8


def test_pairs_say_what_gave_none(endpoint: ChatServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = {"q:0": ["short", "a longer answer"], "q:1": ["one", "two"], "q:2": ["odd", "an odd answer"]}
    rows = [
        {"id": item, "prompt": item, "completions": [{"text": text, "finish_reason": "stop"} for text in answers]}
        for item, answers in texts.items()
    ]
    candidates = write_rows(tmp_path / "c.jsonl", rows)
    endpoint.answer = lambda body: "I cannot say." if "odd" in shown(body, "answer A") else longer_wins(body)
    pairs = tmp_path / "pairs.jsonl"
    arguments = ["judge", str(candidates), "--judge", "openai:m", "--pairs", str(pairs)]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    # Equally long answers: B wins in both orders.
    assert "no pair              2 of 3: 1 tied, 1 without a readable verdict" in out
    assert "first unparsed       q:2: no verdict: I cannot say." in out
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["pairs_made"], found["pairs_left_out"]) == (1, {"tie": 1, "no_verdict": 1})
    assert main([*arguments[:-1], str(tmp_path)]) == 1, "before anything is asked"
    assert "Is a directory" in capsys.readouterr().err
