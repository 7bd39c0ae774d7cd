"""Losses on pairs (K = 2): typed tensors in, one loss per pair out."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class PairLogps:
    """Log-probabilities of n pairs, float32.

    Attributes:
        chosen: [n], sum of log π(token) over the trained tokens of the chosen completion, under the policy.
        rejected: [n], the same for the rejected completion.
        chosen_tokens: [n], how many trained tokens `chosen` sums over.
        rejected_tokens: [n].
        ref_chosen: [n], the sum under the reference; None for reference-free objectives.
        ref_rejected: [n].
    """

    chosen: torch.Tensor
    rejected: torch.Tensor
    chosen_tokens: torch.Tensor
    rejected_tokens: torch.Tensor
    ref_chosen: torch.Tensor | None = None
    ref_rejected: torch.Tensor | None = None
