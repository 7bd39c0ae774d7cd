"""The circle while what it needs is away: judge, engine, database, disk. It ends as one that nothing happened to."""

from __future__ import annotations

import os
import re
import resource
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from sqlalchemy import select
from werkzeug import Response

from chat_server import ChatServer, Reply, longer_wins, prompt_text
from loop_world import LOOP, World, make_world
from palate.artifacts import read_jsonl, write_errors
from palate.cli.main import main
from palate.errors import StoreError
from palate.loop import process
from palate.loop.status import loop_status
from palate.registry import moves, verdicts
from palate.serving.recording.listing import Filter
from palate.store import engine, open_store, transactions
from palate.store.loop_tables import Cycle
from palate.store.tables import utc_now
from recorded import Clock

AT_ONCE = LOOP + "schedule: none\ndeploy: on_pass\nforce_days: 0\n"
JUDGED = AT_ONCE.replace("{people: {days: 1}}", "{judge: 'length:longer'}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+(Z|\+00:00)")
"""When a vote was given, in the lineage of a row."""


@dataclass
class Circle(World):
    """A world that `palate loop tick` drives. Its disk errors are those of the loop's own way to run a command.

    Attributes:
        real: commands that run although they are played in a world.
    """

    real: tuple[str, ...] = ()

    def run(self, words: Sequence[str], log: Path) -> int:
        with write_errors(log):
            if words[0] not in self.real:
                return super().run(words, log)
            self.commands.append(tuple(words))
            return self.palate(*words, log=log)

    @property
    def failed(self) -> str:
        """The step that failed, "" for none."""
        steps = self.store.read(lambda session: loop_status(session, "support")).steps
        return next((step.name for step in steps if step.state == "failed"), "")

    def result(self) -> dict[str, Any]:
        """What must not depend on interruptions."""
        read, cycle = self.store.read, self.folder / "cycles" / "0001"
        steps = {step.name: step for step in read(lambda session: loop_status(session, "support")).steps}
        return {
            "states": {name: step.state for name, step in steps.items()},
            "candidates": read_jsonl(cycle / "candidates" / "candidates.jsonl"),
            "votes": sorted(_TIME.sub("", (cycle / "candidates" / "votes.jsonl").read_text()).splitlines()),
            "train": [_learnt(row) for row in read_jsonl(cycle / "pairs" / "mix" / "train.jsonl")],
            "outcome": read(lambda session: session.scalars(select(Cycle.outcome)).all()),
            "moves": [(move.alias, move.version, move.before) for move in moves(self.store)],
            "verdicts": [(one.candidate, one.outcome, one.attempt) for one in read(verdicts)],
        }


def _learnt(row: dict[str, Any]) -> dict[str, Any]:
    """A row to train on, without when and in which order its votes were given."""
    lineage = row["lineage"]
    return row | {"lineage": lineage | {"votes": sorted(_TIME.sub("", vote) for vote in lineage["votes"])}}


@dataclass
class Begun:
    """A world whose people have talked, kept as it was then. A call begins it again: same people, ids and folders.

    Attributes:
        at: the time then.
        wholes: config of the loop → commands and result of a cycle that nothing happened to.
    """

    folder: Path
    kept: Path
    at: datetime
    patch: pytest.MonkeyPatch
    wholes: dict[str, tuple[list[tuple[str, ...]], dict[str, Any]]] = field(default_factory=dict)
    world: Circle | None = None

    def __call__(self, loop: str, real: tuple[str, ...] = ()) -> Circle:
        self.close()
        shutil.rmtree(self.folder)
        shutil.copytree(self.kept, self.folder)
        self.patch.chdir(self.folder)
        (self.folder / "loop.yaml").write_text(loop)
        self.world = Circle(self.folder, open_store(os.environ["PALATE_STORE"]), Clock(self.at), real=real)
        self.patch.setattr(process, "run_command", self.world.run)
        return self.world

    def whole(self, loop: str, real: tuple[str, ...] = ()) -> tuple[list[tuple[str, ...]], dict[str, Any]]:
        if loop not in self.wholes:
            world = self(loop, real)
            assert main(["loop", "tick", "loop.yaml"]) == 0
            self.wholes[loop] = world.commands, world.result()
            assert self.wholes[loop][1]["outcome"] == ["deployed"]
        return self.wholes[loop]

    def close(self) -> None:
        if self.world is not None:
            self.world.store.close()


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Begun]:
    place = tmp_path_factory.mktemp("circle")
    folder, kept = place / "loop", place / "kept"
    folder.mkdir()
    url = f"sqlite:///{folder / 'palate.db'}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PALATE_STORE", url)
        patch.chdir(place)
        with closing(open_store(url)) as store:
            world = make_world(folder, store, url)
            world.clock.now = utc_now() - timedelta(hours=1)  # `palate loop tick` has the real clock
            world.talk()
        shutil.copytree(folder, kept)
        found = Begun(folder, kept, world.clock.now, patch)
        yield found
        found.close()


