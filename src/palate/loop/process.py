"""One tick at a time, and its commands as child processes that do not outlive it unseen."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from subprocess import PIPE, Popen
from threading import current_thread, main_thread
from typing import Any
from zlib import crc32

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from palate.artifacts import write_errors
from palate.artifacts.locks import acquire
from palate.errors import ArtifactError
from palate.progress import console
from palate.store import Store
from palate.store.transactions import retried

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_PR_SET_PDEATHSIG = 1


@contextmanager
def sole_tick(store: Store, folder: Path, loop: str) -> Iterator[bool]:
    """A context in which no other tick of the loop works; whether this one may.

    The lock is that of an open file which child processes inherit: if a tick is killed, its child keeps the lock until
    it has ended too. On PostgreSQL, ticks of other machines are kept out as long as this one is connected.
    """
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with _file_lock(folder / f".{loop}.lock") as locked:
        if not locked or store.is_sqlite:
            yield locked
            return
        connection, free = retried(store.engine.url, lambda: _server_lock(store, loop))
        with connection:
            try:
                yield free
            finally:
                if free:
                    with suppress(DBAPIError):  # the server has gone, and its lock with it
                        connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": crc32(loop.encode())})


def _server_lock(store: Store, loop: str) -> tuple[Connection, bool]:
    """A connection that holds the loop's lock on the server until it is released or ends; whether it got it."""
    connection = store.engine.connect()
    connection.detach()  # not kept for others; the server notices its end only after a moment
    found = connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": crc32(loop.encode())})
    free = bool(found.scalar())
    connection.commit()
    return connection, free


@contextmanager
def _file_lock(file: Path) -> Iterator[bool]:
    if fcntl is None:
        try:
            lock = acquire(file, "")
        except ArtifactError:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()
        return
    with write_errors(file):
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        os.set_inheritable(descriptor, True)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        except OSError as error:
            raise ArtifactError(f"{file}: cannot be locked ({error.strerror}); choose another folder") from error
        else:
            yield True
    finally:
        os.close(descriptor)


def run_command(words: Sequence[str], log: Path) -> int:
    """Run a palate command as a child process; returns its exit code, negative if a signal ended it.

    Its stderr goes to the terminal (not with `--quiet`) and, as its stdout, to the end of the log. If this process
    dies, the child gets SIGTERM (on Linux), upon which training writes a checkpoint and stops.
    """
    with write_errors(log), log.open("ab", buffering=0) as file:
        # Of this process's open files, only the lock is inheritable.
        with start_command(words, stdout=file, stderr=PIPE, close_fds=False) as process:
            assert process.stderr is not None
            try:
                while part := os.read(process.stderr.fileno(), 65536):
                    file.write(part)
                    if not console.quiet:
                        sys.stderr.write(part.decode(errors="replace"))
            except BaseException as error:
                if not isinstance(error, KeyboardInterrupt):  # Ctrl-C reached the child too; a second signal is harder
                    process.terminate()
                process.communicate()
                raise
        return process.returncode


def start_command(words: Sequence[str], **options: Any) -> Popen[bytes]:
    """Start a palate command; if this process dies, it gets SIGTERM (on Linux)."""
    on_start = partial(_end_with, os.getpid(), ctypes.CDLL(None)) if sys.platform == "linux" else None
    return Popen([sys.executable, "-m", "palate", *words], preexec_fn=on_start, **options)  # noqa: S603


@contextmanager
def stops_on_sigterm() -> Iterator[None]:
    """A context in which SIGTERM stops the command that runs, waits for its end, and exits with 143."""

    def stop(number: int, _frame: Any) -> None:
        raise SystemExit(128 + number)

    if current_thread() is not main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end_with(parent: int, libc: ctypes.CDLL) -> None:
    """Runs in a child before its command: it gets SIGTERM when its parent dies."""
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it has died already
        os._exit(1)
