"""The whole estimate of a run: memory, time, disk, cost, what would make it fit, and all of it as lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from textwrap import wrap
from typing import Any, NamedTuple

from palate.capacity.duration import Duration, duration_of
from palate.capacity.job import Job
from palate.capacity.memory import Memory, memory_of, state_bytes
from palate.charts.text import amount, number

_LEFT = 34

_Change = tuple[dict[str, Any], int]
_MORE = (2, 4, 8, 16, 32, 64)  # devices


class Remedy(NamedTuple):
    """Changes of the config, the peak that they give in bytes, and whether the run then fits."""

    changes: tuple[str, ...]
    peak: int
    fits: bool


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a run needs.

    Attributes:
        job: what was estimated.
        memory, duration: of a device, and of the run.
        disk: bytes, by what is written.
        remedies: of a run that does not fit, the gentlest first.
        cost: of the run, if a price was given.
    """

    job: Job
    memory: Memory
    duration: Duration
    disk: dict[str, int]
    remedies: tuple[Remedy, ...] = ()
    cost: float | None = None

    def to_json(self) -> dict[str, Any]:
        job, memory = self.job, self.memory
        return {
            "measured": False,
            "model": {"name": job.shape.name, "parameters": job.model.total, "trained": job.trained.total},
            "data": {"rows": job.workload.rows, "lengths": job.workload.source},
            "hardware": asdict(job.hardware),
            "devices": job.devices,
            "sharding": job.sharding.name,
            "precision": job.precision,
            "memory": {**asdict(memory), "peak": memory.peak, "fits": memory.fits},
            "remedies": [remedy._asdict() for remedy in self.remedies],
            "seconds": {**asdict(self.duration), "run": self.duration.of_run},
            "cost": self.cost,
            "disk": self.disk,
        }


def estimate(job: Job, price: float | None = None) -> Capacity:
    """Everything about a run, from shapes and lengths alone; `price` is that of a device and hour."""
    memory = memory_of(job)
    duration = duration_of(job, memory.tokens)
    cost = None if price is None else price * job.devices * duration.of_run / 3600
    return Capacity(job, memory, duration, disk_of(job), () if memory.fits else tuple(_remedies(job)), cost)


def disk_of(job: Job) -> dict[str, int]:
    """Bytes of the checkpoints that are kept, of the final model, and of the reference's stored values."""
    config, trained = job.config, job.trained
    model = 4 * (trained.total if config.finetuning_type == "lora" else job.model.total)
    checkpoint = model + (0 if config.save_only_model else round(state_bytes(config.optim, trained)))
    every = config.save_steps if config.save_steps >= 1 else max(1, round(config.save_steps * job.steps))
    saves = {"no": 0, "steps": -(-job.steps // int(every)), "epoch": -int(-config.num_train_epochs // 1)}
    kept = min(saves[config.save_strategy], config.save_total_limit or job.steps)
    found = {"checkpoints": kept * checkpoint, "final model": model}
    if job.stores_reference:
        found["reference store"] = round(job.workload.rows * (4 * job.mean(lambda row: row.trained) + 24))
    return found


def _remedies(job: Job) -> Iterator[Remedy]:
    """What makes a run fit: the same training in less memory, on more devices, with LoRA, with QLoRA."""
    config, gpu = job.config, job.hardware.gpu
    smaller = {"max_tokens_per_batch": max(map(job.tokens, job.workload.lengths)), "gradient_checkpointing": True}
    one_by_one: list[_Change] = [({key: value}, 0) for key, value in smaller.items()]
    further: list[_Change] = []
    if job.needs_reference and not job.generations:
        further.append(({"reference_cache": "auto"}, 0))
    if gpu and config.optim.startswith("adamw_torch"):
        further.append(({"optim": "adamw_8bit"}, 0))
    yield from _ladder(job, [*one_by_one, *further])
    splits = gpu and job.sharding.weights == 1 and config.quantization_bit is None
    if splits and not job.generations:
        sharded = smaller | {"fsdp": "full_shard auto_wrap"}
        found = [one for n in _MORE if n >= job.devices for one in _ladder(job, [(sharded, n)])]
        yield from [one for one in found if one.fits][:1] or found[-1:]
    if config.finetuning_type != "lora":
        yield from _ladder(job, [({"finetuning_type": "lora"}, 0), *one_by_one])
    if splits:
        yield from _ladder(job, [(smaller | {"finetuning_type": "lora", "quantization_bit": 4}, 0)])


def _ladder(job: Job, rungs: list[_Change]) -> Iterator[Remedy]:
    """Each has the changes of those before it, up to the first that fits; what saves nothing is left out."""
    peak, changes = memory_of(job).peak, dict[str, Any]()
    for change, devices in rungs:
        # The changed keys are not checked again.
        config = job.config.model_copy(update={**changes, **change})
        now = replace(job, config=config, devices=devices or job.devices)
        memory = memory_of(now)
        if memory.peak >= peak:
            continue
        changes, peak = changes | change, memory.peak
        keys = [f"{key}: {str(value).lower()}" for key, value in changes.items() if getattr(job.config, key) != value]
        yield Remedy((*keys, *([f"{now.devices} devices"] if devices else [])), memory.peak, memory.fits)
        if memory.fits:
            return


def as_lines(found: Capacity) -> list[str]:
    """The estimate for a person, in lines of at most 78 characters."""
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
