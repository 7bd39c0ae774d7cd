"""Aliases: moved in one transaction, with who, why and where they were before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, TypeAlias

from sqlalchemy import select
from sqlalchemy.orm import Session, aliased

from palate.errors import UsageError
from palate.registry.add import check_name
from palate.registry.canary import end_canary
from palate.registry.verdicts import allow
from palate.registry.versions import CANDIDATE, PREVIOUS, PRODUCTION, find_row, resolve
from palate.store import Store
from palate.store.registry_tables import Alias, AliasMove, ModelVersion

Action: TypeAlias = Literal["promote", "rollback"]


@dataclass(frozen=True, slots=True)
class Move:
    """One move of an alias.

    Attributes:
        alias: what moved.
        version: where it is since.
        before: where it was; None for its first move.
        action: promote or rollback.
        who, reason: who moved it, and why.
        at: when.
    """

    alias: str
    version: str
    before: str | None
    action: str
    who: str
    reason: str
    at: datetime


def promote(
    store: Store,
    name: str,
    *,
    reason: str,
    who: str,
    alias: str = PRODUCTION,
    force: bool = False,
    expect: str | None = None,
) -> list[Move]:
    """Let an alias name a version; its files are checked first. `production` leaves its former version to `previous`.

    A canary of the alias ends in the same transaction.

    Args:
        alias: `production`, `candidate`, or a name of the user's own.
        force: also if the last verdict of a gate on the version is not a PASS or was rejected, unless the alias is
            `candidate`, which serves nobody; this is recorded as a decision on the verdict.
        expect: the version that the alias must name before; None: any.

    Returns:
        The moves; [] if the alias names this version already.

    Raises:
        UsageError: there is no such version, no reason, the alias cannot have this name or names another version
            than expected, or force is needed.
        ArtifactError: the version is damaged.
    """
    check_name(alias)
    if alias == PREVIOUS:
        raise UsageError(f"{PREVIOUS} moves when {PRODUCTION} does; promote to {PRODUCTION}, or roll back")
    version = resolve(store, name)

    def move(session: Session) -> list[Move]:
        moved = _promote(session, version.name, alias, "promote", who, reason)
        if moved and expect is not None and moved[0].before != expect:
            raise UsageError(f"{alias} names {moved[0].before} and not {expect}; somebody has moved it")
        if moved and alias != CANDIDATE:
            allow(session, version.name, force=force, who=who, reason=reason)
        return moved

    return _moved(store, move, reason)


def rollback(store: Store, *, reason: str, who: str) -> list[Move]:
    """Let `production` name the version of `previous`, whose files are checked first. `previous` stays.

    A canary of production ends in the same transaction.

    Raises:
        UsageError: there is no previous version, production names it already, or there is no reason.
        ArtifactError: the previous version is damaged.
    """
    before = resolve(store, PREVIOUS)

    def move(session: Session) -> list[Move]:
        if find_row(session, PREVIOUS).name != before.name:
            raise UsageError(f"{PREVIOUS} has just moved; look at `palate model list` and roll back again")
        moved = _promote(session, before.name, PRODUCTION, "rollback", who, reason)
        if not moved:
            raise UsageError(f"{PRODUCTION} is {PREVIOUS} ({before.name}) already; promote another version by its name")
        return moved

    return _moved(store, move, reason)


def moves(store: Store, version: str | None = None) -> list[Move]:
    """All moves, or those to and from a version, in order."""

    def read(session: Session) -> list[Move]:
        to, before = aliased(ModelVersion), aliased(ModelVersion)
        statement = (
            select(AliasMove, to.name, before.name)
            .join(to, to.id == AliasMove.version_id)
            .outerjoin(before, before.id == AliasMove.before_id)
            .order_by(AliasMove.number)
        )
        if version is not None:
            statement = statement.where((to.name == version) | (before.name == version))
        return [
            Move(row.alias, name, old, row.action, row.who, row.reason, row.at)
            for row, name, old in session.execute(statement)
        ]

    return store.read(read)


def _moved(store: Store, work: Callable[[Session], list[Move]], reason: str) -> list[Move]:
    if not reason.strip():
        raise UsageError("a move needs a reason: --reason '…'")
    return store.write(work)


def _promote(session: Session, name: str, alias: str, action: Action, who: str, reason: str) -> list[Move]:
    version = find_row(session, name, lock=True)
    if session.scalar(select(ModelVersion.id).where(ModelVersion.name == alias)) is not None:
        raise UsageError(f"{alias} is a version; name the alias otherwise")
    move = _move(session, alias, version, action, who, reason)
    end_canary(session, alias, who=who, reason=f"{action} of {version.name}: {reason}")
    if move is None:
        return []
    if alias != PRODUCTION or action == "rollback" or move.before is None:
        return [move]
    left = _move(session, PREVIOUS, find_row(session, move.before, lock=True), action, who, reason)
    return [move, *([left] if left else [])]


def _move(session: Session, alias: str, version: ModelVersion, action: Action, who: str, reason: str) -> Move | None:
    """Move an alias and record it; None if it is there already."""
    now = datetime.now(UTC)
    row = session.get(Alias, alias, with_for_update=True)
    if row is None:
        before = None
        session.add(Alias(name=alias, version_id=version.id, moved=now))
    else:
        before = session.get_one(ModelVersion, row.version_id)
        if before.id == version.id:
            return None
        row.version_id, row.moved = version.id, now
    session.add(
        AliasMove(
            alias=alias,
            version_id=version.id,
            before_id=None if before is None else before.id,
            action=action,
            who=who,
            reason=reason,
            at=now,
        )
    )
    session.flush()
    return Move(alias, version.name, None if before is None else before.name, action, who, reason, now)
