"""Aliases: moved in one transaction, with who, why and where they were before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, TypeAlias

from sqlalchemy import Select, select
from sqlalchemy.orm import Session, aliased

from palate.errors import UsageError
from palate.registry.add import check_name
from palate.registry.canary import AUTOMATON, end_canary
from palate.registry.verdicts import allow
from palate.registry.versions import CANDIDATE, PREVIOUS, PRODUCTION, find_row, resolve
from palate.store import Store
from palate.store.registry_tables import Alias, AliasMove, ModelVersion

Action: TypeAlias = Literal["promote", "rollback", "refused"]


@dataclass(frozen=True, slots=True)
class Move:
    """One move of an alias.

    Attributes:
        alias: what moved.
        version: where it is since.
        before: where it was; None for its first move.
        action: promote or rollback; refused: a gateway did not take the version over, and continued with `before`.
        who, reason: who moved it, and why.
        at: when.
        number: ascending in the order of the moves.
    """

    alias: str
    version: str
    before: str | None
    action: str
    who: str
    reason: str
    at: datetime
    number: int


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

    A canary of the alias ends in the same transaction. `who="palate"`, a cycle, promotes no version that was rolled
    back automatically before.

    Args:
        alias: `production`, `candidate`, or a name of the user's own.
        force: also if the last verdict of a gate on the version is not a PASS or was rejected, unless the alias is
            `candidate`, which serves nobody; this is recorded as a decision on the verdict.
        expect: the version that the alias must name before; None: any.

    Returns:
        The moves; [] if the alias names this version already.

    Raises:
        UsageError: there is no such version, no reason, the alias cannot have this name or names another version
            than expected, force is needed, or the version was rolled back automatically and a cycle promotes it.
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
            _check_not_rolled_back(session, version.name, who)
            allow(session, version.name, force=force, who=who, reason=reason)
        return moved

    return _moved(store, move, reason)


def rollback(store: Store, *, reason: str, who: str, expect: Move | None = None) -> list[Move]:
    """Let `production` name the version of `previous`, whose files are checked first. `previous` stays.

    A canary of production ends in the same transaction.

    Args:
        expect: the last move of production; None: any.

    Raises:
        UsageError: there is no previous version, production names it already, has moved since `expect`, or there is
            no reason.
        ArtifactError: the previous version is damaged.
    """
    if store.read(lambda session: session.get(Alias, PREVIOUS) is None):
        raise UsageError(f"{PRODUCTION} has named one version at most, so there is none to roll back to")
    before = resolve(store, PREVIOUS)

    def move(session: Session) -> list[Move]:
        if find_row(session, PREVIOUS, lock=True).name != before.name:
            raise UsageError(f"{PREVIOUS} has just moved; look at `palate model list` and roll back again")
        session.get(Alias, PRODUCTION, with_for_update=True)  # nobody moves it between this look and the move
        last = _last(session)
        if expect is not None and (last is None or last.number != expect.number):
            raise UsageError(f"{PRODUCTION} has moved since {expect.version} was promoted; it is left where it is")
        moved = _promote(session, before.name, PRODUCTION, "rollback", who, reason)
        if not moved:
            raise UsageError(f"{PRODUCTION} is {PREVIOUS} ({before.name}) already; promote another version by its name")
        return moved

    return _moved(store, move, reason)


def moves(store: Store, version: str | None = None) -> list[Move]:
    """All moves, or those to and from a version, in order."""
    return store.read(lambda session: _moves(session, version))


def last_promotion(session: Session) -> Move | None:
    """The move that brought production where it is; None if that was a rollback, or the version's first one.

    Also None for a version that was rolled back automatically before: a person has promoted it again all the same.
    """
    row = _last(session)
    if row is None or row.action != "promote" or row.before_id is None:
        return None
    found = next(move for move in reversed(_moves(session)) if move.number == row.number)
    return None if rolled_back(session, found.version) else found


def rolled_back(session: Session, version: str) -> Move | None:
    """The automatic rollback from a version to the one before; None if there was none."""
    automatic = (PRODUCTION, "rollback", AUTOMATON, version)
    found = (move for move in _moves(session, version) if (move.alias, move.action, move.who, move.before) == automatic)
    return next(found, None)


def refuse(store: Store, alias: str, version: str, kept: str, reason: str) -> None:
    """Record that a gateway did not take over the version of an alias; once for each time that the alias named it."""

    def write(session: Session) -> None:
        row = session.get(Alias, alias, with_for_update=True)
        last = session.scalars(_moves_of(alias).limit(1)).one_or_none()
        named, before = find_row(session, version), find_row(session, kept)
        if row is not None and row.version_id == named.id and (last is None or last.action != "refused"):
            _record(session, alias, named.id, before.id, "refused", AUTOMATON, reason)

    store.write(write)


def _moves(session: Session, version: str | None = None) -> list[Move]:
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
        Move(row.alias, name, old, row.action, row.who, row.reason, row.at, row.number)
        for row, name, old in session.execute(statement)
    ]


def _moves_of(alias: str) -> Select[AliasMove]:
    return select(AliasMove).where(AliasMove.alias == alias).order_by(AliasMove.number.desc())


def _last(session: Session) -> AliasMove | None:
    """The last move of production."""
    return session.scalars(_moves_of(PRODUCTION).where(AliasMove.action != "refused").limit(1)).one_or_none()


def _check_not_rolled_back(session: Session, version: str, who: str) -> None:
    before = rolled_back(session, version) if who == AUTOMATON else None
    if before is not None:
        raise UsageError(
            f"{version} was rolled back automatically on {before.at:%Y-%m-%d} ({before.reason}); only a person "
            f"promotes it again: palate model promote {version} --reason …"
        )


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
    row = session.get(Alias, alias, with_for_update=True)
    if row is None:
        before = None
        session.add(Alias(name=alias, version_id=version.id, moved=datetime.now(UTC)))
    else:
        before = session.get_one(ModelVersion, row.version_id)
        if before.id == version.id:
            return None
        row.version_id, row.moved = version.id, datetime.now(UTC)
    made = _record(session, alias, version.id, None if before is None else before.id, action, who, reason)
    return Move(alias, version.name, None if before is None else before.name, action, who, reason, made.at, made.number)


def _record(
    session: Session, alias: str, version: int, before: int | None, action: Action, who: str, reason: str
) -> AliasMove:
    row = AliasMove(
        alias=alias, version_id=version, before_id=before, action=action, who=who, reason=reason, at=datetime.now(UTC)
    )
    session.add(row)
    session.flush()
    return row
