"""Other verdicts on the same answers: appended, nothing generated or changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chat_server import ChatServer
from palate.cli.main import main
from palate.feedback.votes import read_votes
from runs import write_rows

pytestmark = pytest.mark.usefixtures("waits")


@pytest.fixture
def votes(endpoint: ChatServer, tmp_path: Path) -> Path:
    rows = [{"id": f"p:{n}", "prompt": f"Question {n}?", "completions": ["a", "bb", "ccc"]} for n in range(2)]
    candidates = write_rows(tmp_path / "c.jsonl", rows)
    assert main(["judge", str(candidates), "--judge", "openai:m", "--per-prompt", "2"]) == 0
    return tmp_path / "c.votes.jsonl"


def test_a_new_prompt_appends_votes_on_the_same_questions(
    endpoint: ChatServer, votes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = votes.read_bytes()
    endpoint.answer = lambda _: json.dumps({"reason": "r", "score_a": 3, "score_b": 3})
    arguments = ["judge", "rescore", str(votes), "--judge", "openai:m", "--prompt", "score"]
    assert main(arguments) == 0
    assert votes.read_bytes().startswith(before)
    found = read_votes(votes)
    assert len(found) == 16
    first, second = {vote.key[:3] for vote in found[:8]}, {vote.key[:3] for vote in found[8:]}
    assert first == second
    assert len({vote.who for vote in found}) == 2
    assert {vote.outcome for vote in found[8:]} == {"tie"}
    after = votes.read_bytes()
    assert main(arguments) == 0
    assert votes.read_bytes() == after
    assert len(endpoint.requests) == 16
    capsys.readouterr()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda votes: votes.unlink(), "there is no such file"),
        (lambda votes: votes.with_name("c.jsonl").rename(votes.with_name("d.jsonl")), "with --candidates"),
        (
            lambda votes: write_rows(votes.with_name("c.jsonl"), [{"prompt": "q", "completions": ["a", "b"]}]),
            "is not among",
        ),
    ],
)
def test_votes_without_their_candidates(
    votes: Path, capsys: pytest.CaptureFixture[str], change: object, said: str
) -> None:
    capsys.readouterr()
    change(votes)  # type: ignore[operator]
    assert main(["judge", "rescore", str(votes), "--judge", "length"]) in (1, 2)
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_candidates_by_name_and_another_judge(votes: Path) -> None:
    moved = votes.with_name("moved.jsonl")
    votes.with_name("c.jsonl").rename(moved)
    assert main(["judge", "rescore", str(votes), "--candidates", str(moved), "--judge", "length:longer"]) == 0
    found = read_votes(votes)
    assert {vote.who for vote in found[8:]} == {"length:longer"}
    assert {vote.kind for vote in found[8:]} == {"rule"}


def test_help_of_the_group(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["judge", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "CANDIDATES.jsonl" in shown
    assert "rescore" in shown
    assert main(["judge", "rescore", "--help"]) == 0
    assert "VOTES.jsonl" in capsys.readouterr().out
    assert main(["judge"]) == 2
    assert "`palate judge --help`" in capsys.readouterr().err
