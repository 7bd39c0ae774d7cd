"""Versions of the registry that were trained on something, directly or as the base that they started from."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from palate.registry.lineage import vote_ids
from palate.store.registry_tables import ModelVersion


def trained_versions(session: Session, data_files: Collection[str], votes: Collection[str]) -> list[str]:
    """Names of the versions, in the order in which they were added.

    Args:
        session: of the store.
        data_files: SHA-256 of data files.
        votes: ids of votes.
    """
    files, ids = set(data_files), set(votes)
    found: dict[int, str] = {}
    for version in session.scalars(select(ModelVersion).order_by(ModelVersion.id)):
        sources = version.lineage.get("data") or []
        has_file = any(not files.isdisjoint(source.get("files", {}).values()) for source in sources)
        has_vote = bool(ids) and not ids.isdisjoint(vote_ids(Path(version.folder)))
        if has_file or has_vote or version.base_id in found:
            found[version.id] = version.name
    return list(found.values())
