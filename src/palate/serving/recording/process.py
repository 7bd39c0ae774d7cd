"""Names of processes, by which another one finds out that the writer of a row is dead."""

from __future__ import annotations

import os
import socket
from functools import cache
from pathlib import Path

import psutil


def process_name() -> str:
    """Host, number and start of this process; no other process has the same."""
    return f"{_host()}/{os.getpid()}/{_start(os.getpid())}"


def is_dead(name: str) -> bool:
    """Whether the process of that name has certainly ended: it was on this host, and is not there any more."""
    host, _, rest = name.rpartition("/")[0].rpartition("/")
    start = name.rpartition("/")[2]
    return host == _host() and rest.isdigit() and _start(int(rest)) != start


@cache
def _host() -> str:
    return socket.gethostname()[:150]


def _start(pid: int) -> str:
    """When a process began, in ticks since the machine did, which no change of the clock moves; "" for none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]  # killed, and its parent has not noticed
    except (OSError, IndexError):  # no such process, or a system without /proc
        pass
    try:
        return str(int(psutil.Process(pid).create_time()))
    except psutil.Error:
        return ""
