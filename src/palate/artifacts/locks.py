"""Locks that keep a second process from writing to the same file or folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from palate.artifacts.files import PathLike, write_errors
from palate.errors import ArtifactError

SOFT = "-soft"
"""At the end of a lock's name where the file system has no locks, and the file exists as long as the lock is held."""


def acquire(lock_file: Path, taken: str, *, wait: float = 0) -> BaseFileLock:
    """The lock, held until its `release` or the end of this process.

    Args:
        lock_file: created if it is missing.
        wait: seconds to wait for another holder.

    Raises:
        ArtifactError: another process, or another caller in this one, holds it.
    """
    try:
        try:
            lock: BaseFileLock = FileLock(lock_file, timeout=wait, thread_local=False)
            lock.acquire()
        except Timeout:
            raise
        except OSError:  # the file system has no locks
            lock = SoftFileLock(lock_file.with_name(lock_file.name + SOFT), timeout=wait, thread_local=False)
            lock.acquire()
    except Timeout as error:
        raise ArtifactError(taken) from error
    return lock


@contextlib.contextmanager
def sole_writer(path: PathLike) -> Iterator[None]:
    """A context in which no other palate process appends to the file at `path`; its folder is created.

    Raises:
        ArtifactError: another process is in this context.
    """
    path = Path(path)
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = acquire(
            path.with_name(f".{path.name}.lock"),
            f"{path}: another palate process writes to this file; wait for it or name another file",
        )
    try:
        yield
    finally:
        lock.release()
