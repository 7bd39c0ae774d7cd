"""Locks that keep a second process from writing to the same file or folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from palate.artifacts.files import PathLike, write_errors
from palate.errors import ArtifactError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

SOFT = "-soft"
"""At the end of a lock's name where the file system has no locks, and the file exists as long as the lock is held."""


def acquire(lock_file: Path, taken: str, *, wait: float = 0.1) -> BaseFileLock:
    """The lock, held until its `release` or the end of this process.

    Args:
        lock_file: created if it is missing.
        wait: seconds to wait for another holder; longer than the moment for which `is_held` has the lock.

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


def is_held(lock_file: Path) -> bool | None:
    """Whether a process holds the lock; None where this cannot be known: no such file, or no locks.

    A lock ends with its process, however that ends.
    """
    if fcntl is None or not lock_file.is_file():
        return None
    try:
        with lock_file.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # released when the file is closed
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False


def writer_lock(path: Path) -> Path:
    """The lock of `sole_writer`."""
    return path.with_name(f".{path.name}.lock")


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
            writer_lock(path),
            f"{path}: another palate process writes to this file; wait for it or name another file",
        )
    try:
        yield
    finally:
        lock.release()
