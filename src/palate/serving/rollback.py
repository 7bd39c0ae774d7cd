"""Rolls production back if a config allows it and the version in use is shown to be worse than the one before."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from palate.registry.aliases import Move, last_promotion, rollback
from palate.registry.behaviour import Behaviour, RollbackFields, compare, read_behaviour
from palate.registry.canary import AUTOMATON
from palate.serving.recording.recorder import Recorder
from palate.store.serving_tables import ApiKey
from palate.store.tables import utc_now


class AutomaticRollback:
    """Compares what is recorded of the version of production, in its first hours, with the version before.

    Args:
        recorder: of the gateway; its store has the registry.
        fields: what a person allowed.
        no_answer_reason: asks a version a question; gives why it does not answer now, "" if it does.
        run: calls a function that uses the database, with arguments.
        clock: gives the time in UTC.
    """

    def __init__(
        self,
        recorder: Recorder,
        fields: RollbackFields,
        no_answer_reason: Callable[[str], Awaitable[str]],
        *,
        run: Callable[..., Awaitable[Any]] = asyncio.to_thread,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._recorder = recorder
        self._fields = fields
        self._no_answer_reason = no_answer_reason
        self._run = run
        self._clock = clock
        self._before: tuple[Move, Behaviour] | None = None
        self._since: datetime | None = None

    async def check(self) -> list[str]:
        """Compare once, and roll back if it is shown that the version is worse; returns what to say.

        Errors and waiting may be those of the engine, so the version before must answer now. If it does not, only what
        is recorded from now on is compared.

        Raises:
            PalateError: the database cannot be used, the version before is damaged, or somebody has just moved it.
        """
        lines, worse = await self._run(self._compare)
        if not worse:
            return list(lines)
        assert self._before is not None
        move, before = self._before
        reason = f"worse than {before.version}: {worse}"
        if why := await self._no_answer_reason(before.version):
            self._since = self._clock()
            said = f"{move.version} stays, though {reason}: {before.version} does not answer now either ({why})"
            return [*lines, f"{said}; what is recorded from now on is compared"]
        await self._run(rollback, self._recorder.store, reason=reason, who=AUTOMATON, expect=move)
        self._before = None
        return [*lines, f"rolled back from {move.version} to {before.version}: {reason}"]

    def _compare(self) -> tuple[list[str], str]:
        """What to say, and by what the version is shown to be worse; "" if it is not."""
        store, fields = self._recorder.store, self._fields
        move = store.read(last_promotion)
        over = move is None or self._clock() >= move.at + timedelta(hours=fields.hours)
        if move is None or (over and self._before is None):
            self._before = None
            return [], ""
        lines = []
        if self._before is None or self._before[0].number != move.number:
            self._before = (move, store.read(lambda session: self._read(session, str(move.before), until=move.at)))
            self._since = move.at
            lines.append(self._start_line(*self._before))
        before = self._before[1]
        after = store.read(lambda session: self._read(session, move.version, since=self._since))
        found = compare(before, after, fields)
        if over:
            self._before = None
            seen = "; ".join(found) or "nothing is recorded of it"
            return [*lines, f"{move.version} stays: not shown to be worse in {fields.hours:g} hours: {seen}"], ""
        return lines, "; ".join(line for line, is_worse in found.items() if is_worse)

    def _read(self, session: Session, version: str, **window: datetime | None) -> Behaviour:
        keys = [None, *session.scalars(select(ApiKey.id))]
        unnamed = {self._recorder.user_hash(None, key) for key in keys}
        return read_behaviour(session, version, unnamed=unnamed, **window)

    def _start_line(self, move: Move, before: Behaviour) -> str:
        known, needed = before.answers, self._fields.at_least
        if known < needed:
            return f"{move.version} is not watched: {before.version} has {known:,} of {needed:,} recorded answers"
        texts = "" if before.refusals else "; no refusals, because texts are not recorded"
        return f"{move.version} is compared with {known:,} answers of {before.version}, and rolled back if worse{texts}"