Tick = Callable[[], tuple[int, list[str]]]


@pytest.fixture
def tick(capsys: pytest.CaptureFixture[str]) -> Tick:
    """Runs `palate loop tick`; gives its exit code and its lines of errors, and there is nothing but such lines."""

    def run() -> tuple[int, list[str]]:
        capsys.readouterr()
        code = main(["loop", "tick", "loop.yaml"])
        said = capsys.readouterr().err.splitlines()
        assert all(
            line.startswith("palate: error: ") or re.fullmatch(r"\w+ of cycle 1 of support", line) for line in said
        )
        return code, [line for line in said if line.startswith("palate: error: ")]

    return run


class Mortal:
    """An endpoint at one address that can be stopped, also in the middle of its work, and started again.

    Attributes:
        lives: how many questions it answers until it is gone.
        answered: the questions that it answered.
    """

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.server = HTTPServer(host="127.0.0.1", port=port, threaded=True)
        self.chat = ChatServer(self.server)
        self.chat.answer = self._answer
        self.reply: Callable[[dict[str, Any]], str] = longer_wins
        self.lives, self.answered = 10**6, list[str]()
        self._lock = threading.Lock()

    def live(self, lives: int = 10**6) -> None:
        self.lives = lives
        self.server.start()

    def _answer(self, body: dict[str, Any]) -> Reply:
        with self._lock:
            if self.lives == 0:
                if self.server.is_running():
                    self.server.stop()
                return Response(status=503)
            self.lives -= 1
            self.answered.append(prompt_text(body))
            return self.reply(body)


@pytest.fixture
def mortal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mortal]:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # before a request is sent again
    found = Mortal()
    yield found
    if found.server.is_running():
        found.server.stop()


def stays_away(tick: Tick, mortal: Mortal, step: str, times: int) -> None:
    """Ticks fail in one line."""
    for _ in range(times):
        code, errors = tick()
        assert code == 1
        assert len(errors) == 1
        assert re.search(rf"{step}: palate \w+ .*cannot be reached.*; the next tick tries again", errors[0]), errors
    assert not mortal.server.is_running()


def test_a_judge_that_is_down_and_dies_in_its_work(begun: Begun, tick: Tick, mortal: Mortal) -> None:
    loop = AT_ONCE.replace("{people: {days: 1}}", f"{{judge: 'openai:m@{mortal.chat.url}'}}")
    mortal.live()
    whole, asked = begun.whole(loop)[1], sorted(mortal.answered)
    assert len(asked) == 8  # four pairs in both orders
    mortal.server.stop()
    mortal.answered.clear()
    world = begun(loop)
    stays_away(tick, mortal, "annotate", 2)
    assert world.failed == "annotate"
    mortal.live(3)
    stays_away(tick, mortal, "annotate", 1)
    assert len(mortal.answered) == 3
    mortal.live()
    assert tick() == (0, [])
    assert sorted(mortal.answered) == asked  # each question once
    assert world.result() == whole


