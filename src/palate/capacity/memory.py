"""Bytes of a run on one device, by part and by moment.

Weights that train are float32; frozen linear maps are in the format of the products. What a forward pass saves for
backward is listed in `_saved_by_a_layer`, from the autograd functions of `models.cpu.layer_halves` for Llama-like
models on a CPU, and from transformers' layers elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from palate.capacity.job import Job
from palate.capacity.shapes import Counts, ModelShape
from palate.config.run import PpoConfig
from palate.config.stages.health import HealthFields
from palate.config.stages.preference import SampleFields
from palate.config.stages.rollout import RolloutFields

MOST_TOKENS: Mapping[str, int] = MappingProxyType({"cpu": 4096, "cuda": 16384})
"""Of a forward pass: a larger one is no faster on a CPU; a GPU needs more work at a time."""
LEAST_TOKENS = 512
PLANNED_SHARE = 0.85
"""Of the free memory, what `max_tokens_per_batch: auto` plans to use."""
ANSWERS_AT_A_TIME = 32
"""As `models.generation.generate`."""

# Bytes of a trained parameter's state; every other optimiser keeps Adam's two float32 means (a bound for those that
# project gradients to a low rank). 8-bit optimisers (2110.02861) keep those of embeddings in 32 bits.
_STATE_BYTES = {"sgd": 0.0, "adafactor": 1.0, "adagrad": 4.0, "rmsprop": 4.0, "lion_32bit": 4.0, "lion_8bit": 1.0}
_ADAM_BYTES = 8.0

# Bytes of a weight in 4 and 8 bits: NF4 with a float32 scale for 64 weights (2305.14314), or with 8-bit scales.
_NF4, _NF4_TWICE, _INT8 = 0.5 + 4 / 64, 0.5 + 1 / 64 + 4 / (64 * 256), 1.0

_LIBRARIES = {True: 600_000_000, False: 560_000_000}  # CUDA's context; Python with PyTorch and transformers
_ROW_BYTES = 6_000  # of a row in the machine's memory
_CHUNK = 1 << 23  # logits of a chunk on a GPU (`models.score`)
_KEPT_LOGITS, _LOGIT_ROWS = 256 << 20, 512  # on a CPU (`models.cpu.head`)
_KEPT_KEYS, _QUERY_BLOCK = 1024, 128  # `models.attention.cpu`
_COPIED_BYTES = 2_000_000_000  # second copy of the weights for decoding on a CPU
_FRAGMENTS = 0.06  # of everything but the libraries: blocks that the allocator cannot use


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of one device.

    Attributes:
        parts: of a training step, by part.
        moments: the most that is needed at once, by moment of the run; the largest is the peak.
        tokens: of a forward pass.
        limit: of the device.
        host: of the machine's memory, for each device: offloaded parts and paged states.
    """

    parts: Mapping[str, int]
    moments: Mapping[str, int]
    tokens: int
    limit: int
    host: int

    @property
    def peak(self) -> int:
        return max(self.moments.values())

    @property
    def fits(self) -> bool:
        return self.peak <= self.limit


def state_bytes(optimiser: str, trained: Counts) -> float:
    """Bytes of the optimiser's states, by its name in transformers."""
    name = optimiser.removeprefix("paged_").replace("bnb_", "")
    narrow = name.endswith("adamw_8bit")
    each = _STATE_BYTES.get(name, 2.0 if narrow else _ADAM_BYTES)
    wide = 4 * each if name.endswith("8bit") else each
    return each * (trained.total - trained.embedding) + wide * trained.embedding


