"""How many processes encode, how they begin, and what happens when one dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path

import pytest

from palate.errors import DataError
from palate.records import AnyRecord
from palate.text import processes
from palate.text.groups import Encoded, EncodingStats

NOTHING = Encoded([], [], [], EncodingStats())


def dies(records: Sequence[AnyRecord]) -> Encoded:
    del records
    os._exit(9)


def test_a_second_process_is_used_where_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(processes, "may_fork", lambda: True)
    assert [processes.worthwhile(n) for n in (300, 512, 768, 100_000)] == [1, 2, 3, 4]
    monkeypatch.setattr(processes, "may_fork", lambda: False)
    assert [processes.worthwhile(n) for n in (5_000, 100_000)] == [1, 4]
    # The ranks of one machine, each of which encodes, share its cores.
    for ranks, each in (("2", 2), ("8", 1)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", ranks)
        assert processes.worthwhile(100_000) == each


def test_nothing_is_forked_beside_another_thread() -> None:
    held = threading.Event()
    other = threading.Thread(target=held.wait)
    other.start()
    try:
        assert not processes.may_fork()
    finally:
        held.set()
        other.join()


def test_a_killed_process_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "may_fork", lambda: True)
    monkeypatch.setattr(processes, "CHUNK", 1)
    with pytest.raises(DataError, match="set preprocessing_num_workers: 1"):
        processes.encode_chunks([None, None], dies, 2)  # type: ignore[list-item]


def test_one_chunk_is_encoded_here() -> None:
    assert processes.encode_chunks([], lambda rows: NOTHING, 8) == []
    here: list[int] = []

    def encode(records: Sequence[AnyRecord]) -> Encoded:
        here.append(os.getpid())
        return NOTHING

    assert processes.encode_chunks([None] * 3, encode, 8) == [NOTHING]  # type: ignore[list-item]
    assert here == [os.getpid()]


WAITING = """
import os, signal, time
from palate.text import processes
from palate.text.groups import Encoded, EncodingStats

def slowly(records):
    os.write(1, f"{os.getpid()}\\n".encode())
    time.sleep(30.0) if os.environ["KILLED"] else os.read(gate, 1)
    return Encoded([], [], [], EncodingStats())

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what runs behind it with Ctrl-C ignored
gate = os.dup(0)  # a process that is forked loses its own standard input
processes.CHUNK = 1
processes.may_fork = lambda: True
try:
    processes.encode_chunks([None, None], slowly, 3)
except KeyboardInterrupt:
    os.write(1, b"interrupted\\n")
"""


def waiting(killed: str) -> tuple[subprocess.Popen[str], list[int]]:
    """A program with two busy processes and an idle one, in a group of its own, and the numbers of the busy ones.

    They are busy until its standard input is closed; for half a minute where it is to be killed.
    """
    environment = {**os.environ, "PYTHONPATH": str(Path(processes.__file__).parents[2]), "KILLED": killed}
    program = subprocess.Popen(
        [sys.executable, "-c", WAITING],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=environment,
    )
    assert program.stdout is not None
    return program, [int(program.stdout.readline()) for _ in range(2)]


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only")
def test_ctrl_c_is_for_the_process_that_started_the_others() -> None:
    program, _ = waiting("")
    os.killpg(program.pid, signal.SIGINT)
    out, err = program.communicate(timeout=60)
    assert (out, err, program.returncode) == ("interrupted\n", "", 0)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only")
def test_nothing_outlives_the_process_that_started_it() -> None:
    program, _ = waiting("yes")
    program.kill()
    try:
        # The pipes close with the last process that holds them.
        program.communicate(timeout=20)
    finally:
        if any_left(program.pid):
            os.killpg(program.pid, signal.SIGKILL)


def any_left(group: int) -> bool:
    """Whether a process of the group still runs."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only")
def test_pythons_warning_of_idle_threads_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    fork = os.fork

    def as_python_312_does() -> int:
        warnings.warn("This process is multi-threaded, use of fork() may hang", DeprecationWarning, stacklevel=1)
        return fork()

    monkeypatch.setattr(os, "fork", as_python_312_does)
    monkeypatch.setattr(processes, "may_fork", lambda: True)
    monkeypatch.setattr(processes, "CHUNK", 1)
    assert processes.encode_chunks([None, None], lambda rows: NOTHING, 2) == [NOTHING] * 2  # type: ignore[list-item]


def refuses(records: Sequence[AnyRecord]) -> Encoded:
    del records
    raise DataError("row 7: the chat template refuses the conversation")


def test_an_error_of_a_process_is_that_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "CHUNK", 1)
    monkeypatch.setattr(processes, "may_fork", lambda: True)
    with pytest.raises(DataError, match=r"^row 7: the chat template refuses the conversation$"):
        processes.encode_chunks([None, None], refuses, 2)  # type: ignore[list-item]
