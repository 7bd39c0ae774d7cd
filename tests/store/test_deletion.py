"""Rows are deleted with all that refer to them, and with nothing else, and their bytes are gone from the files."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from palate.store import Store
from palate.store.deletion import delete_with_dependents, erase_deleted
from palate.store.tables import Base, Campaign, CampaignItem, Lease, Response, Task, User, VoteRow

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
CANARY = "canary-7f3e"


def fill(store: Store, items: int) -> None:
    """Items with two responses, a task, a lease, and two votes of which the second supersedes the first."""

    def work(session: Any) -> None:
        session.add(User(id=1, name="ann", role="annotator", created=NOW))
        session.add(Campaign(id=1, name="c", created=NOW))
        session.flush()
        for n in range(1, items + 1):
            session.add(CampaignItem(id=n, campaign_id=1, name=f"i{n}", prompt=[CANARY], content_hash="h", created=NOW))
            session.flush()
            session.add_all(Response(item_id=n, number=k, text=CANARY, content_hash="h") for k in (0, 1))
            session.add(Task(id=n, campaign_id=1, item_id=n, left=0, right=1, wanted=1, open=0, priority=0.0))
            session.flush()
            session.add(
                Lease(id=f"l{n}", campaign_id=1, task_id=n, user_id=1, number=n, schema_version=1, shown="left_first",
                      state="voted", created=NOW, expires=NOW)
            )  # fmt: skip
            session.flush()
            vote = {"item_id": n, "campaign_id": 1, "left": 0, "right": 1, "outcome": "left", "who": "ann", "at": NOW}
            vote |= {"kind": "person", "shown": "left_first", "reason": CANARY}
            session.add(VoteRow(id=f"a{n}", lease_id=f"l{n}", **vote))
            session.flush()
            session.add(VoteRow(id=f"b{n}", supersedes=f"a{n}", **vote))

    store.write(work)


def counts(store: Store) -> dict[str, int]:
    of = ("items", "responses", "tasks", "leases", "votes", "campaigns", "users")
    tables = [Base.metadata.tables[name] for name in of]
    count = lambda session, table: session.scalar(select(func.count()).select_from(table))  # noqa: E731
    return store.read(lambda session: {table.name: count(session, table) for table in tables})


def test_rows_go_with_all_that_refer_to_them(store: Store) -> None:
    fill(store, 250)  # more than a chunk
    table = Base.metadata.tables["items"]
    deleted = store.write(lambda session: delete_with_dependents(session, table, range(1, 250)))
    assert deleted == {"items": 249, "responses": 498, "tasks": 249, "leases": 249, "votes": 498}
    one_left = {"items": 1, "responses": 2, "tasks": 1, "leases": 1, "votes": 2, "campaigns": 1, "users": 1}
    assert counts(store) == one_left
    assert store.write(lambda session: delete_with_dependents(session, table, [7777])) == {}
    assert erase_deleted(store, list(deleted), compact=True) == ""
    assert counts(store) == one_left


def test_nothing_is_left_in_the_files(sqlite_store: Store, tmp_path: Path) -> None:
    fill(sqlite_store, 30)
    files = lambda: b"".join(path.read_bytes() for path in tmp_path.iterdir())  # noqa: E731
    assert CANARY.encode() in files()
    sqlite_store.write(
        lambda session: delete_with_dependents(session, Base.metadata.tables["items"], list(range(1, 31)))
    )
    with sqlite3.connect(sqlite_store.url, isolation_level=None) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM items").fetchone()
        assert "run it again" in erase_deleted(sqlite_store)
        reader.execute("ROLLBACK")
    reader.close()
    assert erase_deleted(sqlite_store) == ""
    assert CANARY.encode() not in files()
