"""Seconds of a step and of a run, by roofline: operations over the rate of products, bytes over the memory's rate.

Operations are counted as docs/performance.md counts them: 2 for each token and weight of a linear map, 4 · width ·
heads for each pair of a query and a key that it sees, 2 for each trained token and weight of the head; twice as many for
gradients, of which frozen weights need half. A prompt counts once for all its completions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from palate.capacity.job import Job, Row
from palate.capacity.memory import ANSWERS_AT_A_TIME, Memory, activation_bytes, state_bytes
from palate.capacity.shapes import ModelShape
from palate.config.stages.rollout import RolloutFields

# The machine's bus (PCIe 4.0 x16 in practice) and its memory, for parts that are offloaded; GB/s.
_BUS, _HOST = 20.0, 100.0


class Operations(NamedTuple):
    """Floating-point operations: linear maps of the layers, attention, head."""

    linear: float = 0.0
    attention: float = 0.0
    head: float = 0.0


@dataclass(frozen=True, slots=True)
class Duration:
    """Seconds.

    Attributes:
        step: of an optimiser step, by part; exchange between devices counts as far as computing does not hide it.
        before: of what is done once, before the first step.
        steps: their number.
    """

    step: Mapping[str, float]
    before: float
    steps: int

    @property
    def of_step(self) -> float:
        return sum(self.step.values())

    @property
    def of_run(self) -> float:
        return self.before + self.steps * self.of_step


def forward(shape: ModelShape, row: Row, *, padded: bool = False, head: bool = True) -> Operations:
    """Operations of a forward pass over one row."""
    pairs = sum(Row(row.prompt, (n,)).pairs() for n in row.answers) if padded else row.pairs()
    return Operations(
        2.0 * shape.read_by_a_token * row.tokens(padded=padded),
        4.0 * shape.head_width * shape.heads * shape.layers * pairs,
        2.0 * shape.vocabulary * shape.hidden * row.trained * head,
    )


def training_factors(job: Job) -> Operations:
    """What a training pass costs beside its forward pass, by part."""
    layers, trained = job.shape.layers, job.trained
    share = job.backward_layers / layers  # of the layers, those with a backward pass
    weights = 0.0 if job.config.finetuning_type == "lora" else job.trained_layers / layers
    again = share if job.config.gradient_checkpointing else 0.0
    once = share if _trunk(job) else 1.0  # frozen layers below are computed once for all epochs
    head = 3.0 if trained.head or (trained.embedding and job.shape.tied) else 2.0
    return Operations(once + share + weights + again, once + 2 * share + again, head)


def duration_of(job: Job, memory: Memory) -> Duration:
    """The time of the run; an online stage is taken to use all `max_new_tokens` of each answer."""
    hardware, rows = job.hardware, job.rows_of_step
    per_row = _mean(job, job.shape)
    training = _times(per_row, training_factors(job), rows)
    adapter = 6.0 * job.adapter * job.work.mean([row.tokens(padded=job.padded) for row in job.work.lengths]) * rows
    training = training._replace(linear=training.linear + adapter)
    scored = Operations()
    if job.needs_reference and not job.stores_reference:
        scored = _mean(job, job.reference or job.shape)
    once = [_mean(job, job.reference or job.shape)] if job.stores_reference else []
    if isinstance(job.config, RolloutFields):  # the policy scores its own answers, and reward models score them
        for shape in (job.shape, *job.rewards):
            scored = Operations(*(a + b for a, b in zip(scored, _mean(job, shape, head=shape is job.shape))))
        scored = _times(scored, Operations(1, 1, 1), 1 / job.updates)
    if _trunk(job):
        share = 1 - job.backward_layers / job.shape.layers
        once.append(_times(per_row, Operations(share, share, 0), 1))
    compute = {
        name: (train + rows * score) / (rate * hardware.tflops * 1e12)
        for name, train, score, rate in zip(_PRODUCTS, training, scored, _rates(job), strict=True)
    }
    local = 1 / (job.devices if job.sharding.states else 1)
    passes = max(1.0, -(-rows * job.work.mean([r.tokens(padded=job.padded) for r in job.work.lengths]) // memory.tokens))
    compute["element-wise operations"] = _traffic(job, passes) / (hardware.traffic * hardware.bandwidth * 1e9)
    busy = sum(compute.values())
    # Gradient and weight are read and written, each state too, and clipping reads and scales the gradients.
    update = local * (20 * job.trained.total + 2 * state_bytes(job.config.optim, job.trained))
    compute["optimiser"] = update / ((_HOST if job.sharding.offloaded else hardware.traffic * hardware.bandwidth) * 1e9)
    compute["exchange between devices"] = max(0.0, _exchange(job, passes) - busy)
    if job.generations:
        compute["sampling answers"] = _answers(job) / job.updates
    rows_in_all = min(job.work.rows, job.steps * rows * job.devices // job.updates)
    before = sum(
        rows_in_all / job.devices * number / (rate * hardware.tflops * 1e12)
        for operations in once
        for number, rate in zip(operations, _rates(job), strict=True)
    )
    return Duration({name: seconds for name, seconds in compute.items() if seconds}, before, job.steps)


_PRODUCTS = ("products of the layers", "attention", "head")


def _trunk(job: Job) -> bool:
    """Whether frozen bottom layers are computed once and stored (`models.trunk`)."""
    wanted = getattr(job.config, "trunk_cache", "auto") != "off" and not isinstance(job.config, RolloutFields)
    still = job.config.dropout == 0 and not getattr(job.config, "neftune_noise_alpha", 0)
    return wanted and still and not job.padded and job.backward_layers < job.shape.layers


def _rates(job: Job) -> tuple[float, float, float]:
    share = job.hardware.efficiency * (0.25 if job.half == "fp32" and job.hardware.bf16 else 1.0)
    return share, share * job.hardware.attention, share


def _mean(job: Job, shape: ModelShape, *, head: bool = True) -> Operations:
    """Operations of a forward pass over the average row."""
    head = head and job.config.stage != "rm"
    found = [forward(shape, row, padded=job.padded, head=head) for row in job.work.lengths]
    return Operations(*(job.work.mean(part) for part in zip(*found, strict=True)))


def _times(operations: Operations, factors: Operations, number: float) -> Operations:
    return Operations(*(a * b * number for a, b in zip(operations, factors, strict=True)))


def _traffic(job: Job, passes: float) -> float:
    """Bytes of a step: activations written and read twice, with gradients as large; weights that are cast or unpacked."""
    saved, working = activation_bytes(job)
    tokens = job.rows_of_step * job.work.mean([row.tokens(padded=job.padded) for row in job.work.lengths])
    recomputed = working * job.backward_layers if job.config.gradient_checkpointing else 0
    unpacked = 0.0
    if job.config.quantization_bit is not None:  # 4 or 8 bits read, two bytes written and read, forward and backward
        unpacked = 2 * (job.config.quantization_bit / 8 + 4) * job.model.linear
    elif job.width < 4:
        unpacked = 6 * job.trained.linear
    return 4 * tokens * (saved + recomputed) + passes * unpacked


def _exchange(job: Job, passes: float) -> float:
    """Seconds of a step's exchange: gradients over all devices, and the weights of a sharded model in each pass."""
    shard, others = job.sharding, (job.devices - 1) / job.devices
    if job.devices == 1:
        moved = 0.0
    elif shard.weights:
        moved = others * passes * (2 * job.width * job.model.total + 4 * job.trained.total)
    else:
        moved = 2 * others * 4 * job.trained.total
    away = passes * 3 * 4 * job.model.total / job.devices / (_BUS * 1e9) if shard.offloaded else 0.0
    return moved / (job.hardware.link * 1e9) + away


def _answers(job: Job) -> float:
    """Seconds to sample a step's answers: each token of a batch of answers reads all weights and the keys so far."""
    assert isinstance(job.config, RolloutFields)
    shape, hardware, b = job.shape, job.hardware, job.width
    prompt, new = job.work.mean([row.prompt for row in job.work.lengths]), job.config.max_new_tokens
    answers = job.rows_of_step * job.generations
    rows = min(answers, ANSWERS_AT_A_TIME)
    head = shape.vocabulary * shape.hidden
    keys = 2 * shape.layers * shape.key_heads * shape.head_width * b * (prompt + new / 2) * rows
    rate = hardware.efficiency * hardware.tflops * 1e12
    token = max(
        (b * (shape.counts.linear + head) + keys) / (hardware.traffic * hardware.bandwidth * 1e9),
        2 * rows * (shape.read_by_a_token + head) / rate,
    )
    return -(-answers // rows) * new * token + 2 * shape.read_by_a_token * prompt * job.rows_of_step / rate
