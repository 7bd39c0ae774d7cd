"""Losses: pure functions from tensors and keyword numbers to one loss per example. torch, and nothing of ours.

The tables map a name of `config.objectives` to its function; a test asserts that names, options and defaults agree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import Tensor

from palate.objectives import paired
from palate.objectives.paired import PairLogps

__all__ = ["PAIRED", "PairLogps"]

PAIRED: Mapping[str, Callable[..., Tensor]] = MappingProxyType(
    {
        "sigmoid": paired.sigmoid,
        "robust": paired.robust,
        "hinge": paired.hinge,
        "ipo": paired.ipo,
        "sigmoid_norm": paired.sigmoid_norm,
    }
)
