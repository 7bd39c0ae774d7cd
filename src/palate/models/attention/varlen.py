"""Tree attention as one variable-length call for each layer: the fastest form on a CUDA GPU.

A packed row is cut into the segments of `attention.cpu.segments`. The queries of all segments are the row itself; the
keys are gathered, so that each further completion gets a copy of its prompt's keys in front of its own. Causality is
aligned to the bottom right: the last query of a segment sees its last key. The gradients of the copies add up through
the gather.

The kernel is `torch.nn.attention.varlen` (torch ≥ 2.10), or that of the package flash_attn (2307.08691). Both compute
in bf16 or fp16 only. Kernels have differed in their alignment, so `models.probe` compares values and gradients at load.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from palate.errors import ModelError
from palate.models.attention.cpu import segments
from palate.models.attention.interface import AttentionCall, in_one_dtype, register
from palate.text.batch import Layout

VARLEN = "palate_varlen"

_WIDEST_HEAD = 256
_DTYPES = (torch.bfloat16, torch.float16)


class VarlenIndex(NamedTuple):
    """The arguments of a variable-length call, of S segments with K keys in total, in the kernels' order.

    Attributes:
        keys: int64 [K], the position in the packed row of each key, segment by segment; None if the keys are the row.
        query_ends: int32 [S + 1], a 0 and the end of each segment's queries.
        key_ends: int32 [S + 1], a 0 and the end of each segment's keys in `keys`.
        queries: number of queries of the longest segment.
        longest: number of keys of the longest segment.
    """

    keys: Tensor | None
    query_ends: Tensor
    key_ends: Tensor
    queries: int
    longest: int


VarlenKernel = Callable[[Tensor, Tensor, Tensor, VarlenIndex, float, int | None], Tensor]
"""Output [T, H, d] of query [T, H, d], key and value [K, Hkv, d], the index, the factor on the scores, and the number
of keys that a query sees (None: all up to its own)."""


@functools.lru_cache(maxsize=8)
def varlen_index(layout: Layout, device: torch.device) -> VarlenIndex:
    """The index of a packed row, made once for all layers.

    The cache is keyed by the layout, so activation checkpointing finds the index of its own micro-batch.
    """
    parts = segments(layout)
    # An empty prefix is a prompt within its segment.
    keys = [torch.cat([torch.arange(*part.prefix), torch.arange(part.start, part.end)]) for part in parts]
    query_counts = [part.end - part.start for part in parts]
    key_counts = [len(part) for part in keys]
    gathered = torch.cat(keys) if sum(key_counts) > layout.tokens else None
    return VarlenIndex(
        None if gathered is None else _moved(gathered, device),
        _moved(_ends(query_counts), device),
        _moved(_ends(key_counts), device),
        max(query_counts),
        max(key_counts),
    )


def _ends(counts: list[int]) -> Tensor:
    """int32 [S + 1] from S counts."""
    return torch.tensor([0, *counts]).cumsum(0).to(torch.int32)


def _moved(tensor: Tensor, device: torch.device) -> Tensor:
    # From pinned memory the copy does not wait for the GPU.
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _varlen(query: Tensor, key: Tensor, value: Tensor, call: AttentionCall) -> Tensor:
    """See `interface.Attend`.

    Raises:
        ModelError: for dropout, softcap, attention sinks, masks that are no sliding window; if no kernel is installed,
            or it does not support the heads' width or the dtype.
    """
    call.refuse("variable-length attention", softcap=True)
    index = varlen_index(call.layout, query.device)
    window = None if call.mask is None else call.mask.window(index.longest)
    q, k, v = (one[0].transpose(0, 1) for one in in_one_dtype(query, key, value))  # [T, heads, d] each
    if index.keys is not None:
        k, v = (_Gather.apply(one, index.keys) for one in (k, v))  # type: ignore[no-untyped-call]
    return varlen_kernel()[1](q, k, v, index, call.scaling, window)[None]


class _Gather(torch.autograd.Function):
    """Rows [K, …] of a tensor [T, …]; gradients of a row's copies are added in float32."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.shape = rows.shape
        return rows.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        wide = torch.promote_types(grad.dtype, torch.float32)
        total = torch.zeros(ctx.shape, dtype=wide, device=grad.device).index_add_(0, index, grad.to(wide))
        return total.to(grad.dtype), None


@functools.cache
def varlen_kernel() -> tuple[str, VarlenKernel]:
    """The name and the function of the installed kernel.

    Raises:
        ModelError: there is none.
    """
    kernels = ("torch.nn.attention.varlen", "varlen_attn"), ("flash_attn", "flash_attn_varlen_func")
    for name, attribute in kernels:
        try:
            function = getattr(importlib.import_module(name), attribute)
        # A package that was built for another torch fails on import with an error of the linker.
        except (ImportError, AttributeError, OSError):
            continue
        if "window_size" in inspect.signature(function).parameters:
            return name, _adapted(function)
    raise ModelError("variable-length attention needs torch 2.10 or newer, or the package flash_attn")


def _adapted(function: Callable[..., Any]) -> VarlenKernel:
    """The function of torch, whose options differ between its versions, or of flash_attn with one signature."""
    known = inspect.signature(function).parameters

    def call(q: Tensor, k: Tensor, v: Tensor, index: VarlenIndex, scale: float, window: int | None) -> Tensor:
        _check_heads(q, v)
        options: dict[str, Any] = {"window_size": (-1 if window is None else window - 1, 0)}  # −1 is no limit
        if "softmax_scale" in known:
            options |= {"softmax_scale": scale, "causal": True}
        elif "scale" in known:
            options["scale"] = scale
        else:  # the kernel always divides by √d
            q = q * (scale * q.shape[-1] ** 0.5)
        if "enable_gqa" in known:
            options["enable_gqa"] = True
        elif "softmax_scale" not in known:
            repeat = q.shape[1] // k.shape[1]
            k, v = k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1)
        found: Tensor = function(q, k, v, *index[1:], **options)
        return found

    return call


def _check_heads(query: Tensor, value: Tensor) -> None:
    """Raise ModelError for heads that the kernels do not compute: query [T, H, d], value [K, Hkv, d_v]."""
    width = query.shape[-1]
    if query.dtype not in _DTYPES:
        raise ModelError(f"variable-length attention computes in bf16 and fp16 only, this is {query.dtype}")
    if width != value.shape[-1] or width > _WIDEST_HEAD or width % 8:
        raise ModelError(
            f"variable-length attention needs heads of equal width, a multiple of 8 up to {_WIDEST_HEAD}; these are "
            f"{width} and {value.shape[-1]} wide"
        )


varlen_tree_attention = register(VARLEN, _varlen)
