"""examples/ray on a local Ray of two workers: its answers and votes are those of one process."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import palate
from chat_server import ChatServer, longer_wins, prompt_text, three_endpoints, three_servers
from palate.artifacts import read_jsonl
from runs import write_rows

pytestmark = pytest.mark.slow
__all__ = ["three_endpoints", "three_servers"]

SCRIPT = Path(__file__).parents[2] / "examples" / "ray" / "generate_and_judge.py"


@pytest.fixture(scope="module")
def ray_python() -> str:
    """An interpreter with Ray: PALATE_RAY_PYTHON, else this one."""
    named = os.environ.get("PALATE_RAY_PYTHON")
    if named is None and importlib.util.find_spec("ray") is None:
        pytest.skip("ray[data] is not installed; name an interpreter that has it and palate: PALATE_RAY_PYTHON")
    return named or sys.executable


def test_two_workers_make_what_one_process_makes(
    ray_python: str, three_endpoints: list[ChatServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, judging = three_endpoints

    def answer(body: dict[str, Any]) -> str:
        time.sleep(0.2)  # so that one worker is not done before the other begins
        return f"{prompt_text(body)} {'word ' * (body['seed'] % 7)}."

    first.answer = second.answer = answer
    judging.answer = longer_wins
    monkeypatch.setenv("PALATE_STORE", f"sqlite:///{tmp_path / 'palate.db'}")
    prompts = write_rows(tmp_path / "p.jsonl", [{"prompt": f"question {n % 9}"} for n in range(30)])
    judge = f"openai:m@{judging.url}"
    out = tmp_path / "out"

    # As after a kill: a shard without its last rows, which is continued.
    part = out / "candidates-3.jsonl"
    palate.generate(str(prompts), "m", 2, output=part, base_url=first.url, shard="3/4")
    part.write_text("".join(json.dumps(row) + "\n" for row in read_jsonl(part)[:-2]))
    before = len(first.requests)
    words = ["--model", "m", "--base-url", f"{first.url},{second.url}", "--judge", judge, "--shards", "4"]
    done = subprocess.run(
        [ray_python, str(SCRIPT), str(prompts), str(out), *words],
        env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_ADDRESS": "local"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "candidates.jsonl: 30 rows by 2 workers" in done.stdout
    assert len(first.requests) - before + len(second.requests) == 2 * 25
    whole = tmp_path / "whole.jsonl"
    palate.generate(str(prompts), "m", 2, output=whole, base_url=first.url)
    assert (out / "candidates.jsonl").read_bytes() == whole.read_bytes()
    asked = len(judging.requests)
    collected = palate.judge(whole, judge, tmp_path / "votes.jsonl")
    assert len(judging.requests) == asked  # the store has every reply
    fields = ("item", "left", "right", "shown", "outcome", "who")
    own, theirs = (
        {tuple(vote[name] for name in fields) for vote in read_jsonl(path)}
        for path in (tmp_path / "votes.jsonl", out / "votes.jsonl")
    )
    assert own == theirs
    assert f"{len(collected.votes)} votes" in done.stdout
