"""Seconds of a step and of a run, by roofline: operations over the rate of products, bytes over the memory's rate.

Operations are counted as docs/performance.md counts them: 2 for each token and weight of a linear map, 4 · width ·
heads for each pair of a query and a key that it sees, 2 for each trained token and weight of the head. Gradients need
twice as many, those through frozen weights as many again. A prompt counts once for all its completions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from palate.capacity.job import Job, RowTokens
from palate.capacity.memory import ANSWERS_AT_A_TIME, activation_bytes, state_bytes, weight_bytes
from palate.capacity.shapes import ModelShape
from palate.config.stages.rollout import RolloutFields

# The machine's bus (PCIe 4.0 x16 in practice) and its memory, for parts that are offloaded; bytes a second.
_BUS, _HOST = 20e9, 100e9


class Operations(NamedTuple):
    """Floating-point operations: linear maps of the layers, attention, head."""

    linear: float = 0.0
    attention: float = 0.0
    head: float = 0.0

    def times(self, linear: float, attention: float, head: float) -> Operations:
        return Operations(self.linear * linear, self.attention * attention, self.head * head)

    def plus(self, other: Operations) -> Operations:
        return Operations(*(a + b for a, b in zip(self, other)))


@dataclass(frozen=True, slots=True)
class Duration:
    """Seconds of an optimiser step by part, of what is done once before the first one, and the number of steps.

    The exchange between devices counts as far as computing does not hide it.
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


def forward(job: Job, shape: ModelShape) -> Operations:
    """Operations of a forward pass over the average row."""

    def pairs(row: RowTokens) -> float:
        padded = job.config.attention == "padded"
        return sum(RowTokens(row.prompt, (n,)).pairs() for n in row.completions) if padded else row.pairs()

    head = 0 if job.config.stage == "rm" or shape in job.rewards else 2.0 * shape.embedding_size
    return Operations(
        2.0 * shape.active_weights * job.mean(job.tokens),
        4.0 * shape.head_dim * shape.heads * shape.layers * job.mean(pairs),
        head * job.mean(lambda row: row.trained),
    )


def training(job: Job) -> Operations:
    """Operations of a forward and a backward pass over the average row."""
    layers, deep = job.shape.layers, job.backward_layers / job.shape.layers
    weights = 0.0 if job.config.finetuning_type == "lora" else job.trained_layers / layers
    again = deep if job.config.gradient_checkpointing else 0.0
    ahead = deep if _stores_trunk(job) else 1.0
    found = forward(job, job.shape)
    found = found.times(ahead + deep + weights + again, ahead + 2 * deep + again, 3 if job.trains_head else 2)
    return found.plus(Operations(6.0 * job.adapter * job.mean(job.tokens)))


def duration_of(job: Job, tokens: int) -> Duration:
    """The time of the run, with forward passes of `tokens`; sampled answers are taken to use all `max_new_tokens`."""
    hardware, rows, shard = job.hardware, job.rows_of_step, job.sharding
    # A device that multiplies bf16 is about a quarter as fast in float32.
    rate = hardware.tflops * 1e12 * hardware.efficiency * (0.25 if job.precision == "fp32" and hardware.bf16 else 1)
    memory = hardware.bandwidth * 1e9 * hardware.traffic

    def seconds(operations: Operations) -> Operations:
        return operations.times(1 / rate, 1 / (rate * hardware.attention), 1 / rate)

    scored = forward(job, job.reference or job.shape) if job.needs_reference else Operations()
    once = scored if job.stores_reference else Operations()
    live = Operations() if job.stores_reference else scored
    if isinstance(job.config, RolloutFields):  # the policy scores its own answers, and reward models score them
        for shape in (job.shape, *job.rewards):
            live = live.plus(forward(job, shape))
        live = live.times(*(1 / job.updates,) * 3)
    if _stores_trunk(job):
        still = 1 - job.backward_layers / job.shape.layers
        once = once.plus(forward(job, job.shape).times(still, still, 0))
    products = seconds(training(job).plus(live).times(rows, rows, rows))
    passes = max(1.0, -(-job.tokens_of_step // tokens))
    step = dict(zip(("products of the layers", "attention", "head"), products))
    step["element-wise"] = _traffic(job, passes) / memory
    hidden = sum(step.values())
    # Gradient and weight are read and written, each state too, and clipping reads and scales the gradients.
    update = (20 * job.trained.total + 2 * state_bytes(job.config.optim, job.trained)) / shard.states
    step["optimiser"] = update / (_HOST if shard.offloaded else memory)
    step["exchange not hidden"] = max(0.0, _exchange(job, passes) - hidden)
    step["sampling answers"] = _answers(job, rate, memory) / job.updates if job.generations else 0.0
    used = min(job.workload.rows, job.steps * rows * job.devices / job.updates) / job.devices
    return Duration({name: part for name, part in step.items() if part}, used * sum(seconds(once)), job.steps)


def _stores_trunk(job: Job) -> bool:
    """Whether frozen bottom layers are computed once and stored (`models.scoring.trunk`)."""
    config = job.config
    if getattr(config, "trunk_cache", "auto") == "off" or isinstance(config, RolloutFields):
        return False
    noisy = config.dropout > 0 or getattr(config, "neftune_noise_alpha", 0.0) > 0
    return not noisy and config.attention != "padded" and job.backward_layers < job.shape.layers


def _traffic(job: Job, passes: float) -> float:
    """Bytes of a step: activations and their gradients, written and read; weights that are cast or unpacked."""
    saved, working = activation_bytes(job)
    again = working * job.backward_layers if job.config.gradient_checkpointing else 0
    weights = 6.0 * job.trained.linear if job.width < 4 else 0.0
    if job.config.quantization_bit is not None:  # read, and in two bytes written and read, forward and backward
        weights = 2 * (job.config.quantization_bit / 8 + 4) * job.model.linear
    return 4 * job.tokens_of_step * (saved + again) + passes * weights


def _exchange(job: Job, passes: float) -> float:
    """Seconds of a step's exchange: gradients over all devices, and the weights of a sharded model in each pass."""
    shard, others = job.sharding, (job.devices - 1) / job.devices
    moved = 2.0 * 4 * job.trained.total
    if shard.weights > 1:
        moved = passes * (2 * weight_bytes(job) + 4 * job.trained.total)
    away = passes * 3 * 4 * job.model.total / job.devices / _BUS if shard.offloaded else 0.0
    return others * moved / (job.hardware.link * 1e9) + away


def _answers(job: Job, rate: float, memory: float) -> float:
    """Seconds to sample a step's answers: each token of a batch of answers reads all weights and the keys so far."""
    shape, count = job.shape, job.rows_of_step * job.generations
    rows, new = job.answers_at_once(min(count, ANSWERS_AT_A_TIME))
    prompt = job.mean(lambda row: row.prompt)
    keys = 2 * shape.layers * shape.kv_heads * shape.head_dim * (prompt + new / 2) * rows
    read = job.width * (shape.counts.linear + shape.embedding_size + keys) / memory
    token = max(read, 2 * rows * (shape.active_weights + shape.embedding_size) / rate)
    return -(-count // rows) * new * token + 2 * shape.active_weights * prompt * job.rows_of_step / rate
