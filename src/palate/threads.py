"""How OpenMP's threads wait for each other, chosen before torch loads its OpenMP library.

By default libgomp's threads spin at every barrier. On an idle machine that is fastest. Where another process holds a
core, a spinning thread keeps the thread that it waits for off that core, and each of the many small parallel regions
of a training step takes several times as long (docs/performance.md, "Beside other work").
"""

from __future__ import annotations

import os
import sys
import time

CHOICES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""What a user may have set; then nothing is chosen here."""

_MARK = "PALATE_WAIT_POLICY"
_SECONDS = 0.03


def choose_wait_policy() -> None:
    """Let waiting threads sleep where another process is busy; leave the default of the library on an idle machine.

    Does nothing where the user has chosen, where torch is loaded already (its OpenMP library has read its settings),
    with a single OpenMP thread, and where the system does not say what runs. A choice that a parent process of palate
    made is made again, because its children may run side by side.
    """
    ours = os.environ.pop(_MARK, None)
    if ours is not None:
        os.environ.pop(ours, None)
    if "torch" in sys.modules or any(name in os.environ for name in CHOICES):
        return
    if os.environ.get("OMP_NUM_THREADS") == "1" or not others_running():
        return
    os.environ["OMP_WAIT_POLICY"] = "passive"
    os.environ[_MARK] = "OMP_WAIT_POLICY"


def others_running() -> int:
    """How many threads of other processes want a core now: the median of the looks within 30 ms, 0 if unknown."""
    seen: list[int] = []
    end = time.monotonic() + _SECONDS
    try:
        # No pause between two looks: of two runs that start together each must see the other one running.
        while not seen or time.monotonic() < end:
            with open("/proc/loadavg") as file:  # noqa: PTH123 - pathlib takes longer to import than this takes to run
                running = file.read().split()[3].partition("/")[0]
            seen.append(int(running) - 1)  # this process is one of them
    except (OSError, IndexError, ValueError):
        return 0
    return max(0, sorted(seen)[len(seen) // 2])
