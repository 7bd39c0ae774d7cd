"""Versions of the registry that were trained on something, directly or as the base that they started from."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from palate.registry.lineage import interaction_ids, vote_ids
from palate.store.registry_tables import ModelVersion


def trained_versions(
    session: Session, data_files: Collection[str], votes: Collection[str], interactions: Collection[str] = ()
) -> list[str]:
    """Names of the versions, in the order in which they were added.

    Args:
        session: of the store.
        data_files: SHA-256 of data files.
        votes: ids of votes.
        interactions: ids of interactions; a file that was mixed from exports has other hashes than these.
    """
    files, ids, asked = set(data_files), set(votes), set(interactions)
    found: dict[int, str] = {}
    for version in session.scalars(select(ModelVersion).order_by(ModelVersion.id)):
        sources = version.lineage.get("data") or []
        has_file = any(not files.isdisjoint(source.get("files", {}).values()) for source in sources)
        has_vote = bool(ids) and not ids.isdisjoint(vote_ids(Path(version.folder)))
        has_interaction = bool(asked) and not asked.isdisjoint(interaction_ids(Path(version.folder)))
        if has_file or has_vote or has_interaction or version.base_id in found:
            found[version.id] = version.name
    return list(found.values())
