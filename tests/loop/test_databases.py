"""A tick whose PostgreSQL server goes away or is locked: one clear line, and the next tick goes on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from loop_world import LOOP, World, make_world
from palate.errors import StoreError
from palate.store import engine, open_store, transactions
from store_servers import PostgresServer

JUDGED = LOOP.replace("{people: {days: 1}}", "{judge: 'length:longer'}") + "schedule: none\ndeploy: on_pass\n"


@pytest.fixture
def world(
    postgres: PostgresServer, postgres_template: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    """A loop on PostgreSQL whose people have talked; a lock is waited for 0.3 s at a time, for 1 s in all."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PALATE_STORE", "")
    monkeypatch.setattr(engine, "_BUSY_SECONDS", 0.3)
    monkeypatch.setattr(transactions, "_RETRY_SECONDS", 1.0)
    url = postgres.database(postgres_template)
    store = open_store(url)
    made = make_world(tmp_path, store, url, JUDGED)
    made.talk()
    yield made
    store.close()
    postgres.drop(url)


@pytest.mark.parametrize("has_run", [False, True])
def test_a_server_that_goes_away(world: World, postgres: PostgresServer, has_run: bool) -> None:
    """Before and after the training of the candidate, which runs once all the same."""
    name = world.store.engine.url.database

    def leave(words: tuple[str, ...], now: bool) -> None:
        if words[0] == "train" and now == has_run:
            postgres.run(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS false')
            postgres.run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")

    world.interrupt = leave
    for _ in range(2):  # as the server leaves, and when a tick begins without it
        with pytest.raises(StoreError, match="is not currently accepting connections") as found:
            world.tick()
        assert "\n" not in str(found.value)
    postgres.run(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS true')
    world.interrupt = lambda words, now: None
    ticked = world.tick()
    assert (ticked.done[0], ticked.outcome) == ("train", "deployed")
    assert len({words for words in world.commands if words[:2] == ("loop", "gate")}) == 1


def test_tables_that_are_locked(world: World, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """For longer than a tick waits, and then for a moment only."""
    with psycopg.connect(postgres.url(str(world.store.engine.url.database))) as other:
        other.execute("LOCK TABLE cycle_steps")
        with pytest.raises(StoreError, match=r"the database stays locked .*; close what else uses it"):
            world.tick()
        monkeypatch.setattr(transactions, "_RETRY_SECONDS", 60.0)
        release = threading.Timer(0.5, other.rollback)
        release.start()
        assert world.tick().outcome == "deployed"
        release.join()
