"""The judge against a real OpenAI-compatible server: llama-cpp-python with SmolLM2-135M on loopback."""

from __future__ import annotations

from pathlib import Path

import pytest

from llama_server import llama_url
from palate.feedback.candidates import Candidates
from palate.feedback.judges.api import ApiJudge
from palate.feedback.judges.settings import ApiSettings
from palate.feedback.judging import collect_votes, questions
from palate.records import Answer, Message

pytestmark = pytest.mark.slow
__all__ = ["llama_url"]

ROWS = [
    Candidates(
        f"p:{number}",
        (Message("user", question),),
        (Answer(good, "stop"), Answer("I do not know and I do not care.", "stop")),
    )
    for number, (question, good) in enumerate(
        [
            ("What is the capital of France?", "The capital of France is Paris."),
            ("How many days has a week?", "A week has seven days."),
            ("Name a colour of the sky.", "On a clear day the sky is blue."),
        ]
    )
]


@pytest.mark.parametrize("prompt", ["criteria", "concise", "score"])
def test_every_question_has_a_vote_and_is_asked_once(
    llama_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prompt: str
) -> None:
    monkeypatch.setenv("PALATE_STORE", f"sqlite:///{tmp_path / 'palate.db'}")
    settings = ApiSettings(base_url=llama_url, prompt=prompt, in_flight=4, attempts=2)
    judge = ApiJudge("smollm2", settings)
    collected = collect_votes(questions(ROWS), judge, tmp_path / "a.jsonl")
    assert collected.missing == []
    assert (collected.asked, len(collected.votes)) == (6, 6)
    assert {vote.outcome for vote in collected.votes} <= {"left", "right", "tie", "unparsed"}
    assert all(vote.reason for vote in collected.votes if vote.outcome == "unparsed")
    assert judge.meter.prompt_tokens > 6 * 50
    assert judge.endpoint().certain
    if judge.endpoint().schema and prompt != "criteria":
        assert {vote.outcome for vote in collected.votes} <= {"left", "right", "tie"}
    again = ApiJudge("smollm2", settings)
    assert [vote.outcome for vote in collect_votes(questions(ROWS), again, tmp_path / "b.jsonl").votes] == [
        vote.outcome for vote in collected.votes
    ]
    assert (again.meter.requests, again.meter.probes, again.cached) == (0, 0, 6)


def test_probabilities_of_the_letters(llama_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALATE_STORE", f"sqlite:///{tmp_path / 'palate.db'}")
    judge = ApiJudge("smollm2", ApiSettings(base_url=llama_url, logprobs=True, attempts=2))
    if not judge.endpoint().logprobs:
        pytest.skip("this server returns no log-probabilities")
    votes = collect_votes(questions(ROWS), judge, tmp_path / "v.jsonl").votes
    for vote in votes:
        if vote.outcome == "unparsed":
            assert vote.probability_left is None
            assert vote.reason
        else:
            assert vote.probability_left is not None
            assert 0 <= vote.probability_left <= 1
