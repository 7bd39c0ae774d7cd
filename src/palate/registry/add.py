"""Adds a version: its files are copied into a folder of their own, which exists when all are complete."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from palate.artifacts import atomic_folder, remove_folder, remove_leftovers, write_errors
from palate.artifacts.folders import changed_files
from palate.artifacts.locks import acquire
from palate.errors import ArtifactError, PalateError, UsageError
from palate.registry.contents import Contents, FileFacts, content_hash, read_contents
from palate.registry.lineage import lineage_of, parents
from palate.registry.versions import Version, find, folder_problems
from palate.store import Store
from palate.store.registry_tables import Alias, ModelVersion

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
RESERVED = frozenset({"production", "candidate", "previous"})
"""Names that are aliases, also before the first promotion."""
_NUMBERED = re.compile(r"v(\d+)\.(\d+)\Z")
_FOLDER = Path("palate-models")
_Reserved: TypeAlias = tuple[str, Path | None]
_WAIT_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Added:
    """The result of `add`.

    Attributes:
        version: the version.
        new: False if the same files were there already.
        restored: whether the files that were there had been damaged, and were written again.
    """

    version: Version
    new: bool
    restored: bool = False


def add(
    store: Store, source: str | Path, *, models_dir: Path, who: str, name: str | None = None, note: str = ""
) -> Added:
    """Copy a run, checkpoint, model folder or adapter folder as a version that never changes.

    Two processes that add to one folder do it one after the other. Killed at any moment, it leaves no version. If the
    same files are a version already whose folder is damaged, they are written there again.

    Args:
        models_dir: folder of the versions' folders.
        name: of the version; by default the highest number plus 0.1, from v1.0.

    Raises:
        UsageError: the name is taken or cannot be one, or the same files are there under another name.
        ArtifactError: the folder cannot be added, or changed while it was copied.
    """
    check_name(name)
    contents = read_contents(source)
    with locked(store, models_dir):
        files = contents.facts()
        row = {
            "content_hash": content_hash(files),
            "kind": contents.kind,
            "files": files,
            "lineage": lineage_of(contents, files),
            "note": note,
            "who": who,
        }
        reserved, folder = store.write(lambda session: _reserve(session, name, contents.source, models_dir, row))
        if folder is not None:
            try:
                _copy(contents, files, folder)
                done = update(ModelVersion).where(ModelVersion.name == reserved).values(complete=True)
                store.write(lambda session: session.execute(done))
            except BaseException:  # after an interrupt, too, the name is free again
                with contextlib.suppress(PalateError):
                    remove_incomplete(store, models_dir)
                raise
            return Added(find(store, reserved), new=True)
    with locked(store, find(store, reserved).folder.parent):  # it may be in another folder of models
        version = find(store, reserved)
        damaged = bool(folder_problems(version))
        if damaged:
            _copy(contents, files, version.folder)
    return Added(version, new=False, restored=damaged)


def _copy(contents: Contents, files: FileFacts, folder: Path) -> None:
    """Write the version's folder; raises ArtifactError if its files are not those that were hashed before."""
    with atomic_folder(folder) as scratch:
        contents.copy(scratch)
        changed = changed_files(scratch, {one: (facts["size"], facts["sha256"]) for one, facts in files.items()})
        if changed:
            raise ArtifactError(f"{contents.source}: changed while it was copied: {changed[0]}; add it again")


def _reserve(session: Session, name: str | None, source: Path, models_dir: Path, row: dict[str, Any]) -> _Reserved:
    """Write the row of a version whose folder does not exist yet. The folder is None if the same files are there."""
    digest = row["content_hash"]
    same = session.scalars(select(ModelVersion).where(ModelVersion.content_hash == digest)).one_or_none()
    if same is not None and not same.complete:
        raise ArtifactError(f"{same.folder}: another process adds or deletes the same files; wait for it")
    if same is not None:
        if name not in (None, same.name):
            raise UsageError(f"{source}: the same files are version {same.name} already")
        return same.name, None
    name = name or _next_name(session)
    if session.scalar(select(ModelVersion.id).where(ModelVersion.name == name)) is not None:
        raise UsageError(f"there is a version {name} already, with other files; versions never change")
    if name in RESERVED or session.get(Alias, name) is not None:
        raise UsageError(f"{name} is an alias; name the version otherwise")
    folder = models_dir.resolve() / f"{name}-{digest[:12]}"
    base = _base_id(session, parents(row["lineage"]))
    now = datetime.now(UTC)
    session.add(ModelVersion(name=name, folder=str(folder), base_id=base, complete=False, created=now, **row))
    return name, folder


def default_models_dir(store: Store) -> Path:
    """`palate-models` beside the SQLite file `palate.db`; with PostgreSQL, in the current folder."""
    return Path(store.url).with_name(f"{Path(store.url).stem}-models") if store.is_sqlite else _FOLDER


def check_name(name: str | None) -> None:
    """Raises UsageError if a version or alias cannot have this name."""
    if name is not None and not NAME.match(name):
        raise UsageError(
            f"{name}: a name has letters, digits, dots, - and _, at most 64, and begins with one of the first"
        )


@contextlib.contextmanager
def locked(store: Store, models_dir: Path) -> Iterator[None]:
    """A context in which no other process adds to or deletes from the folder; what a killed one left is removed."""
    with write_errors(models_dir):
        models_dir.mkdir(parents=True, exist_ok=True)
        lock = acquire(
            models_dir / ".lock", f"{models_dir}: another process adds to this folder; try again", wait=_WAIT_SECONDS
        )
    try:
        remove_leftovers(models_dir)
        remove_incomplete(store, models_dir)
        yield
    finally:
        lock.release()


def remove_incomplete(store: Store, models_dir: Path) -> None:
    """Delete versions in this folder that are not complete: their files first, then their rows."""
    # Children first: a version is always added after its base.
    left = select(ModelVersion.folder).where(~ModelVersion.complete).order_by(ModelVersion.id.desc())
    for folder in store.read(lambda session: session.scalars(left).all()):
        if Path(folder).parent == models_dir.resolve():
            remove_folder(folder)
            store.write(partial(_forget, folder=folder))


def _forget(session: Session, folder: str) -> None:
    session.execute(delete(ModelVersion).where(ModelVersion.folder == folder, ~ModelVersion.complete))


def _base_id(session: Session, folders: list[str]) -> int | None:
    """The version in the first of these folders that is one; it is locked, so that it stays."""
    for folder in folders:
        statement = select(ModelVersion.id).where(ModelVersion.folder == folder, ModelVersion.complete)
        found = session.scalar(statement.with_for_update())
        if found is not None:
            return found
    return None


def _next_name(session: Session) -> str:
    taken = [match for name in session.scalars(select(ModelVersion.name)) if (match := _NUMBERED.match(name))]
    if not taken:
        return "v1.0"
    major, minor = max((int(match[1]), int(match[2])) for match in taken)
    return f"v{major}.{minor + 1}"
