"""Folders of many files: content hashes, seals, and atomic replacement."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from palate.artifacts.files import PathLike, read_json, sync_folder, temporary_path, write_errors, write_json
from palate.errors import ArtifactError
from palate.progress import Pass, progress

SEAL = "complete.json"
"""The file that `seal_folder` writes last."""

_BLOCK = 1 << 18  # bytes
_CHECKPOINT = re.compile(r"checkpoint-(\d+)\Z")
_LEFTOVER = re.compile(r"\.(?P<name>.+)\.(?P<kind>tmp|old)-[0-9a-f]{12}\Z")


def file_hash(path: PathLike, read: Pass | None = None) -> str:
    """SHA-256 of a file's bytes, in hex; `read` counts megabytes."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            if read is not None:
                read.advance(len(block) / 1e6)
    return digest.hexdigest()


def megabytes(label: str, sizes: Iterable[int]) -> AbstractContextManager[Pass]:
    """Progress over files of these sizes, in bytes."""
    return progress(f"{label}, MB", sum(sizes) / 1e6, delay=2.0)


def seal_folder(folder: PathLike) -> Path:
    """Mark a folder as complete: sync every file, then write the seal, which lists all files with size and hash."""
    folder = Path(folder)
    with write_errors(folder):
        (folder / SEAL).unlink(missing_ok=True)
        _sync_tree(folder)
        paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != SEAL and not _LEFTOVER.match(p.name))
        files = {p.relative_to(folder).as_posix(): {"size": p.stat().st_size, "sha256": file_hash(p)} for p in paths}
    if not files:
        raise ArtifactError(f"{folder}: nothing to seal, the folder is empty")
    return write_json(folder / SEAL, {"files": files})


def verify_folder(folder: PathLike, pattern: str = "*") -> list[str]:
    """The problems of a sealed folder, one line each; [] if every listed file exists with the same content.

    Args:
        pattern: only files of this name are compared, as in `PurePath.match`.
    """
    folder = Path(folder)
    if not (folder / SEAL).is_file():
        return [f"{SEAL} is missing: the folder was not finished"]
    try:
        files = {
            str(name): (entry["size"], entry["sha256"])
            for name, entry in read_json(folder / SEAL)["files"].items()
            if Path(name).match(pattern)
        }
    except (ArtifactError, KeyError, TypeError, AttributeError):
        return [f"{SEAL} is damaged"]
    return changed_files(folder, files)


def changed_files(folder: Path, files: Mapping[str, tuple[int, str]]) -> list[str]:
    """One line for each file that is not as it was.

    Args:
        files: name → size in bytes and SHA-256.
    """
    problems = []
    with megabytes(f"checking {folder.name}", (size for size, _ in files.values())) as read:
        for name, (size, sha256) in files.items():
            path = folder / name
            if not path.resolve().is_relative_to(folder.resolve()):
                problems.append(f"{name} points outside the folder")
                continue
            try:
                if (found := path.stat().st_size) != size:
                    problems.append(f"{name} has {found} bytes instead of {size}")
                elif file_hash(path, read) != sha256:
                    problems.append(f"{name} has changed since it was written")
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):  # also while it is read
                problems.append(f"{name} is missing")
    return problems


def check_weights(folder: PathLike) -> None:
    """Compare the weights of a sealed folder (a checkpoint) with the hashes in its seal, before they are loaded.

    Raises:
        ArtifactError: a file of weights has changed since the folder was sealed.
    """
    if (Path(folder) / SEAL).is_file() and (problems := verify_folder(folder, "*.safetensors")):
        raise ArtifactError(f"{folder}: {'; '.join(problems)}; name another checkpoint")


def checkpoints(run_dir: PathLike) -> list[Path]:
    """The `checkpoint-N` folders of a run, latest step first."""
    found = [(int(match[1]), p) for p in Path(run_dir).glob("checkpoint-*") if (match := _CHECKPOINT.match(p.name))]
    return [path for _, path in sorted(found, reverse=True)]


def newest_complete(run_dir: PathLike) -> tuple[Path | None, list[tuple[Path, str]]]:
    """The latest intact checkpoint (None without one), and each later checkpoint with the reason why it was skipped."""
    skipped: list[tuple[Path, str]] = []
    for path in checkpoints(run_dir):
        problems = verify_folder(path)
        if not problems:
            return path, skipped
        skipped.append((path, "; ".join(problems)))
    return None, skipped


@contextlib.contextmanager
def atomic_folder(path: PathLike) -> Iterator[Path]:
    """A context with an empty temporary folder next to `path`; if the block succeeds, it is synced and renamed.

    An existing folder at `path` is replaced. If the block fails, nothing changes. A process that is killed between the
    two renames of a replacement leaves the old folder under a hidden name; `remove_leftovers` restores it.
    """
    path = Path(path)
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary, old = temporary_path(path), temporary_path(path, "old")
        temporary.mkdir()
        try:
            yield temporary
            _sync_tree(temporary)
            if path.exists():
                path.rename(old)
            temporary.rename(path)
        except BaseException:  # an interrupt, too, puts the old folder back
            if old.exists() and not path.exists():
                old.rename(path)
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        sync_folder(path.parent)
        shutil.rmtree(old, ignore_errors=True)


def remove_leftovers(folder: PathLike) -> None:
    """Delete temporary files of a killed process in `folder`, and restore a folder that it was replacing."""
    with write_errors(folder):
        for path in sorted(Path(folder).iterdir()):
            match = _LEFTOVER.match(path.name)
            if match and match["kind"] == "old" and not path.with_name(match["name"]).exists():
                path.rename(path.with_name(match["name"]))
            elif match:
                remove(path)


def remove_folder(folder: PathLike) -> None:
    """Delete a folder, if it exists. It is renamed first, so that after a kill it is complete or gone."""
    folder = Path(folder)
    if folder.is_dir():
        with write_errors(folder):
            hidden = temporary_path(folder)
            folder.rename(hidden)
            shutil.rmtree(hidden)


def remove(path: Path) -> None:
    """Delete a file, a link (not its target) or a whole folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync_tree(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        if path.is_dir():
            sync_folder(path)
        elif path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
