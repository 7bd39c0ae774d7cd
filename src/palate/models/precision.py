"""Which floating-point format a run computes in, and the autocast that does it."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass

import torch

from palate.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Precision:
    """A resolved precision.

    Attributes:
        name: `bf16`, `fp16` or `fp32`, as logged and recorded.
        autocast: the dtype of matrix products under autocast; None computes everything in float32.
        notice: one line for the user where the machine could not do what was asked, else empty.
    """

    name: str
    autocast: torch.dtype | None
    notice: str = ""

    def context(self, device: torch.device) -> contextlib.AbstractContextManager[object]:
        """The autocast that training, reference and evaluation passes all open."""
        if self.autocast is None:
            return contextlib.nullcontext()
        return torch.autocast(device.type, dtype=self.autocast)


BF16 = Precision("bf16", torch.bfloat16)
FP16 = Precision("fp16", torch.float16)
FP32 = Precision("fp32", None)


def resolve(wanted: str, device: torch.device) -> Precision:
    """`auto | bf16 | fp16 | fp32` on this device.

    `auto` is bf16 where the hardware multiplies it natively (AVX512-BF16, AMX, recent GPUs), fp16 on older GPUs, and
    fp32 elsewhere. fp16 on a CPU would train with underflowing gradients, so it becomes `auto`, with a notice.
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
    """Whether this CPU multiplies bf16; where it does not, float32 products are several times faster than bf16 ones."""
    capable = torch.cpu.get_capabilities()
    return bool(capable.get("avx512_bf16") or capable.get("amx_bf16"))


def default_device() -> torch.device:
    """The device of this process: its own GPU under torchrun, else the first GPU, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")