def memory_of(job: Job) -> Memory:
    """The memory of a device in every moment of the run."""
    shard, trained, gpu = job.sharding, job.trained, job.hardware.gpu
    limit = round(job.hardware.memory * 1e9)
    own: dict[str, float] = {
        "weights": _stored(job, job.model, trained) / (job.devices if shard.weights else 1),
        "adapter": 4 * trained.other if job.config.finetuning_type == "lora" else 0,
        "gradients": 4 * trained.total / (job.devices if shard.gradients else 1),
        "optimiser": state_bytes(job.config.optim, trained) / (job.devices if shard.states else 1),
    }
    own["adapter"] /= job.devices if shard.weights else 1
    host = 0.0
    if job.config.optim.startswith("paged_") and not shard.offloaded:
        host, own["optimiser"] = own["optimiser"], 0.0
    if shard.offloaded:
        host, own = sum(own.values()), dict.fromkeys(own, 0.0)
    reference, separate = _references(job)
    parts: dict[str, float] = {
        "libraries": _LIBRARIES[gpu] + (0 if gpu else _ROW_BYTES * job.work.rows),
        **own,
        "reference": reference,
        "other models": sum(_stored(job, one.counts, Counts()) for one in job.rewards),
        "gradients in transit": 4 * trained.total if shard.name == "DDP" else 0,
        "gathered weights": _gathered(job) if shard.weights else 0,
        "weights as multiplied": _casts(job),
    }
    held = sum(parts.values())
    saved, working = activation_bytes(job)
    tokens = _tokens_of_pass(job, limit - held, saved)
    parts["activations"] = saved * tokens + working * tokens
    parts["logits"] = _logits(job, tokens)
    parts["fragments"] = _FRAGMENTS * (sum(parts.values()) - parts["libraries"])
    step = sum(parts.values())
    moments = {"a training step": step, "loading the model": parts["libraries"] + _loading(job)}
    if separate:
        moments["filling the reference store"] = sum(parts[name] for name in _AT_REST) + separate + working * tokens
    if answering := _sampling(job):
        moments["sampling answers"] = sum(parts[name] for name in (*_AT_REST, "optimiser")) + answering
    return Memory(
        {name: round(size) for name, size in parts.items() if size},
        {name: round(size) for name, size in moments.items()},
        tokens,
        limit,
        round(host),
    )


_AT_REST = ("libraries", "weights", "adapter", "reference", "other models")


def activation_bytes(job: Job) -> tuple[float, float]:
    """Bytes of a token: what a forward pass saves for backward, and what the layer at work needs besides."""
    layer, shape, b = _saved_by_a_layer(job), job.shape, job.width
    working = 12 * shape.hidden + b * (3 * shape.inner * shape.active + 3 * shape.heads * shape.head_width)
    if job.config.gradient_checkpointing:
        return 4.0 * shape.hidden * job.backward_layers, layer + working
    return layer * job.backward_layers, working


def _saved_by_a_layer(job: Job) -> float:
    """Bytes of a token. The residual stream is float32 (4), products are in `b`."""
    shape, b = job.shape, job.width
    d, f = shape.hidden, shape.inner * shape.active
    queries, keys = shape.heads * shape.head_width, shape.key_heads * shape.head_width
    attention = b * (2 * queries + 2 * keys)  # q, k, v and the output
    if job.fused:
        rows = job.work.lengths
        seen = job.work.mean([row.pairs(_KEPT_KEYS) for row in rows]) / job.work.mean([row.tokens() for row in rows])
        probabilities = b * shape.heads * (seen + _QUERY_BLOCK / 2)
        return 8 * d + attention + probabilities + 2 * b * f + 8
    # Both norms save their input and the normed row; each linear map its own copy of a cast input.
    norms, casts = 16 * d, (5 if shape.gated else 4) * b * d if b < 4 else 0
    doubled = 2 * b * (2 * queries + 2 * keys + 3 * f) if job.config.use_dora else 0
    return norms + casts + attention + (4 if shape.gated else 2) * b * f + doubled


def _stored(job: Job, counts: Counts, trained: Counts) -> float:
    """Bytes of weights: trained ones in float32, frozen linear maps in fewer bits if that loses nothing."""
    config, narrow = job.config, 2 if job.half == "bf16" and job.shape.narrow else 4
    linear: float = narrow
    if config.quantization_bit is not None:
        linear = _INT8 if config.quantization_bit == 8 else _NF4_TWICE if config.double_quantization else _NF4
    if config.finetuning_type == "lora" or not trained.total:
        # A module that trains completely beside an adapter is a copy.
        copies = 4 * (trained.head + trained.embedding)
        return linear * counts.linear + narrow * counts.head + 4 * (counts.embedding + counts.other) + copies
    frozen = Counts(*(max(0, a - t) for a, t in zip(counts, trained)))
    whole = 4 * (frozen.embedding + frozen.other + trained.total)
    return narrow * (frozen.linear + frozen.head) + whole


def _casts(job: Job) -> float:
    """Autocast keeps linear weights in its own format during a step; fused layers cast a weight at each use."""
    if job.width == 4 or job.fused or job.sharding.weights:
        return 0.0
    frozen_too = job.half == "fp16" and job.config.quantization_bit is None
    return 2.0 * (job.model.linear if frozen_too else job.trained.linear)


def _references(job: Job) -> tuple[float, float]:
    """Bytes of the reference during training, and of one that is there only until its values are stored."""
    if not job.needs_reference:
        return 0.0, 0.0
    if job.reference is not None:
        size = _frozen_model(job, job.reference)
        return (0.0, size) if job.stores_reference else (size, 0.0)
    adapter_off = job.config.finetuning_type == "lora" and job.config.continued_adapter is None
    if job.stores_reference or (adapter_off and not job.config.use_dora):
        return 0.0, 0.0
    trained = job.trained
    return job.width * (trained.linear + trained.head) + 4.0 * (trained.embedding + trained.other), 0.0


