"""A model on the CPU, divided among processes by FSDP2, so that no device ever holds more than its part and one tensor.

On the CPU safetensors maps the files into memory: weights in their files' dtype take no memory of the process, and all
processes of a machine read the same pages. accelerate wraps a copy without weights (on the meta device) as it would
wrap the model itself; then each process copies its part of one parameter after the other onto its device.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.fsdp_utils import fsdp2_apply_ac, fsdp2_prepare_model
from torch import nn
from torch.distributed.fsdp import CPUOffloadPolicy
from torch.distributed.tensor import DTensor, Shard

from palate.errors import ModelError


@dataclass(frozen=True, slots=True)
class Shards:
    """How models are divided.

    Attributes:
        settings: arguments of accelerate's FSDP plugin.
        device: of this process, where its part lies, unless the settings offload it.
    """

    settings: Mapping[str, Any]
    device: torch.device

    def divide(self, model: nn.Module, *, trains: bool = True) -> nn.Module:
        """A copy of the model with this process's part of each weight; every process must call it.

        Args:
            model: on the CPU; it is not changed, and the copy refers to none of its weights.
            trains: False for a copy without gradients. Weights that train become float32.

        Raises:
            ModelError: a weight is shared in a way that FSDP2 does not support.
        """
        plugin = FullyShardedDataParallelPlugin(**self.settings)
        # The parts of an Accelerator that are used; a real one is made by Trainer.
        accelerator = SimpleNamespace(
            state=SimpleNamespace(fsdp_plugin=plugin),
            mixed_precision="no",
            is_main_process=dist.get_rank() == 0,
            device=self.device,
        )
        divided: Any = copy.deepcopy(model, {id(p): _without_weights(p, trains) for p in model.parameters()})
        plugin.set_auto_wrap_policy(divided)
        if trains and plugin.activation_checkpointing:
            divided = fsdp2_apply_ac(accelerator, divided)
        divided = fsdp2_prepare_model(accelerator, divided)
        # Its class is torch's; messages and `models.probe.group` read where a model's code comes from.
        type(divided).__name__, type(divided).__module__ = type(model).__name__, type(model).__module__
        divided.set_reshard_after_forward(True)  # before training no backward pass frees what a pass has gathered
        home = torch.device("cpu") if isinstance(plugin.cpu_offload, CPUOffloadPolicy) else self.device
        # Weights are on the meta device, buffers have been copied.
        divided._apply(lambda one: torch.empty_like(one, device=home) if one.is_meta else one.to(self.device))
        wholes, parts = list(model.parameters()), list(divided.parameters())
        if len(wholes) < len(parts):
            raise ModelError("fsdp cannot divide this model: modules that it gathers separately share a weight")
        with torch.no_grad():
            for whole, part in zip(wholes, parts, strict=True):
                _fill(whole, part)
        return divided  # type: ignore[no-any-return]


def own_part(parameter: torch.Tensor) -> torch.Tensor:
    """A parameter, or this process's part of a divided one."""
    return parameter.to_local() if isinstance(parameter, DTensor) else parameter


def _without_weights(parameter: nn.Parameter, trains: bool) -> nn.Parameter:
    """A parameter of this shape on the meta device."""
    trained = parameter.requires_grad and trains
    dtype = torch.float32 if trained else parameter.dtype
    return nn.Parameter(torch.empty_like(parameter, dtype=dtype, device="meta"), requires_grad=trained)


def _fill(whole: torch.Tensor, part: torch.Tensor) -> None:
    """Copy this process's part of a parameter; a parameter that is not divided is copied as it is."""
    if isinstance(part, DTensor):
        for axis, placement in enumerate(part.placements):
            if isinstance(placement, Shard):
                pieces = whole.chunk(part.device_mesh.size(axis), placement.dim)
                number = part.device_mesh.get_local_rank(axis)
                whole = pieces[number] if number < len(pieces) else whole[:0]
    own_part(part).copy_(whole)
