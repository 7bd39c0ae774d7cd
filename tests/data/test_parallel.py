"""Chunks are the same, in the same order, whatever number of processes works on them."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from palate.data.parallel import CHUNK, all_cores, ordered_chunks
from palate.errors import DataError


@pytest.mark.parametrize("count", [0, 1, CHUNK, 10 * CHUNK + 7])
def test_all_items_in_order(count: int) -> None:
    for workers in (1, 2):
        sums = [(len(chunk), total) for chunk, total in ordered_chunks(sum, range(count), workers)]
        assert sums == [
            (len(part), sum(part)) for start in range(0, count, CHUNK) if (part := range(count)[start : start + CHUNK])
        ]


def test_a_failure_in_a_process_is_raised() -> None:
    with pytest.raises(TypeError, match="NoneType"):
        list(ordered_chunks(sum, [*[1] * 9 * CHUNK, None], 2))  # type: ignore[arg-type]


class Deadly:
    """Kills the process that unpickles it, as the kernel does when memory is short."""

    def __reduce__(self) -> Any:
        return signal.raise_signal, (signal.SIGKILL,)


def test_a_killed_worker_is_one_line_and_no_wait() -> None:
    with pytest.raises(DataError, match=r"a worker process was killed, .* use fewer workers"):
        list(ordered_chunks(len, [*[1] * 9 * CHUNK, Deadly()], 2))


def runs(pid: int) -> bool:
    """Whether a process is alive; one that nobody has buried yet is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at /proc")
def test_workers_end_with_the_process_that_started_them() -> None:
    program = (
        "import os\nfrom palate.data.parallel import ordered_chunks\n"
        "if __name__ == '__main__':\n"
        "    chunks = ordered_chunks(sum, iter(int, 1), 2)\n"
        "    next(chunks)\n"
        "    import multiprocessing\n"
        "    print(*(child.pid for child in multiprocessing.active_children()), flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    children = [int(pid) for pid in done.stdout.split()]
    assert len(children) == 2
    until = time.monotonic() + 10
    while time.monotonic() < until and any(map(runs, children)):
        time.sleep(0.1)
    assert not any(map(runs, children))


def test_there_is_a_core() -> None:
    assert all_cores() >= 1