def _frozen_model(job: Job, shape: ModelShape) -> float:
    counts, width = shape.counts, 2 if job.half == "bf16" and shape.narrow else 4
    return width * (counts.linear + counts.head) + 4.0 * (counts.embedding + counts.other)


def _gathered(job: Job) -> float:
    """Whole weights on a device of a sharded model: two layers, and the embedding and head; a layer's gradient."""
    layer = job.model.linear / job.shape.layers
    gradient = job.trained.linear / job.shape.layers + job.trained.embedding + job.trained.head
    return job.width * (2 * layer + job.model.embedding + job.model.head) + 4 * gradient


def _loading(job: Job) -> float:
    """The model is read in float32, whole on each device; on a CPU its file is mapped besides."""
    both = [job.model.total, *([job.reference.counts.total] if job.reference is not None else [])]
    if job.config.quantization_bit is not None:
        return _stored(job, job.model, Counts())
    return 4.0 * sum(both) + (0 if job.hardware.gpu else (2 if job.shape.narrow else 4) * job.model.total)


def _tokens_of_pass(job: Job, free: float, saved: float) -> int:
    """Tokens of the largest forward pass, as the run chooses them (`training.setup.memory`)."""
    lengths = sorted((row.tokens(padded=job.padded) for row in job.work.lengths), reverse=True)
    batch = job.config.per_device_train_batch_size
    largest = sum(lengths[:batch]) + lengths[0] * max(0, batch - len(lengths))
    budget = job.config.max_tokens_per_batch
    if budget == "auto":
        fitting = int(PLANNED_SHARE * free / max(saved, 1)) // 256 * 256
        budget = max(LEAST_TOKENS, min(fitting, MOST_TOKENS["cuda" if job.hardware.gpu else "cpu"]))
    return max(lengths[0], min(largest, int(budget)))


def _logits(job: Job, tokens: int) -> float:
    """The head in pieces: the weight as multiplied, hidden states, a piece of logits, and the weight's gradients."""
    if job.config.stage == "rm":
        return 0.0
    shape, b = job.shape, job.width
    words = shape.vocabulary * shape.hidden
    trains = job.trained.head or (job.trained.embedding and shape.tied)
    rows = tokens * job.work.mean([row.trained / row.tokens(padded=job.padded) for row in job.work.lengths])
    weight = (b if b < 4 and (trains or shape.tied) else 0) * words
    # Two float32 gradients of a tied weight meet: the head's, and the embedding's, which is as large as the weight.
    sums = ((4 + b) * words if trains else 0) + (4 * words if job.trained.embedding else 0)
    hidden = rows * shape.hidden * (2 * b + 8)
    if job.hardware.gpu:
        return weight + sums + hidden + 16 * _CHUNK
    kept = min(rows * shape.vocabulary * b, _KEPT_LOGITS) if trains else 0
    return weight + sums + hidden + kept + min(rows, _LOGIT_ROWS) * shape.vocabulary * b


def _sampling(job: Job) -> float:
    """Bytes that answers need while they are sampled: a copy of the weights as multiplied, keys, values and logits."""
    config, shape, b = job.config, job.shape, job.width
    if job.generations and isinstance(config, RolloutFields):
        rows, new = ANSWERS_AT_A_TIME, config.max_new_tokens
    elif isinstance(config, SampleFields) and config.sample_prompts and not job.sharding.weights:
        held = config.health_prompts if isinstance(config, HealthFields) and config.eval_strategy != "no" else 0
        rows, new = min(ANSWERS_AT_A_TIME, max(config.sample_prompts, held)), config.sample_max_new_tokens
    else:
        return 0.0
    length = max(row.prompt for row in job.work.lengths) + new
    words = shape.vocabulary * shape.hidden
    if job.hardware.gpu:
        copy = 0.0 if b == 4 else 2.0 * (job.trained.linear + (words if shape.tied or job.trained.head else 0))
    else:
        copy = b * (job.model.linear + words)
        copy = copy if copy <= _COPIED_BYTES else 0.0
    cache = 2 * shape.layers * shape.key_heads * shape.head_width * length * (b if job.hardware.gpu else 4)
    values = 4.0 if isinstance(config, PpoConfig) else 0.0
    return copy + rows * (cache + 12 * shape.vocabulary + values * length)
