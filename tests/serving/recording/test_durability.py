"""Acknowledged feedback is there: the server is killed, the disk is full, the clock jumps."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from typing import IO

import httpx2
import pytest
from sqlalchemy import func, select

from palate.serving.recording.listing import Filter
from palate.store import Store
from palate.store.serving_tables import FeedbackRow
from recorded import Recording

# Each line of stdin starts a server: a fork, which has everything imported. Its port and number are printed, and how it
# ended.
SERVERS = """
import os, sys
import uvicorn
from fastapi import FastAPI
from palate.serving.recording import Recorder
from palate.serving.recording.routes import feedback_router
from palate.store import open_store
from datetime import UTC, datetime
now = datetime(2026, 1, 31, 12, tzinfo=UTC)
class Announced(uvicorn.Server):
    async def startup(self, sockets=None):
        await super().startup(sockets)
        print(self.servers[0].sockets[0].getsockname()[1], os.getpid(), flush=True)
for line in sys.stdin:
    if child := os.fork():
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    recorder = Recorder(open_store(sys.argv[1]), secret=bytes(range(32)), clock=lambda: now)
    app = FastAPI()
    app.include_router(feedback_router(recorder))
    Announced(uvicorn.Config(app, port=0, log_level="error")).run()
    os._exit(0)
"""


def kill_while_feedback_is_sent(store: Store, kills: int) -> None:
    """In each round eight clients send feedback until the server is killed; then each client sends its form again."""
    command = [sys.executable, "-c", SERVERS, store.engine.url.render_as_string(hide_password=False)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as servers:
        assert servers.stdin is not None
        assert servers.stdout is not None
        kill_servers(store, kills, servers.stdin, servers.stdout)


def kill_servers(store: Store, kills: int, start: IO[str], said: IO[str]) -> None:
    recording = Recording(store)
    rng = random.Random(16)
    ids = [recording.complete() for _ in range(60)]
    tokens = {identifier: recording.recorder.feedback_token(identifier) for identifier in ids}
    for attempt in range(kills):
        print("serve", file=start, flush=True)
        port, server = map(int, said.readline().split())
        address = f"http://127.0.0.1:{port}/v1/feedback"
        thumbs = "up" if attempt % 2 else "down"
        kill_at = rng.randrange(1, len(ids))
        done: list[str] = []
        http = httpx2.Client(timeout=60)

        def send(
            identifier: str, address=address, thumbs=thumbs, kill_at=kill_at, server=server, done=done, http=http
        ) -> None:
            try:
                reply = http.post(address, json={"token": tokens[identifier], "thumbs": thumbs})
            except httpx2.HTTPError:
                return
            assert reply.status_code == 200
            done.append(identifier)
            if len(done) >= kill_at:
                with suppress(ProcessLookupError):  # it has ended
                    os.kill(server, signal.SIGKILL)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(send, ids))
        assert int(said.readline()) == -signal.SIGKILL, "it was killed while clients were sending"
        http.close()
        wanted = Filter(thumbs=thumbs).query()
        held = store.read(lambda session, wanted=wanted: set(session.scalars(wanted)))
        assert set(done) <= held, "nothing that was acknowledged is lost"
        for identifier in ids:  # clients that got no reply send it again
            recording.rate(identifier, thumbs=thumbs)
    count = store.read(lambda session: session.scalar(select(func.count()).select_from(FeedbackRow)))
    assert count == kills * len(ids), "each changed mind is one row, however often it was sent"


def test_no_feedback_is_lost_or_doubled_when_the_server_is_killed(sqlite_store: Store) -> None:
    kill_while_feedback_is_sent(sqlite_store, kills=3)


@pytest.mark.slow
def test_no_feedback_is_lost_or_doubled_when_the_server_is_killed_often(store: Store) -> None:
    kill_while_feedback_is_sent(store, kills=50)  # on each of the two databases


FULL = """
import os, resource, signal, sys
from palate.errors import StoreError
from palate.serving.recording import Feedback, NewInteraction, RecordedChoice, Recorder
from palate.store import open_store
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
recorder = Recorder(open_store(sys.argv[1]), secret=b"s")
entry = NewInteraction(endpoint="chat", prompt="x" * 2000, model="v1", policy="full")
size = os.path.getsize(sys.argv[1]) + 300_000
resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
ids, message = [], ""
while not message:
    try:
        ids.append(recorder.reserve(entry))
    except StoreError as error:
        message = str(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
ids.append(recorder.reserve(entry))
recorder.update(ids[-1], "complete", [RecordedChoice("y", "stop")])
recorder.feedback(recorder.feedback_token(ids[-1]), Feedback(thumbs="up"))
print(message)
print(*ids)
"""


def test_a_full_disk_is_one_line_and_nothing_acknowledged_is_lost(sqlite_store: Store) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, sqlite_store.url], capture_output=True, text=True, check=True, timeout=120
    )
    message, ids = done.stdout.splitlines()
    assert message.startswith(f"{sqlite_store.url}: ")
    assert "disk" in message or "full" in message
    stored = sqlite_store.read(lambda session: list(session.scalars(Filter().query())))
    assert set(stored) == set(ids.split())
    assert sqlite_store.read(lambda session: list(session.scalars(Filter(thumbs="up").query()))) == [ids.split()[-1]]
    with sqlite_store.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"


def test_what_came_last_holds_when_the_clock_jumps_back(store: Store) -> None:
    recording = Recording(store)
    identifier = recording.complete()
    recording.rate(identifier, thumbs="up")
    recording.clock.now -= timedelta(days=3)
    recording.rate(identifier, thumbs="down")
    assert store.read(lambda session: list(session.scalars(Filter(thumbs="down").query()))) == [identifier]
    assert store.read(lambda session: list(session.scalars(Filter(thumbs="up").query()))) == []
