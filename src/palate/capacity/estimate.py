"""The whole estimate of a run: memory, time, disk, cost, and what would make it fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from palate.capacity.duration import Duration, duration_of
from palate.capacity.job import Job
from palate.capacity.memory import Memory, memory_of, state_bytes


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
    """

    job: Job
    memory: Memory
    duration: Duration
    disk: dict[str, int]
    remedies: tuple[Remedy, ...]

    def cost(self, price: float) -> float:
        """Of the run, at a price for each device and hour."""
        return price * self.job.devices * self.duration.of_run / 3600

    def to_json(self, price: float | None = None) -> dict[str, Any]:
        job = self.job
        return {
            "measured": False,
            "model": {"name": job.shape.name, "parameters": job.model.total, "trained": job.trained.total},
            "data": {"rows": job.work.rows, "lengths": job.work.source},
            "hardware": job.hardware.name,
            "devices": job.devices,
            "sharding": job.sharding.name,
            "precision": job.half,
            "memory": {
                "parts": dict(self.memory.parts),
                "moments": dict(self.memory.moments),
                "peak": self.memory.peak,
                "limit": self.memory.limit,
                "fits": self.memory.fits,
                "host": self.memory.host,
                "tokens_of_a_pass": self.memory.tokens,
            },
            "remedies": [remedy._asdict() for remedy in self.remedies],
            "seconds": {
                "step": dict(self.duration.step),
                "before_the_first_step": self.duration.before,
                "steps": self.duration.steps,
                "run": self.duration.of_run,
            },
            "cost": None if price is None else self.cost(price),
            "disk": self.disk,
        }


def estimate(job: Job) -> Capacity:
    """Everything about a run, from shapes and lengths alone."""
    memory = memory_of(job)
    found = () if memory.fits else tuple(_remedies(job))
    return Capacity(job, memory, duration_of(job, memory), disk_of(job), found)


def changed(job: Job, devices: int = 0, **changes: Any) -> Job:
    """The job with other keys of its config, which are not checked again, or other devices."""
    return replace(job, config=job.config.model_copy(update=changes), devices=devices or job.devices)


def disk_of(job: Job) -> dict[str, int]:
    """Bytes of the checkpoints that are kept, the final model, and the reference's stored values."""
    config, trained = job.config, job.trained
    model = 4 * (trained.total if config.finetuning_type == "lora" else job.model.total)
    checkpoint = model + (0 if config.save_only_model else round(state_bytes(config.optim, trained)))
    every = config.save_steps if config.save_steps >= 1 else max(1, round(config.save_steps * job.steps))
    saves = {"no": 0, "steps": -(-job.steps // int(every)), "epoch": -(-config.num_train_epochs // 1)}
    kept = int(min(saves[config.save_strategy], config.save_total_limit or job.steps))
    values = job.work.rows * (4 * job.work.mean([row.trained for row in job.work.lengths]) + 24)
    found = {"checkpoints": kept * checkpoint, "final model": model}
    return found | ({"reference store": round(values)} if job.stores_reference else {})


def _remedies(job: Job) -> Iterator[Remedy]:
    """What makes a run fit: the same training in less memory, on more devices, with LoRA, with QLoRA.

    Within each of these kinds a line has the changes of the line before it, up to the first that fits; a change that
    saves nothing is left out.
    """
    config, gpu = job.config, job.hardware.gpu
    longest = max(row.tokens(padded=job.padded) for row in job.work.lengths)
    smaller: list[_Change] = [({"max_tokens_per_batch": longest}, 0), ({"gradient_checkpointing": True}, 0)]
    stored: list[_Change] = [({"reference_cache": "auto"}, 0)] if job.needs_reference and not job.generations else []
    narrow: list[_Change] = [({"optim": "adamw_8bit"}, 0)] if gpu and config.optim.startswith("adamw_torch") else []
    yield from _ladder(job, [*smaller, *stored, *narrow])
    both = {key: value for change, _ in smaller for key, value in change.items()}
    if gpu and not job.generations and not job.sharding.weights and config.quantization_bit is None:
        sharded = both | {"fsdp": "full_shard auto_wrap"}
        found = [one for n in _MORE if n >= job.devices for one in _ladder(job, [(sharded, n)])]
        yield from [one for one in found if one.fits][:1] or found[-1:]
    if config.finetuning_type != "lora":
        yield from _ladder(job, [({"finetuning_type": "lora"}, 0), *smaller])
    if gpu and config.quantization_bit is None and not job.sharding.weights:
        yield from _ladder(job, [(both | {"finetuning_type": "lora", "quantization_bit": 4}, 0)])


_Change = tuple[dict[str, Any], int]
_MORE = (2, 4, 8, 16, 32, 64)


def _ladder(job: Job, rungs: list[_Change]) -> Iterator[Remedy]:
    peak, changes = memory_of(job).peak, {}
    for change, devices in rungs:
        now = changed(job, devices, **changes, **change)
        memory = memory_of(now)
        if memory.peak >= peak:
            continue
        changes, peak = changes | change, memory.peak
        keys = [f"{key}: {str(value).lower()}" for key, value in changes.items() if getattr(job.config, key) != value]
        yield Remedy((*keys, *([f"{now.devices} devices"] if devices else [])), memory.peak, memory.fits)
        if memory.fits:
            return
