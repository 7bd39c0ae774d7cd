"""Seeds, versions, the machine and its memory: what results depend on besides the config."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import random
import resource
import sys
from pathlib import Path

import numpy as np
import psutil
import torch

from palate.training.processes import process_count

_PACKAGES = ("palate", "torch", "transformers", "accelerate", "peft", "safetensors", "tokenizers", "numpy")


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
    return {"device": device.type, "name": name, "threads": torch.get_num_threads(), "processes": process_count()}


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
