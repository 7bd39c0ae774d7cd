"""The processes (ranks) of a run: which one this is, waiting for the others, and values over all of them."""

from __future__ import annotations

import functools
import os
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate import PartialState
from torch import Tensor

T = TypeVar("T")


def is_main_process() -> bool:
    """Rank 0, or the only process."""
    return os.environ.get("RANK", "0") == "0"


def process_count() -> int:
    """How many processes were started for the run."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def have_joined() -> bool:
    """Whether this process is one of several that form a group."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def join_processes(device: torch.device, timeout_s: int, *, fsdp: bool = False) -> None:
    """Form the process group of training, so that `wait_for_all` works before the first run.

    Args:
        device: of this process.
        timeout_s: seconds after which a collective operation of training fails (`ddp_timeout`).
        fsdp: whether a run may be sharded by FSDP. On a GPU that needs a group for a single process too, and gloo
            besides NCCL, because offloaded gradients are added up on the CPU.
    """
    on_gpu = fsdp and device.type == "cuda" and "LOCAL_RANK" in os.environ
    if (process_count() > 1 or on_gpu) and not dist.is_initialized():
        backend = "cuda:nccl,cpu:gloo" if on_gpu else None
        PartialState(cpu=device.type == "cpu", timeout=timedelta(seconds=timeout_s), backend=backend)


def leave_processes() -> None:
    """Leave the process group, if there is one: its threads may abort a process that ends as a member."""
    if dist.is_available() and dist.is_initialized():
        _waiting_group.cache_clear()
        dist.destroy_process_group()


def wait_for_all() -> None:
    """Return once every process has called this.

    One process may work alone for hours (to sample a round's answers, to measure drift), which is longer than
    training's own group waits. So this uses a group with a timeout of its own.
    """
    if have_joined():
        dist.barrier(group=_waiting_group(dist.group.WORLD))


@functools.lru_cache(maxsize=1)
def _waiting_group(world: Any) -> Any:
    """A group of the processes of `world`, made anew when that changes."""
    del world
    return dist.new_group(backend="gloo", timeout=timedelta(days=30))


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """The tensor, summed in place over all ranks."""
    if have_joined():
        dist.all_reduce(tensor)
    return tensor


def highest_over_ranks(values: Tensor) -> Tensor:
    """The element-wise maximum over all ranks, any shape."""
    if have_joined():
        values = values.clone()
        dist.all_reduce(values, op=dist.ReduceOp.MAX)
    return values


def gather(value: T) -> list[T]:
    """The value of every rank, that of rank 0 first."""
    if not have_joined():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values
