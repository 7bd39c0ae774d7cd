"""The whole circle: people talk and correct, a model learns from it, and the gate decides whether it is deployed."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from loop_world import PROMPTS, World
from palate.artifacts import read_json, read_jsonl
from palate.data.formats.writers import write_rows
from palate.loop.demo.people import Client
from palate.loop.process import run_command
from palate.loop.status import STEPS, loop_status
from palate.registry import add, find, moves, promote, verdicts
from palate.serving.keys import KeyTerms, create_key
from palate.store import Store, open_store
from palate.store.loop_tables import Cycle
from palate.store.serving_tables import FeedbackRow, Interaction
from palate.store.tables import VoteRow, utc_now
from recorded import Clock
from tiny import save_tiny, tiny_tokenizer

GATE = f"""
prompts: heldout.jsonl
n: {PROMPTS}
judge: lexicon:good,-bad
judge_card: false
decoding: {{max_new_tokens: 8, temperature: 1.0}}
length_ratio: [0.1, 10]
empty_or_repeated: 1
consistency: 0
"""
TRAIN = """
stage: dpo
model_name_or_path: set by the cycle
dataset: set by the cycle
output_dir: set by the cycle
pref_ftx: 1.0
max_steps: 24
per_device_train_batch_size: 4
learning_rate: {rate}
save_strategy: "no"
sample_prompts: 0
report_to: none
"""
LOOP = """
name: support
schedule: none
collect: {at_least: 5, sample: 4, settle_minutes: 0}
candidates: {max_new_tokens: 8}
annotate: {judge: "lexicon:good,-bad"}
train: train.yaml
gate: gate.yaml
deploy: on_pass
force_days: 0
options: {from-interactions: --share-per-user 1}
"""


class Real(World):
    """A loop whose commands all run, in this process."""

    def run(self, words: Sequence[str], log: Path) -> int:
        self.commands.append(tuple(words))
        return self.palate(*words, log=log)


@pytest.fixture
def world(tmp_path: Path, sqlite_store: Store, monkeypatch: pytest.MonkeyPatch) -> Real:
    return world_in(tmp_path, sqlite_store, monkeypatch)


def world_in(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> Real:
    """A tiny random model in production; the current folder and database of commands are those of the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PALATE_STORE", store.engine.url.render_as_string(hide_password=False))
    held_out = [{"prompt": f"held out prompt with the number {number}"} for number in range(PROMPTS)]
    write_rows(tmp_path / "heldout.jsonl", held_out)
    for name, text in (("gate.yaml", GATE), ("train.yaml", TRAIN.format(rate=0.01)), ("loop.yaml", LOOP)):
        (tmp_path / name).write_text(text)
    texts = ["good good bad bad question about the weather held out prompt with the number"] * 9
    first = save_tiny(tmp_path / "first", tokenizer=tiny_tokenizer(texts=texts))
    add(store, first, models_dir=tmp_path / "models", who="ann")
    promote(store, "v1.0", reason="first", who="ann")
    return Real(tmp_path, store, Clock(utc_now() - timedelta(hours=1)))  # the processes have the real clock


def correct(world: Real, better: str, answer: str, count: int = 16) -> None:
    """People ask, get an answer, and correct it."""
    for number in range(count):
        prompt = f"question {number} about the weather"
        said = world.recording.complete(answer, prompt=prompt, user=f"user {number}", model="v1.0")
        world.recording.rate(said, edit=better)
    world.talk(1)


def outcome(world: Real) -> tuple[str | None, str]:
    """Of the first cycle: how it ended, and the verdict."""
    ended = world.store.read(lambda session: session.scalars(select(Cycle.outcome)).one())
    (verdict,) = world.store.read(verdicts)
    return ended, verdict.outcome


def test_what_people_say_is_learnt_and_deployed(world: Real) -> None:
    correct(world, "good good good good good good", "bad bad bad bad bad bad")
    ticked = world.tick()
    assert ticked.failed is None
    assert ticked.outcome == "deployed"
    assert outcome(world) == ("deployed", "PASS")
    assert find(world.store, "production").name == "v1.1"
    assert find(world.store, "previous").name == "v1.0"
    folder = world.folder / "cycles" / "0001"
    sources = read_json(folder / "pairs" / "mix" / "data.json")["counts"]["comparisons"]
    assert {row["source"]: row["rows"] for row in sources}["edits"] == 16
    drawn = read_jsonl(folder / "sample" / "candidates.jsonl")
    assert all(0 < row["columns"]["inclusion_probability"] <= 1 for row in drawn)


def test_a_candidate_of_swapped_labels_is_stopped(world: Real) -> None:
    correct(world, "bad bad bad bad bad bad", "good good good good good good")
    assert world.tick().outcome == "rejected"
    assert outcome(world) == ("rejected", "FAIL")
    assert find(world.store, "production").name == "v1.0"
    report = read_json(world.folder / "cycles" / "0001" / "debug" / "debug.json")
    assert report["gate"]["outcome"] == "FAIL"
    assert report["acts"]


def test_an_equal_candidate_is_not_promoted(world: Real) -> None:
    (world.folder / "train.yaml").write_text(TRAIN.format(rate=1e-9))
    correct(world, "good good good good good good", "bad bad bad bad bad bad")
    assert world.tick().outcome == "rejected"
    assert outcome(world) == ("rejected", "INCONCLUSIVE")
    assert find(world.store, "production").name == "v1.0"


_TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:]+Z")
"""When a vote was given, in the lineage of a row."""
RUN = [step for step in STEPS if step not in ("canary", "debug")]
"""The steps of a cycle without canary whose candidate passes."""


