"""A judge's replies in the store: each request is paid for once, across files and runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from palate.feedback.judges.chat import ChatReply
from palate.feedback.judges.probe import ProbedEndpoint
from palate.store import Store, open_store
from palate.store.tables import EndpointRow, Judgement

_KEYS_PER_QUERY = 500
PROBE_DAYS = 7
"""After so many days an endpoint is probed again: a server may be started with other features of the same model."""


class Judgements:
    """The store's judgements and endpoints; the store is opened when it is first needed.

    Args:
        url: as `--store`; None for PALATE_STORE or palate.db in the current folder.
    """

    def __init__(self, url: str | None = None) -> None:
        self._url = url

    @cached_property
    def store(self) -> Store:
        return open_store(self._url)

    def known(self, keys: Sequence[str]) -> dict[str, Judgement]:
        """Key → judgement, of those that the store has."""

        def work(session: Session) -> dict[str, Judgement]:
            found: dict[str, Judgement] = {}
            for start in range(0, len(keys), _KEYS_PER_QUERY):
                some = keys[start : start + _KEYS_PER_QUERY]
                found |= {row.key: row for row in session.scalars(select(Judgement).where(Judgement.key.in_(some)))}
            return found

        return self.store.read(work)

    def add(
        self,
        key: str,
        judge: str,
        request: Mapping[str, Any],
        reply: ChatReply,
        text: str,
        outcome: str,
        *,
        probability: float | None = None,
        error: str | None = None,
    ) -> None:
        """Store a judgement; one that another process has stored meanwhile stays as it is."""
        self._insert(
            Judgement,
            key=key,
            judge=judge,
            request=dict(request),
            text=text,
            outcome=outcome,
            probability=probability,
            error=error,
            prompt_tokens=reply.prompt_tokens,
            completion_tokens=reply.completion_tokens,
            attempts=reply.attempts,
            at=datetime.now(UTC),
        )

    def endpoint(self, identity: str, base_url: str) -> ProbedEndpoint | None:
        """What is known of an endpoint from a probe of the last `PROBE_DAYS` days."""
        row = self.store.read(lambda session: session.get(EndpointRow, (identity, base_url)))
        if row is None or datetime.now(UTC) - row.at > timedelta(days=PROBE_DAYS):
            return None
        return ProbedEndpoint.from_json(row.endpoint)

    def add_endpoint(self, endpoint: ProbedEndpoint) -> None:
        """Store the result of a probe, in place of an older one."""
        self._insert(
            EndpointRow,
            replaced=("endpoint", "at"),
            identity=endpoint.identity,
            base_url=endpoint.base_url,
            model=endpoint.model,
            endpoint=asdict(endpoint),
            at=datetime.now(UTC),
        )

    def _insert(
        self, table: type[Judgement] | type[EndpointRow], *, replaced: Sequence[str] = (), **values: Any
    ) -> None:
        """Add a row; of one with its key that is there already, the columns `replaced` get the new values."""
        insert = (sqlite.insert if self.store.is_sqlite else postgresql.insert)(table).values(**values)
        statement = (
            insert.on_conflict_do_update(
                index_elements=[column.name for column in table.__table__.primary_key],
                set_={name: values[name] for name in replaced},
            )
            if replaced
            else insert.on_conflict_do_nothing()
        )
        self.store.write(lambda session: session.execute(statement))
