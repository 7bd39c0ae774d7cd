"""The command as a user has it: rows in a file, the same whatever is asked beside them."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from engines import Server, serving
from palate.artifacts import read_jsonl
from palate.cli.main import main
from runs import write_rows
from tiny import save_tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("model") / "llama", initializer_range=0.2)


def test_rows_go_to_a_file_that_can_be_continued(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = write_rows(tmp_path / "p.jsonl", [{"prompt": f"question {n}"} for n in range(5)])
    out = tmp_path / "c.jsonl"
    common = ["generate", str(prompts), "--model", str(model), "--k", "3", "--max-new-tokens", "6"]
    assert main([*common, "--output", str(out), "--max-samples", "2"]) == 0
    assert main([*common, "--output", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.partition("\n")[2])["made"] == 3
    rows = read_jsonl(out)
    assert [row["id"] for row in rows] == [f"p.jsonl:{n}" for n in range(1, 6)]
    assert all(len(row["completions"]) == 3 for row in rows)
    assert all(1 <= one["tokens"] <= 6 for row in rows for one in row["completions"])
    assert main(common) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == rows


def test_an_engine_that_starts_late_is_waited_for(tmp_path: Path) -> None:
    prompts = write_rows(tmp_path / "p.jsonl", [{"prompt": "question"}])
    out = tmp_path / "c.jsonl"
    with serving() as server:
        port = server.server_address[1]
    started: list[Server] = []

    def start() -> None:
        server = Server(port)
        started.append(server)
        server.serve_forever()

    timer = threading.Timer(0.7, start)  # nobody listens on the port until then
    timer.start()
    try:
        words = ["--model", "m", "--k", "2", "--base-url", f"http://127.0.0.1:{port}/v1", "--output", str(out)]
        assert main(["generate", str(prompts), *words]) == 0
    finally:
        timer.join(0)
        for one in started:
            one.shutdown()
            one.server_close()
    assert len(read_jsonl(out)[0]["completions"]) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--k", "2", "--temperature", "0"], "equal answers"),
        (["--top-p", "0"], "no token"),
        (["--base-url", "localhost"], "http://"),
    ],
)
def test_what_cannot_work_is_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    prompts = write_rows(tmp_path / "p.jsonl", [{"prompt": "question"}])
    assert main(["generate", str(prompts), "--model", "nowhere", *arguments]) > 0
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_comparison_file_says_what_is_left_unread(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"prompt": "question", "chosen": "yes", "rejected": "no", "score_chosen": 4}
    prompts = write_rows(tmp_path / "pairs.jsonl", [row])
    assert main(["generate", str(prompts), "--model", str(model), "--max-new-tokens", "2"]) == 0
    assert "only the prompts are read; left unread: chosen, rejected, score_chosen" in capsys.readouterr().err
