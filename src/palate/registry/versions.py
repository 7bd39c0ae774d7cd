"""Versions by name or alias, and the check that their files are what was added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from palate.artifacts.folders import changed_files
from palate.errors import ArtifactError, UsageError
from palate.registry.lineage import changed_base
from palate.store import Store
from palate.store.registry_tables import Alias, ModelVersion

PRODUCTION = "production"
CANDIDATE = "candidate"
PREVIOUS = "previous"
_COLUMNS = ("name", "content_hash", "kind", "files", "lineage", "note", "who", "created")


@dataclass(frozen=True, slots=True)
class Version:
    """A model or adapter that never changes.

    Attributes:
        name: such as `v1.0`.
        content_hash: SHA-256 over names and hashes of its files.
        kind: `model` or `adapter`.
        folder: its files; palate, transformers and engines load it.
        files: name → size and SHA-256.
        base: name of the version that it was trained from, if the registry has it.
        lineage: as `lineage.lineage_of` makes it.
        note, who: what was said when it was added, and by whom.
        created: when it was added.
        aliases: the aliases that name it now.
    """

    name: str
    content_hash: str
    kind: str
    folder: Path
    files: Mapping[str, Mapping[str, Any]]
    base: str | None
    lineage: Mapping[str, Any]
    note: str
    who: str
    created: datetime
    aliases: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(facts["size"] for facts in self.files.values())


def versions(store: Store) -> list[Version]:
    """All versions, in the order in which they were added."""
    return store.read(_versions)


def find(store: Store, name: str) -> Version:
    """The version that a name or alias means.

    Raises:
        UsageError: there is none.
    """

    def read(session: Session) -> Version:
        row = find_row(session, name)
        return next(version for version in _versions(session) if version.name == row.name)

    return store.read(read)


def with_bases(version: Version, known: Sequence[Version]) -> list[Version]:
    """The version, and those of `known` that it was trained from, one after another."""
    by_name, chain = {one.name: one for one in known}, [version]
    while chain[-1].base is not None:
        chain.append(by_name[chain[-1].base])
    return chain


def find_row(session: Session, name: str, *, lock: bool = False) -> ModelVersion:
    """The row of a version by its name, or of the one that an alias names now.

    Args:
        lock: keep others from deleting it until the transaction ends.

    Raises:
        UsageError: there is none.
    """
    row: ModelVersion | None = session.scalars(_complete(lock).where(ModelVersion.name == name)).one_or_none()
    if row is None:
        alias = session.get(Alias, name)
        if alias is not None:
            row = session.scalars(_complete(lock).where(ModelVersion.id == alias.version_id)).one()
    if row is None:
        known = [*session.scalars(select(Alias.name)), *(version.name for version in _versions(session))]
        there_are = f"there are {', '.join(known)}" if known else "add one with palate model add"
        raise UsageError(f"there is no version or alias {name}; {there_are}")
    return row


def problems(version: Version) -> list[str]:
    """What is not as it was added, one line each: a file of the version, one more in its folder, or its base."""
    return [*folder_problems(version), *(changed_base(version.lineage) if version.folder.is_dir() else ())]


def folder_problems(version: Version) -> list[str]:
    folder = version.folder
    if not folder.is_dir():
        return [f"its folder {folder} is missing"]
    found = changed_files(folder, {name: (facts["size"], facts["sha256"]) for name, facts in version.files.items()})
    found += [
        f"{path.relative_to(folder)} {'is a link' if path.is_symlink() else 'was not there'}"
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or (path.is_file() and path.relative_to(folder).as_posix() not in version.files)
    ]
    return found


def resolve(store: Store, name: str) -> Version:
    """The version that a name or alias means, every file of which was read and has its hash.

    Raises:
        UsageError: there is no such version or alias.
        ArtifactError: a file has changed, is missing, or was added.
    """
    version = find(store, name)
    found = problems(version)
    if found:
        raise ArtifactError(
            f"version {version.name} in {version.folder} is damaged and not loaded: {'; '.join(found[:3])}"
            f"{f' and {len(found) - 3} more' if len(found) > 3 else ''}; restore its files, or add the model again"
        )
    return version


def set_probes(store: Store, name: str, probes: Sequence[Mapping[str, Any]]) -> None:
    """Keep a version's `evaluation.probes` beside it, as `probes` of its lineage; its files stay as they are."""

    def write(session: Session) -> None:
        row = find_row(session, name, lock=True)
        row.lineage = {**row.lineage, "probes": [dict(probe) for probe in probes]}

    store.write(write)


def _versions(session: Session) -> list[Version]:
    rows = session.scalars(_complete().order_by(ModelVersion.id)).all()
    names = {row.id: row.name for row in rows}
    aliases: dict[int, list[str]] = {}
    for alias in session.scalars(select(Alias).order_by(Alias.name)):
        aliases.setdefault(alias.version_id, []).append(alias.name)
    return [
        Version(
            **{name: getattr(row, name) for name in _COLUMNS},
            folder=Path(row.folder),
            base=None if row.base_id is None else names[row.base_id],
            aliases=tuple(aliases.get(row.id, ())),
        )
        for row in rows
    ]


def _complete(lock: bool = False) -> Any:
    statement = select(ModelVersion).where(ModelVersion.complete)
    return statement.with_for_update() if lock else statement
