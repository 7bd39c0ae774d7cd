"""How fast this machine multiplies matrices, which every ratio beside another trainer depends on.

As a child (`python _products.py JOB REPORT`) it reports the rates of one square, for the facts that stand in a result.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence

import torch
from _measure import child_job, native_formats

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
SQUARE = (2048, 2048)


def peak(shapes: Sequence[tuple[int, int]], seconds: float, rows: int = 2048) -> dict[str, float]:
    """Best FLOP/s by precision over x Wᵀ, its gradient for x and its gradient for W.

    bf16 is there only where the processor multiplies it.

    Args:
        shapes: (outputs, inputs) of each W.
        seconds: time for each shape and precision.
        rows: of x.
    """
    native = {name: dtype for name, dtype in DTYPES.items() if name == "fp32" or native_formats()}
    return {name: max(_rate(o, i, rows, dtype, seconds) for o, i in shapes) for name, dtype in native.items()}


def _rate(outputs: int, inputs: int, rows: int, dtype: torch.dtype, seconds: float) -> float:
    x, w = torch.randn(rows, inputs).to(dtype), torch.randn(outputs, inputs).to(dtype)
    y = torch.randn(rows, outputs).to(dtype)
    dx, dw = torch.empty_like(x), torch.empty_like(w)
    calls: list[Callable[[], torch.Tensor]] = [
        lambda: torch.mm(x, w.T, out=y),
        lambda: torch.mm(y, w, out=dx),
        lambda: torch.mm(y.T, x, out=dw),
    ]
    return 2 * rows * inputs * outputs / min(_least(call, seconds / len(calls)) for call in calls)


def _least(call: Callable[[], torch.Tensor], seconds: float) -> float:
    """The shortest of repeated calls: what the machine can do when nothing is in its way."""
    call()
    least, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end or least == float("inf"):
        begin = time.perf_counter()
        call()
        least = min(least, time.perf_counter() - begin)
    return least


if __name__ == "__main__":
    _, report_file = child_job()
    report_file.write_text(json.dumps({"products": peak([SQUARE], 1.0)}), encoding="utf-8")
