"""Commands of a tick as child processes: output, exit codes, and what is left when the tick is killed."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from palate.errors import ArtifactError
from palate.loop.process import run_command, sole_tick
from palate.store import Store

TICK = """
import sys
from pathlib import Path
from palate.loop.process import run_command, sole_tick, stops_on_sigterm
from palate.store import open_store

sys.executable = "/bin/sh"  # `sh -m palate` runs the file `palate`
store = open_store("sqlite:///palate.db")
with stops_on_sigterm(), sole_tick(store, Path("cycles"), "support") as free:
    assert free
    run_command(["train"], Path("log"))
"""
CHILD = """
trap 'echo told to stop >> stopped; sleep 1; echo over > over; exit 143' TERM
echo $$ > child
while true; do sleep 0.05; done
"""


def eventually(check: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_output_and_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    assert run_command(["loop", "force"], log) == 2
    said = capsys.readouterr().err
    assert "palate: error: " in said
    assert log.read_text() == f"before\n{said}"


def started(folder: Path) -> subprocess.Popen[bytes]:
    """A tick in another process, whose command runs."""
    (folder / "palate").write_text(CHILD)
    process = subprocess.Popen([sys.executable, "-c", TICK], cwd=folder, env=os.environ)
    eventually(lambda: (folder / "child").exists() or process.poll() is not None)
    return process


def test_a_tick_that_is_told_to_stop_waits_for_its_command(tmp_path: Path, sqlite_store: Store) -> None:
    process = started(tmp_path)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 143
    assert (tmp_path / "stopped").read_text() == "told to stop\n"  # once: a second signal is harder
    assert (tmp_path / "over").exists()
    with sole_tick(sqlite_store, tmp_path / "cycles", "support") as free:
        assert free


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_a_killed_ticks_child_is_stopped_and_keeps_the_lock_until_it_ends(tmp_path: Path, sqlite_store: Store) -> None:
    process = started(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    eventually(lambda: (tmp_path / "stopped").exists())
    with sole_tick(sqlite_store, tmp_path / "cycles", "support") as free:
        assert not free
    assert not (tmp_path / "over").exists()
    eventually(lambda: (tmp_path / "over").exists())

    def is_free() -> bool:
        with sole_tick(sqlite_store, tmp_path / "cycles", "support") as free:
            return free

    eventually(is_free)


def test_a_file_system_without_locks_is_one_line(
    sqlite_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("palate.loop.process.fcntl.flock", no_locks)
    with pytest.raises(
        ArtifactError, match=r"\.l\.lock: cannot be locked \(No locks available\); choose another folder"
    ):
        sole_tick(sqlite_store, tmp_path, "l").__enter__()
