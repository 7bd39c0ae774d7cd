"""What a store has acknowledged is there: processes that write at once, and processes that are killed."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from datetime import UTC, datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from palate.store import Store
from palate.store.tables import Campaign, CampaignItem, VoteRow

VOTES = 1_000

# Writes votes one by one, and says after each commit which vote it was.
WRITER = """
import sys
from datetime import UTC, datetime
from palate.store import open_store
from palate.store.tables import VoteRow
url, who, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
store = open_store(url)
now = datetime.now(UTC)
for number in range(count):
    vote = dict(id=f"{who}-{number}", item_id=1, campaign_id=1, left=0, right=1, outcome="left", who=who,
                kind="person", at=now, shown="left_first")
    store.write(lambda session: session.add(VoteRow(**vote)))
    print(vote["id"], flush=True)
"""


def make_item(session: Session) -> None:
    """A unit of work: the item that the votes are on."""
    now = datetime(2026, 1, 31, 12, tzinfo=UTC)
    session.add(Campaign(id=1, name="c", created=now))
    session.flush()
    session.add(CampaignItem(id=1, campaign_id=1, name="i", prompt=[], content_hash="h", created=now))


def writer(store: Store, who: str, count: int) -> subprocess.Popen[str]:
    """Its errors go to those of the test."""
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, store.url, who, str(count)], stdout=subprocess.PIPE, text=True
    )


def test_four_processes_write_a_thousand_votes_each(sqlite_store: Store) -> None:
    sqlite_store.write(make_item)
    processes = [writer(sqlite_store, f"p{number}", VOTES) for number in range(4)]
    for process in processes:
        acknowledged, _ = process.communicate(timeout=240)
        assert process.returncode == 0
        assert len(acknowledged.split()) == VOTES
    counts = select(VoteRow.who, func.count()).group_by(VoteRow.who).order_by(VoteRow.who)
    assert sqlite_store.read(lambda session: session.execute(counts).all()) == [
        (f"p{number}", VOTES) for number in range(4)
    ]


def test_no_acknowledged_vote_is_lost_when_the_process_is_killed(sqlite_store: Store) -> None:
    sqlite_store.write(make_item)
    rng = random.Random(14)
    for attempt in range(10):
        with writer(sqlite_store, f"k{attempt}", VOTES) as process:
            assert process.stdout is not None
            wanted = rng.randint(1, VOTES - 1)
            acknowledged = [process.stdout.readline().strip() for _ in range(wanted)]
            process.send_signal(signal.SIGKILL)
            acknowledged += process.stdout.read().split("\n")[:-1]  # each line that ends was written after its commit
        assert process.returncode == -signal.SIGKILL
        assert len(acknowledged) < VOTES, "it was killed while it wrote"
        ids = select(VoteRow.id).where(VoteRow.who == f"k{attempt}")
        stored = sqlite_store.read(lambda session, ids=ids: set(session.scalars(ids)))
        assert set(acknowledged) <= stored
        assert len(stored) <= len(acknowledged) + 1, "at most the vote in hand is stored without being acknowledged"
    with sqlite_store.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
