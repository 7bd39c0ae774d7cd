"""Bytes of a run on one device, by part and by moment.

Weights that train are float32; frozen linear maps are in the format of the products. What a forward pass saves for
backward follows the autograd functions of `models.cpu.sublayers` for Llama-like models on a CPU, and transformers'
layers elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from palate.capacity.job import Job
from palate.capacity.shapes import Counts

PLANNED_SHARE = 0.85
"""Of the free memory, what `max_tokens_per_batch: auto` plans to use."""
ANSWERS_AT_A_TIME = 32
"""As `models.generation.local.generate`."""

# Bytes of a trained parameter's state. Other optimisers keep Adam's two float32 means, which is a bound for those that
# project gradients to a low rank. 8-bit ones (2110.02861) keep the states of embeddings in 32 bits.
_STATE_BYTES = {"sgd": 0.0, "adafactor": 1.0, "adagrad": 4.0, "rmsprop": 4.0, "lion_32bit": 4.0, "lion_8bit": 1.0}
_ADAM_BYTES = {False: 8.0, True: 2.0}  # by whether it is an 8-bit one

# A weight in 8 bits, and in NF4 with a float32 scale for 64 weights (2305.14314) or, quantised twice, an 8-bit one.
_QUANTISED = {8: 1.0, 4: 0.5 + 4 / 64}
_TWICE = 0.5 + 1 / 64 + 4 / (64 * 256)

_LIBRARIES = {True: 600_000_000, False: 650_000_000}  # CUDA's context; Python with PyTorch and transformers
_ROW_BYTES = 6_000  # of a row in the machine's memory
_CHUNK = 1 << 23  # logits of a chunk on a GPU (`models.scoring.head`)
_KEPT_LOGITS, _LOGIT_ROWS = 256 << 20, 512  # on a CPU (`models.cpu.head`)
_KEPT_KEYS, _QUERY_BLOCK = 1024, 128  # `models.attention.cpu`
_COPIED_BYTES = 2 << 30  # the largest second copy of the weights for decoding on a CPU (`llama_decoder`)
_FRAGMENTS = {True: 0.06, False: 0.08}  # of what the allocator of a GPU or a CPU holds, which it cannot use


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of one device.

    Attributes:
        parts: by part; not all of them are there at once.
        moments: what is needed at once, by moment of the run; the largest is the peak.
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


def token_budget(free: float, per_token: float, *, gpu: bool) -> int:
    """Tokens of a forward pass for `max_tokens_per_batch: auto`: what fits into `free` bytes, within limits.

    A pass of more than 4,096 tokens is no faster on a CPU; a GPU needs more work at a time.
    """
    return max(512, min(int(free / max(per_token, 1)) // 256 * 256, 16384 if gpu else 4096))


def state_bytes(optimiser: str, trained: Counts) -> float:
    """Bytes of the optimiser's states, by its name in transformers."""
    name, narrow = optimiser.removeprefix("paged_"), optimiser.endswith("8bit")
    each = _STATE_BYTES.get(name, _ADAM_BYTES[narrow])
    return each * (trained.total + (3 * trained.embedding if narrow else 0))


def memory_of(job: Job) -> Memory:
    """The memory of a device in every moment of the run."""
    config, shard, trained, gpu = job.config, job.sharding, job.trained, job.hardware.gpu
    held = {
        "weights": weight_bytes(job) / shard.weights,
        "adapter": 4 * trained.other / shard.weights if config.finetuning_type == "lora" else 0,
        "gradients": 4 * trained.total / shard.gradients,
        "optimiser": state_bytes(config.optim, trained) / shard.states,
    }
    away = [name for name in held if shard.offloaded or (name == "optimiser" and config.optim.startswith("paged_"))]
    host = sum(held[name] for name in away)
    held |= dict.fromkeys(away, 0.0)
    reference, until_stored = _references(job)
    rest = {
        "libraries": _LIBRARIES[gpu] + (0 if gpu else _ROW_BYTES * job.workload.rows),
        **{name: held[name] for name in ("weights", "adapter")},
        "reference": reference,
        "reward models": sum(job.frozen_bytes(one.counts, one) for one in job.rewards),
    }
    # On a CPU freed memory stays with the process, and large tensors do not fit into what loading freed.
    rest["freed by loading"] = 0 if gpu else 2 * _narrowed_bytes(job)
    parts: dict[str, float] = {**rest, "gradients": held["gradients"], "optimiser": held["optimiser"]}
    parts["gradient buckets"] = 4 * trained.total if shard.name == "DDP" else 0
    parts["gathered weights"] = _gathered_bytes(job) if shard.weights > 1 else 0
    parts["weights as multiplied"] = _cast_bytes(job)
    saved, working = activation_bytes(job)
    limit = job.hardware.memory * 1e9
    tokens = _tokens_of_pass(job, limit - sum(parts.values()), saved)
    parts["activations"], layer = saved * tokens, working * tokens
    parts["logits"], sums = _logit_bytes(job, tokens)
    whole = sum(parts.values()) + layer
    # Gradients appear while activations go, unless an earlier pass of the step has left them there.
    several = tokens < job.tokens_of_step
    moments = {
        "forward pass": whole - (0 if several else parts["gradients"]),
        "backward pass": whole + sums - parts["activations"] - parts["logits"],
        "loading": rest["libraries"] + _loading_bytes(job),
    }
    if until_stored:
        moments["reference pass"] = sum(rest.values()) + until_stored + layer
    if answering := _answering_bytes(job):
        moments["sampling"] = sum(rest.values()) + parts["optimiser"] + answering
    moments = {name: size + _FRAGMENTS[gpu] * (size - _LIBRARIES[gpu]) for name, size in moments.items()}
    shown = {
        name: round(size) for name, size in {**parts, "buffers of one layer": layer, "gradient sums": sums}.items()
    }
    found = {name: round(size) for name, size in moments.items()}
    return Memory({name: size for name, size in shown.items() if size}, found, tokens, round(limit), round(host))


