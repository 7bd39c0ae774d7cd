"""Seeds, processes, versions, the machine and its memory: what results depend on besides the config."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import os
import platform
import random
import resource
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
import torch.distributed as dist
from accelerate import PartialState

_PACKAGES = ("palate", "torch", "transformers", "accelerate", "peft", "safetensors", "tokenizers", "numpy")


def is_main_process() -> bool:
    """Rank 0, or the only process."""
    return os.environ.get("RANK", "0") == "0"


def join_processes(device: torch.device, timeout_s: int) -> None:
    """Form the process group of training, so that `wait_for_all` works before the first run.

    Args:
        device: of this process.
        timeout_s: seconds after which a collective operation of training fails (`ddp_timeout`).
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        PartialState(cpu=device.type == "cpu", timeout=timedelta(seconds=timeout_s))


def leave_processes() -> None:
    """Leave the process group, if there is one: its threads may abort a process that ends as a member."""
    if dist.is_available() and dist.is_initialized():
        _waiting_group.cache_clear()
        dist.destroy_process_group()


def wait_for_all() -> None:
    """Return once every process has called this.

    One process may work alone for hours (to sample a round's answers, to measure drift), which is longer than
    training's own group waits. So this uses a group with a timeout of its own.
    """
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        dist.barrier(group=_waiting_group(dist.group.WORLD))


@functools.lru_cache(maxsize=1)
def _waiting_group(world: Any) -> Any:
    """A group of the processes of `world`, made anew when that changes."""
    del world
    return dist.new_group(backend="gloo", timeout=timedelta(days=30))


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def versions() -> dict[str, str]:
    """Version of Python and of each package that a result depends on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def machine(device: torch.device) -> dict[str, str | int]:
    """Kind of device, threads and world size; no host name."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    world = int(os.environ.get("WORLD_SIZE", "1"))
    return {"device": device.type, "name": name, "threads": torch.get_num_threads(), "processes": world}


def reset_peak_memory(device: torch.device) -> None:
    """Reset the peak, for one of several runs of this process; has no effect where the system cannot do that."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_bytes(device: torch.device) -> int:
    """Peak memory of this process: of the GPU's allocator, or resident memory on a CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    # Linux counts kibibytes, macOS bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def available_memory_bytes() -> int:
    """Main memory that is free for use now."""
    return int(psutil.virtual_memory().available)
