"""What a run's numbers depend on beside its config: seeds, versions, the machine, and how much memory it took."""

from __future__ import annotations

import contextlib
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
import torch
import torch.distributed as dist
from accelerate import PartialState

_PACKAGES = ("palate", "torch", "transformers", "accelerate", "peft", "safetensors", "tokenizers", "numpy")


def is_main_process() -> bool:
    """Rank 0, or the only process."""
    return os.environ.get("RANK", "0") == "0"


def join_processes(device: torch.device, timeout_s: int) -> None:
    """Form the process group that training will use, so that `wait_for_all` works before the first run.

    Args:
        timeout_s: after which a collective of training fails, in seconds, as `ddp_timeout`.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        PartialState(cpu=device.type == "cpu", timeout=timedelta(seconds=timeout_s))


def wait_for_all() -> None:
    """Return once every process is here; the only process at once.

    What one of them does alone (to sample a round's answers, to measure a drift) may take hours, which is more than
    training's own group waits for another process.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return
    if _waiting.get("of") is not dist.group.WORLD:
        _waiting["of"] = dist.group.WORLD
        _waiting["group"] = dist.new_group(backend="gloo", timeout=timedelta(days=30))
    dist.barrier(group=_waiting["group"])


# The group that waits, and the one whose processes are in it.
_waiting: dict[str, Any] = {}


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
    """Begin to count anew, for one of several runs of this process; without effect where the system cannot."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_bytes(device: torch.device) -> int:
    """Most memory that this process has held: of the GPU's allocator, or resident memory on a CPU."""
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
    """Main memory that is free for use now; where the system does not say, half of what there is."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
