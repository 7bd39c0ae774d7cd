"""The command as a user has it: rows in a file, the same whatever is asked beside them."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import palate
from chat_server import ChatServer, prompt_text, three_endpoints, three_servers
from engines import Server, serving, settled
from palate.artifacts import read_jsonl
from palate.cli.main import main
from palate.errors import DataError, UsageError
from runs import write_rows

__all__ = ["three_endpoints", "three_servers"]


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


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"k": 0}, "k and max_new_tokens must be at least 1"),
        ({"k": 2, "temperature": 0}, "k 2 with temperature 0 would give 2 equal answers"),
        ({"top_p": 1.5}, "top_p must be from 0 to 1"),
        ({"shard": "1/2"}, "a shard is a file"),
    ],
)
def test_python_refuses_what_the_command_refuses(tmp_path: Path, given: dict[str, Any], said: str) -> None:
    prompts = write_rows(tmp_path / "p.jsonl", [{"prompt": "question"}])
    with pytest.raises(UsageError, match=said):
        palate.generate(str(prompts), "nowhere", **given)


def test_python_says_what_is_left_out(model: Path, tmp_path: Path) -> None:
    prompts = write_rows(tmp_path / "p.jsonl", [{"prompt": "question"}, {"prompt": ""}])
    said: list[str] = []
    made = palate.generate(str(prompts), model, max_new_tokens=2, on_progress=said.append)
    assert len(made) == 1
    assert said[0].startswith("left out: 1 row without a prompt, first ")


def test_a_comparison_file_says_what_is_left_unread(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"prompt": "question", "chosen": "yes", "rejected": "no", "score_chosen": 4}
    prompts = write_rows(tmp_path / "pairs.jsonl", [row])
    assert main(["generate", str(prompts), "--model", str(model), "--max-new-tokens", "2"]) == 0
    assert "only the prompts are read; left unread: chosen, rejected, score_chosen" in capsys.readouterr().err


def test_the_number_of_endpoints_changes_nothing(
    three_endpoints: list[ChatServer], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = write_rows(tmp_path / "p.jsonl", [{"prompt": f"question {n % 9}"} for n in range(12)])
    urls = [one.url for one in three_endpoints]
    one, many = tmp_path / "one.jsonl", tmp_path / "many.jsonl"
    words = ["generate", str(prompts), "--model", "m", "--k", "2", "--json", "--base-url"]
    assert main([*words, urls[0], "--output", str(one)]) == 0
    assert json.loads(capsys.readouterr().out)["endpoints"] == {urls[0]: 24}
    # Begun with one endpoint and continued with three: only the rest is asked for.
    assert main([*words, urls[2], "--output", str(many), "--max-samples", "5"]) == 0
    capsys.readouterr()
    assert main([*words, f"{urls[0]},{urls[1]}=2,{urls[2]}", "--output", str(many)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["made"] == 7
    assert sum(found["endpoints"].values()) == 14
    assert many.read_bytes() == one.read_bytes()
    assert sum(len(server.requests) for server in three_endpoints) == 48


def test_shards_joined_are_the_whole(
    three_endpoints: list[ChatServer], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = write_rows(tmp_path / "p.jsonl", [{"prompt": f"question {n % 3}"} for n in range(8)])
    words = ["generate", str(prompts), "--model", "m", "--k", "2", "--base-url", three_endpoints[0].url]
    whole, joined = tmp_path / "whole.jsonl", tmp_path / "joined.jsonl"
    parts = [tmp_path / f"part-{number}.jsonl" for number in (1, 2, 3)]
    assert main([*words, "--output", str(whole)]) == 0
    for number, part in enumerate(parts, 1):
        assert main([*words, "--output", str(part), "--shard", f"{number}/3"]) == 0
    assert [row["id"] for row in read_jsonl(parts[1])] == ["p.jsonl:2", "p.jsonl:5", "p.jsonl:8"]
    assert main(["data", "join", str(parts[2]), str(parts[0]), str(parts[1]), "--output", str(joined)]) == 0
    assert joined.read_bytes() == whole.read_bytes()

    def refused(*files: Path) -> str:
        capsys.readouterr()
        assert main(["data", "join", *map(str, files), "--output", str(tmp_path / "no.jsonl")]) == 1
        assert not (tmp_path / "no.jsonl").exists()
        return capsys.readouterr().err

    assert "2/3 (no file: 0 of 3 rows)" in refused(parts[0], parts[2])
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(parts[1].read_bytes())
    assert f"{parts[1]} and {copy} are both shard 2/3" in refused(*parts, copy)
    assert f"{parts[1]} and {parts[1]} are both shard 2/3" in refused(parts[1], parts[1])
    assert f"{whole}:1: is no row of a shard" in refused(whole)
    other = tmp_path / "other.jsonl"
    assert main([*words, "--output", str(other), "--shard", "3/3", "--seed", "7"]) == 0
    assert f"{other}:1: was made with seed 7, {parts[0]} with 42" in refused(*parts[:2], other)
    # A killed process leaves half a line; the command continues there, and asks for nothing twice.
    rows = parts[2].read_bytes().splitlines(keepends=True)
    parts[2].write_bytes(rows[0] + rows[1][:40])
    assert f"3/3 ({parts[2]}: 1 of 2 rows)" in refused(*parts)
    before = len(three_endpoints[0].requests)
    assert main([*words, "--output", str(parts[2]), "--shard", "3/3"]) == 0
    assert len(three_endpoints[0].requests) == before + 2
    assert parts[2].read_bytes() == b"".join(rows)
    assert main([*words, "--output", str(parts[2]), "--shard", "2/3"]) == 1
    assert "has candidates made with shard 3/3 of 8 prompts" in capsys.readouterr().err
    assert main([*words, "--shard", "9/9"]) == 2
    assert main([*words, "--shard", "0/3"]) == 2


def test_python_has_the_same(three_endpoints: list[ChatServer], tmp_path: Path) -> None:
    prompts = write_rows(tmp_path / "p.jsonl", [{"prompt": f"question {n}"} for n in range(4)])
    parts = [tmp_path / "1.jsonl", tmp_path / "2.jsonl"]
    for number, part in enumerate(parts, 1):
        url = three_endpoints[0].url
        made = palate.generate(str(prompts), "m", 2, output=part, base_url=url, shard=f"{number}/2")
        assert [row.id for row in made] == [f"p.jsonl:{number}", f"p.jsonl:{number + 2}"]
    assert palate.join_shards(parts, tmp_path / "all.jsonl") == 4
    with pytest.raises(DataError, match=r"^no file: no rows of shards"):
        palate.join_shards([], tmp_path / "none.jsonl")
    votes = tmp_path / "votes.jsonl"
    collected = palate.judge(tmp_path / "all.jsonl", "length:shorter", votes)
    assert len(collected.votes) == len(read_jsonl(votes)) == 8
    half = palate.judge(tmp_path / "all.jsonl", "length:shorter", tmp_path / "half.jsonl", shard="1/2")
    assert {vote.item for vote in half.votes} == {"p.jsonl:1", "p.jsonl:3"}


@pytest.mark.slow
def test_killed_and_continued_with_other_endpoints(three_endpoints: list[ChatServer], tmp_path: Path) -> None:
    """What has a row is not asked for again, and the file is that of a run that was not killed."""
    prompts = write_rows(tmp_path / "p.jsonl", [{"prompt": f"question {n}"} for n in range(60)])
    out, whole = tmp_path / "c.jsonl", tmp_path / "whole.jsonl"
    urls = [one.url for one in three_endpoints]

    def answer(body: dict[str, Any]) -> str:
        time.sleep(0.1)
        return f"{prompt_text(body)} {body['seed']}"

    for one in three_endpoints:
        one.answer = answer
    words = ["generate", str(prompts), "--model", "m", "--k", "3", "--base-url"]
    command = [sys.executable, "-m", "palate", *words, f"{urls[0]},{urls[1]}=2", "--output", str(out)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as running:
        deadline = time.monotonic() + 240
        while not (out.exists() and len(out.read_bytes().splitlines()) >= 10) and time.monotonic() < deadline:
            time.sleep(0.02)
        running.kill()
    have = {row["prompt"][0]["content"] for row in read_jsonl(out)}
    assert 10 <= len(have) < 60
    before = settled(lambda: [len(one.requests) for one in three_endpoints])  # requests on their way arrive
    assert main([*words, f"{urls[2]},{urls[1]}", "--output", str(out)]) == 0
    later = [
        prompt_text(body) for one, count in zip(three_endpoints, before, strict=True) for body in one.requests[count:]
    ]
    assert have.isdisjoint(later)
    assert len(later) == 3 * (60 - len(have))
    assert main([*words, urls[0], "--output", str(whole)]) == 0
    assert out.read_bytes() == whole.read_bytes()