def test_an_engine_that_is_down_and_dies_in_its_work(begun: Begun, tick: Tick, mortal: Mortal) -> None:
    loop = JUDGED + f"options: {{generate: '--base-url {mortal.chat.url} --model m'}}\n"
    mortal.reply = lambda body: f"a long answer to: {prompt_text(body)}"
    mortal.live()
    whole = begun.whole(loop, ("generate",))[1]
    assert len(set(mortal.answered)) == len(whole["candidates"]) == 4
    mortal.server.stop()
    world = begun(loop, ("generate",))
    stays_away(tick, mortal, "candidates", 1)
    assert world.failed == "candidates"
    mortal.live(2)
    stays_away(tick, mortal, "candidates", 1)
    assert not (world.folder / "cycles/0001/candidates/candidates.jsonl").exists()
    mortal.live()
    assert tick() == (0, [])
    assert world.result() == whole


LOCK = """
import sqlite3, sys, time
other = sqlite3.connect(sys.argv[1], isolation_level=None)
other.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
time.sleep(3)
other.rollback()
"""


def people(world: Circle) -> list[str]:
    """The interactions that there are."""
    return list(world.store.read(lambda session: session.scalars(Filter().query())))


def liked(world: Circle) -> set[str]:
    return set(world.store.read(lambda session: session.scalars(Filter(thumbs="up").query()).all()))


def test_another_process_locks_the_database_for_a_while(begun: Begun, tick: Tick) -> None:
    whole = begun.whole(JUDGED)[1]
    world = begun(JUDGED)
    database = str(world.folder / "palate.db")
    with subprocess.Popen([sys.executable, "-c", LOCK, database], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        rated = threading.Thread(target=lambda: [world.recording.rate(one, thumbs="up") for one in people(world)])
        rated.start()
        assert tick() == (0, [])
        assert other.poll() is not None, "the tick waited for the lock"
        rated.join()
    assert world.result() == whole
    assert liked(world) == set(people(world))


def test_a_database_that_stays_locked_in_any_command(begun: Begun, tick: Tick, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command meets the lock once. What was acknowledged before stays, and what was not can be sent again."""
    monkeypatch.setattr(engine, "_BUSY_SECONDS", 0.01)
    monkeypatch.setattr(transactions, "_RETRY_SECONDS", 0.03)
    commands, whole = begun.whole(JUDGED)
    world = begun(JUDGED)
    asked, met = people(world), list[tuple[str, ...]]()
    with closing(sqlite3.connect(world.folder / "palate.db", isolation_level=None)) as other:

        def lock(words: tuple[str, ...], has_run: bool) -> None:
            if words in met or has_run:
                return
            if len(met) < len(asked):
                world.recording.rate(asked[len(met)], thumbs="up")
            met.append(words)
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreError, match="stays locked"):
                world.recording.rate(asked[0], thumbs="down")

        world.interrupt = lock
        for _ in commands:
            code, errors = tick()
            assert code == 1
            assert len(errors) == 1
            assert re.search(r"palate\.db: the database stays locked .*; close what else uses it", errors[0]), errors
            other.rollback()
    assert tick() == (0, [])
    assert met == commands
    assert world.result() == whole
    assert liked(world) == set(asked)


@contextmanager
def space_again() -> Iterator[Callable[[], None]]:
    """A context with a function that fills the disk: no file of this process grows until the end."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (64, before[1]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_in_any_command(begun: Begun, tick: Tick) -> None:
    """Each command meets the full disk once, and the ledger, the log and the outputs with it."""
    commands, whole = begun.whole(JUDGED)
    world = begun(JUDGED)
    asked, met = people(world), list[tuple[str, ...]]()
    for number in range(len(commands)):
        with space_again() as fill:

            def meet(words: tuple[str, ...], has_run: bool, number: int = number, fill: Any = fill) -> None:
                if words in met or has_run:
                    return
                if number < len(asked):
                    world.recording.rate(asked[number], thumbs="up")
                met.append(words)
                fill()
                with pytest.raises(StoreError, match="free space"):
                    world.recording.rate(asked[0], thumbs="down")

            world.interrupt = meet
            code, errors = tick()
        assert code == 1
        assert len(errors) == 1
        assert "free space" in errors[0]
    assert tick() == (0, [])
    assert met == commands
    assert world.result() == whole
    assert liked(world) == set(asked)
    with world.store.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
