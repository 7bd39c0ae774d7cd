"""`palate label serve` as a user has it: one command, Ctrl-C, and the same command again."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2 as httpx
import pytest

from engines import serving
from palate.artifacts import read_jsonl
from palate.cli.main import main
from runs import command, write_rows

ROWS = [
    {"id": f"p:{number}", "prompt": f"question {number}?", "completions": [f"yes {number}", f"no {number}"]}
    for number in range(3)
]


@pytest.fixture
def candidates(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "candidates.jsonl", ROWS)


@contextmanager
def server(folder: Path, *arguments: str | Path) -> Iterator[httpx.Client]:
    """The command on a free port, until Ctrl-C; it must end in order, without a traceback."""
    words = command("label", "serve", "--store", folder / "palate.db", "--port", "0", *arguments)
    process = subprocess.Popen(**words)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address), (address, process.poll(), process.stderr)
        with httpx.Client(base_url=address, timeout=120, follow_redirects=True) as client:
            client.process = process  # type: ignore[attr-defined]
            yield client
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        assert "Traceback" not in errors
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def field(page: str, name: str) -> str:
    return re.findall(rf'name="{name}" (?:value|content)="([^"]*)"', page)[0]


def vote(client: httpx.Client, choice: str = "first") -> None:
    page = client.get("/").raise_for_status().text
    data = {name: field(page, name) for name in ("lease", "request_key")} | {"choice": choice}
    reply = client.post("/label/default/vote", data=data, headers={"X-CSRF-Token": field(page, "csrf-token")})
    assert reply.status_code == 200, reply.text


def test_one_command_starts_and_the_same_command_goes_on(tmp_path: Path, candidates: Path) -> None:
    saved = tmp_path / "preferences.jsonl"
    with server(tmp_path, "--candidates", candidates, "--save", saved) as client:
        vote(client)
        vote(client, "tie")
    assert len(read_jsonl(saved)) == 1
    with server(tmp_path, "--candidates", candidates, "--save", saved) as client:
        vote(client)
        assert "Nothing left to label" in client.get("/").text
    rows = read_jsonl(saved)
    questions = {row["conversations"][0]["value"] for row in rows}
    assert len(questions) == len(rows) == 2
    for row in rows:
        assert {row["chosen"][-1], row["rejected"][-1]} == {row["conversations"][0]["value"][-2]}
    with server(tmp_path) as client:  # the campaign of the store
        assert "Nothing left to label" in client.get("/").text


def test_a_campaign_without_tasks_gets_them_or_is_refused(
    tmp_path: Path, candidates: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = ["--store", str(tmp_path / "palate.db")]
    assert main(["label", "create", "empty", *store]) == 0
    capsys.readouterr()
    assert "campaign empty has no item with two different answers" in refused(capsys, tmp_path, "--campaign", "empty")
    assert main(["label", "import", "--candidates", str(candidates), "--campaign", "filled", *store]) == 0
    assert "next: `palate label assign filled`" in capsys.readouterr().err
    with server(tmp_path, "--campaign", "filled") as client:
        assert "Answer A" in client.get("/").raise_for_status().text


def test_free_prompts_of_an_engine(tmp_path: Path) -> None:
    with serving() as engine:
        words = ("--models", "one", f"openai:two@{engine.url}", "--base-url", engine.url)
        with server(tmp_path, *words) as client:
            page = client.get("/").raise_for_status().text
            assert "Ask both models" in page
            for number in range(20):  # the engine draws one of two texts by the seed
                data = {"prompt": f"question {number}?"}
                reply = client.post("/ask/answers", data=data, headers={"X-CSRF-Token": field(page, "csrf-token")})
                if "event: ready" in reply.text:
                    break
            assert "Which answer is better?" in client.get("/ask").text
        assert {chat["model"] for chat in engine.chats} == {"one", "two"}
        assert all(chat["stream"] for chat in engine.chats)


def refused(capsys: pytest.CaptureFixture[str], folder: Path, *arguments: str | Path) -> str:
    code = main(["label", "serve", "--store", str(folder / "palate.db"), "--port", "0", *map(str, arguments)])
    lines = capsys.readouterr().err.strip().splitlines()
    assert code > 0
    *progress, error = lines
    assert all(line.startswith("loading ") or "new prompt" in line for line in progress)
    return error


def test_what_cannot_be_served_is_one_line(
    tmp_path: Path, candidates: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "there is nothing to label: give --candidates FILE" in refused(capsys, tmp_path)
    assert "name two with --models" in refused(capsys, tmp_path, "--base-url", "http://h/v1")
    missing = tmp_path / "missing.jsonl"
    assert f"{missing}: no such file" in refused(capsys, tmp_path, "--candidates", missing)
    text = tmp_path / "text.jsonl"
    text.write_text("{}\n", encoding="utf-8")
    assert f"{text}:1: has no list of completions" in refused(capsys, tmp_path, "--candidates", text)
    assert "there is no campaign x" in refused(capsys, tmp_path, "--campaign", "x")
    assert "nobody has an account" in refused(capsys, tmp_path, "--host", "0.0.0.0")
    assert "nobody has an account" in refused(capsys, tmp_path, "--https")
    assert "--name label.example.org: others reach" in refused(capsys, tmp_path, "--name", "label.example.org")
    assert "no such model folder" in refused(capsys, tmp_path, "--models", "./nowhere", "./nowhere")
    assert "write openai:MODEL@http" in refused(capsys, tmp_path, "--models", "openai:a", "b")
    folder = refused(capsys, tmp_path, "--candidates", candidates, "--save", tmp_path)
    assert f"{tmp_path}: cannot be" in folder
    error = refused(capsys, tmp_path, "--models", "a", "--candidates", candidates)
    assert "--models takes two names, and only a is there before --candidates" in error


def test_a_start_that_fails_leaves_no_file_to_save_to(
    tmp_path: Path, candidates: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save = tmp_path / "new" / "pairs.jsonl"
    for wrong in (["--candidates", tmp_path / "missing.jsonl"], ["--campaign", "x"], ["--models", "./a", "./b"]):
        assert refused(capsys, tmp_path, *wrong, "--save", save)
        assert not save.parent.exists()
    with server(tmp_path, "--candidates", candidates, "--save", save):
        assert save.is_file()


def test_a_busy_port_is_one_line(tmp_path: Path, candidates: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        error = refused(capsys, tmp_path, "--candidates", candidates, "--port", str(port))
    assert f"--port {port} on 127.0.0.1 is in use; choose another one" in error


def test_an_engine_that_does_not_serve_the_model_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving() as engine:
        engine.models = ["three"]
        error = refused(capsys, tmp_path, "--models", "one", "two", "--base-url", engine.url)
        assert f"{engine.url}: serves three, not one; name one of them" in error
        url = engine.url
    assert "cannot be reached" in refused(capsys, tmp_path, "--models", "one", "two", "--base-url", url)


def test_one_model_twice_needs_a_temperature(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving() as engine:
        words = ("--models", "one", "one", "--base-url", engine.url, "--temperature", "0")
        assert "at --temperature 0 gives equal answers" in refused(capsys, tmp_path, *words)


def test_ctrl_c_ends_answers_that_are_being_written(tmp_path: Path) -> None:
    with serving() as engine:
        engine.pause = 0.2  # seconds before each word
        engine.words = 1000
        with server(tmp_path, "--models", "one", "two", "--base-url", engine.url) as client:
            page = client.get("/ask").text
            headers = {"X-CSRF-Token": field(page, "csrf-token")}
            with client.stream("POST", "/ask/answers", data={"prompt": "long?"}, headers=headers) as reply:
                lines = reply.iter_lines()
                while "event: text" not in next(lines):
                    pass
                client.process.send_signal(signal.SIGINT)  # type: ignore[attr-defined]
                rest = "\n".join(lines)
            client.process.wait(timeout=120)  # type: ignore[attr-defined]
    assert "the server was stopped" in rest
    assert rest.rstrip().splitlines()[-2] == "event: again", "the stream is complete"
