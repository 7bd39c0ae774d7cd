"""A run on a model, rows and devices: everything that memory and time follow from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from palate.capacity.hardware import Hardware
from palate.capacity.shapes import Counts, ModelShape
from palate.config.run import GrpoConfig, PpoConfig, RunConfig
from palate.config.stages.preference import ObjectiveChoice, ReferenceFields
from palate.config.stages.rollout import RolloutFields

# Layers of these are computed by `models.cpu.layers` on a CPU.
_FUSED = ("llama", "mistral", "qwen2")


class Row(NamedTuple):
    """Tokens of a prompt, and of each of its completions."""

    prompt: int
    answers: tuple[int, ...]

    @property
    def trained(self) -> int:
        return sum(self.answers)

    def tokens(self, *, padded: bool = False) -> int:
        """Tokens that a forward pass computes: the prompt once, or in padded rows once for each completion."""
        if padded:
            return len(self.answers) * (self.prompt + max(self.answers, default=0))
        return self.prompt + self.trained

    def pairs(self, most: float = float("inf")) -> int:
        """Pairs of a query and a key that it sees, of the queries that see at most `most` keys."""

        def below(n: float) -> int:
            n = int(min(n, most))
            return n * (n + 1) // 2

        return below(self.prompt) + sum(below(self.prompt + n) - below(self.prompt) for n in self.answers)


@dataclass(frozen=True, slots=True)
class Workload:
    """The rows of a run.

    Attributes:
        rows: of an epoch.
        lengths: of some or all of them, in tokens.
        source: where the lengths come from, for the user.
    """

    rows: int
    lengths: Sequence[Row]
    source: str

    def mean(self, values: Sequence[float]) -> float:
        return sum(values) / len(values)


class Sharding(NamedTuple):
    """What is divided among the devices.

    Attributes:
        name: for the user.
        weights, gradients, states: whether each device holds a part only.
        offloaded: whether these parts are in the machine's memory between uses.
    """

    name: str = "one device"
    weights: bool = False
    gradients: bool = False
    states: bool = False
    offloaded: bool = False


@dataclass(frozen=True)
class Job:
    """A run to be estimated.

    Attributes:
        config: a resolved run.
        shape: of its model.
        work: its rows.
        hardware: one of its devices.
        devices: their number.
        reference: the model of `ref_model`, if that is a separate one.
        rewards: reward models in memory, for online stages.
    """

    config: RunConfig
    shape: ModelShape
    work: Workload
    hardware: Hardware
    devices: int = 1
    reference: ModelShape | None = None
    rewards: tuple[ModelShape, ...] = ()

    @cached_property
    def sharding(self) -> Sharding:
        """From `fsdp` or `deepspeed` of the config; neither has an effect on a CPU or on a single device."""
        config, several = self.config, self.devices > 1
        if config.deepspeed and self.hardware.gpu:
            zero = _mapping(config.deepspeed).get("zero_optimization")
            zero = zero if isinstance(zero, dict) else {}
            stage = int(zero.get("stage", 0))
            away = any(_mapping(zero.get(f"offload_{part}")).get("device") == "cpu" for part in ("param", "optimizer"))
            return Sharding(f"ZeRO-{stage}", *(several and stage >= least for least in (3, 2, 1)), away and stage > 0)
        words = str(config.fsdp or "")
        if config.fsdp and self.hardware.gpu and "no_shard" not in words:
            away = "offload" in words or bool(_mapping(config.fsdp_config).get("offload_params"))
            whole = several and "shard_grad_op" not in words
            return Sharding("FSDP" + (", offloaded to the CPU" if away else ""), whole, several, several, away)
        return Sharding("DDP") if several else Sharding()

    @cached_property
    def half(self) -> str:
        """`bf16`, `fp16` or `fp32`, as `precision: auto` resolves it on this device."""
        wanted = self.config.precision
        best = "bf16" if self.hardware.bf16 else "fp32"
        return best if wanted == "auto" or (wanted == "fp16" and not self.hardware.gpu) else wanted

    @property
    def width(self) -> int:
        """Bytes of a number in matrix products."""
        return 4 if self.half == "fp32" else 2

    @property
    def padded(self) -> bool:
        return self.config.attention == "padded"

    @property
    def fused(self) -> bool:
        """Whether the layers run through `models.cpu.layers`, which saves less for the backward pass."""
        config = self.config
        noisy = config.dropout > 0 or (config.finetuning_type == "lora" and (config.lora_dropout > 0 or config.use_dora))
        return not self.hardware.gpu and self.shape.kind in _FUSED and not noisy and not self.padded

    @cached_property
    def model(self) -> Counts:
        """Parameters of the policy without adapters; a reward model has no LM head."""
        counts = self.shape.counts
        if self.config.stage == "rm":
            return counts._replace(head=0)
        unties = self.config.finetuning_type == "freeze" and "lm_head" in self.config.freeze_extra_modules
        return counts._replace(head=counts.embedding) if unties else counts

    @cached_property
    def trained(self) -> Counts:
        """Parameters that train; those of adapters and scalar heads are among the others."""
        config, model, shape = self.config, self.model, self.shape
        score = {"rm": shape.hidden, "ppo": shape.hidden + 1}.get(config.stage, 0)
        if config.finetuning_type == "full":
            return model._replace(other=model.other + score)
        named = config.freeze_extra_modules if config.finetuning_type == "freeze" else config.additional_target
        embedding = model.embedding if any("embed" in one for one in named) else 0
        head = model.head if "lm_head" in named else 0
        if config.finetuning_type == "freeze":
            layers = self.trained_layers
            other = model.other // shape.layers * layers  # norms and experts
            return Counts(model.linear // shape.layers * layers, head, embedding, other + score)
        return Counts(0, head, embedding, self.adapter + score)

    @property
    def adapter(self) -> int:
        """Parameters of the LoRA matrices (2106.09685), with DoRA's magnitudes (2402.09353)."""
        config = self.config
        if config.finetuning_type != "lora":
            return 0
        rank, one = config.lora_rank, int(config.use_dora)
        maps = self.shape.maps[: 3 if self.shape.experts else None]  # experts are no linear layers
        target = [config.lora_target] if isinstance(config.lora_target, str) else config.lora_target
        named = [
            (i, o, max(1, n // len(names)))
            for (i, o, n), names in zip(maps, _MAP_NAMES)
            for name in names
            if name in target
        ]
        return self.shape.layers * sum((rank * (i + o) + one * o) * n for i, o, n in named or maps)

    @property
    def trained_layers(self) -> int:
        """Layers with trained weights."""
        config = self.config
        return min(abs(config.freeze_trainable_layers), self.shape.layers) if self._freezes else self.shape.layers

    @property
    def backward_layers(self) -> int:
        """Layers that the backward pass goes through: all, or the last ones if only those train."""
        lowest = self._freezes and self.config.freeze_trainable_layers > 0 and not self.trained.embedding
        return self.trained_layers if lowest else self.shape.layers

    @property
    def _freezes(self) -> bool:
        return self.config.finetuning_type == "freeze"

    @property
    def needs_reference(self) -> bool:
        config = self.config
        if isinstance(config, RolloutFields):
            return True
        return isinstance(config, ObjectiveChoice) and any(one.row.needs_reference for one in config.objectives)

    @property
    def stores_reference(self) -> bool:
        """Whether the reference's values are computed once, before training."""
        return self.needs_reference and isinstance(self.config, ReferenceFields) and self.config.reference_cache != "off"

    @property
    def generations(self) -> int:
        """Answers that the policy samples to each prompt in this process; 0 if none."""
        config = self.config
        return config.num_generations if isinstance(config, PpoConfig | GrpoConfig) and not config.rollout_url else 0

    @property
    def updates(self) -> int:
        """Optimiser steps on each batch of sampled answers."""
        config = self.config
        if isinstance(config, PpoConfig):
            return config.ppo_epochs
        return config.num_iterations if isinstance(config, GrpoConfig) else 1

    @property
    def rows_of_step(self) -> int:
        """Rows of an optimiser step on one device."""
        return self.config.per_device_train_batch_size * self.config.gradient_accumulation_steps

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        if self.config.max_steps > 0:
            return self.config.max_steps
        per_epoch = -(-self.work.rows // (self.rows_of_step * self.devices))
        return max(1, round(self.config.num_train_epochs * per_epoch * self.updates))


_MAP_NAMES = (("q_proj",), ("k_proj", "v_proj"), ("o_proj",), ("gate_proj", "up_proj"), ("down_proj",))
"""Llama's names of `ModelShape.maps`."""


def _mapping(value: Any) -> dict[str, Any]:
    """A mapping of the config, which may be in a JSON file; empty for anything else."""
    if isinstance(value, str) and Path(value).is_file():
        try:
            value = json.loads(Path(value).read_text(encoding="utf-8"))
        except ValueError:
            return {}
    return value if isinstance(value, dict) else {}
