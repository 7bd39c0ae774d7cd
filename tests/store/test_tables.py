"""Times in the store are UTC, whatever zone they came in and whatever the server's is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import select
from sqlalchemy.exc import StatementError
from sqlalchemy.orm import Session

from palate.store import Store
from palate.store.tables import User

# 2026-01-31 12:00:00.000001 UTC, written in Kathmandu.
LOCAL = datetime(2026, 1, 31, 17, 45, 0, 1, tzinfo=timezone(timedelta(hours=5, minutes=45)))


def test_a_time_comes_back_in_utc(store: Store) -> None:
    def write(session: Session) -> None:
        session.add(User(name="ann", role="annotator", created=LOCAL))
        session.add(User(name="bob", role="annotator", created=datetime(2026, 1, 31, 12, tzinfo=UTC)))

    store.write(write)
    ann, bob = store.read(lambda session: session.scalars(select(User.created).order_by(User.name)).all())
    assert (ann.isoformat(), bob.isoformat()) == ("2026-01-31T12:00:00.000001+00:00", "2026-01-31T12:00:00+00:00")
    later = store.read(lambda session: session.scalars(select(User.name).where(User.created > bob)).all())
    assert later == ["ann"], "times are compared as instants"


def test_a_time_without_a_zone_is_refused(store: Store) -> None:
    def write(session: Session) -> None:
        session.add(User(name="ann", role="annotator", created=datetime(2026, 1, 31, 12)))

    with pytest.raises(StatementError, match="2026-01-31T12:00:00 has no time zone"):
        store.write(write)
    assert store.read(lambda session: session.scalars(select(User.name)).all()) == []
