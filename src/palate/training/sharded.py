"""What a sharded model (FSDP2, ZeRO-3) needs: equally many forward passes on all ranks, and no copy of its weights."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedType
from torch import nn
from torch.distributed.fsdp import FSDPModule
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from palate.config.run import RunConfig
from palate.errors import ConfigError
from palate.models.loading.shards import Shards
from palate.models.precision import Precision
from palate.models.reference.kinds import FrozenCopy, Reference
from palate.text.batch import Batch
from palate.text.groups import EncodedGroup
from palate.training.processes import join_processes
from palate.training.setup.arguments import training_arguments


def check_shardable(config: RunConfig, reference: Reference | None, device: torch.device) -> str:
    """A line for the user if the config's sharding has no effect, or "".

    Raises:
        ConfigError: the reference needs copies of the policy's weights, whose parts are on other ranks; or accelerate's
            own config shards the model, of which palate would not know.
    """
    for name in ("fsdp", "deepspeed"):
        if os.environ.get(f"ACCELERATE_USE_{name.upper()}", "").lower() == "true" and not getattr(config, name):
            raise ConfigError(
                f"accelerate's config turns {name} on; write {name} into this config instead, whose keys are checked "
                f"(docs/train.md), and start the processes with torchrun or a config of accelerate without {name}"
            )
    key = "fsdp" if config.fsdp else "deepspeed"
    if not (config.fsdp or config.deepspeed):
        return ""
    if isinstance(reference, FrozenCopy):
        raise ConfigError(
            f"{key}: the reference would be a copy of the policy, which is not possible for a sharded model; set "
            "reference_cache: auto, which computes its values before training, or ref_model"
        )
    if config.fsdp and device.type == "cpu":
        return "fsdp has no effect on a CPU: each process has the whole model"
    return ""


def is_sharded(config: RunConfig) -> bool:
    """Whether each process has a part of the model only: with DeepSpeed, and with FSDP, which a CPU does not have.

    It is known after `join_processes`.
    """
    if config.deepspeed:
        return True
    return bool(config.fsdp) and dist.is_initialized() and PartialState().distributed_type != DistributedType.MULTI_CPU


def shards_of(config: RunConfig, precision: Precision, device: torch.device) -> Shards | None:
    """How models are divided as they are loaded, with FSDP2; None if each process loads them whole.

    Quantised weights cannot be divided, and liger's kernels are compared on a whole model.
    """
    if not config.fsdp:
        return None
    join_processes(device, config.ddp_timeout, fsdp=True)
    if not is_sharded(config) or config.quantization_bit is not None or config.use_liger_kernel:
        return None
    settings = training_arguments(config, Path(config.output_dir), precision, device).fsdp_plugin_args
    forget_sharding()  # the run may end before Trainer is made, and another may follow in this process
    return Shards(settings, device) if settings.get("fsdp_version") == 2 else None


def keep_divided(accelerator: Accelerator) -> None:
    """Make `prepare` take a model that is divided already.

    accelerate would look for the optimiser's parameters by address, and parts without elements have none.
    """

    def prepare(*args: Any) -> tuple[Any, ...]:
        for model in (one for one in args if isinstance(one, FSDPModule)):
            model.set_reshard_after_forward(bool(accelerator.state.fsdp_plugin.reshard_after_forward))
            accelerator._models.append(model)
        return tuple(one if isinstance(one, nn.Module) else accelerator._prepare_one(one, True) for one in args)

    accelerator._prepare_fsdp2 = prepare


def in_step(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """Batches, equally many on all ranks: a rank that has no more repeats its last one. Each rank has at least one."""
    rest = iter(batches)
    batch: Batch | None = next(rest)
    while True:
        more = torch.tensor(batch is not None, dtype=torch.int32, device=device)
        dist.all_reduce(more, op=dist.ReduceOp.MAX)
        if not more:
            return
        if batch is not None:
            last = batch
        yield last
        batch = next(rest, None)


def forget_sharding() -> None:
    """Delete what accelerate and transformers leave to the next run of this process, and to the next model it loads."""
    for name in ("FSDP", "DEEPSPEED"):
        os.environ.pop(f"ACCELERATE_USE_{name}", None)
    unset_hf_deepspeed_config()


class EqualCounts:
    """Splits groups into micro-batches, equally many on all ranks: each pass of a sharded model waits for all of them.

    Every rank must call it at the same time with equally many groups.

    Args:
        split: divides groups into batches within the token budget.
        collate: makes a batch of some groups.
        device: of this rank.
    """

    def __init__(
        self,
        split: Callable[[Sequence[EncodedGroup]], list[Batch]],
        collate: Callable[[Sequence[EncodedGroup]], Batch],
        device: torch.device,
    ) -> None:
        self._split = split
        self._collate = collate
        self._device = device

    def __call__(self, groups: Sequence[EncodedGroup]) -> list[Batch]:
        batches = self._split(groups)
        count = torch.tensor(len(batches), device=self._device)
        dist.all_reduce(count, op=dist.ReduceOp.MAX)
        for _ in range(int(count) - len(batches)):
            largest = max(range(len(batches)), key=lambda number: len(batches[number].groups))
            parts = batches[largest].groups
            half = len(parts) // 2
            batches[largest : largest + 1] = [self._collate(parts[:half]), self._collate(parts[half:])]
        return batches