def activation_bytes(job: Job) -> tuple[float, float]:
    """Bytes of a token: what a forward pass saves for backward, and what the layer at work needs besides."""
    shape, b = job.shape, job.width
    d, f = shape.hidden, shape.intermediate * shape.experts_per_token
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    layer = float(b * (2 * queries + 2 * keys))  # q, k, v and the output of attention
    if job.fused:
        # The residual stream twice in float32, gate and up, and the probabilities of short rows.
        seen = job.mean(lambda row: row.pairs(_KEPT_KEYS)) / job.mean(job.tokens) + _QUERY_BLOCK / 2
        layer += 8 * d + 2 * b * f + b * shape.heads * seen
    else:
        # Both norms save their input and the normed row in float32; each linear map its own copy of a cast input.
        casts = (5 if shape.gated else 4) * b * d if b < 4 else 0
        layer += 16 * d + casts + (4 if shape.gated else 2) * b * f
        layer += 2 * b * (2 * queries + 2 * keys + 3 * f) if job.config.use_dora else 0
    working = 12 * d + 3 * b * (f + queries)
    if job.config.gradient_checkpointing:
        return 4.0 * d * job.backward_layers, layer + working
    return layer * job.backward_layers, working


def weight_bytes(job: Job) -> float:
    """Bytes of the policy's weights without adapters: trained ones in float32, frozen linear maps in fewer bits."""
    config, model, trained = job.config, job.model, job.trained
    if config.finetuning_type != "lora":
        frozen = Counts(*(max(0, a - t) for a, t in zip(model, trained)))
        return job.frozen_bytes(frozen, job.shape) + 4.0 * trained.total
    copies = 4.0 * (trained.head + trained.embedding)  # modules that train with the adapter
    size = job.frozen_bytes(model, job.shape) + copies
    if config.quantization_bit is None:
        return size
    twice = config.quantization_bit == 4 and config.double_quantization
    linear = _TWICE if twice else _QUANTISED[config.quantization_bit]
    return size - job.frozen_bytes(Counts(linear=model.linear), job.shape) + linear * model.linear


def _cast_bytes(job: Job) -> float:
    """Autocast keeps linear weights in its own format during a step; fused layers cast a weight at each use."""
    if job.width == 4 or job.fused:
        return 0.0
    frozen_too = job.precision == "fp16" and job.config.quantization_bit is None
    return 2.0 * (job.model.linear if frozen_too else job.trained.linear)


def _references(job: Job) -> tuple[float, float]:
    """Bytes of the reference during training, and of one that is there only until its values are stored."""
    if not job.needs_reference:
        return 0.0, 0.0
    if job.reference is not None:
        size = job.frozen_bytes(job.reference.counts, job.reference)
        size /= job.sharding.weights if job.loads_divided else 1
        return (0.0, size) if job.stores_reference else (size, 0.0)
    adapter_off = job.config.finetuning_type == "lora" and not job.config.continued_adapter and not job.config.use_dora
    if job.stores_reference or adapter_off:
        return 0.0, 0.0
    trained = job.trained  # a copy of what trains
    return job.width * (trained.linear + trained.head) + 4.0 * (trained.embedding + trained.other), 0.0


