"""Keep freed memory in the process during a run, and return it to the system between runs.

By default glibc maps every large block anew and unmaps it on free, so each activation of a training step costs new page
faults: about 0.4 ms per MiB. Keeping the pages does not raise the peak.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from typing import Any

import torch

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


def keep_freed_memory() -> bool:
    """Make glibc reuse large freed blocks. Returns False if the C library has no such setting.

    Affects this process from now on; call it before the first large tensor.
    """
    mallopt = _glibc_function("mallopt", ctypes.c_int, ctypes.c_int)
    if mallopt is None:
        return False
    # -1 as an unsigned size: never trim. Blocks below 1 GiB come from the heap.
    return bool(mallopt(_M_MMAP_THRESHOLD, 1 << 30)) and bool(mallopt(_M_TRIM_THRESHOLD, -1))


def give_back_memory() -> None:
    """Collect garbage and return freed pages to the system; called between the runs of a pipeline or sweep."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    trim = _glibc_function("malloc_trim", ctypes.c_size_t)
    if trim is not None:
        trim(0)


def _glibc_function(name: str, *arguments: Any) -> Any:
    """A function of the C library that returns an int; None on other systems and libraries."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        function = getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError):
        return None
    function.argtypes, function.restype = list(arguments), ctypes.c_int
    return function
