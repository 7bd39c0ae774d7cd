"""A run on a model, rows and devices: everything that memory and time follow from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from palate.capacity.hardware import Hardware
from palate.capacity.shapes import Counts, ModelShape
from palate.config.run import RunConfig
from palate.config.stages.preference import ObjectiveChoice, ReferenceFields, SampleFields
from palate.config.stages.rollout import RolloutFields
from palate.config.steps import step_count, updates_of

# Llama's names of `ModelShape.maps`.
_MAP_NAMES = (("q_proj",), ("k_proj", "v_proj"), ("o_proj",), ("gate_proj", "up_proj"), ("down_proj",))
# `models.cpu.layers` computes the layers of these on a CPU.
_FUSED = ("llama", "mistral", "qwen2")


class RowTokens(NamedTuple):
    """Tokens of a prompt, and of each of its completions."""

    prompt: int
    completions: tuple[int, ...]

    @property
    def trained(self) -> int:
        return sum(self.completions)

    def pairs(self, most: float = float("inf")) -> int:
        """Pairs of a query and a key that it sees, of the queries that see at most `most` keys."""

        def below(n: int) -> int:
            n = int(min(n, most))
            return n * (n + 1) // 2

        return below(self.prompt) + sum(below(self.prompt + n) - below(self.prompt) for n in self.completions)


@dataclass(frozen=True, slots=True)
class Workload:
    """The rows of a run.

    Attributes:
        rows: of an epoch.
        lengths: of some or all of them.
        source: where the lengths come from, for the user.
    """

    rows: int
    lengths: Sequence[RowTokens]
    source: str


class Sharding(NamedTuple):
    """By how many devices weights, gradients and states are divided, and whether they wait in the machine's memory."""

    name: str = "one device"
    weights: int = 1
    gradients: int = 1
    states: int = 1
    offloaded: bool = False


