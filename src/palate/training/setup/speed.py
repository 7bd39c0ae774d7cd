"""The machine itself as hardware for `palate plan`: its rates, measured in about a second."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from palate.capacity.hardware import Hardware
from palate.models.precision import BF16, default_device, total_memory
from palate.models.precision import resolve as resolve_precision

# Reached by training steps on CPUs (docs/performance.md): by products, by attention relative to them, by the memory.
_ON_CPUS: dict[str, Any] = {"efficiency": 0.75, "attention": 0.25, "traffic": 0.5}
_CALLS = 3


def this_machine(seconds: float = 0.5) -> Hardware:
    """The device that would train here: memory, rate of matrix products, and of copies in its memory.

    Args:
        seconds: time for each of the two rates.
    """
    device = default_device()
    memory, gpu = total_memory()
    half = resolve_precision("auto", device) is BF16
    side = 8192 if gpu else 1024  # on a CPU short enough to run between the turns of other work
    a = torch.ones(side, side, device=device, dtype=torch.bfloat16 if half else torch.float32)
    b, out = a.clone(), torch.empty_like(a)
    source = torch.ones(1 << (28 if gpu else 24), device=device)
    target = source.clone()
    product = 2 * side**3 / _least(partial(torch.mm, a, b, out=out), seconds, device)
    copy = 2 * source.nbytes / _least(partial(target.copy_, source), seconds, device)
    found = Hardware("this", memory / 1e9, product / 1e12, copy / 1e9, source="measured here", gpu=gpu, bf16=half)
    return found if gpu else replace(found, **_ON_CPUS)


def _least(call: Callable[[], object], seconds: float, device: torch.device) -> float:
    """Seconds of the shortest of repeated calls; on a CPU the processor's own, which other work does not lengthen."""

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
            return time.perf_counter()
        return time.process_time() / torch.get_num_threads()

    call()
    least, calls, end = float("inf"), 0, time.perf_counter() + seconds
    while time.perf_counter() < end or calls < _CALLS:
        begin = now()
        call()
        least, calls = min(least, now() - begin), calls + 1
    return least