def facts(store: Store, folder: Path) -> dict[str, Any]:
    """What must not depend on interruptions."""
    read, cycle = store.read, folder / "cycles" / "0001"
    return {
        "outcome": read(lambda session: session.scalars(select(Cycle.outcome)).all()),
        "verdicts": [(one.candidate, one.outcome, one.attempt) for one in read(verdicts)],
        "weights": find(store, "production").files["model.safetensors"]["sha256"],
        "moves": [(move.alias, move.version, move.before) for move in moves(store)],
        "pairs": _TIME.sub("", (cycle / "pairs" / "mix" / "train.jsonl").read_text()),
        "verdict": read_json(cycle / "gate" / "gate.json")["checks"],
        "rows": [read(partial(_count, table=table)) for table in (Interaction, FeedbackRow, VoteRow)],
    }


def _count(session: Session, table: Any) -> int:
    return session.scalar(select(func.count()).select_from(table)) or 0


def start_tick(folder: Path) -> subprocess.Popen[bytes]:
    """A tick and its commands as processes of a group of their own."""
    command = [sys.executable, "-m", "palate", "loop", "tick", "loop.yaml"]
    with (folder / "tick.log").open("ab") as log:
        return subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)


def kill_in(step: str, folder: Path, store: Store) -> None:
    """Start a tick, and kill it and its command as soon as the step runs one, or has ended."""
    process = start_tick(folder)
    while process.poll() is None:
        steps = store.read(lambda session: loop_status(session, "support")).steps
        now = next(one for one in steps if one.name == step)
        if now.state == "done" or (now.state == "running" and now.command):
            time.sleep(0.3 * (STEPS.index(step) % 3))  # at once, while it loads, while it works
            os.killpg(process.pid, signal.SIGKILL)
        time.sleep(0.02)
    process.wait()


@pytest.mark.slow
def test_killed_in_every_step_the_result_is_the_same(world: Real, tmp_path_factory: pytest.TempPathFactory) -> None:
    correct(world, "good good good good good good", "bad bad bad bad bad bad")
    world.store.close()
    copy = tmp_path_factory.mktemp("copy") / "world"
    shutil.copytree(world.folder, copy)
    found = []
    for killed in ((), RUN):
        if killed:  # the same people, ids and folders again
            shutil.rmtree(world.folder)
            shutil.copytree(copy, world.folder)
        os.chdir(world.folder)
        with contextlib.closing(open_store(os.environ["PALATE_STORE"])) as store:
            for step in killed:
                kill_in(step, world.folder, store)
            assert start_tick(world.folder).wait(900) == 0
            found.append(facts(store, world.folder))
    assert found[0] == found[1]
    assert found[0]["verdicts"] == [("v1.1", "PASS", 1)]
    assert found[0]["outcome"] == ["deployed"]


FULL_AT = {"generate": 1_200, "train": 20_000}
"""Command → bytes beyond which no file grows: answers and weights are larger, the log is not."""


class FullDisk(Real):
    """Commands that write answers or weights meet a full disk the first time."""

    def run(self, words: Sequence[str], log: Path) -> int:
        if words[0] not in FULL_AT or any(words[0] == before[0] for before in self.commands):
            return super().run(words, log)
        self.commands.append(tuple(words))
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (FULL_AT[words[0]], before[1]))
        try:
            return run_command(words, log)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.slow
def test_on_a_disk_that_was_full_the_result_is_the_same(world: Real, tmp_path_factory: pytest.TempPathFactory) -> None:
    correct(world, "good good good good good good", "bad bad bad bad bad bad")
    world.store.close()
    copy = tmp_path_factory.mktemp("copy") / "world"
    shutil.copytree(world.folder, copy)
    found = []
    for kind, fails in ((Real, ()), (FullDisk, ("candidates", "train"))):
        os.chdir(copy.parent)
        shutil.rmtree(world.folder)
        shutil.copytree(copy, world.folder)
        os.chdir(world.folder)
        with contextlib.closing(open_store(os.environ["PALATE_STORE"])) as store:
            circle = kind(world.folder, store, world.clock)
            for step in fails:
                failed = circle.tick().failed
                assert failed is not None
                assert failed[0] == step
                assert "the disk is full" in failed[1]
            assert not list((world.folder / "cycles" / "0001" / "train").glob("*.safetensors"))
            assert circle.tick().outcome == "deployed"
            found.append(facts(store, world.folder))
    assert found[0] == found[1]


@contextlib.contextmanager
def serving(*words: str) -> Iterator[str]:
    """A context in which a palate server runs; gives its address."""
    command = [sys.executable, "-m", "palate", *words, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://[^/ ]+", process.stdout.readline())
            assert found is not None
            yield found[0]
        finally:
            process.terminate()


@pytest.mark.slow
def test_page_gateway_and_tick_share_a_database(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = world_in(tmp_path, store, monkeypatch)
    correct(world, "good good good good good good", "bad bad bad bad bad bad")
    terms = KeyTerms(recording="full", consent=True)
    key = store.write(lambda session: create_key(session, "chat-page", terms, utc_now()))
    models, liked = set[str](), 0
    with serving("web", "--no-open") as page, serving("serve", "--alias", "production") as gateway:
        client, ticking = Client(f"{gateway}/v1", key), start_tick(tmp_path)
        while ticking.poll() is None or (models == {"v1.0"} and liked < 2000):
            httpx.get(f"{page}/loop").raise_for_status()
            models.add(client.like(f"question {liked}"))
            liked += 1
    assert ticking.returncode == 0
    assert models == {"v1.0", "v1.1"}
    assert outcome(world) == ("deployed", "PASS")
    rated = store.read(lambda session: _count(session, FeedbackRow))
    assert rated == 16 + liked  # every one that was acknowledged, once