@dataclass(frozen=True)
class Job:
    """A run to be estimated.

    Attributes:
        config: a resolved run.
        shape: of its model.
        workload: its rows.
        hardware: one of its devices.
        devices: their number.
        reference: the model of `ref_model`, if that is a separate one.
        rewards: reward models in memory, for online stages.
    """

    config: RunConfig
    shape: ModelShape
    workload: Workload
    hardware: Hardware
    devices: int = 1
    reference: ModelShape | None = None
    rewards: tuple[ModelShape, ...] = ()

    @cached_property
    def sharding(self) -> Sharding:
        """From `fsdp` or `deepspeed`, which counts as ZeRO-3; `fsdp` has no effect on a CPU."""
        n, words = self.devices, str(self.config.fsdp or "no_shard")
        if self.config.deepspeed:
            return Sharding("DeepSpeed as ZeRO-3", n, n, n)
        if self.hardware.gpu and "no_shard" not in words:
            away = "offload" in words
            return Sharding("FSDP" + ", offloaded" * away, 1 if "shard_grad_op" in words else n, n, n, away)
        return Sharding("DDP") if n > 1 else Sharding()

    @property
    def loads_divided(self) -> bool:
        """Whether no device ever has the whole model (`models.loading.shards`)."""
        keys = self.config.fsdp_config
        fsdp1 = isinstance(keys, dict) and str(keys.get("version")) == "1"
        whole = fsdp1 or self.config.quantization_bit is not None or self.config.use_liger_kernel
        return self.sharding.name.startswith("FSDP") and self.devices > 1 and not whole

    @cached_property
    def precision(self) -> str:
        """`bf16`, `fp16` or `fp32`, as the run's precision resolves on this device."""
        wanted = self.config.precision
        auto = wanted == "auto" or (wanted == "fp16" and not self.hardware.gpu)
        return ("bf16" if self.hardware.bf16 else "fp32") if auto else wanted

    @property
    def width(self) -> int:
        """Bytes of a number in matrix products."""
        return 4 if self.precision == "fp32" else 2

    @property
    def fused(self) -> bool:
        """Whether the layers run through `models.cpu.layers`, which saves less for the backward pass."""
        config = self.config
        lora = config.finetuning_type == "lora" and (config.lora_dropout > 0 or config.use_dora)
        plain = not (lora or config.dropout > 0 or config.attention == "padded")
        return plain and not self.hardware.gpu and self.shape.model_type in _FUSED

    def tokens(self, row: RowTokens) -> int:
        """Tokens that a forward pass computes: the prompt once, or in padded rows once for each completion."""
        if self.config.attention == "padded" and row.completions:
            return len(row.completions) * (row.prompt + max(row.completions))
        return row.prompt + row.trained

    def mean(self, value: Callable[[RowTokens], float]) -> float:
        """The mean of a figure over the rows."""
        return sum(map(value, self.workload.lengths)) / len(self.workload.lengths)

    @cached_property
    def model(self) -> Counts:
        """Parameters of the policy without adapters; a reward model has no LM head."""
        counts, config = self.shape.counts, self.config
        if config.stage == "rm":
            return counts._replace(head=0)
        unties = config.finetuning_type == "freeze" and "lm_head" in config.freeze_extra_modules
        return counts._replace(head=counts.embedding) if unties else counts

    @cached_property
    def trained(self) -> Counts:
        """Parameters that train; those of adapters and scalar heads are among the others."""
        config, model, lora = self.config, self.model, self.config.finetuning_type == "lora"
        score = {"rm": self.shape.hidden, "ppo": self.shape.hidden + 1}.get(config.stage, 0)
        if config.finetuning_type == "full":
            return model._replace(other=model.other + score)
        named = config.additional_target if lora else config.freeze_extra_modules
        head = model.head if "lm_head" in named else 0
        words = "embed_tokens" in named or (lora and self.shape.tied and "lm_head" in named)
        layers = 0 if lora else self.trained_layers
        other = self.adapter if lora else model.other // self.shape.layers * layers
        return Counts(model.linear // self.shape.layers * layers, head, model.embedding * words, other + score)

    @property
    def trains_head(self) -> bool:
        return bool(self.trained.head or (self.trained.embedding and not self.model.head))

    @property
    def adapter(self) -> int:
        """Parameters of the LoRA matrices (2106.09685), with DoRA's magnitudes (2402.09353)."""
        config = self.config
        if config.finetuning_type != "lora":
            return 0
        maps = self.shape.maps[: 3 if self.shape.experts else None]  # experts are no linear layers
        named = [
            (into, out, max(1, number // len(names)))
            for (into, out, number), names in zip(maps, _MAP_NAMES)
            for name in names
            if name in config.lora_target
        ]
        each = (config.lora_rank * (i + o) * n + (o * n if config.use_dora else 0) for i, o, n in named or maps)
        return self.shape.layers * sum(each)

    @property
    def trained_layers(self) -> int:
        """Layers with trained weights or adapters."""
        some = self.config.finetuning_type == "freeze"
        return min(abs(self.config.freeze_trainable_layers), self.shape.layers) if some else self.shape.layers

    @property
    def backward_layers(self) -> int:
        """Layers that the backward pass goes through: all, or the last ones if only those train."""
        lowest = self.config.freeze_trainable_layers > 0 and not self.trained.embedding
        return self.trained_layers if lowest else self.shape.layers

    def frozen_bytes(self, counts: Counts, shape: ModelShape) -> float:
        """Bytes of frozen weights: bf16 holds linear maps without loss if they are bf16 numbers."""
        width = 2 if self.precision == "bf16" and shape.bf16_weights else 4
        return width * (counts.linear + counts.head) + 4.0 * (counts.embedding + counts.other)

    @property
    def needs_reference(self) -> bool:
        chosen = isinstance(self.config, ObjectiveChoice) and any(m.row.needs_reference for m in self.config.objectives)
        return chosen or isinstance(self.config, RolloutFields)

    @property
    def stores_reference(self) -> bool:
        """Whether the reference's values are computed once, before training."""
        fields = self.config
        return self.needs_reference and isinstance(fields, ReferenceFields) and fields.reference_cache != "off"

    @property
    def generations(self) -> int:
        """Answers that the policy samples to each prompt in this process; 0 if none."""
        samples = isinstance(self.config, RolloutFields) and self.config.rollout_url is None
        return int(getattr(self.config, "num_generations", 1)) if samples else 0

    def answers_at_once(self, most: int) -> tuple[int, int]:
        """Number and tokens of the answers that are decoded together; (0, 0) if none are."""
        config = self.config
        if isinstance(config, RolloutFields):
            return (most, config.max_new_tokens) if self.generations else (0, 0)
        if not isinstance(config, SampleFields) or self.sharding.weights > 1 or not config.sample_prompts:
            return 0, 0
        return min(most, config.sample_prompts), config.sample_max_new_tokens

    @property
    def updates(self) -> int:
        """Optimiser steps on each batch of sampled answers."""
        return updates_of(self.config)

    @property
    def rows_of_step(self) -> int:
        """Rows of an optimiser step on one device."""
        return self.config.per_device_train_batch_size * self.config.gradient_accumulation_steps

    @property
    def tokens_of_step(self) -> float:
        """Tokens of an average step on one device."""
        return self.rows_of_step * self.mean(self.tokens)

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        return step_count(self.config, self.workload.rows, self.devices)