def _gathered_bytes(job: Job) -> float:
    """Whole weights on a device of a sharded model: two layers, the embedding and the head; a layer's gradient."""
    shape, model, trained = job.shape, job.model, job.trained
    linear = job.frozen_bytes(Counts(linear=model.linear - trained.linear), shape) + 4.0 * trained.linear
    head = job.frozen_bytes(Counts(head=model.head - trained.head), shape) + 4.0 * trained.head
    gradient = 4.0 * (trained.linear / shape.layers + trained.embedding + trained.head)
    return 2 * linear / shape.layers + head + 4.0 * model.embedding + gradient


def _loads_narrow(job: Job) -> bool:
    """Whether weights stay in bf16 as they are loaded: few of them train, and none is computed from them."""
    config = job.config
    computed = config.finetuning_type == "full" or config.merged_adapters or config.use_dora or config.resize_vocab
    return not computed and job.precision == "bf16" and job.shape.bf16_weights


def _narrowed_bytes(job: Job) -> float:
    """Bytes that frozen weights lose when they are stored in bf16 after loading."""
    as_bf16 = job.precision == "bf16" and job.shape.bf16_weights and job.config.quantization_bit is None
    if _loads_narrow(job) or not as_bf16:
        return 0.0
    return 2.0 * max(0, job.model.linear + job.model.head - job.trained.linear - job.trained.head)


def _loading_bytes(job: Job) -> float:
    """A device has its part only if FSDP divides the model, else the whole; a CPU maps its file, or copies it.

    A divided model is checked as it is loaded, which gathers its layers.
    """
    if job.loads_divided:
        return weight_bytes(job) / job.devices + _gathered_bytes(job) + sum(_references(job))
    own = weight_bytes(job) + _narrowed_bytes(job)
    if job.reference is not None:
        own += job.frozen_bytes(job.reference.counts, job.reference)
    file = (2 if job.shape.bf16_weights else 4) * job.model.total
    return own if job.hardware.gpu else own + (1 if _loads_narrow(job) else 2) * file


def _tokens_of_pass(job: Job, free: float, saved: float) -> int:
    """Tokens of the largest forward pass, as the run chooses them (`training.setup.memory`)."""
    lengths = sorted(map(job.tokens, job.workload.lengths), reverse=True)
    batch = job.config.per_device_train_batch_size
    largest = sum(lengths[:batch]) + lengths[0] * max(0, batch - len(lengths))
    budget = job.config.max_tokens_per_batch
    if budget == "auto":
        budget = token_budget(PLANNED_SHARE * free, saved, gpu=job.hardware.gpu)
    return max(lengths[0], min(largest, int(budget)))


def _logit_bytes(job: Job, tokens: int) -> tuple[float, float]:
    """Bytes of the head in pieces at the end of the forward pass, and of gradients that are added up at the end."""
    shape, b = job.shape, job.width
    sums = 4.0 * shape.embedding_size if job.trained.embedding else 0.0  # dense, as large as the embedding
    if job.config.stage == "rm":
        return 0.0, sums
    trains = job.trains_head
    rows = tokens * job.mean(lambda row: row.trained) / job.mean(job.tokens)
    # The weight as multiplied and its gradient, hidden states and their gradients, and pieces of logits.
    each = (b if b < 4 and (trains or shape.tied) else 0) + (4 + b if trains else 0)
    weight = each * shape.embedding_size
    hidden = rows * shape.hidden * (2 * b + 8)
    if job.hardware.gpu:
        return weight + hidden + 16 * _CHUNK, sums
    kept = min(rows * shape.vocabulary * b, _KEPT_LOGITS) if trains else 0
    return weight + hidden + kept + min(rows, _LOGIT_ROWS) * shape.vocabulary * b, sums


def _answering_bytes(job: Job) -> float:
    """Bytes that answers need while they are sampled: a copy of the weights as multiplied, keys, values and logits."""
    shape, b, gpu = job.shape, job.width, job.hardware.gpu
    rows, new = job.answers_at_once(ANSWERS_AT_A_TIME)
    if not rows:
        return 0.0
    copy = float(b * (job.model.linear + shape.embedding_size))
    if gpu:
        head = shape.embedding_size if shape.tied or job.trained.head else 0
        copy = 0.0 if b == 4 else 2.0 * (job.trained.linear + head)
    elif copy > _COPIED_BYTES:
        copy = 0.0
    length = max(row.prompt for row in job.workload.lengths) + new
    keys = 2 * shape.layers * shape.kv_heads * shape.head_dim * (b if gpu else 4)
    return copy + rows * (keys * length + 12 * shape.vocabulary)
