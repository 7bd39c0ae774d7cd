"""Estimates of the KL from the policy π to the reference π_ref, in nats.

k1, k2 and k3 (the names are J. Schulman's, "Approximating KL divergence", 2020) are functions of
x = log π − log π_ref of sampled tokens or answers. k1 is x itself: unbiased on samples of π, positive or negative; used
in the rewards of PPO (1909.08593) and RLOO. `full_vocabulary` uses whole next-token distributions and needs no
sampling.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Larger log-ratios of a single token are noise; with this limit, ratios and their products stay finite (e^20).
LARGEST_LOG_RATIO = 20.0


def k2(log_ratio: Tensor) -> Tensor:
    """½x², any shape: biased, never negative; its gradient on samples of π is the KL's. The `kl_coef` modifier."""
    return 0.5 * log_ratio.square()


def k3(log_ratio: Tensor) -> Tensor:
    """e^(−x) − 1 + x, any shape: unbiased on samples of π and never negative. GRPO's penalty (2402.03300)."""
    log_ratio = log_ratio.clamp(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO)
    return torch.expm1(-log_ratio) + log_ratio


def kto_estimate(log_ratio: Tensor) -> Tensor:
    """max(0, mean x) over the answers of a step [m], scalar, detached (2402.01306): the mean first, then the clamp."""
    return log_ratio.detach().mean().clamp(min=0.0)


def full_vocabulary(logps: Tensor, ref_logps: Tensor) -> Tensor:
    """Σ_v π(v)·(log π(v) − log π_ref(v)) of distributions [M, V], [M]: exact; rounding below 0 becomes 0."""
    # A token that the policy masks with −∞ adds nothing, but −∞ − (−∞) would be NaN.
    gap = (logps - ref_logps).masked_fill_(logps.isneginf(), 0.0)
    return logps.exp().mul_(gap).sum(-1).clamp(min=0)
