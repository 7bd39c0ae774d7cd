"""Devices that train: memory, rates, and the share of the rates that a run reaches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from palate.errors import UsageError


@dataclass(frozen=True, slots=True)
class Hardware:
    """One device. GB are 10⁹ bytes.

    Attributes:
        name: for tables.
        memory: GB.
        tflops: peak rate of dense bf16 matrix products with float32 sums, in 10¹² operations a second; of a device
            without bf16 that of float32.
        bandwidth: of its memory, GB/s.
        link: to the other devices of a machine, GB/s in one direction.
        source: of the figures.
        gpu: False for a CPU.
        bf16: whether it multiplies bf16.
        efficiency: share of the peak that matrix products reach.
        attention: share of `efficiency` that attention reaches.
        traffic: share of the memory's bandwidth that element-wise operations and the optimiser reach.
    """

    name: str
    memory: float
    tflops: float
    bandwidth: float
    link: float = 25.0
    source: str = "given by you"
    gpu: bool = True
    bf16: bool = True
    efficiency: float = 0.6
    attention: float = 0.6
    traffic: float = 0.7


_AMPERE = "NVIDIA A100 datasheet (2022)"

# Peak rates without sparsity; links per direction: NVLink or Infinity Fabric, else PCIe 4.0 x16.
HARDWARE: Mapping[str, Hardware] = MappingProxyType(
    {
        device.name.lower(): device
        for device in (
            Hardware("H100", 80, 989, 3350, 450, "NVIDIA H100 datasheet (SXM)"),
            Hardware("H200", 141, 989, 4800, 450, "NVIDIA H200 datasheet (SXM)"),
            Hardware("A100-80", 80, 312, 2039, 300, _AMPERE),
            Hardware("A100-40", 40, 312, 1555, 300, _AMPERE),
            Hardware("L40S", 48, 362, 864, 25, "NVIDIA L40S datasheet"),
            Hardware("L4", 24, 121, 300, 25, "NVIDIA L4 datasheet"),
            Hardware("RTX4090", 24, 165, 1008, 25, "NVIDIA Ada GPU architecture whitepaper"),
            Hardware("RTX3090", 24, 71, 936, 25, "NVIDIA GA102 GPU architecture whitepaper"),
            Hardware("MI300X", 192, 1307, 5300, 448, "AMD Instinct MI300X data sheet"),
        )
    }
)

_SHARES = ("efficiency", "attention", "traffic")
_NUMBERS = ("memory", "tflops", "bandwidth", "link", *_SHARES)


def parse_hardware(text: str, this: Hardware | None = None) -> Hardware:
    """A device by name (`this` too), by numbers, or both: `H100`, `memory=48,tflops=200,bandwidth=900`, `H100,link=50`.

    Raises:
        UsageError: an unknown name or key, or an impossible number.
    """
    known = {**HARDWARE, **({} if this is None else {"this": this})}
    name, *rest = (part.strip() for part in text.split(","))
    if "=" in name:
        name, rest = "", [name, *rest]
    elif name.lower() not in known:
        names = ", ".join(["this", *(device.name for device in HARDWARE.values())])
        raise UsageError(f"--hardware {name}: not known; choose {names}, or memory=GB,tflops=T,bandwidth=GB/S")
    numbers: dict[str, Any] = {}
    for key, _, value in (part.partition("=") for part in rest):
        most = 1.0 if key in _SHARES else 1e9
        try:
            numbers[key] = float(value)
        except ValueError:
            numbers[key] = 0.0
        if key not in _NUMBERS or not 0.0 < numbers[key] <= most:
            raise UsageError(
                f"--hardware {key}={value}: write a number above 0, of a share at most 1, of {', '.join(_NUMBERS)}"
            )
    if name:
        return replace(known[name.lower()], **numbers)
    if missing := [key for key in ("memory", "tflops", "bandwidth") if key not in numbers]:
        raise UsageError(f"--hardware {text}: {', '.join(missing)} missing; write memory=GB,tflops=T,bandwidth=GB/S")
    return Hardware("your device", **numbers)
