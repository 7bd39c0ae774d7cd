"""An estimate as lines of at most 78 characters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from textwrap import wrap

from palate.capacity.estimate import Capacity
from palate.charts.text import amount, number

_LEFT = 34


def as_lines(found: Capacity, price: float | None = None) -> list[str]:
    """The estimate for a person; `price` is that of a device and hour."""
    job, memory, duration = found.job, found.memory, found.duration
    several = f"{job.devices} × " if job.devices > 1 else ""
    head = [
        f"Capacity, computed and not measured: {several}{job.hardware.name}, {job.sharding.name}, {job.half}",
        f"figures of the hardware: {job.hardware.source}",
        f"model: {job.shape.name}, {_millions(job.model.total)} parameters, {_millions(job.trained.total)} trained",
        f"data: {amount(job.work.rows, 'row')}, {job.work.source}",
    ]
    lines = [
        *(part for line in head for part in wrap(line, 78, subsequent_indent="  ")),
        "",
        f"{'memory of a device':<{_LEFT}}{'GB':>9}",
        *_table(memory.parts, 1e9),
        *(f"  {name + ' in all':<{_LEFT - 2}}{size / 1e9:>9.2f}" for name, size in memory.moments.items()),
        f"{'peak':<{_LEFT}}{memory.peak / 1e9:>9.2f} of {memory.limit / 1e9:.1f}: "
        + ("fits" if memory.fits else "does not fit"),
    ]
    if memory.host:
        lines.append(f"{'in the machine’s memory':<{_LEFT}}{memory.host / 1e9:>9.2f} for each device")
    for changes, peak, fits in found.remedies:
        line = f"  {peak / 1e9:.1f} GB, {'fits' if fits else 'still too large'}: {', '.join(changes)}"
        lines += wrap(line, 78, subsequent_indent=" " * 6)
    step = f"a step of {amount(job.rows_of_step * job.devices, 'row')}"
    lines += ["", f"{step:<{_LEFT}}{'s':>9}", *_table(duration.step, 1.0)]
    lines.append(f"{'in all':<{_LEFT}}{number(duration.of_step, 3):>9}, {memory.tokens:,} tokens in a pass")
    if duration.before:
        lines.append(f"{'once, before the first step':<{_LEFT}}{_time(duration.before):>9}")
    cost = "" if price is None else f", cost {found.cost(price):,.2f} at {price:g} for a device and hour"
    lines.append(f"{'the run, ' + amount(duration.steps, 'step'):<{_LEFT}}{_time(duration.of_run):>9}{cost}")
    lines += ["", f"{'disk':<{_LEFT}}{'GB':>9}", *_table(found.disk, 1e9)]
    return lines


def _table(parts: Mapping[str, float], unit: float) -> Iterator[str]:
    for name, value in parts.items():
        yield f"  {name:<{_LEFT - 2}}{value / unit:>9.{2 if unit > 1 else 3}f}"


def _millions(count: int) -> str:
    return f"{count / 1e9:.2f} billion" if count >= 1e9 else f"{count / 1e6:.1f} million"


def _time(seconds: float) -> str:
    for size, name in ((172_800, "days"), (7200, "h"), (120, "min")):
        if seconds >= size:
            return f"{seconds / {'days': 86400, 'h': 3600, 'min': 60}[name]:.1f} {name}"
    return f"{seconds:.1f} s"
