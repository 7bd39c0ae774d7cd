"""The loop by hand as the docs have it: ten pairs labelled in the page from two runs, trained on, and measured."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from palate.artifacts import read_jsonl
from palate.feedback.page.free_prompts import CAMPAIGN
from palate.feedback.transfer import candidates_in, votes_in
from palate.store import open_store
from runs import run, run_json
from tiny import save_tiny, tiny_tokenizer

PAIRS = 10
HELD_OUT = 137  # of palate-demo-heldout, which the preset evaluates on


def script(repository: Path) -> str:
    """The commands of the section, on the port of the variable PORT."""
    page = (repository / "docs" / "label.md").read_text(encoding="utf-8")
    section = page.partition("## From ten votes to a model\n")[2]
    commands = str(re.findall(r"```sh\n(.*?)```", section, re.DOTALL)[0])
    return "set -e\n" + commands.replace("palate label serve ", 'palate label serve --port "$PORT" ')


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture
def workplace(tmp_path: Path, repository: Path) -> Path:
    """A folder with two runs of a tiny model, the presets, and a `palate` on the PATH."""
    texts = [f"question number {number}, please answer it: yes or no" for number in range(50)]
    model = save_tiny(tmp_path / "model", tokenizer=tiny_tokenizer(texts=texts, size=400), num_hidden_layers=2)
    for name, seed in (("conservative", 1), ("recommended", 2)):
        run(model, tmp_path / "runs" / name, seed=seed, rows=8, learning_rate=1e-2)
    shutil.copytree(repository / "configs", tmp_path / "configs")
    program = tmp_path / "bin" / "palate"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m palate "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    return tmp_path


class Page:
    """What a person does in the browser, by HTTP."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client
        self.html = ""

    def open(self) -> None:
        self.html = self.client.get("/ask").raise_for_status().text

    def field(self, name: str) -> str:
        return re.findall(rf'name="{name}" (?:value|content)="([^"]*)"', self.html)[0]

    def post(self, path: str, **fields: str) -> httpx.Response:
        headers = {"X-CSRF-Token": self.field("csrf-token")}
        return self.client.post(path, data=fields, headers=headers).raise_for_status()

    def ask(self, prompt: str) -> None:
        """Until both answers are there and differ."""
        for _ in range(20):
            events = self.post("/ask/answers", prompt=prompt).text
            if "event: ready" in events:
                self.open()
                return
        raise AssertionError(events)

    def vote(self, choice: str) -> None:
        self.html = self.post(
            "/ask/vote", choice=choice, lease=self.field("lease"), request_key=self.field("request_key"), seconds="1"
        ).text


def label_pairs(address: str) -> None:
    """Ten pairs, a vote undone on the way, and one tie, which is no pair."""
    with httpx.Client(base_url=address, timeout=60) as client:
        page = Page(client)
        page.open()
        for number in range(PAIRS):
            page.ask(f"question number {number}")
            page.vote("second" if number % 3 else "first_much")
        page.ask("a tie")
        page.vote("tie")
        page.html = page.post("/ask/undo", last_vote=page.field("last_vote")).text
        page.vote("tie")


@pytest.fixture
def process(workplace: Path, repository: Path) -> Iterator[Any]:
    """The script, running in its own session, as in a terminal."""
    port = free_port()
    path = f"{workplace / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PORT": str(port), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    started = subprocess.Popen(
        ["bash", "-c", script(repository)],
        cwd=workplace,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    started.address = f"http://127.0.0.1:{port}"  # type: ignore[attr-defined]
    yield started
    if started.poll() is None:
        os.killpg(started.pid, signal.SIGKILL)
        started.communicate()


def wait_until_served(process: Any) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        try:
            httpx.get(f"{process.address}/ask", timeout=60)
            return
        except httpx.TransportError:
            time.sleep(0.2)
    process.kill()
    raise AssertionError(process.communicate())


def test_ten_votes_become_a_trained_and_measured_run(workplace: Path, process: Any) -> None:
    wait_until_served(process)
    label_pairs(process.address)
    saved = read_jsonl(workplace / "preferences.jsonl")
    os.killpg(process.pid, signal.SIGINT)  # Ctrl-C in the terminal
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors

    assert len(saved) == PAIRS
    store = open_store(str(workplace / "palate.db"), create=False)
    rows, votes = store.read(lambda session: (candidates_in(session, CAMPAIGN), votes_in(session, CAMPAIGN)))
    store.close()
    rows_by_id = {row.id: row for row in rows}
    expected = []
    for vote in votes:
        if vote.outcome in ("left", "right"):
            row = rows_by_id[vote.item]
            left, right = row.completions[0].text, row.completions[1].text
            chosen, rejected = (left, right) if vote.outcome == "left" else (right, left)
            turns = [{"from": "human", "value": row.prompt[0].content}]
            expected.append({"conversations": turns, "chosen": chosen, "rejected": rejected})
    assert saved == expected
    assert {row.origin(0).model for row in rows} == {"conservative"}
    assert {row.origin(1).model for row in rows} == {"recommended"}
    assert len({row.origin(0).identity for row in rows} | {row.origin(1).identity for row in rows}) == 2

    trained = run_json(workplace / "runs" / "by_hand")
    assert trained["status"] == "completed"
    assert trained["data"]["train_groups"] == PAIRS
    accuracy = json.loads((workplace / "runs" / "by_hand" / "accuracy.json").read_text(encoding="utf-8"))
    assert accuracy["n"] == HELD_OUT
    assert "Policy Accuracy" in output
