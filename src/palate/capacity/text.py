"""An estimate as lines of at most 78 characters."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import wrap

from palate.capacity.estimate import Capacity
from palate.charts.text import amount, number

_LEFT = 34


def as_lines(found: Capacity) -> list[str]:
    """The estimate for a person."""
    job, memory, duration = found.job, found.memory, found.duration
    several = f"{job.devices} × " if job.devices > 1 else ""
    head = [
        f"Computed, not measured: {several}{job.hardware.name}, {job.sharding.name}, {job.precision}",
        f"hardware: {job.hardware.source}; products at {100 * job.hardware.efficiency:.0f} % of the peak",
        f"model: {job.shape.name}, {_count(job.model.total)} parameters, {_count(job.trained.total)} trained",
        f"data: {amount(job.workload.rows, 'row')}, {job.workload.source}",
    ]
    lines = [part for line in head for part in wrap(line, 78, subsequent_indent="  ")]
    lines += ["", _row("memory of a device, by part", "GB"), *_rows(memory.parts, 1e9)]
    lines += [_row("needed at once", "GB"), *_rows(memory.moments, 1e9)]
    verdict = "fits" if memory.fits else "does not fit"
    lines.append(f"{_row('peak', f'{memory.peak / 1e9:.2f}')} of {memory.limit / 1e9:.1f}: {verdict}")
    if memory.host:
        lines.append(_row("for each device in main memory", f"{memory.host / 1e9:.2f}"))
    for changes, peak, fits in found.remedies:
        line = f"  {peak / 1e9:.1f} GB, {'fits' if fits else 'still too large'}: {', '.join(changes)}"
        lines += wrap(line, 78, subsequent_indent=" " * 6)
    lines += ["", _row(f"a step of {amount(job.rows_of_step * job.devices, 'row')}", "s"), *_rows(duration.step, 1)]
    lines.append(f"{_row('in all', number(duration.of_step, 3))}, {memory.tokens:,} tokens in a pass")
    if duration.before:
        lines.append(_row("once, before the first step", _time(duration.before)))
    cost = "" if found.cost is None else f", cost {found.cost:,.2f}"
    lines.append(f"{_row('the run, ' + amount(duration.steps, 'step'), _time(duration.of_run))}{cost}")
    return [*lines, "", _row("disk", "GB"), *_rows(found.disk, 1e9)]


def _row(name: str, value: str) -> str:
    return f"{name:<{_LEFT}}{value:>10}"


def _rows(parts: Mapping[str, float], unit: float) -> list[str]:
    return [_row(f"  {name}", f"{value / unit:.{2 if unit > 1 else 3}f}") for name, value in parts.items()]


def _count(parameters: int) -> str:
    return f"{parameters / 1e9:.2f} billion" if parameters >= 1e9 else f"{parameters / 1e6:.1f} million"


def _time(seconds: float) -> str:
    unit, name = next(((u, n) for u, n in ((86400, "days"), (3600, "h"), (60, "min")) if seconds >= 2 * u), (1, "s"))
    return f"{seconds / unit:.1f} {name}"
