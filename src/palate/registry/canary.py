"""Canaries: a version that answers a share of people in place of an alias's version."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from palate.errors import UsageError
from palate.registry.add import check_name
from palate.registry.verdicts import allow
from palate.registry.versions import PREVIOUS, PRODUCTION, find_row, resolve
from palate.store import Store
from palate.store.loop_tables import CanaryMove
from palate.store.registry_tables import Alias, ModelVersion

AUTOMATON = "palate"
"""Who moves for a cycle. It may start a canary where a config allows it, and end one; it overrules nobody."""


@dataclass(frozen=True, slots=True)
class CanaryState:
    """The share of a version among an alias's people, as one move has left it.

    Attributes:
        alias: whose people they are.
        version, content_hash, folder: the canary.
        share: in [0, 1]; 0: the move ended it.
        since: when the version got its first share; of a past move, when it was made.
        who, reason: who set the share, and why.
    """

    alias: str
    version: str
    content_hash: str
    folder: Path
    share: float
    since: datetime
    who: str
    reason: str


def route_of(alias: str) -> str:
    """The route under which the gateway records the interactions of both arms."""
    return f"canary:{alias}"


def canary_of(session: Session, alias: str = PRODUCTION) -> CanaryState | None:
    """The running canary of an alias; None if there is none."""
    last = _last(session, alias)
    if last is None or last.share == 0:
        return None
    moves = session.scalars(_moves(alias)).all()
    run = list(takewhile(lambda move: move.share > 0 and move.version_id == last.version_id, moves))
    return _state(session, last, run[-1].at)


def canaries(session: Session) -> list[CanaryState]:
    """The running canaries, by alias."""
    aliases = session.scalars(select(CanaryMove.alias).distinct().order_by(CanaryMove.alias)).all()
    return [canary for alias in aliases if (canary := canary_of(session, alias)) is not None]


def canary_moves(session: Session, version: str) -> list[CanaryState]:
    """All shares that a version was ever given, in order."""
    of = select(CanaryMove).join(ModelVersion).where(ModelVersion.name == version).order_by(CanaryMove.number)
    return [_state(session, move, move.at) for move in session.scalars(of)]


def set_canary(
    store: Store,
    version: str,
    share: float,
    *,
    alias: str = PRODUCTION,
    who: str,
    reason: str,
    now: datetime | None = None,
) -> CanaryState:
    """Let a version answer a share of an alias's people, after its files were checked; 0 ends the canary.

    The share that it has already is not set again. `who="palate"`, a cycle, neither raises a share nor moves what a
    person has moved, except to 0.

    Args:
        alias: whose version is replaced for these people.
        now: recorded as the time; by default the current one.

    Raises:
        UsageError: there is no such version or alias, no reason, the share is out of range, the last verdict on the
            version is not a PASS, or the cycle would overrule a person.
        ArtifactError: the version is damaged.
    """
    check_name(alias)
    if alias == PREVIOUS:
        raise UsageError(f"{PREVIOUS} serves nobody; a canary is of {PRODUCTION} or an alias of your own")
    if not 0 <= share <= 1:
        raise UsageError(f"the share of a canary is from 0 to 1 (0.1 is 10 % of people), not {share:g}")
    if not reason.strip():
        raise UsageError("a canary needs a reason: --reason '…'")
    name = resolve(store, version).name if share > 0 else version

    def write(session: Session) -> CanaryState:
        row = find_row(session, name, lock=True)
        served = session.get(Alias, alias, with_for_update=True)
        if served is None:
            raise UsageError(f"{alias} names no version yet; palate model promote gives it one")
        last = _last(session, alias)
        if last is None or (last.version_id, last.share) != (row.id, share):
            if share > 0:
                _check_start(session, row, served, last, share, who)
            elif last is None or last.share == 0 or last.version_id != row.id:
                raise UsageError(f"{row.name} is not the canary of {alias}; palate model canary shows which one is")
            _add(session, alias, row.id, share, who, reason, now)
            last = _last(session, alias)
        assert last is not None
        return canary_of(session, alias) or _state(session, last, last.at)

    return store.write(write)


def end_canary(session: Session, alias: str, *, who: str, reason: str) -> None:
    """End the alias's canary in this transaction, if there is one."""
    last = _last(session, alias)
    if last is not None and last.share > 0:
        _add(session, alias, last.version_id, 0.0, who, reason, None)


def _check_start(
    session: Session, row: ModelVersion, served: Alias, last: CanaryMove | None, share: float, who: str
) -> None:
    if served.version_id == row.id:
        raise UsageError(f"{row.name} is the version of {served.name}; its canary is another one")
    allow(session, row.name, force=False, who=who, reason="")
    if who != AUTOMATON or last is None:
        return
    same = last.version_id == row.id
    if last.share > 0 and last.who != AUTOMATON:
        raise UsageError(f"the canary of {served.name} was set by {last.who}; only a person moves it")
    if same and share > last.share:
        ended = f"was ended by {last.who}" if last.share == 0 else f"has {100 * last.share:g} % of people"
        raise UsageError(f"the canary {row.name} {ended}; only a person raises its share")


def _moves(alias: str) -> Select[CanaryMove]:
    return select(CanaryMove).where(CanaryMove.alias == alias).order_by(CanaryMove.number.desc())


def _last(session: Session, alias: str) -> CanaryMove | None:
    return session.scalars(_moves(alias).limit(1)).one_or_none()


def _state(session: Session, move: CanaryMove, since: datetime) -> CanaryState:
    row = session.get_one(ModelVersion, move.version_id)
    return CanaryState(
        move.alias, row.name, row.content_hash, Path(row.folder), move.share, since, move.who, move.reason
    )


def _add(
    session: Session, alias: str, version_id: int, share: float, who: str, reason: str, now: datetime | None
) -> None:
    at = now or datetime.now(UTC)
    session.add(CanaryMove(alias=alias, version_id=version_id, share=share, who=who, reason=reason, at=at))
    session.flush()
