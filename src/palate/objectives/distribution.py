"""Losses that compare distributions over the whole step: alignment via optimal transport."""

from __future__ import annotations

import torch
from torch import Tensor

from palate.objectives.paired import PairLogps, log_ratios, smoothed


def aot(pairs: PairLogps, *, beta: float, label_smoothing: float = 0.0) -> Tensor:
    """AOT for paired data (2406.05882): the smoothed sigmoid loss of βx, x = sort(a − b) − sort(a0 − b0), [n].

    The policy's margins should exceed the reference's margins quantile by quantile. The n pairs must be all pairs of
    the optimiser step. Loss i belongs to pair i: it compares the pair's policy margin with the reference margin of the
    same rank.
    """
    if pairs.ref_chosen is None or pairs.ref_rejected is None:
        raise ValueError("aot compares with a reference, and the pairs carry no reference log-probabilities")
    policy = pairs.chosen - pairs.rejected
    reference = pairs.ref_chosen - pairs.ref_rejected
    return smoothed(beta * _over_quantiles(policy, reference), label_smoothing)


def aot_unpaired(pairs: PairLogps, *, beta: float, label_smoothing: float = 0.0) -> Tensor:
    """AOT for unpaired data (2406.05882): as `aot`, with x = sort(Δc) − sort(Δr), [n].

    Loss i belongs to pair i: it compares the pair's Δc with the Δr of the same rank.
    """
    chosen, rejected = log_ratios(pairs)
    return smoothed(beta * _over_quantiles(chosen, rejected), label_smoothing)


def _over_quantiles(upper: Tensor, lower: Tensor) -> Tensor:
    """Each element of `upper` [n] minus the element of `lower` [n] of the same rank, [n]."""
    rank_of_upper = torch.argsort(torch.argsort(upper.detach(), stable=True), stable=True)
    return upper - torch.sort(lower).values[rank_of_upper]
