"""Which dtype a product is computed in, and weights cast to it once instead of at every use."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

import torch

_Key = tuple[int, torch.Size, int, torch.dtype]
_casts: contextvars.ContextVar[dict[_Key, tuple[torch.Tensor, torch.Tensor]] | None] = contextvars.ContextVar(
    "casts", default=None
)


@contextlib.contextmanager
def reuse_casts() -> Iterator[None]:
    """Inside, a weight is cast to the compute dtype once, however many passes use it.

    Open it around the forwards and backwards of one optimiser step. In-place updates are noticed, except those made
    through `.data`, so nothing should merge adapters inside.
    """
    token = _casts.set({})
    try:
        yield
    finally:
        _casts.reset(token)


def cast(weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The weight in `dtype`, detached: itself, a remembered copy, or a fresh one."""
    weight = weight.detach()
    known = _casts.get()
    if weight.dtype == dtype or known is None:
        return weight.to(dtype)
    version = 0 if weight.is_inference() else weight._version
    key = (weight.data_ptr(), weight.shape, version, dtype)
    if key not in known:
        # Holding the weight keeps its memory from becoming another tensor's.
        known[key] = (weight, weight.to(dtype))
    return known[key][1]


def compute_dtype(x: torch.Tensor, weight: torch.Tensor) -> torch.dtype:
    """What a linear layer multiplies in: autocast's dtype where that is on, else the wider of the two."""
    device = x.device.type
    if torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return torch.promote_types(x.dtype, weight.dtype)
