"""Deletes versions that no alias, no move of an alias, no canary and no other version refers to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from palate.registry.add import locked, remove_incomplete
from palate.registry.versions import Version, versions
from palate.store import Store
from palate.store.loop_tables import CanaryMove
from palate.store.registry_tables import Alias, AliasMove, ModelVersion


@dataclass(frozen=True, slots=True)
class DeletedVersions:
    """What was deleted, or would be.

    Attributes:
        removed: the versions.
        kept: the others, by the reason why they stay: `alias`, `history` (an alias named it once), `canary` (it is or
            was one), `child` (a version that stays was trained from it), `new`, or `elsewhere` (its folder is not in
            the folder of models).
    """

    removed: tuple[Version, ...]
    kept: dict[str, str]


def collect(store: Store, models_dir: Path, *, older_than: timedelta, dry_run: bool = False) -> DeletedVersions:
    """Delete the versions that nothing needs.

    A version is marked in the transaction that finds it unneeded; from then on nobody finds it. Its files are deleted
    next, its row last, so a kill leaves nothing that the next `add` or `collect` does not finish.

    Args:
        models_dir: only versions in this folder are deleted.
    """
    if dry_run:
        kept = store.read(lambda session: _kept(session, models_dir, older_than))
        return _collected(versions(store), kept)
    with locked(store, models_dir):
        before = versions(store)
        kept = store.write(lambda session: _mark(session, models_dir, older_than))
        remove_incomplete(store, models_dir)
    return _collected(before, kept)


def _collected(found: list[Version], kept: dict[str, str]) -> DeletedVersions:
    return DeletedVersions(tuple(version for version in found if version.name not in kept), kept)


def _mark(session: Session, models_dir: Path, older_than: timedelta) -> dict[str, str]:
    # Locked, so that no alias moves to a version, and none is added to it as a child, between the look and the mark.
    rows = session.scalars(select(ModelVersion).where(ModelVersion.complete).with_for_update()).all()
    kept = _kept(session, models_dir, older_than)
    for row in rows:
        if row.name not in kept:
            row.complete = False
    return kept


def _kept(session: Session, models_dir: Path, older_than: timedelta) -> dict[str, str]:
    """The versions that stay, with the reason."""
    rows = session.scalars(select(ModelVersion).order_by(ModelVersion.id)).all()
    aliases = set(session.scalars(select(Alias.version_id)))
    history = {*session.scalars(select(AliasMove.version_id)), *session.scalars(select(AliasMove.before_id))}
    canaries = set(session.scalars(select(CanaryMove.version_id)))
    latest = datetime.now(UTC) - older_than
    reasons: dict[int, str] = {}
    for row in reversed(rows):  # children first: a version is always added after its base
        if row.id in aliases:
            reasons[row.id] = "alias"
        elif row.id in history:
            reasons[row.id] = "history"
        elif row.id in canaries:
            reasons[row.id] = "canary"
        elif any(other.base_id == row.id and (other.id in reasons or not other.complete) for other in rows):
            reasons[row.id] = "child"
        elif Path(row.folder).parent != models_dir.resolve():
            reasons[row.id] = "elsewhere"
        elif row.created > latest:
            reasons[row.id] = "new"
    return {row.name: reasons[row.id] for row in rows if row.id in reasons}
