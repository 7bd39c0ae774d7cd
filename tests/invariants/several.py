"""Trains each config file that is named, one after the other, in several gloo processes.

    python several.py CONFIG...

Under torchrun this is one of the ranks. By itself it starts `PROCESSES` of them, which are forks of one process that
has imported everything and computed nothing: torchrun would take seconds longer for each.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import sys
from typing import NoReturn

import transformers.models.llama.modeling_llama
import transformers.models.llama.tokenization_llama  # noqa: F401

import palate.report.pages.run  # noqa: F401
from palate.config.load import load_config
from palate.training.processes import leave_processes
from palate.training.run import train


def become_ranks() -> None:
    """Returns in the ranks: at once in one of torchrun's, else in forks of this process, which ends when they have."""
    gc.freeze()  # as in tests/conftest.py
    if "RANK" in os.environ:
        return
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    count = os.environ["PROCESSES"]
    shared = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    ranks = []
    for rank in range(int(count)):
        ranks.append(os.fork())
        if not ranks[-1]:
            os.environ |= {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            return
    _end_with(ranks)


def _end_with(ranks: list[int]) -> NoReturn:
    """Wait for the ranks; the others of one that fails are killed."""
    for _ in ranks:
        if os.wait()[1]:
            for rank in ranks:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(rank, signal.SIGKILL)
            sys.exit(1)
    sys.exit(0)


if __name__ == "__main__":
    become_ranks()
    for path in sys.argv[1:]:
        train(load_config(path).config)
    leave_processes()
