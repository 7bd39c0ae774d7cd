"""Rolls production back if a config allows it and the version in use is shown to be worse than the one before."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from palate.registry.aliases import Move, last_promotion, rollback
from palate.registry.canary import AUTOMATON
from palate.registry.watch import Behaviour, RollbackFields, compare, read_behaviour
from palate.serving.recording.recorder import Recorder
from palate.store.serving_tables import ApiKey
from palate.store.tables import utc_now


class Watch:
    """Compares what is recorded of the version of production, in its first hours, with the version before.

    Args:
        recorder: of the gateway; its store has the registry.
        fields: what a person allowed.
        clock: gives the time in UTC.
    """

    def __init__(self, recorder: Recorder, fields: RollbackFields, *, clock: Callable[[], datetime] = utc_now) -> None:
        self._recorder = recorder
        self._fields = fields
        self._clock = clock
        self._before: tuple[Move, Behaviour] | None = None

    def check(self) -> list[str]:
        """Compare once, and roll back if it is shown that the version is worse; returns what to say.

        Raises:
            PalateError: the database cannot be used, the version before is damaged, or somebody has just moved it.
        """
        store, fields = self._recorder.store, self._fields
        move = store.read(last_promotion)
        over = move is None or self._clock() >= move.at + timedelta(hours=fields.hours)
        if move is None or (over and self._before is None):
            self._before = None
            return []
        lines = []
        if self._before is None or self._before[0].number != move.number:
            self._before = (move, store.read(lambda session: self._read(session, str(move.before), until=move.at)))
            lines.append(self._start_line(*self._before))
        before = self._before[1]
        after = store.read(lambda session: self._read(session, move.version, since=move.at))
        found = compare(before, after, fields)
        if over:
            self._before = None
            seen = "; ".join(found) or "nothing is recorded of it"
            return [*lines, f"{move.version} stays: not shown to be worse in {fields.hours:g} hours: {seen}"]
        if any(found.values()):
            worse = "; ".join(line for line, is_worse in found.items() if is_worse)
            reason = f"worse than {before.version}: {worse}"
            rollback(store, reason=reason, who=AUTOMATON, expect=move)
            self._before = None
            lines.append(f"rolled back from {move.version} to {before.version}: {reason}")
        return lines

    def _read(self, session: Session, version: str, **window: datetime) -> Behaviour:
        keys = [None, *session.scalars(select(ApiKey.id))]
        unnamed = {self._recorder.user_hash(None, key) for key in keys}
        return read_behaviour(session, version, unnamed=unnamed, **window)

    def _start_line(self, move: Move, before: Behaviour) -> str:
        known, needed = len(before.errors), self._fields.at_least
        if known < needed:
            return f"{move.version} is not watched: {before.version} has {known:,} of {needed:,} recorded answers"
        texts = "" if before.refusals else "; no refusals, because texts are not recorded"
        return f"{move.version} is compared with {known:,} answers of {before.version}, and rolled back if worse{texts}"
