"""The floating-point format of a run, and its autocast."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass

import psutil
import torch
from torch import Tensor

from palate.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Precision:
    """A resolved precision.

    Attributes:
        name: `bf16`, `fp16` or `fp32`, as logged and recorded.
        autocast: the dtype of matrix products under autocast; None computes everything in float32.
        notice: one line for the user if the machine does not support the requested format, else empty.
    """

    name: str
    autocast: torch.dtype | None
    notice: str = ""

    def context(self, device: torch.device) -> contextlib.AbstractContextManager[object]:
        """The autocast of all training, reference and evaluation passes."""
        if self.autocast is None:
            return contextlib.nullcontext()
        return torch.autocast(device.type, dtype=self.autocast)


BF16 = Precision("bf16", torch.bfloat16)
FP16 = Precision("fp16", torch.float16)
FP32 = Precision("fp32", None)


def resolve(wanted: str, device: torch.device) -> Precision:
    """`auto | bf16 | fp16 | fp32` on this device.

    `auto` is bf16 on hardware with native support (AVX512-BF16, AMX, recent GPUs), fp16 on older GPUs, and fp32
    elsewhere. fp16 on a CPU would train with underflowing gradients, so it becomes `auto`, with a notice.
    """
    if wanted not in ("auto", "bf16", "fp16", "fp32"):
        raise ConfigError(f"precision: {wanted!r} is not one of auto, bf16, fp16, fp32")
    best = _best(device)
    if wanted == "auto":
        return best
    if wanted == "fp16" and device.type != "cuda":
        return Precision(best.name, best.autocast, f"fp16 needs a GPU; on this {device.type} palate uses {best.name}")
    if wanted == "bf16" and best is not BF16:
        slow = f"bf16 has no native support on this {device.type}: it works, but slowly"
        return Precision(BF16.name, BF16.autocast, slow)
    return {"bf16": BF16, "fp16": FP16, "fp32": FP32}[wanted]


def _best(device: torch.device) -> Precision:
    if device.type == "cuda":
        return BF16 if torch.cuda.is_bf16_supported(including_emulation=False) else FP16
    return BF16 if device.type == "cpu" and native_bf16() else FP32


def native_bf16() -> bool:
    """Whether this CPU multiplies bf16. Without support, float32 products are several times as fast as bf16 ones."""
    if not hasattr(torch.cpu, "get_capabilities"):  # torch 2.8
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    capable = torch.cpu.get_capabilities()
    return bool(capable.get("avx512_bf16") or capable.get("amx_bf16"))


def compute_dtype(x: Tensor, weight: Tensor) -> torch.dtype:
    """The dtype that a linear layer multiplies in: autocast's where it is on, else the wider of the two."""
    device = x.device.type
    if torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return torch.promote_types(x.dtype, weight.dtype)


def default_device() -> torch.device:
    """The device of this process: its own GPU under torchrun, else the first GPU, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def total_memory() -> tuple[int, bool]:
    """Bytes of the first GPU's memory, else of the machine's, and whether it is a GPU's."""
    device = default_device()
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory), True
    return int(psutil.virtual_memory().total), False
